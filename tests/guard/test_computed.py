"""Fields that Tryton computes and lets be written: each of these writes works at the server, and not at the gate.

A line of a journal entry has the journal, the period and the date of the entry it belongs to: writing them in the line
writes them in the entry. A party's phone is a contact of it.
"""

import asyncio
import json
from datetime import UTC, datetime

import msgspec
import pytest

from fixed_clock import FixedClock
from guard.test_real_erp import carry, company
from guard.test_real_limited import rest
from guard_world import POLICY, guarded, make
from ostiary.erp.catalogue import Catalogue

pytestmark = pytest.mark.xdist_group("tryton")

ROLES = """
  texts: {level: user, of: finance, may: ["account.move.line: write", {do: "account.move: write", fields: [description, lines]}]}
  one-journal: {level: user, of: finance, may: ["account.move.line: write", {do: "account.move: write", where: {journal: 5}}]}
  named: {level: user, of: finance, may: [{do: "account.move.line: write", fields: [description, journal]}, {do: "account.move: write", fields: description}]}
  whole: {level: user, of: finance, may: ["account.move.line: write", "account.move: write", {do: "account.move: write", fields: description}]}
  comments: {level: user, of: finance, may: ["party.party: write", {do: "party.contact_mechanism: write", fields: comment}]}
  streets: {level: user, of: finance, may: ["party.address: write"]}
  booker: {level: user, of: finance, may: ["account.move.line: write"]}
apart:"""
RULE = """apart:
  - {name: make a journal and book in it, permissions: ["account.journal: write", "account.move.line: write"], link: move.journal, within: 30 days}"""
BOTH = """  both: {level: user, of: finance, may: ["account.move.line: write", "account.move: write"]}
"""
DAY = {"__class__": "date", "year": 2031, "month": 1, "day": 15}


@pytest.fixture
def world(tmp_path, tryton, pair, request):
    policy = POLICY.replace("\napart:", ROLES)
    policy = policy.replace("\napart:", "\n" + getattr(request, "param", "apart:"))
    made = make(tmp_path / "home", policy=policy, upstream=tryton.erp.url, catalogue=pair.catalogue)
    made.clock = FixedClock(datetime.now(UTC))
    for principal, login in (("user:anna", "acct"), ("user:ben", "treasurer"), ("system:erp", "gateway")):
        made.person(principal, login, password=tryton.erp.users[login].reveal())
    return made


@pytest.fixture(scope="module")
def period(tryton):
    """One in a year that no other tests book in than those that share it."""
    asked = [["start_date", "=", {**DAY, "day": 1}]]
    if found := tryton.call("admin", "model.account.period.search", asked):
        return found[0]
    year = [
        {"name": "2031", "company": 1, "start_date": {**DAY, "day": 1}, "end_date": {**DAY, "month": 12, "day": 31}}
    ]
    (year[0]["move_sequence"],) = tryton.call(
        "admin", "model.ir.sequence.strict.create", [{"name": "2031", "sequence_type": 2}]
    )
    tryton.call(
        "admin", "model.account.fiscalyear.create_period", tryton.call("admin", "model.account.fiscalyear.create", year)
    )
    (found,) = tryton.call("admin", "model.account.period.search", asked)
    return found


def booked(tryton, period, journal=5, login="admin"):
    """A draft entry of another's, and a line of it."""
    row = {"journal": journal, "period": period, "date": DAY, "company": 1}
    (move,) = tryton.call(login, "model.account.move.create", [row])
    (account,) = tryton.call(
        "admin",
        "model.account.account.search",
        [["type", "!=", None], ["closed", "!=", True], ["party_required", "=", False]],
        0,
        1,
    )
    (line,) = tryton.call(login, "model.account.move.line.create", [{"move": move, "account": account}])
    return move, line


def entry(tryton, move):
    return tryton.select("select journal, description from account_move where id = ?", move)[0]


def write(name, number, **values):
    return company(f"model.{name}.write", [number], values)


def attacks(move, line):
    """Each would change what the entry has, which its own line of the policy does not grant."""
    yield "the journal", write("account.move.line", line, journal=3)
    yield "another field beside", write("account.move.line", line, description="x", journal=3)
    yield "the text", write("account.move.line", line, move_description_used="Evil")
    yield (
        "in a second write",
        company("model.account.move.line.write", [line], {"description": "x"}, [line], {"journal": 3}),
    )
    yield "by the other interface", rest("PUT", f"account.move.line/{line}", "f=id", {"journal": 3})
    yield "in what is made", company("model.account.move.line.create", [{"move": move, "journal": 3}])
    yield "in a copy", company("model.account.move.line.copy", [line], {"journal": 3})
    yield "by nothing", write("account.move.line", line, journal=None)


async def test_the_server_alone_would_have_done_it(tryton, period):
    move, line = booked(tryton, period)
    for attack, request in attacks(move, line):
        if attack in {"the journal", "the text"}:
            tryton.call("acct", "model.account.move.line.write", *json.loads(request.body)["params"][:-1])
    assert entry(tryton, move) == (3, "Evil")
    (party,) = tryton.call("treasurer", "model.party.party.create", [{"name": "S", "phone": "+43123456"}])
    assert tryton.select("select value from party_contact_mechanism where party = ?", party) == [("+43123456",)]


@pytest.mark.parametrize("role", ["texts", "one-journal", "booker"])
async def test_what_a_computed_field_writes_elsewhere_stays_beyond_fewer_fields_and_records(
    world, tryton, period, role
):
    move, line = booked(tryton, period)
    async with guarded(world):
        token = world.token("user:anna", [role])
        for attack, request in attacks(move, line):
            answer = await world.ask(token, request)
            assert (answer.status, answer.reason) == (403, "field"), (attack, answer.problem)
            assert "may change more than it names" in answer.detail, attack
            assert "move_description_used" in answer.detail or "journal" in answer.detail
    assert entry(tryton, move) == (5, None)


async def test_a_field_that_writes_in_its_own_record_is_no_way_into_one_that_it_is_no_part_of(world, tryton):
    """Of a part, too, where the caller may write what it is a part of."""
    (party,) = tryton.call("treasurer", "model.party.party.create", [{"name": "S"}])
    phone, street = (
        company("model.party.party.create", [{"name": "S", "phone": "+43123456"}]),
        company("model.party.address.create", [{"party": party, "street": "Ring 1"}]),
    )
    streets, whole = world.token("user:ben", ["streets"]), world.token("user:ben")
    async with guarded(world):
        assert (await world.ask(streets, street)).reason == "field"
        for one in (phone, street):
            answer, _ = await world.through(whole, one, carry(tryton))
            assert answer.allowed, answer.detail


async def test_nor_does_a_nested_write_of_it_pass(world, tryton, period):
    move, line = booked(tryton, period)
    nested = write("account.move", move, lines=[["write", [line], {"journal": 3}]])
    phone = company("model.party.party.create", [{"name": "S", "phone": "+43123456"}])
    lower = write("account.move", move, lines=[["write", [line], {"description": "x"}]])
    anna, ben = world.token("user:anna", ["texts"]), world.token("user:ben", ["comments"])
    async with guarded(world):
        assert (await world.ask(anna, nested)).reason == "field"
        assert (await world.ask(ben, phone)).reason == "field"
        answer = await world.ask(anna, lower)
        assert answer.allowed, answer.detail


async def test_who_is_bounded_writes_what_the_erp_stores_as_before(world, tryton, period):
    _, line = booked(tryton, period)
    rent = write("account.move.line", line, description="rent")
    nested = company("model.party.party.create", [{"name": "S", "addresses": [["create", [{"city": "Graz"}]]]}])
    tokens = [world.token("user:anna", [role]) for role in ("texts", "one-journal", "named")]
    ben = world.token("user:ben", ["comments", "payments"])
    async with guarded(world):
        for token in tokens:
            answer, _ = await world.through(token, rent, carry(tryton))
            assert answer.allowed, answer.detail
        answer, _ = await world.through(ben, nested, carry(tryton))
        assert answer.allowed, answer.detail
    assert tryton.select("select description from account_move_line where id = ?", line) == [("rent",)]


@pytest.mark.parametrize("role", ["named", "whole"])
async def test_a_computed_field_is_written_by_who_has_it_named_or_the_whole_object_behind_it(
    world, tryton, period, role
):
    move, line = booked(tryton, period)
    async with guarded(world):
        request = write("account.move.line", line, journal=3)
        answer, _ = await world.through(world.token("user:anna", [role]), request, carry(tryton))
    assert answer.allowed, answer.detail
    assert entry(tryton, move) == (3, None)


def journal(tryton, login):
    """One that this user made, a moment ago."""
    (made,) = tryton.call("admin", "model.account.journal.create", [{"name": login, "type": "general"}])
    tryton.execute(
        "update account_journal set create_uid = ?, write_uid = null where id = ?", tryton.erp.uids[login], made
    )
    return made


@pytest.mark.parametrize("world", [BOTH + RULE], indirect=True)
async def test_a_duty_is_not_done_to_a_record_that_the_request_links_by_a_computed_field(world, tryton, period):
    other, own = journal(tryton, "treasurer"), journal(tryton, "acct")
    move, line = booked(tryton, period, other)
    async with guarded(world):
        token = world.token("user:anna", ["both"])
        answer, _ = await world.through(token, write("account.move.line", line, description="x"), carry(tryton))
        assert answer.allowed, answer.detail
        answer = await world.ask(token, write("account.move.line", line, description="x", journal=own))
        assert (answer.status, answer.reason) == (403, "apart"), answer.problem
        assert "may change its move.journal, by journal" in answer.detail
        assert entry(tryton, move)[0] == other
        tryton.call("acct", "model.account.move.line.write", [line], {"journal": own})  # the server alone
        assert entry(tryton, move)[0] == own


@pytest.mark.parametrize("world", [BOTH + RULE], indirect=True)
async def test_nor_to_one_that_it_links_by_a_later_step(world, tryton, period):
    other, own = journal(tryton, "treasurer"), journal(tryton, "acct")
    (move, line), (elsewhere, _) = (booked(tryton, period, other) for _ in range(2))
    nested = [["write", [line], {"description": "x"}]]
    async with guarded(world):
        token = world.token("user:anna", ["both"])
        for values in ({"lines": nested, "journal": own}, {"journal": own, "lines": nested}):
            answer = await world.ask(token, write("account.move", move, **values))
            assert (answer.status, answer.reason) == (403, "apart"), answer.problem
            assert "the request itself changes journal" in answer.detail
        pairs = [[move], {"lines": nested}, [elsewhere], {"journal": own}]
        answer, _ = await world.through(token, company("model.account.move.write", *pairs), carry(tryton))
        assert answer.allowed, answer.detail
    assert (entry(tryton, move), entry(tryton, elsewhere)) == ((other, None), (own, None))
    tryton.call("acct", "model.account.move.write", [move], {"journal": own, "lines": nested})  # the server alone
    assert entry(tryton, move)[0] == own


@pytest.mark.parametrize("world", [BOTH + RULE], indirect=True)
async def test_nor_to_one_that_another_request_links_meanwhile(world, tryton, period):
    other, own = journal(tryton, "treasurer"), journal(tryton, "acct")
    move, line = booked(tryton, period, other)
    turn, book = write("account.move", move, journal=own), write("account.move.line", line, description="x")
    anna, ben = world.token("user:anna", ["both"]), world.token("user:ben", ["both"])
    async with guarded(world):
        answer, _ = await world.through(anna, book, carry(tryton))  # also signed in now, so the next one is quick
        assert answer.allowed, answer.detail
        turning = await world.ask(ben, turn, decision="first")
        assert turning.allowed, turning.problem
        booking = asyncio.create_task(world.ask(anna, book, decision="second"))
        done, _ = await asyncio.wait([booking], timeout=1)
        assert not done
        tryton.execute("update account_move set journal = ? where id = ?", own, move)  # the ERP does the first
        world.logged("first")
        answer = await asyncio.wait_for(booking, 5)
    assert (answer.status, answer.reason) == (403, "apart"), answer.problem


@pytest.mark.parametrize("world", [BOTH + RULE.replace("move.journal", "journal")], indirect=True)
async def test_nor_by_a_link_that_hides_the_record_in_its_middle(world, tryton, period):
    _, line = booked(tryton, period, journal(tryton, "treasurer"))
    async with guarded(world):
        answer = await world.ask(world.token("user:anna", ["both"]), write("account.move.line", line, description="x"))
    assert (answer.status, answer.reason) == (403, "apart"), answer.problem
    assert "journal of account.move.line is no plain field that the ERP stores" in answer.detail


@pytest.mark.parametrize("world", [BOTH + RULE], indirect=True)
async def test_in_a_catalogue_without_the_fact_every_field_is_a_computed_one(world, tryton, pair, period):
    known = pair.catalogue.models.items()
    models = {name: {key: (one.type, one.target) for key, one in fields.items()} for name, fields in known}
    old = msgspec.json.encode({"models": models, "methods": pair.catalogue.methods})
    assert pair.catalogue.whole
    assert not msgspec.json.decode(old, type=Catalogue).whole
    world.home.catalogue("erp").write_bytes(old)
    _, line = booked(tryton, period)
    tokens = {role: world.token("user:anna", [role]) for role in ("texts", "both", "named")}
    async with guarded(world):
        plain = write("account.move.line", line, description="x")
        reasons = {role: (await world.ask(token, plain)).reason for role, token in tokens.items()}
    assert reasons == {"texts": "field", "both": "field", "named": "apart"}
