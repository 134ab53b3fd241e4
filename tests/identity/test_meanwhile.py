"""What happens while a person signs in counts: a session or a grant is never made from what was true before."""

from functools import partial
from threading import Thread

import pytest
from sqlalchemy import insert, select

from ostiary.audit.log import Change
from ostiary.foundation.jose import revocation_keys
from ostiary.identity import clients, factors, principals, registration, session, tokens
from ostiary.identity.endpoint import ACCESS_TOKEN, EXCHANGE
from ostiary.store.database import Sealer
from ostiary.store.tables import FACTOR, SESSION


@pytest.fixture
def meanwhile(world, monkeypatch):
    """Carries out an act after the password was found right, and before anything is made of it."""

    def during(act):
        right = session.password_matches

        def matches(*given):
            found = right(*given)
            with world.store.begin() as connection:
                act(Change(connection, "uid:0", world.clock.now()))
            return found

        monkeypatch.setattr(session, "password_matches", matches)

    return during


def disabled_and_enabled(change):
    principals.disable(change, principal="user:anna")
    principals.enable(change, sealer=Sealer(b"k" * 32), principal="user:anna")


def another_password(change):
    principals.set_password(change, sealer=Sealer(b"k" * 32), login="anna", hashed="another")


def another_factor(change):
    row = {"id": "totp_1", "principal": "user:anna", "kind": factors.TOTP, "name": "phone", "sealed": b"", "counter": 0}
    change.connection.execute(insert(FACTOR), {**row, "made_at_us": 0, "used_at_us": 0})


@pytest.mark.parametrize("act", [disabled_and_enabled, another_password, another_factor])
def test_no_session_outlives_the_change_that_was_to_end_it(world, meanwhile, act):
    meanwhile(act)
    assert "code=" not in world.answer(world.authorize()).headers.get("location", "")


def test_a_session_that_ended_while_the_form_was_open_gives_no_code(world, monkeypatch):
    world.signed_in()
    monkeypatch.setattr(session, "in_force", lambda *_: False)
    assert "code=" not in world.answer(world.authorize()).headers.get("location", "")


def narrowed(change):
    registration.change_client(change, sealer=Sealer(b"k" * 32), client_id="web", scopes=["erp/party.party:read"])


def sent_elsewhere(change):
    registration.change_client(
        change, sealer=Sealer(b"k" * 32), client_id="web", redirects=["https://other.example/back"]
    )


def client_disabled(change):
    principals.disable(change, principal="client:web")


@pytest.mark.parametrize("act", [narrowed, sent_elsewhere, client_disabled])
def test_no_grant_is_made_of_what_the_client_might_do_before(world, meanwhile, act):
    meanwhile(act)
    assert "code=" not in world.answer(world.authorize(scope="openid erp/sale.*:write")).headers.get("location", "")


def test_a_sign_out_at_that_moment_leaves_no_grant_that_lives(world, monkeypatch):
    """On PostgreSQL, where two write at once; on SQLite it waits for its turn."""
    world.signed_in()
    page, begin, leaving = world.authorize(prompt="consent"), tokens.begin_grant, []
    [sid] = world.store.ask(lambda connection: connection.scalars(select(SESSION.c.sid)).all())

    def signs_out():
        world.gone += world.do(principals.end_session, principal="user:anna", sid=sid, reason="signed out")

    def at_that_moment(*given):
        leaving.append(Thread(target=signs_out))
        leaving[0].start()
        leaving[0].join(0.5)  # it comes through now, or it waits for what is being given
        return begin(*given)

    monkeypatch.setattr(tokens, "begin_grant", at_that_moment)
    answer = world.answer(page)
    leaving[0].join()
    assert world.redeem(world.sent_back(answer)["code"]).json()["error"] == "invalid_grant"


def right_after(monkeypatch, module, name, act):
    """`act` is carried out by another, and is committed, right after the first call of `name`."""
    real, done = getattr(module, name), []

    def then(*given):
        found = real(*given)
        if not done:
            done.append(Thread(target=act))
            done[0].start()
            done[0].join()
        return found

    monkeypatch.setattr(module, name, then)


@pytest.fixture
def exchanged(concurrent_world):
    """Has a service exchange anna's token, while something happens."""
    world = concurrent_world
    api = ("api", world.register("api", exchange=["web"], roles=["bot"]))
    subject = world.signed_in(scope="openid erp/sale.*:read")["access_token"]
    return lambda: world.token(api, grant_type=EXCHANGE, subject_token=subject, subject_token_type=ACCESS_TOKEN).json()


def test_an_exchanged_token_goes_with_the_roles_that_it_has(concurrent_world, exchanged, monkeypatch):
    world = concurrent_world
    taken = partial(world.do, principals.set_roles, principal="user:anna", roles=[])
    right_after(monkeypatch, tokens, "revoked", lambda: world.gone.extend(taken()))
    claims = world.claims(exchanged()["access_token"])
    assert set(world.gone) & set(revocation_keys(claims))


def test_no_token_is_made_of_what_its_client_might_do_before(concurrent_world, exchanged, monkeypatch):
    narrower = partial(
        concurrent_world.do,
        registration.change_client,
        sealer=concurrent_world.sealer,
        client_id="api",
        scopes=["erp/party.party:read"],
    )
    right_after(monkeypatch, clients, "find", narrower)
    assert exchanged()["error"] == "invalid_grant"
