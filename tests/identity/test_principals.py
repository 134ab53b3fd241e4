"""What an administrator does to users and clients: audited, checked, and never with a secret in the log."""

import json
import logging

import pytest
from sqlalchemy import func, select

from ostiary.audit.log import entries
from ostiary.foundation.errors import CallerFault, OperatorFault
from ostiary.foundation.jose import SigningKey
from ostiary.foundation.secret import Secret
from ostiary.identity import keys, principals, registration
from ostiary.identity.passwords import easily_guessed, hash_password
from ostiary.store.database import METADATA, Sealer
from ostiary.store.directory import erp_account, role_sets
from ostiary.store.tables import (
    ASSIGNMENT,
    CLIENT,
    CLIENT_SECRET,
    ERP_ACCOUNT,
    GRANT,
    ONE_TIME,
    PASSWORD,
    PRINCIPAL,
    REFRESH,
    SESSION,
)

GOOD = Secret("seven green lanterns")
HASHED = hash_password(GOOD, login="")


def audit(world):
    with world.store.read() as connection:
        return list(entries(connection))


def client(world, **told):
    return world.do(registration.add_client, sealer=world.sealer, **{"client_id": "new", **told})


def test_what_is_disabled_twice_was_off_the_second_time(world):
    for _ in range(2):
        world.do(principals.disable, principal="user:anna")
    assert [one["before"]["active"] for one in audit(world) if one["action"] == "principal.disable"] == [
        False,
        True,
    ]  # the newest first


def test_every_act_is_audited_with_what_was_before_and_after_and_holds_no_secret(world, caplog):
    caplog.set_level(logging.DEBUG)
    planted = [GOOD.reveal(), world.secret, world.password]
    planted.append(client(world, redirects=["https://a/b"], scopes=["erp/sale.*:read"]).secret.reveal())
    world.do(principals.add_user, login="ben", hashed=HASHED, name="Ben", roles=["b", "a"], person="user:benjamin")
    world.do(principals.set_roles, principal="user:ben", roles=["c"])
    world.do(principals.set_password, sealer=world.sealer, login="ben", hashed="another")
    world.later(seconds=1)
    planted.append(world.do(registration.rotate_secret, sealer=world.sealer, client_id="new").secret.reveal())
    account = {"principal": "user:ben", "system": "erp", "login": "ben", "password": Secret("erp-password-of-ben")}
    world.do(principals.set_erp_account, sealer=world.sealer, **account)
    world.do(principals.set_reader, sealer=world.sealer, system="erp", login="reader", password=Secret("reader-secret"))
    planted += ["erp-password-of-ben", "reader-secret"]
    world.do(principals.revoke_principal, principal="user:ben", reason="left a laptop in a train")
    world.do(principals.revoke_grant, grant="gr-" + "0" * 32, reason="seen elsewhere")
    world.do(principals.disable, principal="user:ben")
    world.do(principals.enable, sealer=world.sealer, principal="user:ben")
    world.do(principals.remove_erp_account, principal="user:ben", system="erp")
    world.do(principals.revoke_token, jti="at-1", reason="revoked by its client")
    world.later(seconds=keys.PUBLISHED_S)
    world.do(keys.rotate, sealer=world.sealer)
    found = audit(world)
    assert {one["action"] for one in found} == {
        "user.add", "client.add", "system.add", "principal.roles", "user.password", "client.rotate", "account.set",
        "account.remove", "token.revoke", "principal.disable", "principal.enable", "key.rotate",
    }  # fmt: skip
    assert all(one["actor"] == "uid:0" and one["at"] >= "2026-03-03T12" for one in found)
    by = {one["action"]: one for one in found if one["object"] in ("user:ben", "client:new", "gr-" + "0" * 32)}
    assert by["principal.roles"]["before"] == {"roles": ["a", "b"]}
    assert by["principal.roles"]["after"] == {"roles": ["c"]}
    assert by["user.add"]["after"] == {"id": "user:ben", "name": "Ben", "person": "user:benjamin", "roles": ["a", "b"]}
    assert by["client.add"]["after"]["redirects"] == ["https://a/b"]
    assert by["client.add"]["after"]["scopes"] == ["erp/sale.*:read"]
    assert by["principal.disable"]["before"] == {"active": True}
    with world.store.read() as connection:
        stored = repr([connection.execute(select(table)).all() for table in METADATA.sorted_tables])
    for secret in planted:
        for place in (json.dumps(found), stored, caplog.text):
            assert secret not in place


def test_an_erp_password_is_sealed_for_its_place(world):
    account = {"principal": "user:anna", "system": "erp", "login": "anna", "password": Secret("first")}
    world.do(principals.set_erp_account, sealer=world.sealer, **account)
    world.do(principals.set_erp_account, sealer=world.sealer, **{**account, "password": Secret("second")})
    with world.store.read() as connection:
        found = erp_account(connection, "user:anna", "erp")
    assert world.sealer.open(found.sealed_secret, "erp-account:erp:user:anna").reveal() == "second"


def test_a_refused_act_leaves_nothing(world):
    before = len(audit(world))
    for roles, redirects in ((["a", "b c"], []), ([], ["http://evil"])):
        with pytest.raises(CallerFault):
            client(world, roles=roles, redirects=redirects)
    assert len(audit(world)) == before
    with world.store.read() as connection:
        assert [one["id"] for one in principals.users(connection)] == ["user:anna"]
        assert [one["id"] for one in principals.clients(connection)] == ["client:shop", "client:web"]


@pytest.mark.parametrize("name", ["", "a:b", "a#1", "a b", "-a", "ä", "a" * 101, "a\n", "a/b", "a\0", "\U0001f511"])
def test_a_name_that_could_be_taken_for_something_else_is_refused(world, name):
    for act in (
        lambda: client(world, client_id=name),
        lambda: world.do(principals.add_user, login=name, hashed=HASHED),
    ):
        with pytest.raises(CallerFault, match="is no name"):
            act()


@pytest.mark.parametrize("text", ["x" * 201, "a\nb", "a\0"])
def test_a_text_that_does_not_fit_is_refused_on_either_database(world, text):
    account = {"principal": "user:anna", "system": "erp", "login": "anna", "password": Secret("x"), "uid": "1"}
    for act in (
        lambda: client(world, name=text),
        lambda: client(world, person=text),
        lambda: world.do(principals.set_erp_account, sealer=world.sealer, **{**account, "login": text}),
    ):
        with pytest.raises(CallerFault, match="too long, or not plain"):
            act()


def test_a_reason_of_a_thousand_characters_is_kept_in_the_audit_log_and_no_longer_one(world):
    reason = "because " * 125
    world.do(principals.revoke_principal, principal="user:anna", reason=reason)
    assert audit(world)[0]["reason"] == reason
    with pytest.raises(OperatorFault, match="one line of at most 1000"):
        world.do(principals.revoke_principal, principal="user:anna", reason=reason + "!")


def test_the_same_name_is_refused_twice(world):
    with pytest.raises(CallerFault, match="exists already"):
        client(world, client_id="shop")
    with pytest.raises(CallerFault, match="exists already"):
        world.do(principals.add_user, login="anna", hashed=HASHED)


def test_a_name_that_differs_by_capitals_alone_is_refused(world):
    with pytest.raises(CallerFault, match="user:anna exists already") as problem:
        world.do(principals.add_user, login="Anna", hashed=HASHED)
    assert problem.value.code == "exists"
    client(world, client_id="anna")
    with pytest.raises(CallerFault, match="client:anna exists already"):
        client(world, client_id="aNNa")


@pytest.mark.parametrize(
    "scope", ["erp", "erp/x", "erp/x:fly", "erp/x:read write", "erp/*.x:read", "erp/x:read\n", "é/x:read"]
)
def test_an_odd_scope_is_refused(sqlite_world, scope):
    with pytest.raises(CallerFault, match="is no scope"):
        client(sqlite_world, scopes=[scope])


@pytest.mark.parametrize(
    ("act", "told"),
    [
        (principals.disable, {"principal": "user:x"}), (principals.enable, {"principal": "x", "sealer": Sealer(b"k" * 32)}),
        (principals.set_roles, {"principal": "user:x", "roles": []}), (principals.revoke_principal, {"principal": ""}),
        (principals.set_password, {"login": "x", "hashed": HASHED, "sealer": Sealer(b"k" * 32)}), (principals.revoke_grant, {"grant": "x" * 400}),
    ],
)  # fmt: skip
def test_who_is_not_there_is_said_to_be_not_there(world, act, told):
    with pytest.raises(CallerFault, match=r"there is no|is no grant"):
        world.do(act, **told)


@pytest.mark.parametrize(
    "password",
    ["short", "x" * 257, "annannannannan", "password1234", "Passwort2026", "123456789012", "qwertzuiop12", "aaaaaaaaaaaaaaaa",
     "anna-anna-anna", "abababababab", "admin admin admin", "ANNAanna1234!"],
)  # fmt: skip
def test_a_password_that_is_easily_guessed_is_refused(password):
    with pytest.raises(CallerFault, match="password") as caught:
        hash_password(Secret(password), login="anna")
    assert caught.value.code in ("password-length", "password-weak")
    assert password not in str(caught.value)


def test_a_sentence_is_a_password_whoever_uses_it():
    for login in ("anna", "a", "e", "an", "walk"):
        assert not easily_guessed("a long walk by the sea", login)


@pytest.mark.parametrize("name", ["*", "*.shop", "a*b", "a:b", "a#1", " a", "a\n", "", "a" * 101, "ä"])
def test_a_name_holds_nothing_that_parts_or_widens_what_is_revoked(world, name):
    """Generations are revoked as `user:NAME#2`, in lists of Envoy's in which a star stands for anything."""
    with pytest.raises(CallerFault, match="is no name"):
        world.do(principals.add_user, login=name, hashed=HASHED)


def test_a_password_is_kept_as_argon2id_with_the_parameters_of_the_profile(world):
    with world.store.read() as connection:
        hashed = connection.execute(select(PASSWORD.c.hash)).scalar_one()
    assert hashed.startswith("$argon2id$v=19$m=19456,t=2,p=1$")


def test_two_secrets_live_and_the_third_ends_the_first(world):
    def rotate():
        world.later(seconds=1)
        return world.do(registration.rotate_secret, sealer=world.sealer, client_id="shop").secret.reveal()

    def status(secret):
        return world.token(("shop", secret), grant_type="client_credentials").status_code

    second = rotate()
    assert (status(world.secret), status(second)) == (200, 200)
    third = rotate()
    assert [status(secret) for secret in (world.secret, second, third)] == [401, 200, 200]


@pytest.mark.parametrize(
    ("auth", "hint"),
    [
        ("private_key_jwt", "`ostiary client change bank --keys FILE`"),
        ("tls_client_auth", "`ostiary client certificate bank`"),
        ("none", "a public client"),
    ],
)
def test_a_client_without_a_secret_is_told_how_its_keys_are_changed(world, auth, hint):
    jwks = json.dumps({"keys": [SigningKey.generate().public()]}) if auth == "private_key_jwt" else ""
    more = {"auth": auth, "jwks": jwks, "redirects": [world.back]}
    client(world, client_id="bank", **more)
    with pytest.raises(CallerFault, match="has no secret") as raised:
        world.do(registration.rotate_secret, sealer=world.sealer, client_id="bank")
    assert raised.value.code == "no-secret"
    assert hint in raised.value.hint


def test_the_role_set_that_a_token_names_is_known_to_the_gate(world):
    world.do(principals.set_roles, principal="user:anna", roles=["b", "a", "b"])
    claims = world.claims(world.signed_in()["access_token"])
    with world.store.read() as connection:
        assert role_sets(connection)[claims.role_set] == {"a", "b"}
        assert role_sets(connection)[world.claims(world.machine().json()["access_token"]).role_set] == {"bot"}


def test_nothing_of_who_was_removed_is_left_but_the_audit_log(world):
    world.signed_in()
    account = {"system": "erp", "login": "x", "password": Secret("erp-password")}
    for principal in ("user:anna", "client:shop", "client:web"):
        world.do(principals.set_erp_account, sealer=world.sealer, principal=principal, **account)
    gone = [
        key for one in ("user:anna", "client:shop", "client:web") for key in world.do(principals.remove, principal=one)
    ]
    assert {"gen:user:anna#1", "cgen:client:web#1", "gen:client:shop#1"} <= set(gone)
    with world.store.read() as connection:
        for table in (
            ASSIGNMENT,
            CLIENT,
            CLIENT_SECRET,
            ONE_TIME,
            ERP_ACCOUNT,
            GRANT,
            PASSWORD,
            PRINCIPAL,
            REFRESH,
            SESSION,
        ):
            assert connection.execute(select(func.count()).select_from(table)).scalar() == 0, table.name
    assert [one["action"] for one in audit(world)[:3]] == ["principal.remove"] * 3


def test_who_has_the_name_of_one_removed_has_none_of_his_revocations(world):
    for generation in (1, 2, 3):
        keys = world.do(principals.remove, principal="client:shop")
        assert f"gen:client:shop#{generation}" in keys
        client(world, client_id="shop")
