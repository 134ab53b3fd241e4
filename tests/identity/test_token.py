"""The token endpoint and what follows it: refresh, revocation, UserInfo; through the real application."""

import base64
import json
import logging
import re

import pytest
from joserfc import jws
from joserfc.jwk import KeySet
from sqlalchemy import func, select, text

from ostiary.foundation.errors import OperatorFault, SystemFault
from ostiary.foundation.home import load_settings
from ostiary.foundation.jose import TokenRefused
from ostiary.identity import clients, keys, principals, tokens
from ostiary.store.database import METADATA
from ostiary.store.directory import access_keys, revoked_keys
from ostiary.store.tables import GRANT, ONE_TIME, REFRESH, REVOCATION, SESSION, THROTTLE


def error_of(answer):
    assert answer.status_code in (400, 401), answer.text
    return answer.json()["error"]


def part(token, n):
    """Header (0) or claims (1) of a token, as anybody reads them."""
    data = token.split(".")[n]
    return json.loads(base64.urlsafe_b64decode(data + "=" * (-len(data) % 4)))


def test_an_access_token_says_what_rfc_9068_asks_for(world):
    told = world.machine().json()
    assert part(told["access_token"], 0)["typ"] == "at+jwt"
    assert part(told["access_token"], 0)["alg"] == "ES256"
    claims = part(told["access_token"], 1)
    now = int(world.clock.now().timestamp())
    assert (claims["iss"], claims["aud"], claims["sub"]) == (world.settings.issuer, world.audience, "client:shop")
    assert (claims["client_id"], claims["iat"], claims["exp"]) == ("shop", now, now + 3600)
    assert claims["jti"] != part(world.machine().json()["access_token"], 1)["jti"]
    assert claims["scope"] == told["scope"] == "erp/sale.*:read"
    assert told["token_type"] == "Bearer"
    assert told["expires_in"] == 3600


def test_a_token_does_not_grow_with_the_roles_of_its_holder(world):
    world.do(principals.set_roles, principal="user:anna", roles=[f"department-{n}-clerk" for n in range(200)])
    told = world.signed_in(scope="openid profile erp/sale.*:read")
    assert len(told["access_token"]) < 2048


def test_a_persons_token_says_when_and_how_she_signed_in(world):
    told = world.signed_in()
    access, identity = part(told["access_token"], 1), part(told["id_token"], 1)
    now = int(world.clock.now().timestamp())
    assert (access["sub"], access["client_id"], access["auth_time"]) == ("user:anna", "web", now)
    assert (access["acr"], access["amr"]) == ("pwd", ["pwd"])
    assert (identity["iss"], identity["aud"], identity["sub"]) == (world.settings.issuer, "web", "user:anna")
    assert (identity["nonce"], identity["auth_time"], identity["name"]) == ("n" * 64, now, "anna")
    assert (identity["acr"], identity["amr"]) == ("pwd", ["pwd"])
    assert identity["sid"] == access["sid"] != ""


def test_an_id_token_is_signed_with_a_key_of_its_own_and_is_no_access_token(world):
    told = world.signed_in()
    with world.store.read() as connection:
        ours = {key["kid"] for key in access_keys(connection)["keys"]}
    assert part(told["id_token"], 0)["kid"] not in ours
    with pytest.raises(TokenRefused):
        world.claims(told["id_token"])
    assert world.userinfo(told["id_token"]).status_code == 401


def test_what_jwks_publishes_verifies_both(world):
    told, jwks = world.signed_in(), world.ask("GET", "/identity/jwks")
    published = KeySet.import_key_set(jwks.json())
    for token in (told["access_token"], told["id_token"]):
        assert jws.deserialize_compact(token.encode(), published, algorithms=["ES256"])
    assert jwks.headers["cache-control"] == f"public, max-age={keys.JWKS_LIFE_S}"
    assert not {"d", "k", "p"} & {name for key in jwks.json()["keys"] for name in key}


@pytest.mark.parametrize(
    "path",
    [
        "/identity/.well-known/openid-configuration", "/identity/.well-known/oauth-authorization-server",
        "/.well-known/oauth-authorization-server/identity",
    ],
)  # fmt: skip
def test_discovery_names_only_what_is_there(world, path):
    told = world.ask("GET", path).json()
    assert told["issuer"] == world.settings.issuer == "https://localhost:8443/identity"
    assert told["response_types_supported"] == ["code"]
    assert told["code_challenge_methods_supported"] == ["S256"]
    plain = {"authorization_code", "client_credentials", "refresh_token"}
    named = {f"urn:ietf:params:oauth:grant-type:{one}" for one in ("device_code", "token-exchange")}
    assert set(told["grant_types_supported"]) == plain | named
    assert told["authorization_response_iss_parameter_supported"] is True
    for name in (name for name in told if name.endswith("_endpoint")):
        place = told[name].removeprefix("https://localhost:8443")
        assert world.ask("PATCH", place).status_code == 405, name
    assert world.ask("GET", told["jwks_uri"].removeprefix("https://localhost:8443")).status_code == 200


@pytest.mark.parametrize("life", [60, 3600, 7200])
def test_the_life_of_a_token_is_a_setting_of_two_hours_at_most(world_with, life):
    with world_with(token_life_s=life) as world:
        token = world.machine().json()["access_token"]
        world.later(seconds=life)
        world.claims(token)  # a second of skew
        world.later(seconds=1)
        with pytest.raises(TokenRefused):
            world.claims(token)


@pytest.mark.parametrize("life", [7201, 0, -1, "3600"])
def test_a_longer_life_is_refused(tmp_path, life):
    (tmp_path / "settings.toml").write_text(f"token_life_s = {json.dumps(life)}\n")
    with pytest.raises(OperatorFault, match="token_life_s"):
        load_settings(tmp_path / "settings.toml")


@pytest.mark.parametrize("scope", ["openid", "openid profile"])
def test_a_client_that_asks_only_to_sign_in_is_given_nothing_instead_of_everything(world, scope):
    assert error_of(world.machine(scope=scope)) == "invalid_scope"
    assert world.machine().json()["scope"] == "erp/sale.*:read"


def test_a_scope_within_the_clients_own_is_given_and_nothing_beyond(world):
    assert world.machine(scope="erp/sale.sale:read").json()["scope"] == "erp/sale.sale:read"
    assert world.machine(scope="erp/sale.line.*:read openid").json()["scope"] == "erp/sale.line.*:read"
    for beyond in (
        "erp/sale.sale:write",
        "erp/*:read",
        "erp/sale:read",
        "shop/sale.x:read",
        "*",
        "erp/sale.\u00e4:read",
    ):
        assert error_of(world.machine(scope=beyond)) == "invalid_scope", beyond


def test_a_client_without_a_scope_of_its_own_may_ask_for_all_its_roles_give(world):
    told = world.signed_in(scope="")
    assert set(told["scope"].split()) == {f"erp/*:{verb}" for verb in clients.VERBS}


def test_who_asks_for_the_sign_in_alone_is_given_nothing_else(world):
    assert world.signed_in(scope="openid")["scope"] == "openid"


def test_a_token_too_long_for_the_gate_is_not_given(world):
    listed = " ".join(f"erp/sale.{'x' * 90}{n}:read" for n in range(40))
    assert error_of(world.machine(scope=listed)) == "invalid_scope"


def test_with_two_systems_the_client_names_one_and_its_token_opens_no_other(world):
    world.use("erp", "crm")
    assert error_of(world.machine()) == "invalid_target"
    assert error_of(world.machine(resource="https://nowhere")) == "invalid_target"
    token = world.machine(resource="https://erp").json()["access_token"]
    with pytest.raises(TokenRefused):
        world.claims(token, "https://crm")
    assert error_of(world.machine(resource="https://crm")) == "invalid_scope"


def test_without_a_plan_no_token_is_given(world):
    (world.home.plans / "current").unlink()
    assert error_of(world.machine()) == "invalid_target"


BASIC = {"authorization": "Basic " + base64.b64encode(b"shop:wrong").decode()}


@pytest.mark.parametrize(
    ("headers", "form"),
    [
        (BASIC, {}),
        ({}, {"client_id": "shop", "client_secret": "wrong"}),
        ({}, {"client_id": "shop"}),
        ({}, {"client_id": "nobody", "client_secret": "wrong"}),
        ({}, {"client_id": "web", "client_secret": "x"}),
        ({}, {}),
        (BASIC, {"client_secret": "wrong"}),
        (BASIC, {"client_id": "web"}),
        ({"authorization": "Bearer x"}, {}),
        ({"authorization": "Basic"}, {}),
        ({"authorization": "Basic !!!"}, {}),
        ({"authorization": "Basic " + base64.b64encode(b"shop").decode()}, {}),
        ({"authorization": "Basic " + base64.b64encode(b"sh%00op:x").decode()}, {}),
        ({"authorization": "Basic " + base64.b64encode(b"\xff:x").decode()}, {}),
    ],
)
def test_who_does_not_prove_to_be_the_client_gets_401_and_a_challenge(lasting_world, headers, form):
    for path in ("token", "revoke"):
        asked = {"grant_type": "client_credentials", "token": "x", **form}
        answer = lasting_world.ask("POST", f"/identity/{path}", data=asked, headers=headers)
        assert (answer.status_code, error_of(answer)) == (401, "invalid_client")
        assert answer.headers["www-authenticate"].startswith("Basic")
        assert answer.headers["cache-control"] == "no-store"


def test_a_secret_is_shown_in_either_way_but_once(world):
    for told in (
        world.machine(),
        world.token(grant_type="client_credentials", client_id="shop", client_secret=world.secret),
    ):
        assert told.status_code == 200
        assert told.headers["cache-control"] == "no-store"


def test_a_public_client_has_no_credentials_of_its_own(world):
    assert error_of(world.token(grant_type="client_credentials", client_id="web")) == "unauthorized_client"


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": "implicit"}, "unsupported_grant_type"),
        ({}, "invalid_request"),
    ],
)
def test_no_other_grant_is_known(sqlite_world, form, error):
    assert error_of(sqlite_world.token(("shop", sqlite_world.secret), **form)) == error


def test_nothing_is_taken_from_the_query_and_only_a_form_is_read(world):
    form = {"grant_type": "client_credentials"}
    auth = ("shop", world.secret)
    assert error_of(world.ask("POST", "/identity/token?a=b", data=form, auth=auth)) == "invalid_request"
    assert error_of(world.ask("POST", "/identity/token", json=form, auth=auth)) == "invalid_request"
    assert error_of(world.ask("POST", "/identity/token", params=form, auth=auth)) == "invalid_request"
    told = world.signed_in()
    assert world.ask("GET", "/identity/userinfo", params={"access_token": told["access_token"]}).status_code == 401


def test_a_code_works_once_and_its_replay_revokes_what_it_gave(world):
    code = world.code()
    first = world.redeem(code).json()
    assert error_of(world.redeem(code)) == "invalid_grant"
    assert world.gone == [f"grant:{world.claims(first['access_token']).grant}"]
    assert error_of(world.refresh(first["refresh_token"])) == "invalid_grant"
    assert world.userinfo(first["access_token"]).status_code == 401
    with world.store.read() as connection:
        assert set(world.gone) <= revoked_keys(connection, int(world.clock.now().timestamp()))


@pytest.mark.parametrize(
    "changed",
    [
        {"code_verifier": "w" * 43}, {"code_verifier": ""}, {"redirect_uri": "https://x"}, {"redirect_uri": ""}, {"code": ""},
        {"code": "x" * 43}, {"code_verifier": "\U0001f511" * 43},
    ],
)  # fmt: skip
def test_a_code_is_bound_to_verifier_and_redirect(world, changed):
    code = world.code()
    assert error_of(world.redeem(**{"code": code, **changed})) == "invalid_grant"
    assert world.redeem(code).status_code == 200


@pytest.mark.parametrize("changed", [{"code_verifier": "w" * 43}, {"redirect_uri": "https://x"}])
def test_who_only_saw_a_used_code_ends_nothing(world, changed):
    code = world.code()
    told = world.redeem(code).json()
    assert error_of(world.redeem(**{"code": code, **changed})) == "invalid_grant"
    assert world.gone == []
    assert world.refresh(told["refresh_token"]).status_code == 200


def test_one_client_cannot_fill_the_list_of_what_was_revoked(world, monkeypatch):
    monkeypatch.setattr("ostiary.identity.endpoint.REVOKED_MAX", 2)
    tokens = [world.machine().json()["access_token"] for _ in range(3)]

    def takes_back(token):
        return world.ask("POST", "/identity/revoke", data={"token": token}, auth=("shop", world.secret))

    assert [takes_back(token).status_code for token in (tokens[0], tokens[0], *tokens)] == [200] * 4 + [429]
    assert "retry-after" in takes_back(tokens[2]).headers
    assert len({*world.gone}) == 2
    world.later(minutes=6)
    assert takes_back(tokens[2]).status_code == 200


def test_who_signs_many_out_keeps_nobody_from_pushing_a_request(world, monkeypatch):
    """What a public client takes back is counted apart from what is kept for it."""
    monkeypatch.setattr("ostiary.identity.clients.KEPT_MAX", 2)
    for _ in range(3):
        taken_back = {"client_id": "web", "token": world.signed_in()["access_token"]}
        assert world.ask("POST", "/identity/revoke", data=taken_back).status_code == 200
    push = {"client_id": "web", "response_type": "code", "redirect_uri": world.back, "code_challenge": world.challenge}
    assert world.ask("POST", "/identity/par", data={**push, "code_challenge_method": "S256"}).status_code == 201


def test_a_code_of_one_client_is_nothing_to_another_and_stays_good(world):
    code, form = world.code(), {"redirect_uri": world.back, "code_verifier": world.verifier}
    other = world.token(("shop", world.secret), grant_type="authorization_code", code=code, **form)
    assert error_of(other) == "invalid_grant"
    told = world.redeem(code).json()
    other = world.token(("shop", world.secret), grant_type="authorization_code", code=code, **form)
    assert error_of(other) == "invalid_grant"
    assert world.gone == []
    assert world.refresh(told["refresh_token"]).status_code == 200


def test_a_code_lives_for_a_minute(world):
    code = world.code()
    world.later(seconds=60)
    assert error_of(world.redeem(code)) == "invalid_grant"


def test_a_refresh_token_gives_way_to_its_successor(world):
    first = world.signed_in()
    second = world.refresh(first["refresh_token"]).json()
    assert second["refresh_token"] != first["refresh_token"]
    assert "nonce" not in part(second["id_token"], 1)
    world.later(days=1)
    third = world.refresh(second["refresh_token"]).json()
    assert part(third["access_token"], 1)["grant"] == part(first["access_token"], 1)["grant"]


def test_a_lost_answer_is_given_once_more_with_the_same_successor(world):
    first = world.signed_in()["refresh_token"]
    second = world.refresh(first).json()["refresh_token"]
    world.later(seconds=10)
    assert world.refresh(first).json()["refresh_token"] == second
    assert error_of(world.refresh(first)) == "invalid_grant"
    assert world.gone[0].startswith("grant:")
    assert error_of(world.refresh(second)) == "invalid_grant"


def test_an_answer_is_not_given_again_later_or_when_it_was_not_lost(world):
    for used, seconds in ((False, 11), (True, 1)):
        world.gone.clear()
        first = world.signed_in()["refresh_token"]
        second = world.refresh(first).json()["refresh_token"]
        if used:
            assert world.refresh(second).status_code == 200
        world.later(seconds=seconds)
        assert error_of(world.refresh(first)) == "invalid_grant"
        assert world.gone[0].startswith("grant:")
        assert error_of(world.refresh(second)) == "invalid_grant"


def test_a_thief_who_asks_again_at_once_is_found_out_at_the_next_turn(world):
    stolen = world.signed_in()["refresh_token"]
    owners, thiefs = (world.refresh(stolen).json()["refresh_token"] for _ in range(2))
    world.later(hours=1)
    assert world.refresh(owners).status_code == 200
    world.later(hours=1)
    assert error_of(world.refresh(thiefs)) == "invalid_grant"
    assert world.gone[0].startswith("grant:")


def test_a_refresh_token_of_one_client_is_nothing_to_another(world):
    token = world.signed_in()["refresh_token"]
    for _ in range(3):
        assert error_of(world.refresh(token, client_id="shop", client_secret=world.secret)) == "invalid_grant"
    assert world.gone == []
    assert world.refresh(token).status_code == 200


def test_a_refresh_may_ask_for_less_and_not_for_more(world):
    token = world.signed_in(scope="openid profile")["refresh_token"]
    less = world.refresh(token, scope="profile").json()
    assert less["scope"] == "profile"
    assert "id_token" not in less
    assert error_of(world.refresh(less["refresh_token"], scope="profile admin")) == "invalid_scope"
    assert error_of(world.refresh(less["refresh_token"], resource="https://other")) == "invalid_target"
    assert "openid" in world.refresh(less["refresh_token"]).json()["scope"]


def test_refreshing_ends_thirty_days_after_sign_in_however_often_it_is_done(world):
    token = world.signed_in()["refresh_token"]
    for _ in range(29):
        world.later(days=1)
        token = world.refresh(token).json()["refresh_token"]
    world.later(hours=23, minutes=59)
    token = world.refresh(token).json()["refresh_token"]
    world.later(minutes=1)
    assert error_of(world.refresh(token)) == "invalid_grant"


def test_a_revocation_that_the_gate_does_not_know_of_yet_is_to_be_asked_again(world, monkeypatch):
    def late(_keys):
        raise SystemFault("revocation-late", "later")

    token = world.machine().json()["access_token"]
    told = {"data": {"token": token}, "auth": ("shop", world.secret)}
    with monkeypatch.context() as failing:
        failing.setattr(world.app.state.server, "revoked", late)
        assert world.ask("POST", "/identity/revoke", **told).status_code == 503  # RFC 7009 section 2.2.1
    assert world.ask("POST", "/identity/revoke", **told).status_code == 200
    assert world.gone == [f"jti:{world.claims(token).jti}"]


def test_a_client_revokes_its_own_tokens_only(world):
    person, machine = world.signed_in(), world.machine().json()

    def revoke(token, **client):
        answer = world.ask("POST", "/identity/revoke", data={"token": token}, **client)
        assert answer.status_code == 200
        return answer

    for foreign in (person["access_token"], person["refresh_token"], "nonsense", "\U0001f511", "a.b.c"):
        revoke(foreign, auth=("shop", world.secret))
    assert world.gone == []
    revoke(machine["access_token"], auth=("shop", world.secret))
    assert world.gone == [f"jti:{world.claims(machine['access_token']).jti}"]
    answer = world.ask("POST", "/identity/revoke", data={"token": person["refresh_token"], "client_id": "web"})
    assert answer.status_code == 200
    assert world.gone[1:] == [f"grant:{world.claims(person['access_token']).grant}"]
    assert error_of(world.refresh(person["refresh_token"])) == "invalid_grant"
    assert error_of(world.ask("POST", "/identity/revoke", data={"client_id": "web"})) == "invalid_request"


def test_a_revoked_token_gets_nothing_from_userinfo(world):
    token = world.signed_in()["access_token"]
    assert world.userinfo(token).status_code == 200
    world.ask("POST", "/identity/revoke", data={"token": token, "client_id": "web"})
    answer = world.userinfo(token)
    assert answer.status_code == 401
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]


def test_userinfo_says_why_it_refuses(world):
    plain = world.ask("GET", "/identity/userinfo")
    assert (plain.status_code, plain.headers["www-authenticate"]) == (401, 'Bearer realm="ostiary"')
    without = world.userinfo(world.machine().json()["access_token"])
    assert without.status_code == 403
    assert 'error="insufficient_scope"' in without.headers["www-authenticate"]
    assert world.userinfo("nonsense").status_code == 401
    assert world.userinfo(world.signed_in(scope="openid")["access_token"]).json() == {"sub": "user:anna"}


@pytest.mark.parametrize("principal", ["user:anna", "client:web"])
def test_a_disabled_user_or_client_gets_nothing_more_and_comes_back_without_old_tokens(world, principal):
    told, code = world.signed_in(), None
    gone = world.do(principals.disable, principal=principal)
    kinds = ("gen",) if principal.startswith("user:") else ("gen", "cgen")
    assert gone == tuple(f"{kind}:{principal}#1" for kind in kinds)
    assert world.userinfo(told["access_token"]).status_code == 401
    assert world.refresh(told["refresh_token"]).status_code in (400, 401)
    page = world.authorize()
    code = world.answer(page) if page.status_code == 200 else page
    assert code.status_code != 303
    world.do(principals.enable, sealer=world.sealer, principal=principal)
    assert world.refresh(told["refresh_token"]).status_code == 400
    assert world.userinfo(told["access_token"]).status_code == 401
    assert world.userinfo(world.signed_in()["access_token"]).status_code == 200


def test_a_code_dies_with_its_client_its_person_and_its_roles(world):
    for act, told in (
        (principals.disable, {"principal": "user:anna"}),
        (principals.disable, {"principal": "client:web"}),
        (principals.revoke_principal, {"principal": "user:anna"}),
    ):
        code = world.code()
        world.do(act, **told)
        assert world.redeem(code).status_code in (400, 401)
        world.do(principals.enable, sealer=world.sealer, **told)


def test_a_change_of_roles_refuses_older_tokens_and_not_the_next(world):
    before = world.signed_in()
    assert world.do(principals.set_roles, principal="user:anna", roles=["boss"]) == ("gen:user:anna#1",)
    assert world.userinfo(before["access_token"]).status_code == 401
    after = world.refresh(before["refresh_token"]).json()
    old, new = world.claims(before["access_token"]), world.claims(after["access_token"])
    assert (old.generation, new.generation) == ("user:anna#1", "user:anna#2")
    assert old.role_set != new.role_set
    assert world.userinfo(after["access_token"]).status_code == 200


def test_a_revocation_outlives_every_token_it_names(world_with):
    with world_with(token_life_s=7200) as world:
        token = world.machine().json()["access_token"]
        world.do(principals.revoke_principal, principal="client:shop")
        world.later(seconds=7200)
        world.claims(token)  # still within its life and the skew of a second
        with world.store.read() as connection:
            assert revoked_keys(connection, int(world.clock.now().timestamp()))


def test_what_has_expired_is_forgotten(world):
    world.signed_in()
    world.code()
    world.answer(world.authorize(prompt="login"), password="guess guess guess")
    world.do(principals.revoke_principal, principal="client:shop")
    tables = (SESSION, GRANT, ONE_TIME, REFRESH, THROTTLE, REVOCATION)

    def counts():
        with world.store.read() as connection:
            return [connection.execute(select(func.count()).select_from(table)).scalar() for table in tables]

    assert all(counts())
    tokens.purge(world.store, int(world.clock.now().timestamp()))
    assert all(counts())
    world.later(days=30)
    tokens.purge(world.store, int(world.clock.now().timestamp()))
    assert counts() == [1, *[0] * 5]  # what was given in a session can be ended by it, to the last
    world.later(hours=8)
    tokens.purge(world.store, int(world.clock.now().timestamp()))
    assert counts() == [0] * len(tables)


def test_no_token_and_no_secret_lies_readable_in_journal_or_store(world, caplog):
    caplog.set_level(logging.DEBUG)
    code = world.code()
    told = world.redeem(code).json()
    more = world.refresh(told["refresh_token"]).json()
    machine = world.machine().json()
    world.redeem(code)
    world.token(("shop", "wrong-secret-of-shop"), grant_type="client_credentials")
    world.answer(world.authorize(prompt="login"), password="wrong password of anna")
    planted = [code, world.secret, world.password, world.verifier, "wrong-secret-of-shop", "wrong password of anna"]
    planted += [value for one in (told, more, machine) for name, value in one.items() if name.endswith("token")]
    planted += [cookie.value for cookie in world.cookies.jar]
    assert len(planted) > 12
    with world.store.read() as connection:
        stored = repr([connection.execute(select(table)).all() for table in METADATA.sorted_tables])
    journal = world.journal()
    assert '"issued"' in journal
    for secret in planted:
        for place in (journal, stored, caplog.text):
            assert secret not in place


def test_a_store_that_fails_is_told_without_inner_details(sqlite_world, monkeypatch, caplog):
    world = sqlite_world
    with monkeypatch.context() as patched:
        patched.setattr(clients, "find", lambda connection, _: connection.execute(text("SELECT hidden FROM nowhere")))
        answer = world.machine()
    assert answer.status_code == 503
    assert answer.json()["error"] == "temporarily_unavailable"
    assert "nowhere" not in answer.text
    assert "nowhere" in caplog.text


def test_what_cannot_be_written_to_the_journal_is_not_answered(sqlite_world, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.write", full)
        answer = sqlite_world.machine()
    assert answer.status_code == 503
    assert "access_token" not in answer.text


def test_a_client_that_is_not_known_is_not_named_in_the_journal(world):
    world.token(("a-secret-in-the-wrong-field", "shop"), grant_type="client_credentials")
    assert '"invalid_client"' in world.journal()
    assert "wrong-field" not in world.journal()


def test_every_token_request_is_in_the_journal(world):
    world.machine()
    world.token(("shop", "wrong"), grant_type="client_credentials")
    told = world.signed_in()
    world.ask("POST", "/identity/revoke", data={"token": told["refresh_token"], "client_id": "web"})
    lines = [json.loads(line) for line in world.journal().splitlines()]
    assert [(line["action"], line["outcome"]) for line in lines] == [
        ("token", "issued"), ("token", "invalid_client"), ("authorize", "shown"), ("sign-in", "allowed"),
        ("token", "issued"), ("revoke", "done"),
    ]  # fmt: skip
    assert lines[1]["client"] == "shop"
    assert re.fullmatch("at-[0-9a-f]{32}", lines[0]["jti"])
    assert lines[0]["at"].startswith("2026-03-03T12:00:00")
