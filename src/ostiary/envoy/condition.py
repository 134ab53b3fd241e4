"""A formula of the plan as an Envoy predicate, with the same meaning as `plan.formula.holds`."""

from ostiary.envoy import cel, matcher
from ostiary.envoy.edge import Json
from ostiary.envoy.message import extension
from ostiary.plan.formula import MINUTES_A_DAY, All, Always, AnyOf, Formula, Hours, Networks, Not

DAYS_A_WEEK = 7
HOURS_A_DAY = 24


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
    days = tuple(sorted(set(hours.days)))
    if not days:
        return False
    if hours.start == hours.end:
        return _of([_on(days, hours.zone)])
    if hours.start < hours.end and not (hours.start % 60 or hours.end % 60):
        return _of([_on(days, hours.zone), _whole(range(hours.start // 60, hours.end // 60), hours.zone)])
    if hours.start < hours.end:
        return _of([_on(days, hours.zone), _from(hours.start, hours.zone), _before(hours.end, hours.zone)])
    evening = [_on(days, hours.zone), _from(hours.start, hours.zone)]
    morning = [_on(tuple(sorted((day + 1) % DAYS_A_WEEK for day in days)), hours.zone), _before(hours.end, hours.zone)]
    return cel.predicate(cel.some([cel.every(_present(evening)), cel.every(_present(morning))]))


def _of(terms: list[Json | None]) -> Json | bool:
    present = _present(terms)
    return cel.predicate(cel.every(present)) if present else True


def _present(terms: list[Json | None]) -> list[Json]:
    return [term for term in terms if term is not None]


def _on(days: tuple[int, ...], zone: str) -> Json | None:
    """Our Monday is 0, CEL's Sunday is 0."""
    if len(days) == DAYS_A_WEEK:
        return None
    return cel.call("@in", _local("getDayOfWeek", zone), cel.numbers([(day + 1) % DAYS_A_WEEK for day in days]))


def _whole(hours: range, zone: str) -> Json | None:
    """Whole hours are one look at the clock instead of three."""
    return None if len(hours) == HOURS_A_DAY else cel.call("@in", _local("getHours", zone), cel.numbers(hours))


def _from(minute: int, zone: str) -> Json | None:
    return cel.call("_>=_", _minute_of_day(zone), cel.number(minute)) if minute > 0 else None


def _before(minute: int, zone: str) -> Json | None:
    return cel.call("_<_", _minute_of_day(zone), cel.number(minute)) if minute < MINUTES_A_DAY else None


def _minute_of_day(zone: str) -> Json:
    hours = cel.call("_*_", _local("getHours", zone), cel.number(60))
    return cel.call("_+_", hours, _local("getMinutes", zone))


def _local(part: str, zone: str) -> Json:
    return cel.method(cel.attribute("request.time"), part, cel.text(zone))
