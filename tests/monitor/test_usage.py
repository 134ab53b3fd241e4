"""What a caller does as a rule, and what is unlike it: each kind with a stream that shows it and a near miss."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostiary.erp.operation import operation_named
from ostiary.foundation.clock import stamp
from ostiary.monitor.usage import DAYS_MIN, MANY, MANY_MIN, VALUES_MAX, patterns
from ostiary.plan.decide import Facts, Reason, Recorded
from ostiary.plan.model import Circumstances

START = datetime(2026, 3, 2, 10, tzinfo=UTC)  # a Monday
NOW = START + timedelta(days=4, hours=2)  # Friday at noon
READS, WRITES = "shop/order:read", "shop/order:write"


def call(days=0, hours=0, *, subject="client:js", operation=READS, beside=(), source="203.0.113.7"):
    at = START + timedelta(days=days, hours=hours)
    did = tuple(map(operation_named, (operation, *beside)))
    facts = Facts(system="shop", here=Circumstances(at=at, source=ip_address(source)), operations=did)
    return Recorded(f"d-{days}-{hours}", subject, Reason.ALLOWED, facts, whole=True)


def usual(days=DAYS_MIN, **facts):
    return [call(day, **facts) for day in range(days)]


def strange(*lately, before=None):
    return [(one.what, one.value) for one in patterns([*(usual() if before is None else before), *lately], NOW)[1]]


def test_what_is_done_each_day_is_not_unusual():
    assert strange(call(4), call(4, hours=1)) == []


@pytest.mark.parametrize(
    ("lately", "what"),
    [
        ({"operation": WRITES}, ("operation", WRITES)),
        ({"beside": [READS, WRITES]}, ("operation", WRITES)),  # of a call of many
        ({"source": "198.51.100.7"}, ("network", "198.51.100.7")),
        ({"hours": -12}, ("hour", "weekday 22:00 UTC")),
    ],
)
def test_what_was_never_done_before_is(lately, what):
    assert strange(call(4, **lately)) == [what]


def test_an_hour_beside_the_usual_one_is_usual_and_the_same_hour_of_a_weekend_is_not():
    assert strange(call(4, hours=-1)) == []
    later = START + timedelta(days=5, hours=1)
    found = patterns([*usual(), call(5)], later)[1]
    assert [(one.what, one.value) for one in found] == [("hour", "weekend 10:00 UTC")]


def test_a_caller_of_another_address_in_his_own_network_is_the_same_one():
    before = usual(source="2001:db8::1")
    assert strange(call(4, source="2001:db8::ffff"), before=before) == []
    assert strange(call(4, source="2001:db8:0:1::1"), before=before) == [("network", "2001:db8:0:1::/64")]


@pytest.mark.parametrize(("more", "found"), [(0, []), (1, [("calls in a day", "the last 24 hours")])])
def test_far_more_than_on_the_busiest_day_is_unusual(more, found):
    busiest = MANY_MIN
    before = [one for day in range(DAYS_MIN) for one in [call(day)] * busiest]
    assert strange(*[call(4)] * (MANY * busiest + more), before=before) == found


def test_a_burst_over_midnight_is_one_and_a_call_of_many_operations_is_one_call():
    half = [call(3, hours=13)] * MANY_MIN, [call(3, hours=15)] * MANY_MIN  # 23:00 and 01:00
    before = usual() + [call(day, hours=13 + more) for day in range(2) for more in range(4)]
    assert strange(*half[0], before=before) == []
    assert strange(*half[0], *half[1], before=before) == [("calls in a day", "the last 24 hours")]
    assert strange(*[call(4, beside=[READS] * 9)] * MANY_MIN) == []


def test_of_a_new_caller_that_is_told_and_of_one_that_was_hardly_seen_nothing():
    assert strange(call(4), call(4, operation=WRITES), before=[]) == [("caller", "client:js")]
    assert strange(call(4, operation=WRITES), before=usual(DAYS_MIN - 1)) == []


def test_an_example_can_be_explained_and_the_habit_is_told():
    habits, (unusual,) = patterns([*usual(), call(4, operation=WRITES)], NOW)
    assert (unusual.times, unusual.decision) == (1, "d-4-0")
    (habit,) = habits
    assert (habit.days, habit.calls, habit.busiest, habit.operations) == (DAYS_MIN, DAYS_MIN, 1, [READS])
    assert habit.last == stamp(usual()[-1].facts.here.at)  # before the last day, as all of it


def test_who_chooses_his_own_name_is_one_caller():
    """Of an observed system: nobody has looked whether he is who he says."""
    lately = [call(4, subject=f"unproved:{n}") for n in range(50)]
    habits, unusual = patterns(lately, NOW)
    assert [one.principal for one in habits] == ["unproved"]
    assert [one.value for one in unusual] == ["unproved"]


@settings(deadline=None)  # a thousand calls, on a machine that has more to do
@given(st.lists(st.integers(0, 2**32 - 1), max_size=30))
def test_what_is_remembered_of_one_caller_is_bounded(addresses):
    many = [call(0, source=f"10.{n >> 8}.{n & 255}.1") for n in range(VALUES_MAX + len(addresses))]
    (habit,), _ = patterns(many, NOW)
    assert len(habit.networks) <= VALUES_MAX


def test_of_what_was_too_much_to_remember_nothing_is_told_as_new():
    many = [call(0, source=f"10.{n >> 8}.{n & 255}.1") for n in range(VALUES_MAX)]
    assert strange(call(4, source="198.51.100.7"), before=[*usual(), *many[2:]]) == [("network", "198.51.100.7")]
    dropped = call(0, source="198.51.100.7")
    assert strange(call(4, source="198.51.100.7"), before=[*usual(), *many, dropped]) == []
