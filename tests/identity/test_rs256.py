"""RS256, for clients that ask for it alone: their ID and logout tokens, by keys with the life of all others."""

import base64
import hmac
import json

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jws, jwt
from joserfc.jwk import ECKey, JWKRegistry, KeySet, RSAKey
from sqlalchemy import select

from client_keys import KEYS, jwks
from ostiary.foundation.errors import CallerFault
from ostiary.identity import keys, registration
from ostiary.store.directory import access_keys
from ostiary.store.tables import SIGNING_KEY

EVERY = ("access", "id", "id-rs256", "logout", "logout-rs256")


def published(world):
    return world.ask("GET", "/identity/jwks").json()["keys"]


def rows(world):
    with world.store.read() as connection:
        return connection.execute(select(SIGNING_KEY)).all()


def kid(world, purpose, state="active"):
    return next(row.kid for row in rows(world) if (row.purpose, row.state) == (purpose, state))


def old(world):
    """A client that knows RS256 alone; what a sign-in with it gives."""
    world.register("old", auth="none", redirects=[world.back], id_token_alg="RS256")
    return old_again(world)


def old_again(world):
    return world.redeem(world.code(client_id="old"), client_id="old").json()


def header_of(token):
    return jws.extract_compact(token.encode()).headers()


def ends(world, hint):
    return world.ask("GET", "/identity/logout", params={"id_token_hint": hint}).status_code


def test_nobody_has_an_rsa_key_until_a_client_asks_and_then_it_signs_at_once(world):
    assert {key["kty"] for key in published(world)} == {"EC"}
    told = old(world)
    assert header_of(told["id_token"]) == {"alg": "RS256", "typ": "JWT", "kid": kid(world, "id-rs256")}
    assert header_of(told["access_token"])["alg"] == "ES256"
    assert [header_of(world.signed_in()[name])["alg"] for name in ("access_token", "id_token")] == ["ES256"] * 2
    rsa = [key for key in published(world) if key["kty"] == "RSA"]
    assert {key["alg"] for key in rsa} == {"RS256"}
    assert {RSAKey.import_key(key).public_key.key_size for key in rsa} == {2048}
    assert {row.kid for row in rows(world) if row.purpose in keys.BY_RS256} == {key["kid"] for key in rsa}
    assert len(rsa) == 4  # of each kind the one that signs and the one after it
    claims = jwt.decode(told["id_token"], KeySet.import_key_set({"keys": rsa}), algorithms=["RS256"]).claims
    assert (claims["aud"], claims["sub"], claims["nonce"]) == ("old", "user:anna", "n" * 64)
    more = world.refresh(told["refresh_token"], client_id="old").json()
    assert header_of(more["id_token"])["alg"] == "RS256"
    assert ends(world, more["id_token"]) == 303


def test_its_keys_turn_and_are_let_go_of_as_all_others(world):
    told, before, after = old(world), kid(world, "id-rs256"), kid(world, "id-rs256", "next")
    world.later(seconds=keys.ACTIVE_S - 1)
    assert world.do(keys.turn, sealer=world.sealer) == ()
    world.later(seconds=1)
    assert world.do(keys.turn, sealer=world.sealer) == EVERY
    assert header_of(old_again(world)["id_token"])["kid"] == after
    assert before in {key["kid"] for key in published(world)}
    assert ends(world, told["id_token"]) != 400  # it is still ours
    world.later(seconds=keys.RETIRING_S)
    assert world.do(keys.turn, sealer=world.sealer) == EVERY
    assert before not in {key["kid"] for key in published(world)}


def test_a_key_is_published_before_it_signs_but_for_the_very_first(world):
    old(world)
    with pytest.raises(CallerFault, match="clients may not know it"):
        world.do(keys.rotate, sealer=world.sealer, purpose="id-rs256")
    world.register("older", auth="none", redirects=[world.back], id_token_alg="RS256")  # and has no new one made
    assert len([row for row in rows(world) if row.purpose == "id-rs256"]) == 2


def test_in_an_emergency_it_goes_at_once_with_its_tokens_and_another_signs(world):
    told = old(world)
    gone = {kid(world, "id-rs256", state) for state in ("active", "next")}
    world.do(keys.rotate, sealer=world.sealer, purpose="id-rs256", compromised=True)
    assert not gone & {key["kid"] for key in published(world)}
    assert ends(world, told["id_token"]) == 400
    again = old_again(world)["id_token"]
    assert header_of(again)["alg"] == "RS256"
    assert ends(world, again) == 303


def test_its_keys_lie_sealed_for_their_purpose_and_are_no_concern_of_the_gate(world):
    old(world)
    for row in (row for row in rows(world) if row.purpose in keys.BY_RS256):
        assert b'"d"' not in bytes(row.sealed_private)
        assert not {"d", "p", "q", "dp", "dq", "qi"} & set(json.loads(row.public_jwk))
        for purpose in {*EVERY} - {row.purpose}:
            with pytest.raises(Exception, match="does not open"):
                world.sealer.open(row.sealed_private, f"signing-key:{purpose}")
    with world.store.read() as connection:
        assert {key["kty"] for key in access_keys(connection)["keys"]} == {"EC"}


def test_who_changes_to_rs256_and_back_gets_what_it_asked_for(world):
    for algorithm in ("RS256", "ES256"):
        world.do(registration.change_client, sealer=world.sealer, client_id="web", id_token_alg=algorithm)
        assert header_of(world.signed_in()["id_token"])["alg"] == algorithm


def test_fapi2_knows_no_rs256(world):
    told = {"auth": "private_key_jwt", "jwks": jwks(KEYS["ES256"]())}
    with pytest.raises(CallerFault, match="nothing is signed by RS256"):
        world.register("bank", profile="fapi2", id_token_alg="RS256", **told)
    world.register("bank", profile="fapi2", **told)
    with pytest.raises(CallerFault, match="nothing is signed by RS256"):
        world.do(registration.change_client, sealer=world.sealer, client_id="bank", id_token_alg="RS256")
    world.register("shop2", id_token_alg="RS256", **told)
    with pytest.raises(CallerFault, match="nothing is signed by RS256"):
        world.do(registration.change_client, sealer=world.sealer, client_id="shop2", profile="fapi2")


@pytest.mark.parametrize("algorithm", ["HS256", "none", "PS256", "RS512", "rs256", ""])
def test_no_third_algorithm_can_be_asked_for(sqlite_world, algorithm):
    with pytest.raises(ValueError, match="Invalid enum value"):
        sqlite_world.register("any", id_token_alg=algorithm)


@pytest.fixture(scope="module")
def known(sqlite_world):
    """An ID token by RS256, and the public key that it says it is by."""
    token = old(sqlite_world)["id_token"]
    key = next(key for key in published(sqlite_world) if key["kid"] == header_of(token)["kid"])
    return token, key


def forged(known, key, **header):
    """The claims of a good token, signed anew."""
    claims = json.loads(jws.extract_compact(known[0].encode()).payload)
    told = {**header_of(known[0]), **header}
    return jwt.encode(told, claims, key, algorithms=[told["alg"]])


def secrets_of(key):
    """What a verifier that lets the token choose would take for the secret of an HMAC (RFC 8725 section 2.1)."""
    public = RSAKey.import_key(key).public_key
    for kind in (PublicFormat.SubjectPublicKeyInfo, PublicFormat.PKCS1):
        for form in (Encoding.PEM, Encoding.DER):
            data = public.public_bytes(form, kind)
            yield from {data, data.strip()}
    yield json.dumps(key).encode()
    yield key["n"].encode()


def by_hmac(token, secret, **header):
    """By hand, since no library does it any more."""
    head = base64.urlsafe_b64encode(json.dumps({**header_of(token), "alg": "HS256", **header}).encode()).rstrip(b"=")
    data = head + b"." + token.split(".")[1].encode()
    mark = hmac.digest(secret, data, "sha256")
    return (data + b"." + base64.urlsafe_b64encode(mark).rstrip(b"=")).decode()


def test_the_public_rsa_key_is_no_secret_of_an_hmac(sqlite_world, known):
    tries = [by_hmac(known[0], secret) for secret in secrets_of(known[1])]
    assert [ends(sqlite_world, token) for token in tries] == [400] * len(tries)
    good = sqlite_world.signed_in()["access_token"]
    for kid in (known[1]["kid"], header_of(good)["kid"]):
        tries = [by_hmac(good, secret, kid=kid) for secret in secrets_of(known[1])]
        assert {sqlite_world.userinfo(token).status_code for token in tries} == {401}
    assert ends(sqlite_world, known[0]) == 303


def test_the_token_never_chooses_by_which_algorithm_a_key_counts(sqlite_world, known):
    """Neither a key's own id under another algorithm, nor the right algorithm under another key's id."""
    mine, theirs = RSAKey.generate_key(2048), ECKey.generate_key("P-256")
    other = {key["kid"] for key in published(sqlite_world) if key["kty"] == "EC"}
    tries = [
        forged(known, mine), forged(known, mine, alg="PS256"), forged(known, theirs, alg="ES256"),
        *(forged(known, mine, kid=kid) for kid in other), *(forged(known, theirs, alg="ES256", kid=kid) for kid in other),
        forged(known, mine, jwk=mine.as_dict(private=False)), forged(known, mine, kid="../x"),
    ]  # fmt: skip
    assert [ends(sqlite_world, token) for token in tries] == [400] * len(tries)
    head, rest = known[0].split(".", 1)
    assert ends(sqlite_world, f"eyJhbGciOiJub25lIn0.{rest}") == ends(sqlite_world, f"{head}.{rest[:-4]}AAAA") == 400


def test_our_own_rsa_key_signs_by_rs256_alone_and_no_access_token(sqlite_world, known):
    world = sqlite_world
    with world.store.read() as connection:
        mine = JWKRegistry.import_key(
            json.loads(keys.load(connection, world.sealer, known[1]["kid"]).private().reveal())
        )
    for algorithm in ("PS256", "RS512"):
        assert ends(world, forged(known, mine, alg=algorithm)) == 400
    good = world.signed_in()["access_token"]
    claims = json.loads(jws.extract_compact(good.encode()).payload)
    assert world.userinfo(good).status_code == 200
    for type_ in ("at+jwt", "JWT"):
        header = {"alg": "RS256", "typ": type_, "kid": known[1]["kid"]}
        assert world.userinfo(jwt.encode(header, claims, mine, algorithms=["RS256"])).status_code == 401


def test_metadata_says_both(sqlite_world):
    told = sqlite_world.ask("GET", "/identity/.well-known/openid-configuration").json()
    assert told["id_token_signing_alg_values_supported"] == ["ES256", "RS256"]
