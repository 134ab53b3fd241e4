"""Conditions on a request's context: what Envoy, the evaluator and the prover all understand."""

from bisect import bisect
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime, timedelta
from functools import cache, lru_cache
from importlib import resources
from ipaddress import ip_address
from typing import Final
from zoneinfo import ZoneInfo

from msgspec import Struct
from msgspec.structs import force_setattr

from ostiary.foundation.origin import Address, unmapped

MINUTES_A_DAY = 24 * 60
MFA: Final = "mfa"  # the `acr` of a token whose person showed more than one factor (RFC 8176)
UNKNOWN: Final = ""  # the country of an address that no database knows
V4: Final = 1 << 32  # so many addresses have version 4


class Circumstances(Struct, frozen=True, kw_only=True):
    """What a request's conditions are about. `signed_in_s`: when a person signed in; None where none did."""

    at: datetime
    source: Address
    country: str = UNKNOWN
    device: bool = False
    acr: str = ""
    signed_in_s: int | None = None

    def __post_init__(self) -> None:
        force_setattr(self, "source", unmapped(self.source))


class Always(Struct, frozen=True, gc=False, tag="always"):
    """Holds for every request."""


class Hours(Struct, frozen=True, gc=False, kw_only=True, cache_hash=True, tag="hours"):
    """Days of the week (Monday 0) and minutes of the day [start, end) in a named zone.

    `end` < `start` crosses midnight: the hours after midnight belong to the day on which they began.
    start == end is the whole day. `holidays` are days on which none begin: `2026-12-24`, or every year `12-24`.
    """

    days: tuple[int, ...]
    start: int
    end: int
    zone: str
    holidays: tuple[str, ...] = ()


class Networks(Struct, frozen=True, gc=False, kw_only=True, cache_hash=True, tag="networks"):
    """The caller's address lies in one of these networks (CIDR texts)."""

    networks: tuple[str, ...]


class Countries(Struct, frozen=True, gc=False, kw_only=True, cache_hash=True, tag="countries"):
    """The caller's address lies in one of these; in `UNKNOWN` where nobody knows."""

    countries: tuple[str, ...]


class Device(Struct, frozen=True, gc=False, tag="device"):
    """The call comes from a registered device."""


class Mfa(Struct, frozen=True, gc=False, tag="mfa"):
    """The person showed more than one factor."""


class Recent(Struct, frozen=True, gc=False, kw_only=True, tag="recent"):
    """The person signed in no longer ago than this."""

    seconds: int


class All(Struct, frozen=True, gc=False, kw_only=True, cache_hash=True, tag="all"):
    parts: tuple["Formula", ...]


class AnyOf(Struct, frozen=True, gc=False, kw_only=True, cache_hash=True, tag="any"):
    parts: tuple["Formula", ...]


class Not(Struct, frozen=True, gc=False, kw_only=True, cache_hash=True, tag="not"):
    part: "Formula"


Formula = Always | Hours | Networks | Countries | Device | Mfa | Recent | All | AnyOf | Not


def every(parts: Iterable[Formula]) -> Formula:
    """All of `parts` as one formula, as flat as it can be."""
    flat = [one for part in parts for one in (part.parts if isinstance(part, All) else (part,)) if one != Always()]
    return flat[0] if len(flat) == 1 else All(parts=tuple(flat)) if flat else Always()


def holds(formula: Formula, here: Circumstances) -> bool:  # noqa: C901, PLR0911  a case for each kind of condition
    """Whether `formula` holds in these circumstances; their time is an aware one."""
    match formula:
        case Always():
            return True
        case Hours():
            return _within_hours(formula, here.at)
        case Networks():
            return bisect(edges(formula), number(here.source)) % 2 == 1
        case Countries():
            return here.country in formula.countries
        case Device():
            return here.device
        case Mfa():
            return here.acr == MFA
        case Recent():
            return here.signed_in_s is not None and int(here.at.timestamp()) - here.signed_in_s <= formula.seconds
        case All():
            return all(holds(part, here) for part in formula.parts)
        case AnyOf():
            return any(holds(part, here) for part in formula.parts)
        case Not():
            return not holds(formula.part, here)


def atoms(formula: Formula) -> Iterator[Formula]:
    """What it is made of by all, any and not."""
    match formula:
        case All() | AnyOf():
            for part in formula.parts:
                yield from atoms(part)
        case Not():
            yield from atoms(formula.part)
        case _:
            yield formula


def number(address: Address) -> int:
    """All addresses in one row, those of version 6 behind the others: one of the other family lies in no network."""
    return int(address) + (V4 if address.version > 4 else 0)  # noqa: PLR2004  the version


@lru_cache(maxsize=4096)
def edges(listed: Networks) -> Sequence[int]:
    """The numbers at which addresses begin and cease to lie in one of the networks, in turn."""
    found: list[int] = []
    for first, end in sorted(map(_range, listed.networks)):
        if found and first <= found[-1]:
            found[-1] = max(found[-1], end)
        else:
            found += (first, end)
    return found


def _range(network: str) -> tuple[int, int]:
    # Its first address, and the one behind its last.
    text, _, prefix = network.partition("/")
    address = ip_address(text)
    size = 1 << address.max_prefixlen - int(prefix or address.max_prefixlen)
    first = number(address) - int(address) % size
    return first, first + size


def _within_hours(hours: Hours, at: datetime) -> bool:
    local = at.astimezone(zone(hours.zone))
    minute, day = local.hour * 60 + local.minute, local.date()
    if hours.start <= hours.end:
        return _begins(hours, day) and (hours.start == hours.end or hours.start <= minute < hours.end)
    begun_yesterday = minute < hours.end and _begins(hours, day - timedelta(days=1))
    return begun_yesterday or (minute >= hours.start and _begins(hours, day))


def _begins(hours: Hours, day: date) -> bool:
    return day.weekday() in hours.days and not (hours.holidays and is_holiday(_holidays(hours), day))


def is_holiday(holidays: frozenset[str], day: date) -> bool:
    return not holidays.isdisjoint((day.isoformat(), day.isoformat()[len("2026-") :]))


@lru_cache(maxsize=4096)
def _holidays(hours: Hours) -> frozenset[str]:
    return frozenset(hours.holidays)


@cache
def zone(name: str) -> ZoneInfo:
    """From the database that Envoy reads too, not from the machine's own."""
    with (resources.files("tzdata") / "zoneinfo").joinpath(*name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)
