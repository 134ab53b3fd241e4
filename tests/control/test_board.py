"""Every change of the directory reaches gate and guard: what they remember of it is never older than the last one."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from threading import Thread

import msgspec
import pytest
from msgspec.structs import replace
from sqlalchemy import delete, select

from ostiary.audit.log import entries, tree
from ostiary.cli.main import run
from ostiary.control import giving, operations, people
from ostiary.control.board import Board
from ostiary.control.evidence import PART
from ostiary.control.installation import administrators, open_installation, opened
from ostiary.control.operations import OPERATIONS
from ostiary.control.prepare import initialise
from ostiary.control.reconcile import Translated
from ostiary.foundation.errors import CallerFault, OperatorFault, SystemFault
from ostiary.foundation.home import Home
from ostiary.foundation.secret import Secret
from ostiary.guard.journal import Line
from ostiary.identity import principals, providers, registration
from ostiary.policy.document import Document
from ostiary.store import database
from ostiary.store.database import METADATA
from ostiary.store.plans import plan_in_force
from ostiary.store.tables import AUDIT_LEAF
from ostiary.tls.authority import ensure

PASSWORD = "seven green lanterns"
# In an order in which each finds what it needs.
CHANGES = {
    "client.add": {"client_id": "shop"},
    "user.add": {"login": "anna", "password": PASSWORD},
    "client.change": {"client_id": "shop", "scopes": ["erp/party.party:read"]},
    "account.set": {"principal": "user:anna", "system": "erp", "login": "anna", "password": "hers"},
    "system.account": {"system": "erp", "login": "gateway", "password": "its"},
    "account.remove": {"principal": "user:anna", "system": "erp"},
    "user.forget-factors": {"login": "anna"},
    "user.password": {"login": "anna", "password": PASSWORD[::-1]},
    "principal.roles": {"principal": "user:anna", "roles": ["reader"]},
    "review.remove": {"principal": "user:anna", "role": "reader", "reason": "why"},
    "principal.disable": {"principal": "user:anna"},
    "principal.enable": {"principal": "user:anna"},
    "token.revoke": {"principal": "user:anna"},
    "registration.close": {"name": "partners"},
    "provisioning.allow": {"client_id": "shop", "roles": ["reader"], "takes_over": ["anna"]},
    "provisioning.stop": {"client_id": "shop"},
    "device.add": {"name": "till"},
    "device.remove": {"name": "till"},
    "key.rotate": {"compromised": True},
    "principal.remove": {"principal": "client:shop"},
}
OTHERS = ("alert.", "measure.", "policy.", "break-glass.", "roles.", "provider.")  # they change something else too
NO_CHANGE = {
    "explain",
    "audit.list",
    "review.list",
    "status",
    "system.learn",
    "client.list",
    "user.list",
    "principal.show",
    "device.list",
    "registration.list",
    "provisioning.list",
}
OF_NO_CONCERN = {
    "client.rotate",
    "client.certificate",
    "review.keep",
    "registration.open",
}  # neither gate nor guard know of them


class Twin:
    """Notes what would be told, and answers for the guard."""

    def __init__(self, plan):
        self.plan, self.told, self.draft = plan, [], None

    def refuse(self, keys):
        self.told.append(("refuse", tuple(keys)))

    def refresh(self):
        self.told.append("refresh")

    def erp_user(self, system, login, password):
        return "7"

    def learn(self, system, login="", password=None):
        return {"objects": 1, "methods": 1, "uid": "8"}


@pytest.fixture
def board(folder, chosen_url):
    home = Home(root=folder / "home")
    initialise(home, upstream="http://127.0.0.1:9", store=chosen_url)
    ensure(home, "gate.test")
    home.settings.write_text(f"ask_client_certificate = true\n{home.settings.read_text()}")
    on = open_installation(home)
    yield Board(
        on=on,
        gate=None,
        reconciler=Twin(plan_in_force(home)),
        watch=None,
        outbox=None,
        administrators=administrators(home, on.settings),
    )
    on.store.close()


def test_every_change_is_brought_to_gate_and_guard_and_recorded(board):
    changing = {name for name in OPERATIONS if not name.startswith(OTHERS)} - NO_CHANGE - OF_NO_CONCERN
    assert changing == set(CHANGES)
    OPERATIONS["registration.open"](board, "uid:0", name="partners", scopes=["erp/party.party:read"])
    for name, facts in CHANGES.items():
        board.reconciler.told.clear()
        before = entries_of(board)
        OPERATIONS[name](board, "uid:0", **facts)
        assert board.reconciler.told[-1] == "refresh", name
        assert entries_of(board) > before, name


@pytest.mark.parametrize("operation", ["review.keep", "review.remove"])
def test_what_was_used_is_read_while_others_may_change_the_store(board, monkeypatch, operation):
    """It may be a GiB of logs."""

    class Reading(giving.Used):
        def __iter__(self):
            monkeypatch.setattr(database, "TURN_TIMEOUT_S", 0.1)
            with board.on.store.begin():
                return super().__iter__()

    monkeypatch.setattr(giving, "Used", Reading)
    OPERATIONS["user.add"](board, "uid:0", login="anna", password=PASSWORD, roles=["reader"])
    OPERATIONS[operation](board, "uid:0", principal="user:anna", role="reader", reason="why")
    with board.on.store.read() as connection:
        (entry,) = entries(connection, action=operation, limit=1)
    assert entry["after"] == {"role": "reader", "used": 0, "last": "", "whole": True}


def test_what_is_taken_away_while_its_use_is_read_is_not_reviewed(board, monkeypatch):
    class Reading(giving.Used):
        def __iter__(self):
            OPERATIONS["principal.roles"](board, "uid:0", principal="user:anna", roles=[])
            return super().__iter__()

    monkeypatch.setattr(giving, "Used", Reading)
    OPERATIONS["user.add"](board, "uid:0", login="anna", password=PASSWORD, roles=["reader"])
    with pytest.raises(CallerFault, match="user:anna does not hold the role reader"):
        OPERATIONS["review.keep"](board, "uid:0", principal="user:anna", role="reader", reason="why")


def test_where_the_use_is_not_known_in_full_the_list_says_so(board, capsys):
    OPERATIONS["user.add"](board, "uid:0", login="anna", password=PASSWORD, roles=["reader"])
    asked = ["review", "list", "--home", str(board.on.home.root)]
    line = dict.fromkeys(Line.__struct_fields__, "") | {
        "at": board.now.isoformat(), "subject": "user:anna", "here": {}, "scopes": [], "records": [], "us": 1,
        "operations": ["erp/party.party:read"], "whole": False, "reason": "allowed",
    }  # fmt: skip
    assert run(asked) == 0
    assert "note:" not in capsys.readouterr().out
    board.on.home.guard_log.write_bytes(msgspec.json.encode(line))
    assert run(asked) == 0
    assert f"note: of user:anna: {PART}" in capsys.readouterr().out


def entries_of(board):
    with board.on.store.read() as connection:
        return tree(connection).size


def test_a_roll_out_that_fails_says_why_though_the_store_takes_no_note_of_it(board, monkeypatch):
    def fail(*_):
        raise SystemFault("gate-refused", "no")

    def busy(*_):
        raise SystemFault("store-busy", "others write")

    plan = board.reconciler.plan
    board.reconciler.apply = fail
    monkeypatch.setattr(operations.revisions, "record_failure", busy)
    act = operations.revisions.Act(
        actor="uid:0", document=Document(text="", file="/p"), reason="", before=plan.revision
    )
    with pytest.raises(SystemFault, match="no"):
        operations._roll_out(board, act, Translated(plan=plan, resources={}), 0)


@pytest.mark.parametrize("without_head", [False, True])
def test_on_a_broken_audit_log_nothing_is_changed(board, without_head):
    for name in ("client.add", "user.add"):
        OPERATIONS[name](board, "uid:0", **CHANGES[name])
    with board.on.store.begin() as connection:
        connection.execute(delete(AUDIT_LEAF).where(AUDIT_LEAF.c.number == entries_of(board) - 1))
    if without_head:
        board.on.home.audit_head.unlink()
    before = everything(board)
    board.reconciler.told.clear()
    for name, facts in {
        **CHANGES,
        "client.add": {"client_id": "other"},
        "user.add": {**CHANGES["user.add"], "login": "otto"},
    }.items():
        with pytest.raises(OperatorFault, match="audit log does not hold"):
            OPERATIONS[name](board, "uid:0", **facts)
    assert everything(board) == before
    assert board.reconciler.told == []


def everything(board):
    with board.on.store.read() as connection:
        return {table.name: connection.execute(select(table)).all() for table in METADATA.sorted_tables}


@pytest.mark.parametrize("fails", ["refuse_unreadable", "beside"])
def test_a_draft_that_can_not_be_asked_stays_nowhere_and_the_log_says_so(board, fails):
    """One that Envoy would not take is not even recorded; where it could not be brought, that it ended is."""

    def refuse(_):
        raise SystemFault("gate-refused-configuration", "Envoy does not take it")

    board.reconciler.refuse_unreadable = board.reconciler.beside = lambda _: None
    setattr(board.reconciler, fails, refuse)
    with board.on.store.read() as connection:
        before = {entry["index"] for entry in entries(connection, limit=100)}
    with pytest.raises(SystemFault, match="does not take"):
        operations.OPERATIONS["policy.shadow"](
            board, "uid:0", document=Document(text=board.on.home.policy.read_text(), file="/p")
        )
    with board.on.store.read() as connection:
        told = [entry["action"] for entry in entries(connection, limit=100) if entry["index"] not in before]
    assert told[::-1] == ([] if fails == "refuse_unreadable" else ["policy.shadow", "policy.shadow-end"])


def test_a_draft_that_can_not_be_replaced_is_told_as_the_one_that_is_asked_still(board):
    def refuse(_):
        raise SystemFault("guard-silent", "the guard does not answer")

    board.reconciler.draft, board.reconciler.beside = board.reconciler.plan, refuse
    with pytest.raises(SystemFault, match="does not answer"):
        operations.OPERATIONS["policy.shadow-end"](board, "uid:0")
    with board.on.store.read() as connection:
        last = next(entries(connection, limit=1))
    assert (last["action"], last["after"]) == ("policy.shadow", {"draft": board.reconciler.plan.revision})


@pytest.mark.parametrize("reason", ["two\nlines", "\x1b[2J", "x" * 1_001])
def test_no_reason_is_kept_that_draws_on_a_terminal_or_has_no_end(board, reason):
    before = entries_of(board)
    with pytest.raises(OperatorFault, match="one line of at most"):
        OPERATIONS["key.rotate"](board, "uid:0", compromised=True, reason=reason)
    assert entries_of(board) == before


def ask(board, act, actor, **told):
    """As the identity server asks."""
    return people.change(board, act, actor, json.loads(json.dumps(told)))


def directory(board):
    """A client that keeps users, and what it asks of one."""
    OPERATIONS["client.add"](board, "uid:0", client_id="entra")
    OPERATIONS["provisioning.allow"](board, "uid:0", client_id="entra", roles=["reader"])

    def act(method, kind, name="", **wanted):
        told = [("add" if kind == "Groups" else "replace", what, "", value) for what, value in wanted.items()]
        return ask(board, "scim", "client:entra", method=method, kind=kind, name=name, told=told)

    return act


def test_what_a_directory_does_is_brought_to_gate_and_guard_and_recorded_as_its_own(board):
    act = directory(board)
    one = act("POST", "Users", username="ben", active=True)["id"]
    assert board.reconciler.told[-1] == "refresh"
    act("PATCH", "Users", one, active=False)
    assert board.reconciler.told[-2:] == [("refuse", ("gen:user:ben#1",)), "refresh"]
    with board.on.store.read() as connection:
        (entry,) = entries(connection, action="principal.disable", limit=1)
    assert entry["actor"] == "client:entra"


def test_a_directory_is_opened_no_role_that_the_policy_lacks_and_what_was_opened_and_closed_is_told(board):
    OPERATIONS["client.add"](board, "uid:0", client_id="entra")
    allow = partial(OPERATIONS["provisioning.allow"], board, "uid:0", client_id="entra")
    assert allow(roles=["reader=Staff"]) == {"opened": ["reader"], "closed": []}
    with pytest.raises(OperatorFault, match="has no role nosuch"):
        allow(roles=["nosuch"])
    assert OPERATIONS["provisioning.list"](board, "uid:0")[0]["groups"] == {"reader": "Staff"}
    assert allow(roles=[]) == {"opened": [], "closed": ["reader"]}


def test_a_change_of_a_client_says_whether_its_tokens_are_good_still(board):
    OPERATIONS["client.add"](board, "uid:0", client_id="shop")
    change = partial(OPERATIONS["client.change"], board, "uid:0", client_id="shop")
    for told in ({"name": "The shop"}, {"days": 500}, {"person": "user:anna"}):
        if "person" in told:
            OPERATIONS["user.add"](board, "uid:0", login="anna", password=PASSWORD)
        assert change(**told)["tokens_before"] == "still good"
    for told in ({"days": 300}, {"scopes": ["erp/party.party:read"]}):
        assert change(**told)["tokens_before"] == "refused"


def test_a_directory_that_was_stopped_while_it_waited_changes_nobody(board):
    act = directory(board)
    OPERATIONS["provisioning.stop"](board, "uid:0", client_id="entra")
    assert act("POST", "Users", username="ben", active=True)["refused"]["status"] == 403


def registering(board, method, actor, token="", **told):
    sent = {"redirect_uris": ["https://app.example/back"], **told} if method != "DELETE" else {}
    return ask(board, "register", actor, method=method, token=token, told=sent)


def test_who_registers_has_his_secret_though_gate_and_guard_hear_of_it_later(board, monkeypatch):
    made = OPERATIONS["registration.open"](board, "uid:0", name="partners", scopes=["erp/party.party:read"])
    monkeypatch.setattr(board.reconciler, "refresh", silent)
    done = registering(board, "POST", "registration:partners", made["tokens"][0])
    assert done["id"].startswith("client:app-")
    assert done["secret"]["client_secret"].startswith("ostiary_secret_")


def silent():
    raise SystemFault("guard-silent", "the guard does not answer")


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_a_client_that_was_disabled_while_it_waited_changes_nothing_of_itself(board, method):
    made = OPERATIONS["registration.open"](board, "uid:0", name="partners", scopes=["erp/party.party:read"])
    one = registering(board, "POST", "registration:partners", made["tokens"][0])["id"]
    OPERATIONS["principal.disable"](board, "uid:0", principal=one)
    before = entries_of(board)
    refused = registering(board, method, one, client_id=one.partition(":")[2])["refused"]
    assert (refused["status"], entries_of(board)) == (401, before)


def test_a_directory_gives_no_role_that_others_have_to_say_yes_to(board):
    act = directory(board)
    one = act("POST", "Users", username="ben", active=True)["id"]
    plan = board.reconciler.plan
    board.reconciler.plan = replace(plan, approvals=replace(plan.approvals, roles=1))
    refused = act("PATCH", "Groups", "reader", members=[{"value": one}])["refused"]
    assert (refused["error"], refused["status"]) == ("invalidValue", 400)
    assert "approval" in refused["description"]
    board.reconciler.plan = plan
    assert act("PATCH", "Groups", "reader", members=[{"value": one}]) == {"id": "reader"}


def test_however_many_wait_nobody_who_comes_by_a_provider_is_kept_from_what_he_has(board):
    """Else twenty strangers, to whom nobody says yes, lock out whoever is promoted."""
    facts = {"name": "acme", "issuer": "https://acme.example", "client_id": "x", "accounts": "jit"}
    told = {"sealer": board.on.sealer, "one": providers.fit(facts), "secret": Secret("x")}
    board.change("uid:0", lambda change: providers.add_provider(change, **told))

    def arrive(subject, *roles):
        people.arrive(board, provider="acme", subject=subject, roles=[*roles], login=subject, title="")

    arrive("anna", "reader")
    plan = board.reconciler.plan
    board.reconciler.plan = replace(plan, approvals=replace(plan.approvals, roles=1))
    for number in range(25):
        arrive(f"stranger{number}", "reader")
    board.reconciler.plan = replace(board.reconciler.plan, roles=(*plan.roles, replace(plan.roles[0], name="buyer")))
    arrive("anna", "reader", "buyer")
    assert OPERATIONS["principal.show"](board, "uid:0", principal="user:anna@acme")["roles"] == ["reader"]


def test_whose_client_it_is_changes_while_nobody_gives_roles_or_changes_the_policy(board, monkeypatch):
    """Else each of two looks at what was before the other: duties that are kept apart come together in one person."""
    OPERATIONS["client.add"](board, "uid:0", client_id="shop")
    OPERATIONS["user.add"](board, "uid:0", login="anna", password=PASSWORD)
    allow, free = giving.allow, []

    def is_free():
        took = board.turn.acquire(blocking=False)
        if took:
            board.turn.release()
        return took

    def looked(*told, **more):
        with ThreadPoolExecutor() as other:
            free.append(other.submit(is_free).result())
        return allow(*told, **more)

    monkeypatch.setattr(giving, "allow", looked)
    OPERATIONS["client.change"](board, "uid:0", client_id="shop", person="user:anna")
    OPERATIONS["principal.roles"](board, "uid:0", principal="user:anna", roles=["reader"])
    assert free == [False, False]


@pytest.fixture
def nodes(databases, folder):
    """The boards of two nodes of a fleet, on one PostgreSQL."""
    with databases.one("postgresql") as url, ExitStack() as open_:
        homes = [Home(root=folder / name) for name in ("first", "second")]
        initialise(homes[0], upstream="http://127.0.0.1:9", store=url)
        shutil.copytree(homes[0].root, homes[1].root)
        both = [open_.enter_context(opened(one)) for one in homes]
        told = {"gate": None, "watch": None, "outbox": None}
        yield [
            Board(on=on, reconciler=Twin(plan_in_force(on.home)), administrators=administrators(on.home, on.settings), **told)
            for on in both
        ]  # fmt: skip


def test_what_another_node_takes_meanwhile_is_not_given_back(nodes):
    here, there = nodes
    OPERATIONS["user.add"](here, "uid:0", login="anna", password=PASSWORD, roles=["reader"])
    told = {"principal": "user:anna", "roles": []}
    taking = Thread(target=partial(there.change_directory, "uid:0", principals.set_roles, **told))

    def act(change):
        roles = principals.one(change.connection, "user:anna")["roles"]
        taking.start()
        taking.join(0.5)  # it comes through now, or it waits for its turn
        return principals.set_roles(change, principal="user:anna", roles=roles)

    here.change_directory("uid:0", act)
    taking.join()
    assert here.on.store.ask(principals.one, "user:anna")["roles"] == []


def test_what_an_administrator_takes_from_a_client_at_another_node_it_does_not_take_back(nodes, monkeypatch):
    here, there = nodes
    told = {"redirect_uris": ["https://app.example/back"], "token_endpoint_auth_method": "none"}
    opens = {"name": "partners", "scopes": ["erp/*:read"]}
    token = OPERATIONS["registration.open"](there, "uid:0", **opens)["tokens"][0]
    made = {"method": "POST", "token": token, "told": told}
    one = people.change(there, "register", "registration:partners", made)["id"]
    name, facts = one.partition(":")[2], registration._facts
    narrows = {"client_id": name, "scopes": ["erp/sale.order:read"]}
    narrowing = Thread(target=lambda: OPERATIONS["client.change"](there, "uid:0", **narrows))

    def meanwhile(*given):
        narrowing.start()
        narrowing.join(0.5)
        return facts(*given)

    monkeypatch.setattr(registration, "_facts", meanwhile)
    put = {"method": "PUT", "token": "", "told": {**told, "client_id": name, "scope": "erp/*:read"}}
    people.change(here, "register", one, put)
    narrowing.join()
    assert here.on.store.ask(principals.one, one)["scopes"] == ["erp/sale.order:read"]
