"""Hours as Envoy reads them, at every edge of theirs: a small reader of the expression says what it would."""

import re
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from operator import add, and_, eq, lt, mod, mul, or_
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ostiary.envoy.condition import by_clock, came_before, condition
from ostiary.plan.model import Circumstances, Hours, holds, zone

EDGES = (0, 1, 30, 719, 720, 1320, 1410, 1439)
CALLS = {"_+_": add, "_*_": mul, "_%_": mod, "_<_": lt, "_&&_": and_, "_||_": or_, "_==_": eq}
PARTS = {
    "getHours": lambda at: at.hour,
    "getMinutes": lambda at: at.minute,
    "getDayOfWeek": lambda at: at.isoweekday() % 7,
    "getDate": lambda at: at.day,
    "getMonth": lambda at: at.month - 1,
    "getFullYear": lambda at: at.year,
}
hours = st.builds(
    Hours,
    days=st.lists(st.integers(0, 6), min_size=1, unique=True).map(tuple),
    start=st.sampled_from(EDGES),
    end=st.sampled_from((*EDGES, 1440)),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu"]),
    holidays=st.sampled_from([(), ("03-03",), ("2026-03-04", "02-27")]),
)


def read(tree: Any, at: datetime) -> Any:
    match tree:
        case {"const_expr": {"int64_value": text}}:
            return int(text)
        case {"list_expr": {"elements": parts}}:
            return [read(part, at) for part in parts]
        case {"call_expr": {"function": part, "target": _, "args": [{"const_expr": {"string_value": name}}]}}:
            return PARTS[part](at.astimezone(zone(name)))
        case {"call_expr": {"function": "!_", "args": [one]}}:
            return not read(one, at)
        case {"call_expr": {"function": "@in", "args": [one, several]}}:
            return read(one, at) in read(several, at)
        case {"call_expr": {"function": name, "args": [one, other]}}:
            return CALLS[name](read(one, at), read(other, at))
    raise AssertionError(tree)


def matches(made: Any, at: datetime) -> bool:
    """What the words of the gate's clock say, as RE2 reads them: the whole of the header."""
    match made:
        case {"or_matcher": {"predicate": parts}}:
            return any(matches(one, at) for one in parts)
        case {"and_matcher": {"predicate": parts}}:
            return all(matches(one, at) for one in parts)
        case {"not_matcher": one}:
            return not matches(one, at)
    told = f"shop:1234 shop/orders:read {int(at.timestamp())} {at.isoweekday()}{at:%H%M %Y%m%d}"
    return re.fullmatch(made["single_predicate"]["value_match"]["safe_regex"]["regex"], told) is not None


def would_hold(formula: Hours, at: datetime, *, here: bool = False) -> bool:
    made = condition(by_clock(formula, formula.zone) if here else formula)
    if isinstance(made, bool):
        return made
    if here:
        return matches(made, at.astimezone(zone(formula.zone)))
    return bool(
        read(made["single_predicate"]["custom_match"]["typed_config"]["expr_match"]["cel_expr_parsed"]["expr"], at)
    )


@given(formula=hours, minute=st.integers(0, 14 * 1440), here=st.booleans())
def test_hours_hold_at_the_gate_when_they_hold_by_the_evaluator(formula: Hours, minute: int, here: bool) -> None:
    at = datetime(2026, 2, 24, tzinfo=UTC) + timedelta(minutes=minute)
    assert would_hold(formula, at, here=here) is holds(formula, Circumstances(at=at, source=ip_address("192.0.2.1")))


@given(until=st.integers(1, 9_999_999_999), off=st.integers(-100_000, 100_000))
def test_a_time_is_before_another_by_its_digits(until: int, off: int) -> None:
    at = min(max(until + off, 0), 9_999_999_999)
    pattern = came_before(datetime.fromtimestamp(until, UTC))["single_predicate"]["value_match"]["safe_regex"]["regex"]
    assert (re.fullmatch(pattern, f"- {at:010} 50930 20260304") is not None) is (at < until)


def test_hours_that_end_at_midnight_do_not_go_on_after_it() -> None:
    late = Hours(days=tuple(range(7)), start=1320, end=0, zone="UTC")
    assert would_hold(late, datetime(2026, 3, 3, 23, 59, tzinfo=UTC))
    assert not would_hold(late, datetime(2026, 3, 4, 0, 0, tzinfo=UTC))
