"""Whatever may be used once is used up by one statement, on either database: however many come at once, one wins."""

from contextlib import contextmanager
from threading import local
from types import SimpleNamespace

import pyotp
import pytest
from sqlalchemy import event

from identity.test_together import together
from ostiary.audit.log import Change
from ostiary.identity import clients, factors, tokens
from ostiary.identity.credentials import digest, new_secret
from ostiary.store.tables import GRANT, REFRESH
from soft_authenticator import Authenticator

AT_ONCE = 4


@contextmanager
def changes(store):
    """What the thread that asks has changed: its statements, but for plain new rows."""
    told = local()

    def note(_connection, _cursor, statement, *_):
        if statement.startswith(("UPDATE", "DELETE")) or "ON CONFLICT" in statement:
            told.seen = [*getattr(told, "seen", ()), statement]

    event.listen(store._engine, "before_cursor_execute", note)
    yield lambda: getattr(told, "seen", [])
    event.remove(store._engine, "before_cursor_execute", note)


def kept(kind):
    """What lies in a drawer: codes, pushed requests, the half of a sign-in, an app that is enrolled, a device's code."""

    def make(server, connection):
        text = new_secret().reveal()
        server.drawer(connection, kind).keep(text, 60, client="client:web", grant="")
        return lambda connection: server.drawer(connection, kind).use(text) is not None

    return make


def answered(server, connection):
    """The person's answer to a device: the first alone."""
    server.drawer(connection, "device").keep("BCDFGHJK", 60, client="client:web")
    return lambda connection: server.drawer(connection, "device").fill("BCDFGHJK", "gr-1")


def shown(kind):
    """What callers make themselves: the ids of assertions and proofs; a device asks once in five seconds."""

    def make(server, _):
        return lambda connection: server.seen_first(connection, SimpleNamespace(state=SimpleNamespace()), kind, "x", 60)

    return make


def renewal(server, connection):
    row = {"client": "client:web", "principal": "user:anna", "audience": "https://erp", "scopes": "openid", "sid": ""}
    more = {"nonce": "", "bound": "", "amr": "pwd", "authenticated_at_s": 0}
    grant = tokens.begin_grant(connection, server.now_s(), {**row, **more})
    new = {"digest": digest(server.key, "refresh", "text"), "grant": grant, "superseded_at_s": 0, "retried": False}
    connection.execute(REFRESH.insert(), {**new, "expires_at_s": server.now_s() + 60})
    client, now_s = clients.find(connection, "web"), server.now_s()
    before = connection.execute(GRANT.select().where(GRANT.c.id == grant)).one()
    assert not before.revoked

    def take(connection):
        found = tokens.refresh(connection, server.key, now_s, client, "text", "")
        return found[0].id == grant

    return take


def step(server, connection):
    secret = factors.new_secret()
    change = Change(connection, "user:anna", server.now())
    factors.add(server, change, "user:anna", factors.TOTP, secret, name="", counter=0)
    code = pyotp.TOTP(secret.reveal()).at(server.now())
    return lambda connection: factors.proves(server, connection, "user:anna", code) != ()


def recovery(server, connection):
    code = factors.new_recovery(server, Change(connection, "user:anna", server.now()), "user:anna")[0]
    return lambda connection: factors.proves(server, connection, "user:anna", code) != ()


def challenge(server, connection):
    answer = factors.read_passkey(Authenticator().get(factors.passkey_asked(server, "browser")))
    return lambda connection: factors.passkey_in_time(server, connection, answer, "browser")


def passkey(server, connection):
    device, change = Authenticator(), Change(connection, "user:anna", server.now())
    made = device.create(factors.passkey_asked_new(server, connection, "user:anna", "challenge"))
    assert factors.add_passkey(server, change, "user:anna", "challenge", made, "")
    answer = factors.read_passkey(device.get(factors.passkey_asked(server, "")))

    def take(connection):
        row = factors.find_passkey(server, connection, answer)
        return bool(factors.use_passkey(server, connection, row, answer).amr)

    return take


KINDS = {
    **{kind: kept(kind) for kind in ("code", "pushed", "half", "app", "passkey-new", "device")},
    **{kind: shown(kind) for kind in ("assertion", "dpop", "device-poll")},
    "device answered": answered, "refresh token": renewal, "TOTP step": step, "recovery code": recovery,
    "passkey's challenge": challenge, "passkey's counter": passkey,
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_used_up_by_one_statement_and_by_one_caller(world, kind):
    server = world.app.state.server
    with world.store.begin() as connection:
        take = KINDS[kind](server, connection)

    def once(_):
        with world.store.begin() as connection:
            return take(connection), len(mine())

    with changes(world.store) as mine:
        found = together(AT_ONCE, once)
    won = [one for one in found if isinstance(one, tuple) and one[0]]
    if kind == "refresh token":  # an answer may get lost once; whoever comes after that is a replay
        assert sorted(count for _, count in won) == [1, 2]
        assert [type(one) for one in found if one not in won] == [tokens.Replayed] * (AT_ONCE - 2)
    else:
        assert [count for _, count in won] == [1]
        assert {one[1] for one in found if not one[0]} <= {0, 1}
    with (
        world.store.begin() as connection,
        pytest.raises(tokens.Replayed) if kind == "refresh token" else changes(world.store),
    ):
        assert not take(connection)  # nor later


def test_a_secret_that_was_made_anew_is_no_other_kind_s(world):
    server = world.app.state.server
    with world.store.begin() as connection:
        server.drawer(connection, "code").keep("text", 60, client="")
        assert server.drawer(connection, "pushed").use("text") is None
        assert server.drawer(connection, "code").use("text")
