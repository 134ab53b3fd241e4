"""Duties kept apart by record, and records that are changed by their parts."""

import base64
from datetime import UTC, datetime
from types import SimpleNamespace

import msgspec
import pytest

from fixed_clock import FixedClock
from guard.test_computed import booked, period  # noqa: F401  a fixture
from guard.test_real_erp import carry, company
from guard_world import POLICY, TwinErp, guarded, make, rpc, small_catalogue
from ostiary.erp.catalogue import Field, learned
from ostiary.erp.operation import Call, Operation, Pattern, Verb
from ostiary.guard import records
from ostiary.guard.accounts import Accounts
from ostiary.guard.erp import NotEstablished
from ostiary.guard.records import Case

POSTER = """
  poster: {level: user, of: finance, may: ["account.move: read, write, execute post", "account.move.line: read, write"]}
apart:"""
APPROVE = rpc("model.account.payment.approve", [1])


@pytest.fixture
def world(tmp_path):
    known = small_catalogue()
    address = {**known.models["party.address"], "party": Field("many2one", "party.party", computed=False)}
    methods = {**known.methods, "model.party.address": known.methods["model.party.address"] | {"standardize"}}
    models = {**known.models, "party.address": address}
    catalogue = msgspec.structs.replace(known, models=models, methods=methods)
    acts = POLICY.replace('"party.*: read, write"', '"party.*: read, write, execute"')
    made = make(tmp_path / "home", catalogue=catalogue, policy=acts)
    made.person("user:anna", "approver", uid="5")
    made.person("user:ben", "treasurer", uid="6")
    return made


@pytest.fixture
def erp(world):
    """Two suppliers of Ben's, each with an address of his, and a payment of his to the first."""
    made = TwinErp(world.clock)
    for supplier in (1, 2):
        made.create("treasurer", "party.party", name="S")
        made.create("treasurer", "party.address", party=supplier)
    made.create("treasurer", "account.payment", party=1)
    return made


@pytest.fixture
def small_world():
    """A case of one operation, in an ERP where every record says that it is a part of record 1."""

    class Erp:
        async def rows(self, name, ids, fields):
            return [{"id": int(one), **dict.fromkeys(fields, 1)} for one in ids]

    def made(operation):
        call = Call(operations=(operation,))
        return Case(system="erp", call=call, person="p", account=None, erp=Erp(), past=None, now=datetime.now(UTC))

    return made


def carried(erp):
    return lambda credential, request: erp.carry_out(credential.removeprefix("as:"), request)


@pytest.mark.parametrize(
    ("method", "params", "counts"),
    [
        ("write", [[1], {"city": "Here"}], True),
        ("write", [[2], {"city": "Here"}], False),
        ("write", [[1], {"party": 2}], True),  # taken away from it
        ("write", [[2], {"party": 1}], True),  # put to it
        ("create", [[{"party": 1}]], True),
        ("create", [[{"party": 2}]], False),
        ("copy", [[1]], True),
        ("standardize", [[1]], True),
        ("standardize", [[2]], False),
        ("read", [[1], ["city"]], False),
    ],
)
async def test_who_changed_a_part_has_changed_what_it_is_a_part_of(world, erp, method, params, counts):
    anna = world.token("user:anna")
    async with guarded(world, erp):
        done, _ = await world.through(anna, rpc(f"model.party.address.{method}", *params), carried(erp))
        assert done.allowed
        answer = await world.ask(anna, APPROVE)
        assert (answer.allowed, answer.reason) == ((False, "apart") if counts else (True, "allowed"))
        assert ("through this gate" in answer.detail) is counts


async def test_an_action_on_a_part_that_is_the_second_duty_is_no_first_one(world, erp, tmp_path):
    """Else nobody could do it, or nobody twice."""
    rule = '["party.party: write", "party.address: execute standardize"]'
    acts = POLICY.replace('"party.*: read, write"', '"party.*: read, write, execute"')
    text = acts.replace('["party.party: write", "account.payment: execute approve"]', rule)
    other = make(tmp_path / "other", policy=text, catalogue=learned(world.home.catalogue("erp")))
    other.person("user:anna", "approver", uid="5")
    other.person("user:ben", "treasurer", uid="6")
    async with guarded(other, erp):
        for _ in range(2):
            done, _ = await other.through(
                other.token("user:anna"), rpc("model.party.address.standardize", [1]), carried(erp)
            )
            assert done.allowed
        refused = await other.ask(other.token("user:ben"), rpc("model.party.address.standardize", [1]))
    assert refused.reason == "apart"


async def test_the_whole_is_held_while_a_part_of_it_is_written(world, erp):
    """Else both duties are judged before either is done."""
    anna, ben = world.token("user:anna"), world.token("user:ben")
    async with guarded(world, erp):
        assert (await world.ask(anna, rpc("model.party.address.write", [1], {"city": "X"}), decision="first")).allowed
        answer = await world.ask(ben, rpc("model.party.party.write", [1], {"name": "X"}))
        assert (answer.reason, "has not ended yet" in answer.detail) == ("unavailable", True)
        world.logged("first")


@pytest.mark.parametrize(
    ("method", "params"),
    [("create", [[{"city": "X"}]]), ("copy", [[2], {"party": 1}]), ("write", [[99], {"city": "X"}])],
)
async def test_a_part_of_what_can_not_be_told_is_not_written(world, erp, method, params):
    anna = world.token("user:anna")
    async with guarded(world, erp):
        answer = await world.ask(anna, rpc(f"model.party.address.{method}", *params))
        assert (answer.reason, "by its parts" in answer.detail) == ("apart", True)
        nested = rpc("model.party.party.create", [{"name": "N", "addresses": [["create", [{"city": "X"}]]]}])
        assert (await world.ask(anna, nested)).allowed


@pytest.mark.parametrize("depth", [records.LEVELS_MAX - 1, records.LEVELS_MAX])
async def test_a_part_of_parts_is_followed_to_the_whole_or_nothing_is_done(depth, small_world):
    """Where that stopped half way, whoever writes a part deep enough would not have changed the whole."""
    owners = {f"part.n{n}": {"whole": f"part.n{n - 1}"} for n in range(1, depth + 1)}
    case = small_world(Operation(system="erp", object=f"part.n{depth}", verb=Verb.WRITE, action="write", ids=("1",)))
    rule = SimpleNamespace(
        first=Pattern(system="erp", object="part.n0", verb=Verb.WRITE), then=case.call.operations[0].pattern
    )
    if depth == records.LEVELS_MAX:
        with pytest.raises(NotEstablished, match="too much"):
            await records.with_wholes([rule], case, owners)
    else:
        call = await records.with_wholes([rule], case, owners)
        assert call.operations[-1].object == "part.n0"


def office(tmp_path, tryton, pair, roles):
    policy = POLICY.replace("policy: world", "policy: world\npacks: [sod/tryton, sod-by-record/tryton]")
    world = make(
        tmp_path / "home", policy=policy.replace("\napart:", roles), upstream=tryton.erp.url, catalogue=pair.catalogue
    )
    world.clock = FixedClock(datetime.now(UTC))
    for principal, login in (("user:anna", "acct"), ("user:ben", "admin"), ("system:erp", "gateway")):
        world.person(principal, login, password=tryton.erp.users[login].reveal())
    return world


@pytest.mark.xdist_group("tryton")
async def test_who_rewrote_the_lines_of_another_s_journal_entry_does_not_post_it(tmp_path, tryton, pair, period):  # noqa: F811
    world = office(tmp_path, tryton, pair, POSTER)
    move, line = booked(tryton, period)
    amount = {"debit": {"__class__": "Decimal", "decimal": "4999.99"}}
    async with guarded(world):
        anna = world.token("user:anna", ["poster"])
        written, _ = await world.through(anna, company("model.account.move.line.write", [line], amount), carry(tryton))
        answer = await world.ask(anna, company("model.account.move.post", [move]))
        assert (written.allowed, answer.reason, answer.rule) == (True, "apart", "apart/R2R-01")


SPELT = {
    "with a zero": lambda number: f"0{number}",
    "with a space": lambda number: f" {number}",
    "in wide digits": lambda number: "".join(chr(ord(digit) + 0xFEE0) for digit in str(number)),
    "as a fraction": lambda number: number + 0.5,
    "as an amount": lambda number: {"__class__": "Decimal", "decimal": f"{number}.0"},
    "as bytes": lambda number: {"__class__": "bytes", "base64": base64.b64encode(str(number).encode()).decode()},
}


@pytest.mark.xdist_group("tryton")
async def test_a_link_to_the_whole_is_spelt_in_one_way_only(tmp_path, tryton, pair, period):  # noqa: F811
    """The ERP takes each of these for the number; what is remembered under it would be of another record."""
    world, (move, line) = office(tmp_path, tryton, pair, POSTER), booked(tryton, period)
    row = tryton.call("admin", "model.account.move.line.read", [line], ["account"])[0]
    async with guarded(world):
        anna = world.token("user:anna", ["poster"])
        for how, spelt in SPELT.items():
            told = {"account": row["account"], "move": spelt(move)}
            for method, params in (("create", [[told]]), ("write", [[line], told]), ("copy", [[line], told])):
                answer = await world.ask(anna, company(f"model.account.move.line.{method}", *params))
                assert (how, method, answer.reason) == (how, method, "invalid")
        tryton.call("admin", "model.account.move.line.create", [{"account": row["account"], "move": f"0{move}"}])
        told = {"account": row["account"], "move": move}
        await world.through(anna, company("model.account.move.line.create", [told]), carry(tryton))
        assert (await world.ask(anna, company("model.account.move.post", [move]))).reason == "apart"


CLERK = """
  clerk: {level: user, of: finance, may: ["account.invoice: read, write, execute post", "account.invoice.line: write"]}
apart:
  - name: enter an invoice and post it
    permissions: ["account.invoice: write", "account.invoice: execute post"]
    within: 30 days"""


@pytest.mark.xdist_group("tryton")
async def test_a_line_that_need_not_be_in_an_invoice_is_a_part_of_the_one_it_is_in(tmp_path, tryton, pair):
    world = office(tmp_path, tryton, pair, CLERK)

    def first(name, *clauses):
        return tryton.call("admin", f"model.{name}.search", list(clauses), 0, 1)[0]

    address = {"addresses": [["create", [{"city": "X"}]]]}
    (party,) = tryton.call("admin", "model.party.party.create", [{"name": "S", **address}])
    invoice = {
        "type": "in", "company": 1, "currency": 1, "party": party, "invoice_address": first("party.address", ["party", "=", party]),
        "account": first("account.account", ["type.payable", "=", True], ["closed", "!=", True]), "journal": first("account.journal", ["type", "=", "expense"]),
    }  # fmt: skip
    (made,) = tryton.call("admin", "model.account.invoice.create", [invoice])
    post = company("model.account.invoice.post", [made])
    async with guarded(world):
        anna = world.token("user:anna", ["clerk"])
        assert (await world.ask(anna, post, decision="before")).allowed
        world.logged("before")
        line = {"invoice": made, "type": "comment", "description": "Pay to another account"}
        done, _ = await world.through(anna, company("model.account.invoice.line.create", [line]), carry(tryton))
        assert (done.allowed, (await world.ask(anna, post)).reason) == (True, "apart")


async def test_of_many_records_of_one_hand_the_store_is_asked_once_whose_it_is(world, monkeypatch):
    """Each was a question to the store: five kilobytes kept it, and so the guard, for seconds."""
    erp, asked, persons = TwinErp(world.clock), [], Accounts.persons
    for number in range(1, 101):
        erp.create("treasurer" if number < 100 else "approver", "party.party", name="S")
        erp.create("treasurer", "account.payment", party=number)

    async def counted(self, system, uid, of):
        asked.append(uid)
        return await persons(self, system, uid, of)

    monkeypatch.setattr(Accounts, "persons", counted)
    async with guarded(world, erp):
        anna = world.token("user:anna")
        assert (await world.ask(anna, rpc("model.account.payment.approve", [*range(1, 100)]), decision="many")).allowed
        assert asked == ["6"]
        world.logged("many")
        assert (await world.ask(anna, rpc("model.account.payment.approve", [*range(1, 101)]))).reason == "apart"
