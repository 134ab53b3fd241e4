"""The one evaluator: what passes, in which order it is refused, and by which rule."""

from datetime import UTC, datetime
from http import HTTPStatus
from ipaddress import ip_address

import msgspec
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from ostiary.erp.operation import Operation, Pattern, Verb, covering_scopes
from ostiary.plan import decide as evaluator
from ostiary.plan.decide import Facts, Reason, Token, admit, closure, decide, limit_of
from ostiary.plan.model import Circumstances, from_json, holds, prepared, seal, to_json
from policy.compiled import HEAD, plan_of

PLAN = plan_of("""\
roles:
  clerk: {level: user, of: sales, may: ["erp/sale.*: read, write", "erp/party.party: read"], when: office}
  manager: {level: department, of: sales, includes: clerk, may: "erp/sale.report: execute"}
  chief: {level: system, includes: manager, may: "erp/*: delete"}
  guest: {level: partner, may: "shop/order: read", when: [office, home]}
limits:
  default: {requests: 100/minute}
  clerk: {requests: 50/minute}
  manager: {requests: 4000/hour}
  guest: {requests: 10/second}
""")
TUESDAY, SUNDAY = datetime(2026, 3, 3, 9, tzinfo=UTC), datetime(2026, 3, 1, 9, tzinfo=UTC)
HOME, AWAY = ip_address("203.0.113.7"), ip_address("198.51.100.1")
EVERYTHING = frozenset(f"{system}/*:{verb}" for system in ("erp", "shop") for verb in Verb)


def operation(text):
    name, _, verb = text.partition(":")
    system, _, object_ = name.partition("/")
    verb, _, action = verb.partition(".")
    return Operation(system=system, object=object_, verb=Verb(verb), action=action)


def asked(*does, roles=("clerk",), at=TUESDAY, **more):
    known = {name: more.pop(name) for name in Circumstances.__struct_fields__ if name in more}
    told = {"system": "erp", "here": Circumstances(**{"at": at, "source": HOME, **known}), "scopes": EVERYTHING, **more}
    return Facts(roles=frozenset(roles), operations=tuple(map(operation, does)), **told)


def outcome(*does, **more):
    decision = decide(PLAN, asked(*does, **more))
    return decision.reason, decision.rule, decision.context


def test_a_role_grants_what_its_may_says_while_its_context_holds():
    assert outcome("erp/sale.sale:write") == (Reason.ALLOWED, "clerk/1.write", "office")


@pytest.mark.parametrize(
    "does", ["erp/sale.sale:delete", "erp/party.address:read", "erp/sale:read", "shop/sale.sale:read"]
)
def test_what_no_role_says_is_denied(does):
    assert outcome(does) == (Reason.ROLE, "-", "")


def test_a_grant_whose_context_does_not_hold_is_named_in_the_refusal():
    assert outcome("erp/sale.sale:write", at=SUNDAY) == (Reason.CONTEXT, "clerk/1.write", "office")


def test_a_refusal_is_said_in_the_words_of_its_reason_with_the_context_or_the_fields_that_it_turned_on():
    assert decide(PLAN, asked("erp/sale.sale:write", at=SUNDAY)).words == f"{Reason.CONTEXT.words}: office"
    assert decide(PLAN, asked("erp/account.move:write")).words == Reason.ROLE.words
    note = msgspec.structs.replace(operation("erp/sale.sale:write"), fields_written=frozenset({"note"}))
    facts = msgspec.structs.replace(asked(roles=["texts"]), operations=(note,))
    assert decide(BOUNDED, facts).words == "not among its fields: note"


def test_all_contexts_of_a_role_must_hold():
    order = {"roles": ["guest"], "system": "shop"}
    assert outcome("shop/order:read", **order) == (Reason.ALLOWED, "guest/1", "office + home")
    assert outcome("shop/order:read", **order, source=AWAY)[0] is Reason.CONTEXT
    assert outcome("shop/order:read", **order, at=SUNDAY)[0] is Reason.CONTEXT


def test_an_included_role_keeps_its_own_context():
    assert outcome("erp/sale.report:execute", roles=["manager"], at=SUNDAY)[0] is Reason.ALLOWED
    assert outcome("erp/sale.sale:read", roles=["manager"], at=SUNDAY)[0] is Reason.CONTEXT


def test_of_several_operations_the_first_that_is_refused_decides():
    decision = decide(PLAN, asked("erp/sale.sale:read", "erp/account.move:write", "erp/sale.sale:delete"))
    assert (decision.reason, decision.operation) == (Reason.ROLE, operation("erp/account.move:write"))


@pytest.mark.parametrize("scopes, passes", [(["erp/sale.*:write"], True), (["erp/sale.sale:write"], True), (["erp/*:write"], True), (["erp/sale.sale:read"], False), (["shop/*:write"], False), ([], False)])  # fmt: skip
def test_a_token_does_no_more_than_its_scopes(scopes, passes):
    reason = outcome("erp/sale.sale:write", scopes=frozenset(scopes))[0]
    assert reason is (Reason.ALLOWED if passes else Reason.SCOPE)


def test_refusals_come_in_the_order_of_their_reasons():
    """Everything is wrong at once; mending one thing after the other shows what was looked at first."""
    wrong = {"address_blocked": True, "token": Token.MISSING, "lease_lapsed": True, "scopes": frozenset()}
    facts = asked(at=SUNDAY, roles=[], **wrong)
    mended = [
        {}, {"address_blocked": False}, {"token": Token.INVALID}, {"token": Token.REVOKED}, {"token": Token.VALID},
        {"lease_lapsed": False}, {"operations": (operation("erp/sale.sale:write"),)}, {"roles": frozenset({"clerk"})},
        {"here": Circumstances(at=TUESDAY, source=HOME)}, {"scopes": EVERYTHING},
    ]  # fmt: skip
    reasons = []
    for mend in mended:
        facts = msgspec.structs.replace(facts, **mend)
        reasons.append(str(decide(PLAN, facts).reason))
    assert reasons == [
        "address-blocked", "token-missing", "token-invalid", "token-revoked", "closed",
        "unknown-operation", "role", "context", "scope", "allowed",
    ]  # fmt: skip


BOUNDED = plan_of("""\
roles:
  lines: {level: user, of: sales, may: "erp/sale.line: write"}
  texts: {level: user, of: sales, may: {do: "erp/sale.sale: write", fields: comment}}
  small: {level: user, of: sales, may: {do: "erp/sale.sale: write create", where: {state: draft}}}
  sums: {level: user, of: sales, may: {do: "erp/sale.line: write", fields: [amount, total]}}
  reader: {level: user, of: sales, may: {do: "erp/sale.sale: read", fields: comment}}
  shop: {level: user, of: sales, may: {do: "shop/order: write", fields: comment}}
  all: {level: user, of: sales, may: "erp/sale.sale: write", when: office}
limits:
  default: {requests: 100/minute}
""")


@pytest.mark.parametrize("roles, at, reason", [
    (["lines"], TUESDAY, "allowed"), (["lines", "reader", "shop"], TUESDAY, "allowed"),  # nothing is written in part
    (["lines", "texts"], TUESDAY, "field"), (["lines", "small"], TUESDAY, "field"),
    (["lines", "texts", "sums"], TUESDAY, "allowed"),  # it is named
    (["lines", "texts", "small", "all"], TUESDAY, "allowed"), (["lines", "texts", "all"], SUNDAY, "field"),
])  # fmt: skip
def test_who_writes_less_than_all_of_an_object_writes_a_computed_field_by_its_name_alone(roles, at, reason):
    facts = asked(roles=roles, at=at)
    names = frozenset({"amount", "total"})
    total = Operation(system="erp", object="sale.line", verb=Verb.WRITE, action="write", fields_written=names)
    plain, computed = ((total,), (msgspec.structs.replace(total, fields_computed=frozenset({"total"})),))
    assert decide(BOUNDED, msgspec.structs.replace(facts, operations=plain)).allowed
    decision = decide(BOUNDED, msgspec.structs.replace(facts, operations=computed))
    assert decision.reason == reason
    assert ("more than it names" in decision.lacking, "total" in decision.lacking) == (reason == "field",) * 2


def test_an_unknown_role_set_holds_nothing():
    facts = msgspec.structs.replace(asked("erp/sale.sale:read"), roles=frozenset())
    assert decide(PLAN, facts).reason is Reason.ROLE


def test_admission_asks_whether_anything_at_all_could_be_allowed_in_that_system():
    assert admit(PLAN, asked()).reason is Reason.ALLOWED
    assert admit(PLAN, asked(at=SUNDAY)).reason is Reason.CONTEXT
    assert admit(PLAN, asked(roles=["guest"])).reason is Reason.ROLE
    assert admit(PLAN, asked(token=Token.REVOKED)).reason is Reason.TOKEN_REVOKED


def test_roles_held_are_those_given_and_all_that_they_include():
    assert closure(PLAN, ["chief"]) == {"chief", "manager", "clerk"}
    assert closure(PLAN, ["guest", "nobody"]) == {"guest"}
    assert closure(PLAN, None) == frozenset()


@pytest.mark.parametrize(
    "roles, limit", [([], "default"), (["chief"], "manager"), (["clerk"], "clerk"), (["clerk", "guest"], "guest"), (None, "default")]
)  # fmt: skip
def test_of_several_limits_the_most_generous_counts_and_without_one_the_default(roles, limit):
    assert limit_of(PLAN, roles).name == limit


def test_a_plan_is_named_by_all_that_it_says():
    other = plan_of("roles: {clerk: {level: system, may: 'erp/sale.sale: read'}}\n")
    assert seal(PLAN).revision == PLAN.revision != other.revision
    assert seal(msgspec.structs.replace(PLAN, revision="forged")).revision == PLAN.revision
    for change in (
        {"policy": "x"},
        {"grants": PLAN.grants[1:]},
        {"limits": other.limits},
        {"systems": PLAN.systems[::-1]},
    ):
        assert seal(msgspec.structs.replace(PLAN, **change)).revision != PLAN.revision


def test_a_plan_survives_its_own_text_and_something_else_is_refused():
    assert from_json(to_json(PLAN)) == PLAN
    with pytest.raises(msgspec.ValidationError):
        from_json(b'{"policy": "x"}')


def test_every_reason_has_a_status_and_a_sentence():
    assert all(HTTPStatus(one.status) and one.words for one in Reason)


def test_the_head_alone_denies_everything():
    assert decide(plan_of("", HEAD), asked("erp/sale.sale:read")).reason is Reason.ROLE


def said_simply(plan, facts):
    """The meaning without any index: the first grant, in the policy's order, of a role that is held."""
    held = {name for role in plan.roles if role.name in facts.roles for name in role.closure}
    first = ""
    for does in facts.operations:
        grants = [one for one in plan.grants if one.role in held and one.pattern.holds(does)]
        open_now = [one for one in grants if holds(one.context.formula, facts.here)]
        if not open_now:
            return (Reason.CONTEXT, grants[0].id) if grants else (Reason.ROLE, "-")
        if not any(one in facts.scopes for one in covering_scopes(does)):
            return Reason.SCOPE, open_now[0].id
        first = first or open_now[0].id
    return Reason.ALLOWED, first


names = st.sampled_from(["*", "a.*", "a.b.*", "a", "a.b", "a.b.c", "ab", "b"])
doing = st.sampled_from([(Verb.READ, ""), (Verb.WRITE, ""), (Verb.EXECUTE, ""), (Verb.EXECUTE, "go"), (Verb.READ, "go")])  # fmt: skip
drawn_grants = st.lists(st.tuples(st.sampled_from(["clerk", "manager", "chief", "guest"]), names, doing, st.booleans()))
drawn_operations = st.lists(
    st.builds(
        lambda name, does: Operation(system="erp", object=name, verb=does[0], action=does[1]),
        st.sampled_from(["a", "a.b", "a.b.c", "ab", "b", "b.a"]),
        doing,
    ),
    min_size=1,
    max_size=3,
)


@settings(max_examples=400, deadline=None)
@given(
    drawn_grants,
    drawn_operations,
    st.frozensets(st.sampled_from(["clerk", "manager", "chief", "guest", "nobody"])),
    st.frozensets(st.sampled_from(["erp/*:read", "erp/*:write", "erp/*:execute", "erp/a.*:execute.go", "erp/a:read"])),
)
def test_the_evaluator_that_looks_grants_up_says_what_a_walk_over_all_of_them_says(drawn, does, roles, scopes):
    always, office = PLAN.grants[-2].context, PLAN.grants[0].context
    grants = tuple(
        msgspec.structs.replace(
            PLAN.grants[0],
            id=f"{role}/{number}",
            role=role,
            pattern=Pattern(system="erp", object=name, verb=verb, action=action),
            context=office if closed else always,
        )
        for number, (role, name, (verb, action), closed) in enumerate(drawn)
    )
    plan = msgspec.structs.replace(PLAN, grants=grants)
    facts = Facts(
        system="erp", here=Circumstances(at=SUNDAY, source=HOME), roles=roles, scopes=scopes, operations=tuple(does)
    )
    decision = decide(plan, facts)
    event(str(decision.reason))
    assert (decision.reason, decision.rule) == said_simply(plan, facts)


def test_what_is_worked_out_of_a_plan_is_no_part_of_it():
    plan = msgspec.structs.replace(PLAN)
    decide(plan, asked("erp/sale.sale:read"))
    assert to_json(plan) == to_json(msgspec.structs.replace(PLAN))
    assert plan == msgspec.structs.replace(PLAN)
    assert seal(plan).revision == PLAN.revision
    fewer = msgspec.structs.replace(plan, grants=())
    assert decide(fewer, asked("erp/sale.sale:read")).reason is Reason.ROLE


def test_a_context_is_judged_once_for_a_call_of_however_many_operations(monkeypatch):
    """A body of a thousand operations under long lists of networks held the guard's loop for seconds."""
    judged = []
    monkeypatch.setattr(evaluator, "holds", lambda formula, here: judged.append(formula) or holds(formula, here))
    lines = "".join(
        f"  r{n}: {{level: user, of: sales, may: 'erp/sale.*: write', when: [office, home]}}\n" for n in range(9)
    )
    plan = plan_of("roles:\n" + lines)
    many = {"roles": [f"r{n}" for n in range(9)], "source": AWAY}
    assert decide(plan, asked(*["erp/sale.sale:write"] * 500, **many)).reason == "context"
    assert len(judged) == 1
    person = asked(*["erp/sale.sale:write"] * 500, **many, age_s=1_000)
    assert decide(plan, person).reason == "context"
    assert len(judged) == 3  # as it is, and as it would be after a better sign-in


def test_a_call_is_judged_no_further_than_to_its_first_refusal(monkeypatch):
    judged, one = [], evaluator._decide_one
    monkeypatch.setattr(evaluator, "_decide_one", lambda *args: judged.append(args) or one(*args))
    does = ["erp/sale.sale:write", "erp/stock.lot:write", *["erp/sale.sale:write"] * 500]
    assert outcome(*does) == ("role", "-", "")
    assert len(judged) == 2


def test_a_plan_that_was_read_and_prepared_has_each_context_once_and_says_the_same():
    plan = prepared(from_json(to_json(PLAN)))
    assert plan == PLAN
    assert len({id(grant.context) for grant in plan.grants}) < len(plan.grants)
    assert len({id(grant.context) for grant in plan.grants}) == len({grant.context.name for grant in plan.grants})


def test_of_a_call_of_many_operations_each_is_held_against_those_on_its_own_records_alone(monkeypatch):
    """A thousand writes under a condition were a million pairs."""
    read = []
    monkeypatch.setattr(evaluator, "dict", lambda row: read.append(row) or dict(row), raising=False)
    plan = plan_of(
        'roles: {clerk: {level: user, of: sales, may: [{do: "erp/sale.*: write", where: {state: draft}}]}}\n'
    )
    sent = ((("state", "draft"),),)
    write = Operation(system="erp", object="sale.sale", verb=Verb.WRITE, fields_written=frozenset({"state"}), sent=sent)
    does = tuple(msgspec.structs.replace(write, ids=(str(n // 2),)) for n in range(400))
    held = {("sale.sale", str(n)): {"state": "draft"} for n in range(200)}
    known = evaluator.Records(stored=frozenset({("sale.sale", "state")}), held=held)
    facts = msgspec.structs.replace(asked(), operations=does, records=known)
    assert decide(plan, facts).allowed
    assert len(read) == 400
    paid = msgspec.structs.replace(does[-1], sent=((("state", "paid"),),))
    refused = decide(plan, msgspec.structs.replace(facts, operations=(*does[:-1], paid)))
    assert (refused.reason, refused.operation.ids) == ("record", ("199",))
