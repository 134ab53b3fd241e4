"""Ten million rows are nothing to a server that asks for those it wants, and forgets the others a little at a time."""

from contextlib import closing, contextmanager

import pytest
from sqlalchemy import event, func, insert, select, text

from identity.test_people import Browser, begun, polled, shown
from identity.test_proofs import made
from ostiary.identity import principals, tokens, tries
from ostiary.store.database import open_store
from ostiary.store.directory import revoked_keys, revoked_since
from ostiary.store.tables import ONE_TIME, THROTTLE

# Which grow with what is asked, and not with who there is. Revocations are as many as tokens that live and were taken
# back: gate and guard read all of them.
LARGE = ("one_time", "oauth_refresh", "oauth_grant", "identity_session", "sign_in_throttle", "audit_leaf")


@pytest.fixture
def asked(world):
    """Each statement, and what it was asked with."""
    found = {}

    def note(_connection, _cursor, statement, parameters, _context, many):
        if statement.startswith(("SELECT", "INSERT", "UPDATE", "DELETE")):
            found.setdefault(statement, parameters[0] if many else parameters)

    event.listen(world.store._engine, "before_cursor_execute", note)
    yield found
    event.remove(world.store._engine, "before_cursor_execute", note)


def everything(world):
    """All that callers and people do, and what is done about them."""
    browser = Browser(world)
    browser.sign_in()
    world.clock.at = world.clock.at.replace(microsecond=0)
    browser.enrol()
    browser.forget()
    world.later(seconds=60)
    browser.whole(browser.code(), browser.half(world.authorize()))
    page = browser.page()
    given = world.redeem(world.sent_back(world.answer(world.authorize(), username="anna"))["code"]).json()
    told = world.refresh(given["refresh_token"]).json()
    world.refresh(given["refresh_token"])
    world.userinfo(told["access_token"])
    for path in ("introspect", "revoke"):
        for token in (world.machine().json()["access_token"], told["refresh_token"]):
            world.ask("POST", f"/identity/{path}", data={"token": token}, auth=("shop", world.secret))
    bank = made(world)
    bank.token(proof=bank.proof())
    bank.redeem(bank.code(bank.push().json()["request_uri"]))
    device = begun(world).json()
    world.answer(shown(world, device["user_code"]))
    polled(world, device["device_code"])
    world.answer(world.authorize(prompt="login"), password="guess guess guess")
    again = world.redeem(world.sent_back(world.answer(world.authorize()))["code"]).json()
    world.ask("GET", "/identity/logout", params={"id_token_hint": again["id_token"]})
    assert page.status_code == 200
    world.do(principals.revoke_grant, grant=world.claims(told["access_token"]).grant)
    world.do(principals.enable, sealer=world.sealer, principal="user:anna")
    world.do(principals.revoke_principal, principal="client:web")
    with world.store.read() as connection:
        revoked_keys(connection, 0)
        principals.with_locks(connection, world.app.state.server.key, principals.users(connection), 0)
    world.do(principals.remove, principal="client:web")
    tokens.purge(world.store, int(world.clock.now().timestamp()))


def plan(connection, statement, parameters):
    if connection.dialect.name == "sqlite":
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        return [row.detail for row in rows]
    return [row[0] for row in connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)]


def test_no_statement_reads_a_large_table_from_end_to_end(world, asked):
    everything(world)
    statements = dict(asked)
    assert {name for name in LARGE if any(name in one for one in statements)} == set(LARGE)
    with world.store.read() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SET LOCAL enable_seqscan = off"))  # of a few rows it would read all, rightly
        for statement, parameters in statements.items():
            for line in plan(connection, statement, parameters):
                words = line.replace('"', "").split()
                whole = "SCAN" in words or "Seq Scan on" in line
                assert not (whole and set(LARGE) & set(words)), f"{line}\n{statement}"


def test_the_look_for_new_revocations_reads_no_old_ones(world, asked):
    """Control looks twice a second."""
    world.store.ask(revoked_since, 1)
    ((statement, parameters),) = asked.items()
    with world.store.read() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SET LOCAL enable_seqscan = off"))
        told = " ".join(plan(connection, statement, parameters))
    assert "ix_revocation_at_us" in told, told


@contextmanager
def each_time(store, then):
    """The store, which does something after each transaction."""
    begin = store.begin

    @contextmanager
    def begun():
        with begin() as connection:
            yield connection
        then()

    store.begin = begun
    yield
    del store.begin


def test_what_has_expired_goes_a_little_at_a_time_and_others_write_between(store, database_url, monkeypatch):
    monkeypatch.setattr(tokens, "PURGED_MAX", 10)
    row = {"client": "", "grant": "", "facts": "{}", "used": False}
    rows = [{**row, "digest": f"{n:064x}", "expires_at_s": 100 if n < 35 else 200} for n in range(40)]
    with store.begin() as connection:
        connection.execute(insert(ONE_TIME), rows)
    left = []

    def write():
        """As another process does."""
        with other.begin() as connection:
            tries.count(connection, "place", 150)
            left.append(connection.execute(select(func.count()).select_from(ONE_TIME)).scalar_one())

    with closing(open_store(database_url)) as other, each_time(store, write):
        tokens.purge(store, 150)
    assert left[-4:] == [30, 20, 10, 5]
    with store.read() as connection:
        assert connection.execute(select(func.count()).select_from(ONE_TIME)).scalar_one() == 5
        assert connection.execute(select(THROTTLE.c.failures)).scalar_one() == len(left)
