"""A formula of the plan as an Envoy predicate, with the same meaning as `plan.model.holds`.

When a request came stands as words behind its class: a regular expression reads them at a tenth of what CEL costs
(measured). The last of them tell the gate's own zone, which is that of the policy when Envoy starts; hours of another are
for CEL.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import date, datetime, timedelta
from ipaddress import IPv6Network
from typing import Final

from msgspec.structs import replace

from ostiary.envoy import cel, matcher
from ostiary.envoy.resource import CLASS_HEADER, Json, extension
from ostiary.foundation.origin import MAPPED
from ostiary.plan import model as kind
from ostiary.plan.model import MFA, MINUTES_A_DAY, UNKNOWN, Formula, Plan

DAYS_A_WEEK = 7
HOURS_A_DAY: Final = 24
MINUTES_AN_HOUR: Final = 60
LEAP_YEAR = 2024
MONTH = 100  # months and years are so many days apart in a date made one number
YEAR = 10_000
HERE: Final = ""  # the zone of hours that the gate's own clock tells
AROUND: Final = {str(MAPPED.supernet(new_prefix=bits)) for bits in range(MAPPED.prefixlen)}
COUNTRY_HEADER: Final = "x-gw-country"
ACR_HEADER: Final = "x-gw-acr"
SIGNED_IN_HEADER: Final = "x-gw-signed-in"  # the claim `auth_time`
REGISTERED: Final = "registered"  # what it says of a call
DEVICE_METADATA: Final = "device_shadow_effective_policy_id"  # of the filter `device`
TIME_WORDS: Final = (
    "%START_TIME_LOCAL(%s %u%H%M %Y%m%d)%"  # seconds of the epoch; day of the week (Monday 1) and time; date
)
DIGITS: Final = 10  # of the seconds, until the year 2286


def condition(formula: Formula) -> Json | bool:  # noqa: C901, PLR0911  a case for each kind of condition
    """A predicate, or the truth value where none is needed (Envoy has no constant predicate)."""
    match formula:
        case kind.Always():
            return True
        case kind.Hours():
            return _hours(formula)
        case kind.Networks():
            return networks(formula.networks)
        case kind.Countries():
            return _countries(formula.countries)
        case kind.Device():
            return _registered()
        case kind.Mfa():
            return matcher.regex(ACR_HEADER, MFA)
        case kind.Recent():
            return _recent(formula.seconds)
        case kind.All():
            return _joined(formula.parts, neutral=True)
        case kind.AnyOf():
            return _joined(formula.parts, neutral=False)
        case kind.Not():
            part = condition(formula.part)
            return (not part) if isinstance(part, bool) else {"not_matcher": part}


def stepped_up(formula: Formula) -> Formula:
    """What is left to hold once the person has just signed in with every factor."""
    return _each(formula, lambda one: kind.Always() if isinstance(one, kind.Mfa | kind.Recent) else one)


def by_clock(formula: Formula, zone: str) -> Formula:
    """The same, with the hours of the gate's own zone told by its clock."""
    return _each(formula, lambda at: replace(at, zone=HERE) if isinstance(at, kind.Hours) and at.zone == zone else at)


def _each(formula: Formula, change: Callable[[Formula], Formula]) -> Formula:
    match formula:
        case kind.All() | kind.AnyOf():
            return replace(formula, parts=tuple(_each(part, change) for part in formula.parts))
        case kind.Not():
            return kind.Not(part=_each(formula.part, change))
        case _:
            return change(formula)


def somebody_signed_in() -> Json:
    """A predicate: the token stands for a person."""
    return matcher.regex(SIGNED_IN_HEADER, ".+")


def _countries(codes: tuple[str, ...]) -> Json | bool:
    known = "|".join(code for code in codes if code)
    asked = [matcher.regex(COUNTRY_HEADER, known)] if known else []
    if UNKNOWN in codes:
        asked.append({"not_matcher": matcher.regex(COUNTRY_HEADER, ".+")})
    return matcher.either(asked) if codes else False


def _registered() -> Json:
    told = cel.index(cel.attribute("metadata.filter_metadata"), matcher.RBAC_METADATA)
    return cel.predicate(cel.call("_==_", cel.index(told, DEVICE_METADATA), cel.text(REGISTERED)))


def _recent(seconds: int) -> Json:
    """A token without the claim makes an error of the expression, which matches nothing."""
    since = cel.call("int", cel.index(cel.attribute("request.headers"), SIGNED_IN_HEADER))
    now = cel.call("int", cel.attribute("request.time"))
    return cel.predicate(cel.call("_<=_", cel.call("_-_", now, since), cel.number(seconds)))


def networks(texts: tuple[str, ...]) -> Json | bool:
    ip = "envoy.extensions.matching.input_matchers.ip.v3.Ip"
    listed = extension("ip", ip, cidr_ranges=ranges(texts), stat_prefix="context")
    return matcher.predicate(matcher.source_address(), custom_match=listed) if texts else False


def ranges(networks: Iterable[str]) -> list[Json]:
    """As Envoy lists them: it takes the ::ffff:a.b.c.d that a proxy may write for an address of version 6."""
    parts = (one.partition("/") for network in networks for one in _spelt(network))
    return [{"address_prefix": at, "prefix_len": int(bits or (128 if ":" in at else 32))} for at, _, bits in parts]


def _spelt(network: str) -> Iterable[str]:
    if ":" in network:  # where those of version 4 are not meant
        return map(str, IPv6Network(network).address_exclude(MAPPED)) if network in AROUND else (network,)
    first, _, bits = network.partition("/")
    return network, f"::ffff:{first}/{96 + int(bits or 32)}"


def _joined(parts: tuple[Formula, ...], *, neutral: bool) -> Json | bool:
    found = [condition(part) for part in parts]
    if any(part is (not neutral) for part in found):
        return not neutral
    left = [part for part in found if part is not neutral]
    if not left:
        return neutral
    return matcher.both(left) if neutral else matcher.either(left)


def _hours(hours: kind.Hours) -> Json | bool:
    """[start, end) of each day, or from start to midnight and from midnight to the next day's end."""
    if not hours.days:
        return False
    start, end = (hours.start, hours.end) if hours.start != hours.end else (0, MINUTES_A_DAY)
    spans = [(start, end, 0)] if start < end else [(start, MINUTES_A_DAY, 0), *([(0, end, 1)] if end else [])]
    terms = [[*_between(first, last, hours.zone), *_begun(hours, later)] for first, last, later in spans]
    if not all(terms):
        return True
    if hours.zone == HERE:
        return matcher.either([_told(hours, *span) for span in spans])
    return cel.predicate(cel.some(list(map(cel.every, terms))))


def _told(hours: kind.Hours, start: int, end: int, later: int) -> Json:
    full, yearly = _off(hours.holidays, later)
    dates = [*(f"{one:%Y%m%d}" for one in full), *(f"{one:%m%d}" for one in yearly)]
    return came_within(_days(hours, later), start, end, dates)


def _days(hours: kind.Hours, later: int) -> set[int]:
    return {(day + later) % DAYS_A_WEEK for day in hours.days}


def _begun(hours: kind.Hours, later: int) -> list[Json]:
    """So many days after a day on which they begin."""
    return [*_on(_days(hours, later), hours.zone), *_no_holiday(hours.holidays, hours.zone, later)]


def _off(holidays: Iterable[str], later: int) -> tuple[list[date], list[date]]:
    """Each so many days later: of one year, and of every year, where none has a day after it that depends on the year."""
    full = [date.fromisoformat(text) for text in holidays if len(text) > len("12-24")]
    yearly = [date.fromisoformat(f"{LEAP_YEAR}-{text}") for text in holidays if len(text) == len("12-24")]
    after = timedelta(days=later)
    return [one + after for one in full], [one + after for one in yearly]


def _no_holiday(holidays: Iterable[str], zone: str, later: int) -> list[Json]:
    """Today is none of these, each so many days later."""
    full, yearly = _off(holidays, later)
    day = cel.call("_+_", cel.call("_*_", _local("getMonth", zone), cel.number(MONTH)), _local("getDate", zone))
    dated = cel.call("_+_", cel.call("_*_", _local("getFullYear", zone), cel.number(YEAR)), day)
    terms = [(dated, [one.year * YEAR + _in_year(one) for one in full]), (day, [_in_year(one) for one in yearly])]
    return [cel.call("!_", cel.call("@in", today, cel.numbers(sorted(numbers)))) for today, numbers in terms if numbers]


def _in_year(day: date) -> int:
    """CEL's January is 0."""
    return (day.month - 1) * MONTH + day.day


def _on(days: Iterable[int], zone: str) -> list[Json]:
    """Today is one of these, where that says something. Our Monday is 0, CEL's Sunday is 0."""
    theirs = {(day + 1) % DAYS_A_WEEK for day in days}
    if len(theirs) == DAYS_A_WEEK:
        return []
    first = [day for day in theirs if (day - 1) % DAYS_A_WEEK not in theirs]
    today = _local("getDayOfWeek", zone)
    if len(first) > 1:  # not one after the other
        return [cel.call("@in", today, cel.numbers(sorted(theirs)))]
    return [_in_range(today, first[0], len(theirs), DAYS_A_WEEK)]


def _between(start: int, end: int, zone: str) -> list[Json]:
    """Minutes of the day, where not all of it is meant; whole hours are one look at the clock instead of two."""
    if (start, end) == (0, MINUTES_A_DAY):
        return []
    hour = _local("getHours", zone)
    if not (start % MINUTES_AN_HOUR or end % MINUTES_AN_HOUR):
        return [_in_range(hour, start // MINUTES_AN_HOUR, (end - start) // MINUTES_AN_HOUR, HOURS_A_DAY)]
    minute = cel.call("_+_", cel.call("_*_", hour, cel.number(MINUTES_AN_HOUR)), _local("getMinutes", zone))
    return [_in_range(minute, start, end - start, MINUTES_A_DAY)]


def _in_range(value: Json, start: int, length: int, of: int) -> Json:
    """`value` is one of the `length` numbers from `start` on a dial of `of`.

    One look at `value`: each costs as much as ten sums, and a list is made anew for every request (measured).
    """
    turned = cel.call("_%_", cel.call("_+_", value, cel.number(of - start)), cel.number(of))
    return cel.call("_<_", turned, cel.number(length))


def _local(part: str, zone: str) -> Json:
    return cel.method(cel.attribute("request.time"), part, cel.text(zone))


def zone_of(plan: Plan) -> str:
    """The zone of most of its contexts of hours, which is worth the gate's clock."""
    named = Counter(one.zone for one in plan.conditions if isinstance(one, kind.Hours))
    return max(sorted(named), key=named.__getitem__, default="UTC")


def came_before(until: datetime) -> Json:
    """A predicate: the request came before then. Of two numbers of one length, the first other digit tells."""
    then = f"{int(until.timestamp()):0{DIGITS}}"
    smaller = [f"{then[:at]}[0-{int(one) - 1}][0-9]{{{DIGITS - 1 - at}}}" for at, one in enumerate(then) if one > "0"]
    return matcher.regex(CLASS_HEADER, f".* (?:{'|'.join(smaller)}) [0-9]{{5}} [0-9]{{8}}")


def came_within(days: Iterable[int], start: int, end: int, holidays: Iterable[str]) -> Json:
    """A predicate: on one of these days (Monday 0), in the minutes [start, end), on none of these dates ("20261224",
    or "1224" of every year).
    """
    chosen = "".join(str(day + 1) for day in sorted(days))
    on = matcher.regex(CLASS_HEADER, f".* [{chosen}](?:{'|'.join(_times(start, end))}) [0-9]{{8}}")
    dates = "|".join(f"{one:.>8}" for one in sorted(holidays))
    return matcher.both([on, {"not_matcher": matcher.regex(CLASS_HEADER, f".* (?:{dates})")}]) if dates else on


def _times(start: int, end: int) -> Iterable[str]:
    for hour in range(HOURS_A_DAY):
        first, last = max(start - MINUTES_AN_HOUR * hour, 0), min(end - MINUTES_AN_HOUR * hour, MINUTES_AN_HOUR)
        if first < last:
            minutes = "|".join(f"{minute:02}" for minute in range(first, last))
            yield f"{hour:02}" + ("[0-9]{2}" if (first, last) == (0, MINUTES_AN_HOUR) else f"(?:{minutes})")
