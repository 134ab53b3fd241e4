"""Clients that prove themselves by a key, push their requests, and bind their tokens (RFC 7523, 9126, 9449, 7662)."""

import base64
import json
import warnings
from itertools import count

import pytest
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey
from msgspec import ValidationError

from client_keys import KEYS, Keyed, jwks, signed
from ostiary.cli.principals import registered
from ostiary.foundation.errors import CallerFault
from ostiary.identity import registration

NUMBERS = count()


def made(world, **told):
    return Keyed(world, f"bank-{next(NUMBERS)}", **told)


@pytest.fixture
def bank(sqlite_world):
    return made(sqlite_world)


def weak_rsa():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return RSAKey.generate_key(1024)


def error(answer):
    return answer.status_code, answer.json().get("error")


@pytest.mark.parametrize("alg", ["ES256", "PS256", "EdDSA"])
def test_a_client_proves_itself_by_its_own_key(world, alg):
    one = Keyed(world, alg=alg)
    answer = one.token()
    assert answer.status_code == 200, answer.text
    assert world.claims(answer.json()["access_token"]).client == "bank"


@pytest.mark.parametrize(
    "changed",
    [
        {"aud": ["https://localhost:8443/identity"]},
        {"aud": "https://elsewhere.example"},
        {"sub": None},
        {"sub": "shop"},
        {"iss": "shop"},
        {"jti": None},
        {"jti": ""},
        {"exp": None},
        {"exp": 1_700_000_000},
        {"exp": 4_000_000_000},
        {"iat": 4_000_000_000},
        {"nbf": 4_000_000_000},
        {"header": {"crit": ["alg"]}},
        {"header": {"jku": "https://elsewhere.example/keys"}},
        {"header": {"x5u": "https://elsewhere.example/chain"}},
        {"header": {"jwk": ECKey.generate_key("P-256").as_dict(private=False)}},
        {"header": {"kid": "unknown"}},
        {"key": ECKey.generate_key("P-256")},
    ],
    ids=" ".join,
)
def test_an_assertion_that_is_wrong_in_any_part_is_refused(bank, changed):
    assert error(bank.token(assertion=bank.assertion(**changed))) == (401, "invalid_client")


def test_rs256_and_symmetric_and_unsigned_assertions_are_refused(bank, sqlite_world):
    rsa = made(sqlite_world, alg="RS256")
    assert error(rsa.token()) == (401, "invalid_client")
    guess = signed(OctKey.generate_key(256), {"alg": "HS256"}, {"iss": bank.id, "sub": bank.id})
    head, payload, _ = bank.assertion().split(".")
    none = "eyJhbGciOiJub25lIn0"
    for forged in (guess, f"{none}.{payload}.", f"{head}.{payload}.", "", "a.b.c", "eyJ" * 2000):
        assert error(bank.token(assertion=forged or "x"))[0] == 401


@pytest.mark.parametrize(("ahead_s", "status"), [(10, 200), (61, 401)])
def test_a_clock_a_little_ahead_is_borne(bank, ahead_s, status):
    at = int(bank.world.clock.now().timestamp()) + ahead_s
    assert bank.token(assertion=bank.assertion(iat=at, nbf=at)).status_code == status


def test_an_assertion_is_good_once_even_at_once(bank):
    form = {
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": bank.assertion(), "grant_type": "client_credentials",
    }  # fmt: skip
    answers = bank.world.ask_at_once(4, "POST", "/identity/token", data=form)
    assert sorted(answer.status_code for answer in answers) == [200, 401, 401, 401]


def test_outside_fapi_the_endpoint_may_be_the_audience(bank, sqlite_world):
    place = f"{sqlite_world.settings.issuer}/token"
    assert bank.token(assertion=bank.assertion(aud=place)).status_code == 200
    strict = made(sqlite_world, profile="fapi2")
    for audience in (place, [sqlite_world.settings.issuer], [sqlite_world.settings.issuer, place]):
        wrong = strict.token(assertion=strict.assertion(aud=audience), proof=strict.proof())
        assert error(wrong) == (401, "invalid_client"), audience
    assert strict.token(proof=strict.proof()).status_code == 200


def test_one_way_of_proof_at_a_time_and_the_registered_one_alone(bank, sqlite_world):
    both = bank.post("token", {"grant_type": "client_credentials", "client_secret": "guess"})
    assert error(both) == (401, "invalid_client")
    assert error(sqlite_world.token((bank.id, "guess"), grant_type="client_credentials")) == (401, "invalid_client")
    shop = made(sqlite_world, auth="client_secret", jwks="")
    assert error(shop.token()) == (401, "invalid_client")


@pytest.mark.parametrize(
    "key",
    [
        ECKey.generate_key("P-384"), OKPKey.generate_key("X25519"), OctKey.generate_key(256), weak_rsa()
    ],
    ids=["P-384", "X25519", "oct", "RSA-1024"],
)  # fmt: skip
def test_keys_that_are_weak_or_secret_are_not_registered(sqlite_world, key):
    for text in (jwks(key), jwks(key, private=True), "{}", '{"keys": []}', "nonsense"):
        with pytest.raises(CallerFault, match="keys can't be used"):
            sqlite_world.register("weak", auth="private_key_jwt", jwks=text)


def test_a_private_key_is_not_registered(sqlite_world):
    text = jwks(KEYS["ES256"](), private=True)
    with pytest.raises(CallerFault, match="private"):
        sqlite_world.register("weak", auth="private_key_jwt", jwks=text)


def test_what_does_not_go_together_is_not_registered(sqlite_world):
    for told in ({"auth": "trust"}, {"profile": "fapi1"}, {"bound": "ip"}, {"profile": "fapi2"},
                 {"profile": "fapi2", "auth": "none", "redirects": [sqlite_world.back]}):  # fmt: skip
        with pytest.raises((CallerFault, ValidationError)):
            sqlite_world.register("odd", **told)


# --- pushed requests


def test_a_pushed_request_is_signed_in_once(world):
    one = Keyed(world)
    pushed = one.push()
    assert pushed.status_code == 201
    uri = pushed.json()["request_uri"]
    assert pushed.json()["expires_in"] < 600
    page, again = one.page(uri), one.page(uri)  # a reload before the sign-in
    assert (page.status_code, again.status_code) == (200, 200)
    told = one.sent(world.answer(again))
    assert (told["state"], told["iss"]) == ("s", world.settings.issuer)
    assert one.redeem(told["code"]).status_code == 200
    assert one.page(uri).status_code == 400
    late = world.answer(page)
    assert (late.status_code, "location" in late.headers) == (400, False)


def test_a_pushed_request_is_its_client_s_alone_and_lapses(world):
    one = Keyed(world)
    other = Keyed(world, "other")
    uri = one.push().json()["request_uri"]
    assert other.page(uri).status_code == 400
    assert one.page(uri + "x").status_code == 400
    world.later(seconds=301)
    assert one.page(uri).status_code == 400


def test_what_stands_beside_a_pushed_request_does_not_count(world):
    one = Keyed(world)
    uri = one.push(state="pushed").json()["request_uri"]
    asked = {"client_id": one.id, "request_uri": uri, "state": "beside", "redirect_uri": "https://evil.example"}
    page = world.ask("GET", "/identity/authorize", params=asked)
    assert one.sent(world.answer(page))["state"] == "pushed"


def test_par_refuses_what_authorize_would(bank):
    assert bank.world.ask("GET", "/identity/par").status_code == 405
    for changed, said in [
        ({"redirect_uri": "https://evil.example"}, "invalid_request"),
        ({"request_uri": "urn:x"}, "request_not_supported"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"scope": "erp/secret"}, "invalid_scope"),
        ({"dpop_jkt": "x"}, "invalid_request"),
    ]:
        assert error(bank.push(**changed)) == (400, said)
    nobody = bank.world.ask("POST", "/identity/par", data={"client_id": bank.id, "response_type": "code"})
    assert error(nobody) == (401, "invalid_client")


def test_without_par_fapi2_goes_nowhere(world):
    one = Keyed(world, profile="fapi2")
    answer = world.authorize(client_id=one.id, scope="openid erp/sale.*:read", state="s")
    assert one.sent(answer)["error"] == "invalid_request"
    told = one.push(proof=one.proof("/identity/par"))
    assert one.redeem(one.code(told.json()["request_uri"]), proof=one.proof()).json()["token_type"] == "DPoP"


# --- DPoP


def test_in_fapi2_no_token_is_anybody_s_who_holds_it(bank, sqlite_world):
    strict = made(sqlite_world, profile="fapi2")
    assert error(strict.token()) == (400, "invalid_dpop_proof")
    assert strict.token(proof=strict.proof()).json()["token_type"] == "DPoP"
    assert bank.token().json()["token_type"] == "Bearer"


@pytest.mark.parametrize(
    "changed",
    [
        {"header": {"typ": "jwt"}},
        {"header": {"alg": "none"}},
        {"header": {"jwk": None}},
        {"header": {"jwk": ECKey.generate_key("P-256").as_dict(private=False)}},
        {"header": {"kid": "x"}},
        {"jti": None},
        {"jti": "x" * 300},
        {"htm": "GET"},
        {"htu": "https://localhost:8443/identity/revoke"},
        {"htu": "https://elsewhere.example/identity/token"},
        {"htu": "http://localhost:8443/identity/token"},
        {"iat": None},
        {"iat": 1_700_000_000},
        {"iat": 4_000_000_000},
        {"nonce": "guessed"},
    ],
    ids=" ".join,
)
def test_a_proof_that_is_wrong_in_any_part_is_refused(bank, changed):
    alg = changed.get("header", {}).get("alg")
    proof = bank.proof(**changed) if alg != "none" else "eyJhbGciOiJub25lIn0.e30."
    said = "use_dpop_nonce" if "nonce" in changed else "invalid_dpop_proof"
    assert error(bank.token(proof=proof)) == (400, said)


def test_a_proof_with_its_private_key_is_refused(bank):
    key = ECKey.generate_key("P-256")
    proof = bank.proof(key=key, header={"jwk": key.as_dict(private=True)})
    assert error(bank.token(proof=proof)) == (400, "invalid_dpop_proof")


def test_a_proof_is_good_once_and_alone(bank):
    proof = bank.proof()
    answer = bank.token(proof=proof)
    assert answer.json()["token_type"] == "DPoP"
    claims = bank.world.claims(answer.json()["access_token"])
    assert claims.bound == f"jkt:{bank.proof_key.thumbprint()}"
    assert error(bank.token(proof=proof)) == (400, "invalid_dpop_proof")
    assert error(bank.token(proof=[bank.proof(), bank.proof()])) == (400, "invalid_dpop_proof")


@pytest.mark.parametrize(("off_s", "status"), [(-10, 200), (10, 200), (-3600, 400), (3600, 400)])
def test_a_proof_s_clock_may_be_a_little_off(bank, off_s, status):
    at = int(bank.world.clock.now().timestamp()) + off_s
    assert bank.token(proof=bank.proof(iat=at)).status_code == status


@pytest.mark.parametrize("bits", [2048, 4096])
def test_an_rsa_key_proves_too(bank, bits):
    key = RSAKey.generate_key(bits)
    header = {"typ": "dpop+jwt", "alg": "PS256", "jwk": key.as_dict(private=False)}
    assert bank.token(proof=bank.proof(key=key, header=header)).json()["token_type"] == "DPoP"


@pytest.mark.filterwarnings("ignore:Key size")
def test_an_rsa_key_is_as_long_as_it_is_and_not_as_it_is_written(sqlite_world):
    told = weak_rsa().as_dict(private=False)
    whole = base64.urlsafe_b64decode(told["n"] + "==")
    told["n"] = base64.urlsafe_b64encode(bytes(128) + whole).rstrip(b"=").decode()
    with pytest.raises(CallerFault, match="keys can't be used"):
        sqlite_world.register("padded", auth="private_key_jwt", jwks=json.dumps({"keys": [told]}))


@pytest.mark.parametrize(
    "header", [{"alg": []}, {"alg": {}}, {"alg": None}, {"alg": 5}, [], 5, {"alg": "ES256", "jwk": []}]
)
@pytest.mark.filterwarnings("error")
def test_no_header_makes_a_fault(bank, header):
    text = f"{base64.urlsafe_b64encode(json.dumps(header).encode()).decode().rstrip('=')}.e30.AAAA"
    assert bank.token(assertion=text).status_code == 401
    assert error(bank.token(proof=text)) == (400, "invalid_dpop_proof")


@pytest.mark.parametrize("odd", [10**400, -1, 1e300, "1", None, []])
def test_no_time_makes_a_fault(bank, odd):
    assert error(bank.token(proof=bank.proof(iat=odd))) == (400, "invalid_dpop_proof")
    assert bank.token(assertion=bank.assertion(exp=odd)).status_code == 401


def test_a_proof_of_a_request_that_was_refused_is_used_up(bank):
    assertion, proof = bank.assertion(), bank.proof()
    assert error(bank.token(assertion=assertion, proof=proof, scope="nonsense")) == (400, "invalid_scope")
    assert error(bank.token(assertion=assertion, proof=bank.proof())) == (401, "invalid_client")
    assert error(bank.token(proof=proof)) == (400, "invalid_dpop_proof")


def test_any_of_a_client_s_keys_will_do(sqlite_world):
    one = made(sqlite_world)
    second = KEYS["ES256"]()
    told = jwks(one.key, second)
    sqlite_world.do(registration.change_client, sealer=sqlite_world.sealer, client_id=one.id, jwks=told)
    assert one.token().status_code == one.token(assertion=one.assertion(key=second)).status_code == 200
    with pytest.raises(CallerFault, match="1 to 10 keys"):
        sqlite_world.register("many", auth="private_key_jwt", jwks=jwks(*(KEYS["ES256"]() for _ in range(11))))


def test_at_par_the_token_endpoint_may_be_the_audience(bank):
    place = f"{bank.world.settings.issuer}/token"
    form = {"response_type": "code", "redirect_uri": bank.world.back, "scope": "openid erp/sale.*:read"}
    more = {"code_challenge": bank.world.challenge, "code_challenge_method": "S256"}
    assert bank.post("par", {**form, **more}, assertion=bank.assertion(aud=place)).status_code == 201


def test_query_and_fragment_and_case_of_the_host_do_not_count(bank):
    for htu in ("https://localhost:8443/identity/token?x=1#y", "https://LOCALHOST:8443/identity/%74oken"):
        assert bank.token(proof=bank.proof(htu=htu)).status_code == 200


def test_who_must_bind_gets_nothing_without_a_proof(sqlite_world):
    one = made(sqlite_world, bound="dpop")
    refused = one.token()
    assert error(refused) == (400, "invalid_dpop_proof")
    assert refused.headers["ostiary-reason"] == "token-unbound"  # no event says that it was allowed
    assert one.token(proof=one.proof()).status_code == 200


def test_a_code_that_was_bound_opens_for_its_key_alone(world):
    one = Keyed(world)
    thief = ECKey.generate_key("P-256")
    assert error(one.push(proof=one.proof("/identity/par"), dpop_jkt="x" * 43)) == (400, "invalid_dpop_proof")
    uri = one.push(dpop_jkt=one.proof_key.thumbprint()).json()["request_uri"]
    code = one.code(uri)
    assert error(one.redeem(code, proof=one.proof(key=thief))) == (400, "invalid_grant")
    assert error(one.redeem(code)) == (400, "invalid_grant")
    assert one.redeem(code, proof=one.proof()).status_code == 200


def test_a_public_client_s_refresh_token_is_its_key_s_alone(world):
    key = Keyed(world)  # lends its proofs
    code = world.code()
    form = {"grant_type": "authorization_code", "client_id": "web", "code": code, "redirect_uri": world.back}
    answer = world.ask(
        "POST", "/identity/token", data={**form, "code_verifier": world.verifier}, headers={"dpop": key.proof()}
    )  # fmt: skip
    token = answer.json()["refresh_token"]
    form = {"grant_type": "refresh_token", "client_id": "web", "refresh_token": token}
    thief = key.proof(key=ECKey.generate_key("P-256"))
    for headers in ({}, {"dpop": thief}):
        stolen = world.ask("POST", "/identity/token", data=form, headers=headers)
        assert error(stolen) == (400, "invalid_grant")
    renewed = world.ask("POST", "/identity/token", data=form, headers={"dpop": key.proof()})
    assert (renewed.status_code, renewed.json()["token_type"]) == (200, "DPoP")


def test_a_nonce_that_was_kept_for_too_long_is_followed_by_another(world_with):
    """Clients keep one for each origin (RFC 9449 section 8.2)."""
    with world_with(dpop_nonce=True) as world:
        one = Keyed(world, bound="dpop")
        code = one.code(one.push().json()["request_uri"])
        nonce = one.redeem(code, proof=one.proof()).headers["dpop-nonce"]
        token = one.redeem(code, proof=one.proof(nonce=nonce)).json()["access_token"]
        world.later(minutes=11)

        def asks(nonce):
            proof = one.proof("/identity/userinfo", method="GET", token=token, nonce=nonce)
            return world.ask("GET", "/identity/userinfo", headers={"authorization": f"DPoP {token}", "dpop": proof})

        refused = asks(nonce)
        assert "use_dpop_nonce" in refused.headers["www-authenticate"]
        assert asks(refused.headers["dpop-nonce"]).status_code == 200


def test_a_nonce_is_asked_for_and_taken_until_the_one_after_the_next(world_with):
    with world_with(dpop_nonce=True) as world:
        one = Keyed(world)
        first = one.token(proof=one.proof())
        assert error(first) == (400, "use_dpop_nonce")
        nonce = first.headers["dpop-nonce"]
        assert one.token(proof=one.proof(nonce=nonce)).status_code == 200
        world.later(seconds=301)
        assert one.token(proof=one.proof(nonce=nonce)).status_code == 200
        world.later(seconds=301)
        assert error(one.token(proof=one.proof(nonce=nonce))) == (400, "use_dpop_nonce")


def test_userinfo_asks_for_a_nonce_as_the_gate_does(world_with):
    """RFC 9449 section 9, and with the nonce that the token endpoint gave."""
    with world_with(dpop_nonce=True) as world:
        one, path = Keyed(world), "/identity/userinfo"
        nonce = one.token(proof=one.proof()).headers["dpop-nonce"]
        uri = one.push(proof=one.proof("/identity/par", nonce=nonce)).json()["request_uri"]
        bound = one.redeem(one.code(uri), proof=one.proof(nonce=nonce)).json()["access_token"]

        def asked(**changed):
            proof = one.proof(path, method="GET", token=bound, **changed)
            return world.ask("GET", path, headers={"authorization": f"DPoP {bound}", "dpop": proof})

        refused = asked()
        assert error(refused) == (401, "use_dpop_nonce")
        assert refused.headers["www-authenticate"].startswith('DPoP realm="ostiary", error="use_dpop_nonce"')
        assert (refused.headers["dpop-nonce"], refused.headers["ostiary-reason"]) == (nonce, "token-unbound")
        assert asked(nonce=nonce).status_code == 200


def test_a_bound_token_is_no_bearer_s_and_the_other_way_round(world):
    one = Keyed(world)
    uri = one.push().json()["request_uri"]
    bound = one.redeem(one.code(uri), proof=one.proof()).json()["access_token"]
    free = world.signed_in()["access_token"]
    path = "/identity/userinfo"

    def status(scheme, token, proof=None):
        headers = {"authorization": f"{scheme} {token}", **({"dpop": proof} if proof else {})}
        return world.ask("GET", path, headers=headers).status_code

    def proof(token, **changed):
        return one.proof(path, method="GET", token=token, **changed)

    assert status("DPoP", bound, proof(bound)) == 200
    assert status("Bearer", free) == 200
    assert status("Bearer", bound) == 401
    assert status("Bearer", bound, proof(bound)) == 401
    assert status("DPoP", free, proof(free)) == 401
    assert status("DPoP", bound) == 401
    assert status("DPoP", bound, proof(free)) == 401
    assert status("DPoP", bound, proof(bound, key=ECKey.generate_key("P-256"))) == 401


def test_fapi2_keeps_its_refresh_token(world):
    one = Keyed(world, profile="fapi2")
    uri = one.push(proof=one.proof("/identity/par")).json()["request_uri"]
    token = one.redeem(one.code(uri), proof=one.proof()).json()["refresh_token"]
    for _ in range(3):
        told = one.post("token", {"grant_type": "refresh_token", "refresh_token": token}, proof=one.proof()).json()
        assert told["refresh_token"] == token
        world.later(seconds=60)
    world.later(days=30)
    late = one.post("token", {"grant_type": "refresh_token", "refresh_token": token}, proof=one.proof())
    assert error(late) == (400, "invalid_grant")


# --- introspection


def test_a_client_looks_at_its_own_tokens_alone(world):
    one, other = Keyed(world), Keyed(world, "other")
    token = one.token().json()["access_token"]
    mine = one.post("introspect", {"token": token}).json()
    assert (mine["active"], mine["client_id"], mine["sub"]) == (True, "bank", "client:bank")
    for asked in (other, one):
        text = token if asked is other else "nonsense"
        assert asked.post("introspect", {"token": text}).json() == {"active": False}
    one.post("revoke", {"token": token})
    assert one.post("introspect", {"token": token}).json() == {"active": False}
    web = world.ask("POST", "/identity/introspect", data={"client_id": "web", "token": "x"})
    assert error(web) == (401, "invalid_client")


def test_a_refresh_token_is_looked_at_too(world):
    one = Keyed(world)
    told = one.redeem(one.code(one.push().json()["request_uri"])).json()
    seen = one.post("introspect", {"token": told["refresh_token"]}).json()
    assert (seen["active"], seen["sub"]) == (True, "user:anna")
    one.post("token", {"grant_type": "refresh_token", "refresh_token": told["refresh_token"]})
    assert one.post("introspect", {"token": told["refresh_token"]}).json() == {"active": False}


def test_a_client_s_way_can_change_and_its_secrets_go(world):
    key = KEYS["ES256"]()
    world.do(registration.change_client, sealer=world.sealer, client_id="shop", auth="private_key_jwt", jwks=jwks(key))
    assert error(world.machine()) == (401, "invalid_client")
    world.do(registration.change_client, sealer=world.sealer, client_id="shop", auth="client_secret")
    assert error(world.machine()) == (401, "invalid_client")
    secret = world.do(registration.rotate_secret, sealer=world.sealer, client_id="shop").secret.reveal()
    assert world.token(("shop", secret), grant_type="client_credentials").status_code == 200


def test_a_client_that_proves_itself_by_a_key_is_told_of_no_secret_and_of_the_keys_that_are_missing(
    sqlite_world, monkeypatch
):
    monkeypatch.setattr("ostiary.cli.principals.at_home", str)  # no command runs, so no --home is given
    with pytest.raises(CallerFault, match="and none is given") as refused:
        sqlite_world.register("keyless", auth="private_key_jwt")
    assert "--keys FILE" in refused.value.hint
    made = {"issuer": "https://x", "warnings": []}
    for auth, told in (("none", "It is public"), ("private_key_jwt", "it proves itself by private_key_jwt. ")):
        assert told in registered(made, client_id="keyless", auth=auth)
