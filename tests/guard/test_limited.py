"""Grants of fewer fields and records: what a call names, what the ERP holds, and what the call itself would make of it."""

import asyncio
import json

import pytest

from guard_world import POLICY, TwinErp, guarded, make, rpc
from ostiary.erp.operation import Request

LIMITED = """
  names: {level: user, of: finance, may: [{do: "party.party: read, write", fields: [name]}]}
  reader: {level: user, of: finance, may: ["party.party: read"]}
  small: {level: user, of: finance, may: [{do: "account.payment: read, write, delete, execute submit", where: {amount: "<= 5000"}}]}
  own: {level: user, of: finance, may: [{do: "account.payment: read, write, execute", where: {create_uid: own}}]}
  here: {level: user, of: finance, may: [{do: "account.payment: write", where: {company: own}}]}
  named: {level: user, of: finance, may: [{do: "account.payment: write", where: {company: [1, 2], state: draft}}]}
  halves:
    level: user
    of: finance
    may:
      - {do: "account.payment: write", fields: [state]}
      - {do: "account.payment: write", fields: [amount, company], where: {create_uid: own}}
  computed: {level: user, of: finance, may: [{do: "account.payment: write", where: {total: "<= 5"}}]}
apart:"""


@pytest.fixture
def world(tmp_path):
    made = make(tmp_path / "home", policy=POLICY.replace("\napart:", LIMITED))
    made.person("user:anna", "approver", uid="5")
    made.person("user:ben", "treasurer", uid="6")
    return made


@pytest.fixture
def erp(world):
    return TwinErp(world.clock, companies_of={"approver": [1, 3]})


def decimal(text):
    return {"__class__": "Decimal", "decimal": text}


def payment(erp, by="treasurer", **values):
    return erp.create(by, "account.payment", **{"amount": decimal("4999.99"), "company": 1, "state": "draft", **values})


def read(name, fields, domain=(), order=None):
    return rpc(f"model.{name}.search_read", list(domain), 0, 9, order, list(fields))


def write(number, **values):
    return rpc("model.account.payment.write", [number], values)


async def asked(world, erp, role, request, who="user:anna"):
    async with guarded(world, erp):
        return await world.ask(world.token(who, [role] if isinstance(role, str) else role), request)


# -- fields


@pytest.mark.parametrize(
    "request_",
    [
        read("party.party", ["name"]),
        read("party.party", ["id"], [["name", "=", "x"]], [["name", "ASC"]]),
        rpc("model.party.party.read", [1], ["name"]),
        rpc("model.party.party.create", [{"name": "x"}]),
        rpc("model.party.party.write", [1], {"name": "x"}, [2], {"name": "y"}),
        rpc("model.party.party.search", []),
    ],
)
async def test_a_call_that_names_granted_fields_alone_passes(world, erp, request_):
    answer = await asked(world, erp, "names", request_)
    assert answer.allowed, answer.detail
    assert answer.rule.startswith("names/1")


@pytest.mark.parametrize(
    "request_, field",
    [
        (read("party.party", ["name", "addresses"]), "addresses"),
        (read("party.party", ["rec_name"]), "rec_name"),
        (read("party.party", ["name"], [["addresses", "=", None]]), "addresses"),
        (read("party.party", ["name"], ["OR", [["addresses", "=", None]], [["name", "=", "x"]]]), "addresses"),
        (read("party.party", ["name"], [], [["create_date", "ASC"]]), "create_date"),
        (rpc("model.party.party.read", [1], ["name", "write_uid"]), "write_uid"),
        (rpc("model.party.party.create", [{"name": "x"}, {"name": "y", "addresses": []}]), "addresses"),
        (rpc("model.party.party.write", [1], {"name": "x"}, [2], {"addresses": []}), "addresses"),
        (rpc("model.party.party.copy", [1]), "addresses"),
        (rpc("model.party.party.write", [1], {"id": 2}), "id"),
    ],
)
async def test_a_field_that_is_not_granted_is_refused_wherever_it_is_named(world, erp, request_, field):
    answer = await asked(world, erp, "names", request_)
    assert (answer.status, answer.reason) == (403, "field")
    assert field in answer.detail
    assert answer.rule.startswith("names/1")


async def test_two_parsers_can_not_read_another_field(world, erp):
    body = b'{"id":1,"method":"model.party.party.write","params":[[1],{"name":"x","name":"y"},{}]}'
    request = Request(method="POST", path="/erp/rpc/", headers={"content-type": "application/json"}, body=body)
    assert (await asked(world, erp, "names", request)).reason == "invalid"


async def test_role_and_scope_are_asked_before_fields(world, erp):
    request = read("party.party", ["addresses"])
    assert (await asked(world, erp, "small", request)).reason == "role"
    async with guarded(world, erp):
        token = world.token("user:anna", ["names"], scopes=frozenset({"erp/party.address:read"}))
        assert (await world.ask(token, request)).reason == "scope"


async def test_a_line_that_covers_all_is_found_beside_one_that_does_not(world, erp):
    answer = await asked(world, erp, ["names", "reader"], read("party.party", ["addresses"]))
    assert answer.allowed
    assert answer.rule == "reader/1"


# -- records


async def test_a_record_within_the_bound_is_worked_on_and_one_above_is_not(world, erp):
    low, high = payment(erp), payment(erp, amount=decimal("5000.01"))
    for method in ("submit", "delete"):
        assert (await asked(world, erp, "small", rpc(f"model.account.payment.{method}", [low]))).allowed
        answer = await asked(world, erp, "small", rpc(f"model.account.payment.{method}", [low, high]))
        assert (answer.status, answer.reason, answer.rule.split(".")[0]) == (403, "record", "small/1")
        assert f"account.payment {high} is not granted: amount <= 5000" in answer.detail
    assert (await asked(world, erp, "small", rpc("model.account.payment.read", [low], ["party"]))).allowed
    assert (await asked(world, erp, "small", rpc("model.account.payment.read", [high], ["party"]))).reason == "record"


@pytest.mark.parametrize(
    "value",
    [
        decimal("5000.01"), decimal("1E+9"), decimal("NaN"), decimal("-Infinity"), decimal(" 5"), decimal("1_0"),
        decimal("٥"), 5001, 10**400, True, None, "abc", [5], {"__class__": "Decimal", "decimal": "5", "x": 1},
        {"__class__": "Decimal", "decimal": 5}, 5000.001, 1e300,
    ],
)  # fmt: skip
async def test_what_is_written_must_be_a_number_within_the_bound(world, erp, value):
    low = payment(erp)
    answer = await asked(world, erp, "small", write(low, amount=value))
    assert answer.reason in {"record", "invalid"}
    assert (await asked(world, erp, "small", write(low, amount=decimal("5000")))).allowed


async def test_a_record_above_the_bound_is_not_brought_below_it(world, erp):
    high = payment(erp, amount=decimal("9000"))
    assert (await asked(world, erp, "small", write(high, amount=decimal("1")))).reason == "record"


async def test_a_creation_says_every_value_that_it_is_judged_by(world, erp):
    def create(*rows):
        return rpc("model.account.payment.create", list(rows))

    assert (await asked(world, erp, "small", create({"amount": 5}, {"amount": 6}))).allowed
    assert (await asked(world, erp, "small", create({"amount": 5}, {"party": 1}))).reason == "record"
    assert (await asked(world, erp, "small", create({"amount": 5}, {"amount": 5001}))).reason == "record"
    assert (await asked(world, erp, "small", create())).reason == "record"
    assert (await asked(world, erp, "own", create({"amount": 5001}))).allowed
    assert (await asked(world, erp, "own", create({"create_uid": 6}))).reason == "record"
    assert (await asked(world, erp, "own", create({"create_uid": "own"}))).reason == "invalid"  # no number of a user
    assert (await asked(world, erp, "own", create({"create_uid": None}))).reason == "record"


async def test_a_copy_is_refused_nobody_knows_what_it_holds(world, erp):
    low = payment(erp, by="approver")
    assert (await asked(world, erp, "small", rpc("model.account.payment.copy", [low]))).reason == "record"
    assert (await asked(world, erp, "own", rpc("model.account.payment.copy", [low]))).reason == "record"


async def test_a_value_changed_twice_in_one_call_counts_each_time(world, erp):
    low = payment(erp)

    def twice(*values):
        return rpc("model.account.payment.write", *(part for one in values for part in ([low], one)))

    assert (await asked(world, erp, "small", twice({"amount": 1}, {"state": "draft"}))).allowed
    assert (await asked(world, erp, "small", twice({"state": "draft"}, {"amount": 9000}))).reason == "record"
    assert (await asked(world, erp, "small", twice({"amount": 9000}, {"amount": 1}))).reason == "record"


async def test_a_nested_write_is_judged_by_its_own_record(world, erp):
    low, high = payment(erp), payment(erp, amount=decimal("9000"))
    group = erp.create("treasurer", "account.payment.group")

    def nested(*commands):
        return rpc("model.account.payment.group.write", [group], {"payments": list(commands)})

    roles = ["small", "groups"]
    world_ = make(world.home.root.parent / "other", policy=POLICY.replace("\napart:", LIMITED.replace(
        "\napart:", '\n  groups: {level: user, of: finance, may: ["account.payment.group: write"]}\napart:')))  # fmt: skip
    world_.person("user:anna", "approver", uid="5")
    for command, passes in (
        (["write", [low], {"state": "x"}], True),
        (["write", [high], {"state": "x"}], False),
        (["write", [low], {"amount": 9000}], False),
        (["create", [{"amount": 5}]], True),
        (["create", [{"amount": 5001}]], False),
        (["delete", [high]], False),
        (["add", [high]], False),
        (["add", [low]], True),
    ):
        answer = await asked(world_, erp, roles, nested(command))
        assert answer.allowed is passes, (command, answer.detail)
        assert passes or answer.reason == "record"


@pytest.mark.parametrize("method, params", [("search", [[]]), ("search_read", [[], 0, 9, None, ["party"]])])
async def test_a_read_of_records_that_nobody_knows_beforehand_is_refused_to_who_may_read_some_only(
    world, erp, method, params
):
    payment(erp)
    assert (await asked(world, erp, "small", rpc(f"model.account.payment.{method}", *params))).reason == "record"
    assert (await asked(world, erp, ["small", "payments"], rpc(f"model.account.payment.{method}", *params))).allowed


async def test_own_records_are_those_that_the_erp_says_the_caller_made(world, erp):
    mine, other = payment(erp, by="approver"), payment(erp)
    assert (await asked(world, erp, "own", write(mine, state="x"))).allowed
    assert (await asked(world, erp, "own", write(other, state="x"))).reason == "record"
    assert (await asked(world, erp, "own", write(mine, create_uid=6))).reason == "record"


async def test_of_a_user_that_two_persons_act_as_nobody_says_whose_hand_it_was(world, erp):
    mine = payment(erp, by="approver")
    world.person("client:robot", "approver", uid="5")
    assert (await asked(world, erp, "own", write(mine, state="x"))).reason == "record"


async def test_a_client_of_the_same_person_is_the_same_hand(world, erp):
    mine = payment(erp, by="approver")
    world.person("client:robot", "approver", uid="5", person="user:anna")
    assert (await asked(world, erp, "own", write(mine, state="x"))).allowed


async def test_own_company_is_one_of_those_that_the_erp_gives_the_caller(world, erp):
    here, there = payment(erp, company=3), payment(erp, company=2)
    assert (await asked(world, erp, "here", write(here, company=1))).allowed
    assert (await asked(world, erp, "here", write(here, company=2))).reason == "record"
    assert (await asked(world, erp, "here", write(there, company=1))).reason == "record"
    assert (await asked(world, erp, "here", write(here, state="x"), who="user:ben")).reason == "record"


async def test_values_that_are_named_are_the_only_ones(world, erp):
    draft, done = payment(erp), payment(erp, state="done")
    assert (await asked(world, erp, "named", write(draft, company=2))).allowed
    for request in (
        write(draft, company=3),
        write(draft, state="done"),
        write(done, party=1),
    ):
        assert (await asked(world, erp, "named", request)).reason == "record"
    assert (await asked(world, erp, "named", write(draft, company="01"))).reason == "invalid"


async def test_two_lines_are_not_mixed(world, erp):
    mine, other = payment(erp, by="approver"), payment(erp)
    assert (await asked(world, erp, "halves", write(other, state="x"))).allowed
    assert (await asked(world, erp, "halves", write(mine, amount=5, company=1))).allowed
    assert (await asked(world, erp, "halves", write(other, amount=5))).reason == "record"
    assert (await asked(world, erp, "halves", write(mine, amount=5, state="x"))).reason == "field"


@pytest.mark.parametrize(
    "spoil, why",
    [
        (lambda erp, _: setattr(erp, "up", False), "does not answer"),
        (lambda erp, n: erp.tables["account.payment"].pop(n), "does not show every"),
        (lambda erp, n: erp.hidden.add(("account.payment", n)), "does not show every"),
        (lambda erp, n: erp.tables["account.payment"][n].pop("amount"), "amount <= 5000"),
        (lambda erp, n: erp.tables["account.payment"][n].update(amount="much"), "amount <= 5000"),
    ],
)
async def test_what_can_not_be_established_is_refused(world, erp, spoil, why):
    low = payment(erp)
    spoil(erp, low)
    answer = await asked(world, erp, "small", write(low, state="x"))
    assert answer.reason == "record"
    assert why in answer.detail


async def test_a_field_that_the_erp_computes_bounds_nothing(world, erp):
    answer = await asked(world, erp, "computed", write(payment(erp), state="x"))
    assert answer.reason == "record"
    assert "no plain field" in answer.detail


async def test_the_record_is_held_from_the_look_to_the_answer(world, erp):
    """Raised by another between look and answer, the amount would pass unseen."""
    low = payment(erp)
    async with guarded(world, erp):
        small, wide = world.token("user:anna", ["small"]), world.token("user:ben", ["payments"])
        assert (await world.ask(small, write(low, state="x"), decision="first")).allowed
        raising = asyncio.create_task(world.ask(wide, write(low, amount=9000), decision="second"))
        done, _ = await asyncio.wait([raising], timeout=0.1)
        assert not done
        world.logged("first")
        assert (await raising).allowed
        looking = asyncio.create_task(world.ask(small, write(low, state="y"), decision="third"))
        done, _ = await asyncio.wait([looking], timeout=0.1)
        assert not done
        erp.write("treasurer", "account.payment", low, amount=9000)
        world.logged("second")
        assert (await looking).reason == "record"
        assert (await world.ask(wide, write(low, state="z"), decision="fourth")).allowed, "a refusal lets go"


async def test_nobody_makes_the_gate_ask_the_erp_without_end(world, erp):
    rows = [{"amount": 1, "create_uid": number} for number in range(1, 200)]
    answer = await asked(world, erp, "own", rpc("model.account.payment.create", rows))
    assert (answer.reason, "too many" in answer.detail) == ("record", True)


async def test_a_link_that_the_erp_itself_sets_is_not_what_the_row_says(world, erp, tmp_path):
    """A nested record is made with the link to the record it is nested in, whatever else was sent for it."""
    role = """
  addresses:
    level: user
    of: finance
    may: ["party.party: write", {do: "party.address: write", where: {party: ["5"]}}]
apart:"""
    other = make(tmp_path / "other", policy=POLICY.replace("\napart:", role))
    other.person("user:anna", "approver", uid="5")
    plain = rpc("model.party.address.create", [{"party": 5, "city": "Graz"}])
    assert (await asked(other, erp, "addresses", plain)).allowed
    row = {"addresses": [["create", [{"party": 5, "city": "Graz"}]]]}
    assert (await asked(other, erp, "addresses", rpc("model.party.party.write", [9], row))).reason == "record"


async def test_without_a_rule_of_apart_records_are_held_all_the_same(world, erp, tmp_path):
    policy = POLICY.replace("\napart:", LIMITED)
    other = make(tmp_path / "other", policy=policy[: policy.index("\napart:")])
    other.person("user:anna", "approver", uid="5")
    other.person("user:ben", "treasurer", uid="6")
    low = payment(erp)
    async with guarded(other, erp):
        small, wide = other.token("user:anna", ["small"]), other.token("user:ben", ["payments"])
        assert (await other.ask(small, rpc("model.account.payment.read", [low], ["party"]), decision="first")).allowed
        raising = asyncio.create_task(other.ask(wide, write(low, amount=9000), decision="second"))
        done, _ = await asyncio.wait([raising], timeout=0.1)
        assert not done
        other.logged("first")
        assert (await raising).allowed


async def test_a_number_too_long_for_any_reader_is_within_no_bound(world, erp):
    low = payment(erp)
    body = b'{"id":1,"method":"model.account.payment.write","params":[[%d],{"amount":-1%s},{}]}' % (low, b"0" * 5000)
    request = Request(method="POST", path="/erp/rpc/", headers={"content-type": "application/json"}, body=body)
    assert (await asked(world, erp, "small", request)).reason in {"record", "invalid"}


# -- a described system

SHOP = """
systems:
  erp: {kind: openapi, at: shop.test, upstream: "http://127.0.0.1:9", spec: shop.json}
"""
DOCUMENT = {
    "openapi": "3.1.0",
    "info": {"title": "shop", "version": "1"},
    "paths": {
        "/order/{id}": {
            "put": {
                "parameters": [
                    {"name": "urgent", "in": "query", "schema": {"type": "boolean"}},
                    {"name": "note", "in": "query", "schema": {"type": "string"}},
                ],
                "requestBody": {"content": {"application/json": {"schema": True}}},
            },
            "delete": {},
        }
    },
}


@pytest.fixture
def shop(tmp_path):
    (tmp_path / "home").mkdir(mode=0o700)
    (tmp_path / "home" / "shop.json").write_text(json.dumps(DOCUMENT))
    policy = (
        POLICY[: POLICY.index("systems:")]
        + SHOP.lstrip()
        + """
departments: {finance: {}}
roles:
  notes: {level: user, of: finance, may: [{do: "order: write", fields: [note, lines]}]}
"""
    )
    made = make(tmp_path / "home", policy=policy)
    made.person("user:anna")
    return made


@pytest.mark.parametrize(
    ("query", "body", "reason"),
    [
        ("", {"note": "x", "lines": [{"price": 1}]}, "allowed"),
        ("note=x", None, "allowed"),
        ("", {"note": "x", "price": 1}, "field"),
        ("", {"pr\u0069ce": 1}, "field"),
        ("urgent=true", {"note": "x"}, "field"),
        ("%75rgent=true", None, "field"),
        ("note=x&urgent=true", None, "field"),
        ("", [{"note": "x"}, {"price": 1}], "field"),
        ("", [{"note": "x"}], "allowed"),
        ("", "price", "field"),
        ("", b'{"note": 1, "price": 2, "note": 3}', "invalid"),
        ("", b'{"note": 1', "invalid"),
    ],
)
async def test_of_a_described_write_every_named_field_counts(shop, query, body, reason):
    sent = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    request = Request(
        method="PUT", path="/order/5", query=query, headers={"content-type": "application/json"}, body=sent
    )
    async with guarded(shop):
        answer = await shop.ask(shop.token("user:anna", ["notes"]), request, host="shop.test")
    assert answer.reason == reason, answer.problem
