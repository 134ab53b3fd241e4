"""Conditions on a request's context: what Envoy, the evaluator and the prover all understand."""

from collections.abc import Iterable
from datetime import datetime
from functools import cache, lru_cache
from importlib import resources
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from zoneinfo import ZoneInfo

from msgspec import Struct

MINUTES_A_DAY = 24 * 60


class Always(Struct, frozen=True, tag="always"):
    """Holds for every request."""


class Hours(Struct, frozen=True, kw_only=True, tag="hours"):
    """Days of the week (Monday 0) and minutes of the day [start, end) in a named zone.

    `end` <= `start` crosses midnight: the hours after midnight belong to the day on which they began.
    start == end is the whole day.
    """

    days: tuple[int, ...]
    start: int
    end: int
    zone: str


class Networks(Struct, frozen=True, kw_only=True, tag="networks"):
    """The caller's address lies in one of these networks (CIDR texts)."""

    networks: tuple[str, ...]


class All(Struct, frozen=True, kw_only=True, tag="all"):
    parts: tuple["Formula", ...]


class AnyOf(Struct, frozen=True, kw_only=True, tag="any"):
    parts: tuple["Formula", ...]


class Not(Struct, frozen=True, kw_only=True, tag="not"):
    part: "Formula"


Formula = Always | Hours | Networks | All | AnyOf | Not


def every(parts: Iterable[Formula]) -> Formula:
    """All of `parts` as one formula, as flat as it can be."""
    flat = [one for part in parts for one in (part.parts if isinstance(part, All) else (part,)) if one != Always()]
    return flat[0] if len(flat) == 1 else All(parts=tuple(flat)) if flat else Always()


def holds(formula: Formula, *, at: datetime, source: IPv4Address | IPv6Address) -> bool:
    """Whether `formula` holds at the aware time `at` for a caller at `source`."""
    match formula:
        case Always():
            return True
        case Hours():
            return _within_hours(formula, at)
        case Networks():
            return any(source in network for network in _parsed(formula.networks))
        case All():
            return all(holds(part, at=at, source=source) for part in formula.parts)
        case AnyOf():
            return any(holds(part, at=at, source=source) for part in formula.parts)
        case Not():
            return not holds(formula.part, at=at, source=source)


def _within_hours(hours: Hours, at: datetime) -> bool:
    local = at.astimezone(zone(hours.zone))
    minute, day = local.hour * 60 + local.minute, local.weekday()
    if hours.start < hours.end:
        return day in hours.days and hours.start <= minute < hours.end
    began_yesterday = minute < hours.end and hours.start != hours.end
    return (
        (day in hours.days and minute >= hours.start)
        or (began_yesterday and (day - 1) % 7 in hours.days)
        or (hours.start == hours.end and day in hours.days)
    )


@cache
def zone(name: str) -> ZoneInfo:
    """From the database that Envoy reads too, not from the machine's own."""
    with (resources.files("tzdata") / "zoneinfo").joinpath(*name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


@lru_cache(maxsize=4096)
def _parsed(networks: tuple[str, ...]) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(ip_network(text) for text in networks)
