"""Grants of fewer fields and records in front of a real Tryton: each attack works at the server, and not at the gate."""

import base64
import json
from datetime import UTC, datetime

import pytest

from fixed_clock import FixedClock
from guard.test_real_erp import carry, company, draft
from guard_world import POLICY, guarded, make, rpc
from ostiary.erp.operation import Request
from ostiary.guard.erp import NotEstablished
from real_tryton import ErpError

pytestmark = pytest.mark.xdist_group("tryton")

LIMITED = """
  narrow:
    level: user
    of: finance
    may:
      - {do: "party.party: read, write", fields: [name, addresses]}
      - {do: "party.address: read, write", fields: [city, party]}
  small: {level: user, of: finance, may: [{do: "account.payment: read, write, delete, execute submit", where: {amount: [">= 0", "<= 5000"]}}]}
  own: {level: user, of: finance, may: [{do: "account.payment: read, write, delete", where: {create_uid: own, company: own}}]}
apart:"""


@pytest.fixture
def world(tmp_path, tryton, pair):
    policy = POLICY.replace("\napart:", LIMITED)
    made = make(tmp_path / "home", policy=policy, upstream=tryton.erp.url, catalogue=pair.catalogue)
    made.clock = FixedClock(datetime.now(UTC))
    for principal, login in (("user:anna", "approver"), ("user:ben", "treasurer"), ("system:erp", "gateway")):
        made.person(principal, login, password=tryton.erp.users[login].reveal())
    return made


def amount(text):
    return {"__class__": "Decimal", "decimal": text}


def paid(tryton, text, login="treasurer"):
    """A draft payment of so much."""
    (supplier,) = tryton.call("treasurer", "model.party.party.create", [{"name": "Supplier"}])
    (row,) = json.loads(draft(supplier).body)["params"][0]
    (made,) = tryton.call(login, "model.account.payment.create", [{**row, "amount": amount(text)}])
    return made


def held(tryton, payment):
    text = tryton.select("select amount from account_payment where id = ?", payment)[0][0]
    return float(text.decode() if isinstance(text, bytes) else text)


def b64(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def rest(method, path, query="", body=None, **headers):
    sent = b"" if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json", **headers} if sent else headers
    return Request(method=method, path=f"/erp/rest/model/{path}", query=query, headers=headers, body=sent)


FIELD_ATTACKS = {
    "shown": company("model.party.party.read", [1], ["code"]),
    "in a filter": company("model.party.party.search_count", [["code", "like", "1%"]]),
    "in a nested filter": company("model.party.party.search", [["addresses", "where", [["street", "like", "%"]]]]),
    "in an order": company("model.party.party.search", [], 0, 5, [["code", "DESC"]]),
    "in an export": company("model.party.party.export_data", [1], ["code"]),
    "in an export of a filter": company("model.party.party.export_data_domain", [], ["addresses/street"]),
    "behind a path": company("model.party.party.read", [1], ["addresses.", "name", "addresses.street"][1:]),
    "behind a path and back": company("model.party.address.read", [1], ["party.code"]),
    "as a name": company("model.party.party.search_read", [], 0, 1, None, ["rec_name"]),
    "as a default": company("model.party.party.default_get", ["active"]),
    "written": company("model.party.party.write", [1], {"code": "7"}),
    "in the second write of a call": company("model.party.party.write", [1], {"name": "ACME Corp"}, [2], {"code": "8"}),
    "in a nested write": company("model.party.party.write", [1], {"addresses": [["create", [{"street": "x"}]]]}),
    "in a copy": company("model.party.party.copy", [1], {"name": "copy"}),
    "in a query": rest("GET", "party.party/1", "f=name&f=code"),
    "where no field is named": rest("GET", "party.party/1"),
    "in a query's filter": rest("GET", "party.party", f"f=name&d={b64([['code', '=', '1']])}"),
    "in a query's order": rest("GET", "party.party", f"f=name&o={b64([['code', 'ASC']])}"),
    "in the answer to a change": rest("PUT", "party.party/1", "f=code", {"name": "ACME Corp"}),
}


@pytest.mark.parametrize("attack", FIELD_ATTACKS)
async def test_a_denied_field_stays_denied(world, tryton, attack):
    async with guarded(world):
        answer = await world.ask(world.token("user:anna", ["narrow"]), FIELD_ATTACKS[attack])
    assert (answer.status, answer.reason) == (403, "field"), answer.problem


async def test_granted_fields_are_read_and_written(world, tryton):
    async with guarded(world):
        token = world.token("user:anna", ["narrow"])
        row = {"name": "Narrow", "addresses": [["create", [{"city": "Graz"}]]]}
        _, (made,) = await world.through(token, company("model.party.party.create", [row]), carry(tryton))
        shown = company("model.party.party.read", [made], ["name", "addresses"])
        _, rows = await world.through(token, shown, carry(tryton))
        assert rows[0]["name"] == "Narrow"
        wanted = company("model.party.address.search_read", [["party", "=", made]], 0, 5, [["city", "ASC"]], ["city"])
        _, rows = await world.through(token, wanted, carry(tryton))
        assert [row["city"] for row in rows] == ["Graz"]
        _, row = await world.through(token, rest("GET", f"party.party/{made}", "f=name"), carry(tryton))
        assert row["name"] == "Narrow"


@pytest.mark.parametrize("spelling", ['"method":"x","method"', '"m\\u0065thod"'])
async def test_odd_spellings_of_a_call_name_the_same_fields_or_are_refused(world, spelling):
    body = f'{{"id":1,{spelling}:"model.party.party.read","params":[[1],["c\\u006fde"],{{}}]}}'.encode()
    request = Request(method="POST", path="/erp/rpc/", headers={"content-type": "application/json"}, body=body)
    async with guarded(world):
        answer = await world.ask(world.token("user:anna", ["narrow"]), request)
    assert answer.reason in {"field", "invalid"}


async def test_only_fields_that_the_erp_stores_bound_anything(world, tryton):
    async with guarded(world):
        (system,) = world.guard._knowledge.current.plan.systems
        erp = world.guard.erp_of(system)
        for name, field, target in (
            ("account.payment", "amount", ""),
            ("account.payment", "state", ""),
            ("account.payment", "company", "company.company"),
            ("account.payment", "create_uid", "res.user"),
            ("sale.sale", "party", "party.party"),
        ):
            assert await erp.stored(name, field) == target
        for name, field in (
            ("sale.sale", "total_amount"),  # computed from the lines, which other calls write
            ("product.template", "list_price"),  # another one for each company
            ("party.party", "name"),
            ("party.party", "rec_name"),
            ("party.party", "nothing"),
            ("no.such.object", "amount"),
        ):
            with pytest.raises(NotEstablished):
                await erp.stored(name, field)


async def test_a_payment_within_the_bound_is_worked_on(world, tryton):
    async with guarded(world):
        token, low = world.token("user:anna", ["small"]), paid(tryton, "4999.99")
        _, rows = await world.through(token, company("model.account.payment.read", [low], ["state"]), carry(tryton))
        assert rows[0]["state"] == "draft"
        raised = company("model.account.payment.write", [low], {"amount": amount("5000.00")})
        answer, _ = await world.through(token, raised, carry(tryton))
        assert answer.allowed, answer.detail
        assert held(tryton, low) == 5000
        answer, _ = await world.through(token, company("model.account.payment.submit", [low]), carry(tryton))
        assert answer.allowed, answer.detail


def record_attacks(low, high):
    """Each asked as one who may work on payments from 0 to 5,000."""
    write, read = "model.account.payment.write", "model.account.payment.read"
    yield "raised", company(write, [low], {"amount": amount("5000.01")})
    yield "raised by another type", company(write, [low], {"amount": 6000})
    yield "raised by a text", company(write, [low], {"amount": "6000"})
    yield "raised by an exponent", company(write, [low], {"amount": amount("6E3")})
    yield "below nothing", company(write, [low], {"amount": amount("-6000")})
    yield "emptied", company(write, [low], {"amount": None})
    yield "lowered from above", company(write, [high], {"amount": amount("1")})
    yield "hidden behind one that is fine", company(write, [low, high], {"reference": "x"})
    yield "in a second write", company(write, [low], {"reference": "x"}, [high], {"reference": "x"})
    yield "raised and lowered", company(write, [low], {"amount": amount("9000")}, [low], {"amount": amount("1")})
    yield "read", company(read, [high], ["amount"])
    yield "read in passing", company(read, [low, high], ["reference"])
    yield "exported", company("model.account.payment.export_data", [high], ["amount"])
    yield "found", company("model.account.payment.search_read", [], 0, 5, None, ["amount"])
    yield "counted", company("model.account.payment.search_count", [["amount", ">", 5000]])
    yield "exported by a filter", company("model.account.payment.export_data_domain", [], ["amount"])
    yield "submitted", company("model.account.payment.submit", [low, high])
    yield "deleted", company("model.account.payment.delete", [high])
    yield "copied", company("model.account.payment.copy", [low], {"amount": amount("9000")})
    yield "made", company("model.account.payment.create", [{"amount": amount("9000")}])
    yield "made in silence", company("model.account.payment.create", [{"reference": "x"}])
    yield "by the other interface", rest("PUT", f"account.payment/{high}", "f=id", {"reference": "x"})
    yield "raised by the other interface", rest("PUT", f"account.payment/{low}", "f=id", {"amount": amount("9000")})
    yield "found by the other interface", rest("GET", "account.payment", "f=amount")
    yield "shown after a raise", rest("POST", f"account.payment/{high}/submit", "f=amount")


async def test_a_record_beyond_the_bound_stays_beyond_it(world, tryton):
    low, high = paid(tryton, "10"), paid(tryton, "6000")
    async with guarded(world):
        token = world.token("user:anna", ["small"])
        for attack, request in record_attacks(low, high):
            answer = await world.ask(token, request)
            assert (answer.status, answer.reason) == (403, "record"), (attack, answer.problem)
    assert (held(tryton, low), held(tryton, high)) == (10, 6000)


async def test_the_server_alone_would_have_done_it(tryton):
    """Else the attacks above would show nothing."""
    low, high = paid(tryton, "10"), paid(tryton, "6000")
    for attack, request in record_attacks(low, high):
        method, params = (
            json.loads(request.body or b"{}").get("method"),
            json.loads(request.body or b"{}").get("params"),
        )
        if attack in {"raised", "lowered from above", "read", "found", "counted", "submitted"}:
            tryton.call("approver", method, *params[:-1])
    assert held(tryton, high) == 1


async def test_own_records_are_those_that_tryton_says_the_caller_made(world, tryton):
    async with guarded(world):
        token = world.token("user:anna", ["own"])
        (supplier,) = tryton.call("treasurer", "model.party.party.create", [{"name": "Supplier"}])
        answer, made = await world.through(token, draft(supplier), carry(tryton))
        assert answer.allowed, answer.detail
        (mine,) = made
        other = paid(tryton, "5")
        note = {"reference": "x"}
        answer, _ = await world.through(token, company("model.account.payment.write", [mine], note), carry(tryton))
        assert answer.allowed, answer.detail
        for request in (
            company("model.account.payment.write", [other], note),
            company("model.account.payment.write", [mine], {"create_uid": tryton.erp.uids["treasurer"]}),
            company("model.account.payment.write", [mine], {"company": 99}),
            company("model.account.payment.write", [mine], note, [mine], {"company": 99}),
            company("model.account.payment.read", [other], ["amount"]),
            company("model.account.payment.delete", [mine, other]),
        ):
            assert (await world.ask(token, request)).reason == "record"
        tryton.execute("update account_payment set create_uid = ? where id = ?", tryton.erp.uids["treasurer"], mine)
        assert (await world.ask(token, company("model.account.payment.write", [mine], note))).reason == "record"


@pytest.mark.parametrize("context", [{"_user": 1}, {"user": 1}, {"_datetime": "x"}, {"_check_access": False}])
async def test_the_context_of_a_call_makes_nobody_another(world, context):
    request = rpc("model.account.payment.read", [1], ["amount"], context={"company": 1, **context})
    async with guarded(world):
        answer = await world.ask(world.token("user:anna", ["own"]), request)
    assert answer.reason == "invalid"


async def test_a_company_in_the_context_is_no_company_of_the_record(world, tryton):
    other = paid(tryton, "5", login="approver")
    async with guarded(world):
        token = world.token("user:anna", ["own"])
        write = rpc("model.account.payment.write", [other], {"reference": "x"}, context={"company": 99})
        assert (await world.ask(token, write, decision="a")).allowed
        world.logged("a")
        tryton.execute("update account_payment set company = 99 where id = ?", other)
        try:
            here = rpc("model.account.payment.write", [other], {"reference": "x"}, context={"company": 1})
            assert (await world.ask(token, here)).reason == "record"
        finally:
            tryton.execute("update account_payment set company = 1 where id = ?", other)


async def test_a_record_that_is_changed_between_look_and_answer_is_waited_for(world, tryton):
    low = paid(tryton, "10")
    async with guarded(world):
        small, wide = world.token("user:anna", ["small"]), world.token("user:ben")
        raise_it = company("model.account.payment.write", [low], {"amount": amount("9000")})
        assert (await world.ask(small, company("model.account.payment.submit", [low]), decision="a")).allowed
        answer = await world.ask(wide, raise_it, decision="b")
        assert (answer.reason, "has not ended" in answer.detail) == ("unavailable", True)
        world.logged("a")
        answer, _ = await world.through(wide, raise_it, carry(tryton))
        assert answer.allowed
        assert (await world.ask(small, company("model.account.payment.submit", [low]))).reason == "record"
    with pytest.raises(ErpError):
        tryton.call("approver", "model.account.payment.read", [999_999], ["amount"])
