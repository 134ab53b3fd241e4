"""A formula of the plan as an Envoy predicate, with the same meaning as `plan.formula.holds`."""

from ostiary.envoy import cel, matcher
from ostiary.envoy.edge import Json
from ostiary.envoy.message import extension
from ostiary.plan.formula import MINUTES_A_DAY, All, Always, AnyOf, Formula, Hours, Networks, Not

DAYS_A_WEEK = 7
HOURS_A_DAY = 24
MINUTES_AN_HOUR = 60


def condition(formula: Formula) -> Json | bool:
    """A predicate, or the truth value where none is needed (Envoy has no constant predicate)."""
    match formula:
        case Always():
            return True
        case Hours():
            return _hours(formula)
        case Networks():
            return networks(formula.networks)
        case All():
            return _joined(formula.parts, neutral=True)
        case AnyOf():
            return _joined(formula.parts, neutral=False)
        case Not():
            part = condition(formula.part)
            return (not part) if isinstance(part, bool) else {"not_matcher": part}


def networks(texts: tuple[str, ...]) -> Json | bool:
    if not texts:
        return False
    ranges = [cidr(text) for text in texts]
    ip = extension("ip", "envoy.extensions.matching.input_matchers.ip.v3.Ip", cidr_ranges=ranges, stat_prefix="context")
    return {"single_predicate": {"input": matcher.source_address(), "custom_match": ip}}


def cidr(text: str) -> Json:
    address, _, length = text.partition("/")
    return {"address_prefix": address, "prefix_len": int(length or (128 if ":" in address else 32))}


def _joined(parts: tuple[Formula, ...], *, neutral: bool) -> Json | bool:
    found = [condition(part) for part in parts]
    if any(part is (not neutral) for part in found):
        return not neutral
    left = [part for part in found if part is not neutral]
    if not left:
        return neutral
    return matcher.both(left) if neutral else matcher.either(left)


def _hours(hours: Hours) -> Json | bool:
    """[start, end) of each day, or from start to midnight and from midnight to the next day's end."""
    days = tuple(sorted(set(hours.days)))
    if not days:
        return False
    if hours.start == hours.end:
        return _of([_on(days, hours.zone)])
    if hours.start < hours.end:
        return _of([_on(days, hours.zone), _between(hours.start, hours.end, hours.zone)])
    evening = [_on(days, hours.zone), _between(hours.start, MINUTES_A_DAY, hours.zone)]
    next_days = tuple(sorted((day + 1) % DAYS_A_WEEK for day in days))
    morning = [_on(next_days, hours.zone), _between(0, hours.end, hours.zone)]
    return cel.predicate(cel.some([cel.every(_present(evening)), cel.every(_present(morning))]))


def _of(terms: list[Json | None]) -> Json | bool:
    present = _present(terms)
    return cel.predicate(cel.every(present)) if present else True


def _present(terms: list[Json | None]) -> list[Json]:
    return [term for term in terms if term is not None]


def _on(days: tuple[int, ...], zone: str) -> Json | None:
    """Our Monday is 0, CEL's Sunday is 0."""
    theirs = {(day + 1) % DAYS_A_WEEK for day in days}
    if len(theirs) == DAYS_A_WEEK:
        return None
    first = [day for day in theirs if (day - 1) % DAYS_A_WEEK not in theirs]
    today = _local("getDayOfWeek", zone)
    if len(first) > 1:  # not one after the other
        return cel.call("@in", today, cel.numbers(sorted(theirs)))
    return _in_range(today, first[0], len(theirs), DAYS_A_WEEK)


def _between(start: int, end: int, zone: str) -> Json | None:
    """Minutes of the day; whole hours are one look at the clock instead of two."""
    if (start, end) == (0, MINUTES_A_DAY):
        return None
    hour = _local("getHours", zone)
    if not (start % MINUTES_AN_HOUR or end % MINUTES_AN_HOUR):
        return _in_range(hour, start // MINUTES_AN_HOUR, (end - start) // MINUTES_AN_HOUR, HOURS_A_DAY)
    minute = cel.call("_+_", cel.call("_*_", hour, cel.number(MINUTES_AN_HOUR)), _local("getMinutes", zone))
    return _in_range(minute, start, end - start, MINUTES_A_DAY)


def _in_range(value: Json, start: int, length: int, of: int) -> Json:
    """`value` is one of the `length` numbers from `start` on a dial of `of`.

    One look at `value`: each costs as much as ten sums, and a list is made anew for every request (measured).
    """
    turned = cel.call("_%_", cel.call("_+_", value, cel.number(of - start)), cel.number(of))
    return cel.call("_<_", turned, cel.number(length))


def _local(part: str, zone: str) -> Json:
    return cel.method(cel.attribute("request.time"), part, cel.text(zone))
