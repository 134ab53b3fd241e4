"""Recorded decisions against a draft: just what changes is told, for whom and how often; what nobody knows is said so."""

import itertools
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.erp.operation import Verb, operation_named
from ostiary.plan.decide import Facts, Reason, Recorded, admit, decide
from ostiary.plan.model import Circumstances
from ostiary.prove import questions as module
from ostiary.prove.questions import BY_POLICY, UNCLEAR, replay
from policy.compiled import HEAD, plan_of

LIVE = """\
roles:
  clerk: {level: user, of: sales, may: ["erp/sale.*: read, write"], when: office}
  carrier: {level: partner, may: ["erp/stock.move: read"]}
"""
DRAFT = LIVE.replace("read, write", "read").replace("stock.move: read", "stock.move: read, write")
AT = datetime(2026, 3, 3, 9, tzinfo=UTC)
NUMBER = itertools.count()
EVERYTHING = frozenset(f"erp/*:{verb}" for verb in Verb)


def facts(*does, roles=("clerk",), hours=0, scopes=EVERYTHING):
    return Facts(
        system="erp", here=Circumstances(at=AT + timedelta(hours=hours), source=ip_address("203.0.113.7")), roles=frozenset(roles),
        scopes=scopes, operations=tuple(map(operation_named, does)),
    )  # fmt: skip


def was(reason, *does, who="user:anna", whole=True, **more):
    return Recorded(f"d{next(NUMBER)}", who, str(reason), facts(*does, **more), whole)


def told(*recorded, draft=DRAFT):
    done = replay(plan_of(draft), recorded)
    return [(one.principal, one.operation, one.was, one.would, one.times) for one in done.changes], done


def test_both_directions_are_told_with_whom_how_often_and_the_newest_decision():
    newest = was(Reason.ALLOWED, "erp/sale.sale:write.create")
    kinds, done = told(
        newest,
        was(Reason.ALLOWED, "erp/sale.sale:write.create"),
        was(Reason.ALLOWED, "erp/sale.sale:read"),
        was(Reason.ROLE, "erp/stock.move:write", who="client:dhl", roles=["carrier"]),
    )
    assert kinds == [
        ("user:anna", "erp/sale.sale:write.create", "allowed", "role", 2),
        ("client:dhl", "erp/stock.move:write", "role", "allowed", 1),
    ]
    assert (done.changes[0].decision, done.decisions) == (newest.decision, 4)


def test_a_new_reason_for_the_same_refusal_is_no_change():
    assert told(was(Reason.CONTEXT, "erp/sale.sale:write", hours=20))[0] == []


def test_a_scope_that_does_not_cover_refuses_whatever_the_draft_grants():
    assert told(was(Reason.ROLE, "erp/stock.move:write", roles=["carrier"], scopes=frozenset({"erp/*:read"})))[0] == []


def test_one_of_several_operations_is_enough_to_refuse_them_all():
    kinds, _ = told(was(Reason.ALLOWED, "erp/sale.sale:read", "erp/sale.line:write"))
    assert kinds == [("user:anna", "erp/sale.sale:read, erp/sale.line:write", "allowed", "role", 1)]


@pytest.mark.parametrize("whole", [True, False])
def test_what_was_refused_before_all_of_it_was_seen_is_never_foretold_as_allowed(whole):
    kinds, _ = told(was(Reason.ROLE, "erp/stock.move:write", roles=["carrier"], whole=whole))
    assert kinds[0][3] == ("allowed" if whole else UNCLEAR)


def test_a_request_nobody_looked_into_may_now_be_looked_into():
    nobody = was(Reason.ROLE, roles=["guest"], whole=False)
    assert told(nobody)[0] == []
    kinds, _ = told(nobody, draft=DRAFT + '  guest: {level: partner, may: ["erp/a.b: read"]}\n')
    assert kinds == [("user:anna", "erp/", "role", UNCLEAR, 1)]
    now = plan_of(DRAFT + '  guest: {level: partner, may: ["erp/a.b: read"]}\n')
    assert [one.would for one in replay(now, [nobody], plan_of(DRAFT)).changes] == [UNCLEAR]


@pytest.mark.parametrize("reason", sorted(set(Reason) - BY_POLICY))
def test_what_no_policy_decides_is_counted_and_left(reason):
    kinds, done = told(was(reason, "erp/sale.sale:write"))
    assert (kinds, done.decisions, dict(done.left)) == ([], 0, {reason: 1})


def test_more_kinds_of_change_than_there_is_room_for_are_counted(monkeypatch):
    monkeypatch.setattr(module, "CHANGES_MAX", 2)
    recorded = [was(Reason.ALLOWED, f"erp/sale.s{n}:write") for n in (1, 2, 3, 1, 4)]
    kinds, done = told(*recorded)
    assert ([kind[4] for kind in kinds], done.more) == ([2, 1], 2)


LIMITED = LIVE.replace(
    '["erp/sale.*: read, write"]', '[{do: "erp/sale.*: write", fields: [state]}, "erp/sale.*: read"]'
)


def test_what_turns_on_fields_or_records_is_unclear_unless_the_policy_in_force_says_the_same():
    one = was(Reason.ALLOWED, "erp/sale.sale:write", "erp/sale.sale:read")
    assert [change.would for change in replay(plan_of(LIMITED), [one]).changes] == [UNCLEAR]
    assert [change.would for change in replay(plan_of(LIMITED), [one], plan_of(LIVE)).changes] == [UNCLEAR]
    assert replay(plan_of(LIMITED), [one], plan_of(LIMITED)).changes == []
    assert replay(plan_of(LIMITED), [was(Reason.ALLOWED, "erp/sale.sale:read")]).changes == []
    gone = LIMITED.replace("sale.*", "sales.*")
    assert [change.would for change in replay(plan_of(gone), [one], plan_of(LIMITED)).changes] == [Reason.ROLE]


def test_what_a_new_context_asks_and_nobody_noted_is_unclear():
    one = was(Reason.ALLOWED, "erp/sale.sale:read")
    draft = plan_of(LIVE.replace("when: office", "when: [office, strong]"), HEAD + "  strong: {assurance: mfa}\n")
    assert [change.would for change in replay(draft, [one], plan_of(LIVE)).changes] == [UNCLEAR]
    assert replay(draft, [one], draft).changes == []


@pytest.mark.parametrize("reason", [Reason.FIELD, Reason.RECORD])
def test_what_was_refused_for_a_field_or_a_record_is_allowed_by_a_line_of_all(reason):
    kinds, _ = told(was(reason, "erp/sale.sale:write"), draft=LIVE)
    assert kinds == [("user:anna", "erp/sale.sale:write", str(reason), "allowed", 1)]


@given(
    st.sampled_from(["erp/sale.sale:write", "erp/sale.line:read", "erp/stock.move:read", "shop/order:read"]),
    st.sets(st.sampled_from(["clerk", "carrier", "gone"])), st.integers(0, 48),
    st.sets(st.sampled_from(sorted(EVERYTHING))),
)  # fmt: skip
def test_the_policy_that_decided_would_decide_so_again(does, roles, hours, scopes):
    plan, found = plan_of(LIVE), facts(does, roles=roles, hours=hours, scopes=frozenset(scopes))
    seen = Recorded("d", "user:anna", str(decide(plan, found).reason), found, True)
    outside = Recorded(
        "d",
        "user:anna",
        str(admit(plan, facts(roles=roles, hours=hours)).reason),
        facts(roles=roles, hours=hours),
        False,
    )
    assert replay(plan, [seen, *([outside] if outside.reason != Reason.ALLOWED else [])]).changes == []
