"""Fewer fields and records: the evaluator against an ERP played through step by step."""

import sys
from datetime import UTC, datetime
from decimal import Decimal
from ipaddress import ip_address

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from ostiary.erp.operation import OWN, Condition, Operation, Pattern, Verb
from ostiary.plan.decide import Facts, Reason, Records, decide
from ostiary.plan.model import Always, Circumstances, Context, Grant, Level, Limit, Limits, Plan, Role, Source

HERE = Circumstances(at=datetime(2026, 3, 3, tzinfo=UTC), source=ip_address("127.0.0.1"))
SOURCE = Source(file="policy.yaml", line=1, text="")
LIMIT = Limit(name="default", requests=1, seconds=1)
FIELDS = ("amount", "owner", "state", "note")
STORED = ("amount", "owner", "state")  # the ERP computes the note
TEXTS = {"amount": ["1", "5", "5.00", "7", "-1", "x", None], "owner": ["4", "6", None, OWN], "state": ["draft", "done", None], "note": ["n"]}  # fmt: skip
MINE = frozenset({("o", "owner", "4")})

conditions = some.one_of(
    some.builds(Condition, field=some.just("amount"), compare=some.sampled_from(["<", "<=", ">", ">="]), values=some.sampled_from([("5",), ("0",)])),
    some.just(Condition(field="owner", compare="own")),
    some.builds(Condition, field=some.just("state"), compare=some.just("in"), values=some.sampled_from([("draft",), ("done", "draft")])),
    some.just(Condition(field="note", compare="in", values=("n",))),
)  # fmt: skip
names = some.frozensets(some.sampled_from(FIELDS), max_size=3)
limits = some.tuples(
    some.sampled_from(list(Verb)), names | some.just(frozenset()), some.lists(conditions, max_size=2).map(tuple)
)
values = some.fixed_dictionaries({}, optional={name: some.sampled_from(texts) for name, texts in TEXTS.items()})
ids = some.lists(some.sampled_from(["1", "2", "3"]), unique=True, min_size=1, max_size=2).map(tuple)


def operation(verb, action="", ids=(), rows=(), read=frozenset(), untold=frozenset()):  # noqa: PLR0917
    written = frozenset(name for row in rows for name in row) | untold
    sent = frozenset(frozenset(row.items()) for row in rows)
    return Operation(
        system="erp", object="o", verb=verb, action=action, ids=ids, fields_read=read, fields_written=written, sent=sent
    )


operations = some.one_of(
    some.builds(operation, some.just(Verb.READ), ids=ids | some.just(()), read=names),
    some.builds(operation, some.sampled_from([Verb.EXECUTE, Verb.DELETE]), ids=ids | some.just(())),
    some.builds(operation, some.just(Verb.WRITE), some.just("write"), ids=ids, rows=some.tuples(values), untold=names | some.just(frozenset())),
    some.builds(operation, some.just(Verb.WRITE), some.just("create"), rows=some.lists(values, max_size=2).map(tuple)),
)  # fmt: skip
held = some.dictionaries(some.sampled_from(["1", "2"]), some.fixed_dictionaries({n: some.sampled_from(t) for n, t in TEXTS.items()}))  # fmt: skip


def plan_of(lines):
    grants = tuple(
        Grant(
            id=f"r/{number}", role="r", pattern=Pattern(system="erp", object="o", verb=verb), fields=tuple(sorted(fields)),
            where=where, context=Context(name="always", formula=Always()), source=SOURCE,
        )
        for number, (verb, fields, where) in enumerate(lines)
    )  # fmt: skip
    role = Role(name="r", level=Level.USER, closure=("r",), source=SOURCE)
    limits = Limits(anonymous=LIMIT, default=LIMIT)
    return Plan(policy="p", systems=(), roles=(role,), grants=grants, limits=limits)


def facts(call, table):
    stored = frozenset(("o", name) for name in STORED)
    records = Records(stored=stored, held={("o", one): row for one, row in table.items()}, own=MINE)
    return Facts(
        system="erp", here=HERE, roles=frozenset({"r"}),
        scopes=frozenset(f"erp/*:{verb}" for verb in Verb), operations=tuple(call), records=records,
    )  # fmt: skip


# -- the oracle


def agrees(condition, record):
    """Whether a record, whose fields may be missing or unknown, surely meets a condition."""
    value = record.get(condition.field)
    if condition.field not in STORED or value is None:
        return False
    if condition.compare == "own":
        return value in {"4", OWN}
    if condition.compare == "in":
        return value in condition.values
    try:
        number, bound = Decimal(value), Decimal(condition.values[0])
    except ArithmeticError:
        return False
    return {"<": number < bound, "<=": number <= bound, ">": number > bound, ">=": number >= bound}[condition.compare]


def moments(one, call, table):
    """Every state of every record that this operation is about, while the call runs; None where nobody can tell."""
    if not one.ids:
        if not one.sent:
            yield None
        yield from map(dict, one.sent)
    for number in one.ids:
        if number not in table:
            yield None
            continue
        now = dict(table[number])
        yield dict(now)
        for other in call:
            if other is not one and other.verb is Verb.EXECUTE and number in other.ids:
                yield None
            if other.verb is Verb.WRITE and number in other.ids:
                (row,) = map(dict, other.sent)
                yield now | dict.fromkeys(other.fields_written - set(row)) | row


def expected(lines, call, table):
    """The worst of the operations, each by the line that takes it furthest."""
    order = (Reason.ROLE, Reason.FIELD, Reason.RECORD, Reason.ALLOWED)
    reasons = []
    for one in call:
        best = Reason.ROLE
        for verb, fields, where in lines:
            if verb is not one.verb:
                continue
            if fields and not (one.fields_read | one.fields_written) <= fields:
                reason = Reason.FIELD
            elif (
                not all(now is not None and all(agrees(c, now) for c in where) for now in moments(one, call, table))
                and where
            ):
                reason = Reason.RECORD
            else:
                reason = Reason.ALLOWED
            best = max(best, reason, key=order.index)
        reasons.append(best)
    return next((reason for reason in reasons if reason is not Reason.ALLOWED), Reason.ALLOWED)


@settings(max_examples=1500, deadline=None)
@given(some.lists(limits, max_size=4), some.lists(operations, min_size=1, max_size=3), held)
def test_the_evaluator_allows_what_a_call_played_through_would_keep_within_one_line(lines, call, table):
    assert decide(plan_of(lines), facts(call, table)).reason is expected(lines, call, table)


@settings(max_examples=500, deadline=None)
@given(some.lists(limits, max_size=4), some.lists(operations, min_size=1, max_size=3), held)
def test_whoever_knows_less_of_the_records_allows_less(lines, call, table):
    plan, told = plan_of(lines), facts(call, table)
    if decide(plan, msgspec.structs.replace(told, records=Records())).allowed:
        assert decide(plan, told).allowed


def lacking(line, *call, table=()):
    return decide(plan_of([line]), facts(call, dict(table)))


def test_a_refusal_names_the_fields_or_the_record_and_the_condition():
    read = operation(Verb.READ, ids=("1",), read=frozenset({"amount", "note", "state", "id"}))
    decision = lacking((Verb.READ, frozenset({"state"}), ()), read)
    assert (decision.reason, decision.rule, decision.lacking) == (
        Reason.FIELD,
        "r/0",
        "not among its fields: amount, note",
    )
    bound = (Condition(field="amount", compare="<=", values=("5",)),)
    decision = lacking((Verb.READ, frozenset(), bound), read, table={"1": {"amount": "7"}})
    assert (decision.reason, decision.lacking) == (Reason.RECORD, "o 1 is not granted: amount <= 5")
    search = operation(Verb.READ, read=frozenset({"amount"}))
    decision = lacking((Verb.READ, frozenset(), bound), search, table={"1": {"amount": "3"}})
    why = "o is not granted: amount <= 5; a call that names no ids is refused, whatever the records hold"
    assert (decision.reason, decision.lacking) == (Reason.RECORD, why)


def test_the_line_that_comes_furthest_is_named():
    bound = (Condition(field="amount", compare="<=", values=("5",)),)
    lines = [(Verb.READ, frozenset({"state"}), ()), (Verb.READ, frozenset(), bound), (Verb.READ, frozenset(), bound)]
    read = operation(Verb.READ, ids=("1",), read=frozenset({"amount"}))
    decision = decide(plan_of(lines), facts([read], {"1": {"amount": "7"}}))
    assert (decision.reason, decision.rule) == (Reason.RECORD, "r/1")


@pytest.mark.parametrize(
    "text", ["NaN", "Infinity", "1e9", "1_0", "\u0665", " 5", "5 ", "+5", "0x5", "", "5\n", "-", "."]
)
def test_what_is_no_plain_number_is_within_no_bound(text):
    for compare in ("<=", ">="):
        bound = (Condition(field="amount", compare=compare, values=("5",)),)
        read = operation(Verb.READ, ids=("1",))
        assert lacking((Verb.READ, frozenset(), bound), read, table={"1": {"amount": text}}).reason is Reason.RECORD


BOUND = (Condition(field="amount", compare="<=", values=("5",)),)


def test_a_field_that_is_written_with_a_value_nobody_tells_is_within_no_bound():
    add = operation(Verb.WRITE, "write", ("1",), untold=frozenset({"amount"}))
    assert lacking((Verb.WRITE, frozenset(), BOUND), add, table={"1": {"amount": "1"}}).reason is Reason.RECORD
    told = operation(Verb.WRITE, "write", ("1",), rows=({"state": "draft"},), untold=frozenset({"amount"}))
    assert lacking((Verb.WRITE, frozenset(), BOUND), told, table={"1": {"amount": "1"}}).reason is Reason.RECORD


def test_what_an_action_of_the_same_call_makes_of_a_record_is_not_known_before():
    act, look = operation(Verb.EXECUTE, "go", ("1",)), operation(Verb.READ, ids=("1",))
    plan = plan_of([(Verb.EXECUTE, frozenset(), ()), (Verb.READ, frozenset(), BOUND)])
    table = {"1": {"amount": "1"}, "2": {"amount": "1"}}
    assert decide(plan, facts([act, look], table)).reason is Reason.RECORD
    assert decide(plan, facts([act, operation(Verb.READ, ids=("2",))], table)).allowed
    assert lacking((Verb.EXECUTE, frozenset(), BOUND), act, table=table).allowed


def steps_of(act):
    """How many lines of Python `act` runs: no clock, so a busy machine changes nothing."""
    ran = 0

    def count(_frame, event, _):
        nonlocal ran
        ran += event == "line"
        return count

    sys.settrace(count)
    try:
        act()
    finally:
        sys.settrace(None)
    return ran


def test_writing_the_same_records_many_times_costs_no_more_than_so_many_writes():
    """The same ten records in every part of one call: each part looked at all others, a thousand parts took 17 seconds."""
    ten = tuple(map(str, range(1, 11)))
    table = {one: {"amount": "1", "state": "draft"} for one in ten}
    draft = Condition(field="state", compare="in", values=("draft",))
    plan = plan_of([(Verb.WRITE, frozenset(), (*BOUND, draft))])

    def judged(parts):
        rows = [{"amount": str(number % 5), "state": "draft"} for number in range(parts)]
        call = [operation(Verb.WRITE, "write", ten, rows=(row,)) for row in rows]
        assert decide(plan, facts(call, table)).allowed

    assert steps_of(lambda: judged(200)) < 2.5 * steps_of(lambda: judged(100))
