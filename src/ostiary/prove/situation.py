"""Whether one condition holds whenever another does: exactly; and where it does not, a situation that shows it.

What conditions look at (the clock, the caller's address) falls into finitely many parts in which none of them changes.
One value of each part stands for all of it; a condition is the set of the parts in which it holds, one big integer.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache, reduce
from ipaddress import IPV6LENGTH, IPv4Address, IPv6Address, ip_address
from itertools import accumulate, pairwise, product
from math import prod
from operator import and_, or_, xor
from typing import Any, Final, NamedTuple

from msgspec.structs import replace

from ostiary.foundation.errors import counted
from ostiary.foundation.origin import Address
from ostiary.plan import model as kind
from ostiary.plan.model import MFA, MINUTES_A_DAY, UNKNOWN, Always, Formula, atoms, holds, zone

DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
NEVER: Final = kind.AnyOf(parts=())
MONDAY: Final = datetime(2026, 1, 5, tzinfo=UTC)
# What the time zone database says ahead of time ends in 2087, and days off have years to 2089; all others repeat these.
WEEKS: Final = 65 * 52
WEEK: Final = timedelta(days=7)
MINUTES_A_WEEK: Final = 7 * MINUTES_A_DAY
NEAR: Final = range(-2, 9)  # days of a week on any clock, and those on which hours can have begun
NOWHERE: Final = "ZZ"  # ISO 3166 leaves it to its users, and no policy can name it
TOGETHER_MAX: Final = 1 << 16  # situations looked at as one number
LEFT_MAX: Final = 4096  # formulas of one proof; some seconds
UNITS: Final = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))
SOMEWHERE: Final = ip_address("192.0.2.1")  # of the documentation's (RFC 5737)


class TooMany(Exception):
    """More formulas than one proof may look at; its argument is the whole."""


class Situation(kind.Circumstances, frozen=True):
    """`turns_on`: the facts that the conditions look at; of the others any would do."""

    at: datetime = MONDAY
    source: Address = SOMEWHERE
    turns_on: frozenset[str] = frozenset()

    def __str__(self) -> str:
        """Time and address always, the rest where the conditions look at it."""
        day = f"{DAYS[self.at.weekday()]} {self.at.date()}" if "date" in self.turns_on else DAYS[self.at.weekday()]
        return ", ".join((
            f"on {day} at {self.at:%H:%M} {self.at.tzinfo}" if "at" in self.turns_on else "at any time",
            f"from {self.source if 'source' in self.turns_on else 'any address'}",
            *(words(self) for fact, words in WORDS.items() if fact in self.turns_on),
        ))  # fmt: skip


def looks_at(formula: Formula) -> frozenset[str]:
    """The facts that it turns on."""
    return frozenset(LOOKS_AT[type(one)] for one in atoms(formula) if one != Always())


def implies(one: Formula, other: Formula) -> bool:
    """Whether `other` holds whenever `one` does."""
    return counterexample(one, other) is None


def either(formulas: Iterable[Formula]) -> Formula:
    """Where one of them holds: none of none."""
    several = tuple(dict.fromkeys(formulas))
    return several[0] if len(several) == 1 else kind.AnyOf(parts=several)


@lru_cache(maxsize=65_536)
def counterexample(
    one: Formula, other: Formula = NEVER, near: Situation | None = None, fixed: frozenset[str] = frozenset()
) -> Situation | None:
    """Where `one` holds and `other` does not, `near` if it is so there; None: there is no such situation.

    `fixed`: the facts that must be as they are there.
    """
    if one == other:
        return None
    near = near or Situation()
    both = kind.All(parts=(one, kind.Not(part=other)))
    axes = _axes(both, near, fixed)
    dated = any(isinstance(one, kind.Hours) and one.holidays for part in axes.get("at", ()) for one in part.holding)
    return _search(both, axes, replace(near, turns_on=frozenset([*axes, *["date"] * dated])), {both: None})


# --- the parts


class _Part(NamedTuple):
    """A value, and the conditions on its fact that hold for it."""

    value: Any
    holding: frozenset[Formula]


Axes = Mapping[str, tuple[_Part, ...]]  # fact -> its parts


def _axes(formula: Formula, near: Situation, fixed: frozenset[str]) -> Axes:
    by_fact: dict[str, list[Formula]] = {}
    for one in dict.fromkeys(atoms(formula)):
        if one != Always():
            by_fact.setdefault(LOOKS_AT[type(one)], []).append(one)
    return {fact: _parts(fact, tuple(found), getattr(near, fact), fact in fixed) for fact, found in by_fact.items()}


@lru_cache(maxsize=4096)
def _parts(fact: str, plain: tuple[Formula, ...], near: Any, fixed: bool) -> tuple[_Part, ...]:
    own: Any = near.astimezone(zone(plain[0].zone)) if isinstance(plain[0], kind.Hours) else near
    here = Situation(**{fact: own})
    first = _Part(own, frozenset(one for one in plain if holds(one, here)))
    return (first,) if fixed else _unlike((first, *PARTS[fact](plain)))


def _unlike(parts: Iterable[_Part]) -> tuple[_Part, ...]:
    """The first of those for which the same holds."""
    found: dict[frozenset[Formula], _Part] = {}
    for part in parts:
        found.setdefault(part.holding, part)
    return tuple(found.values())


# --- one fact after the other, as long as all of them at once are too many


def _search(formula: Formula, axes: Axes, near: Situation, seen: dict[Formula, None]) -> Situation | None:
    """The first situation where it holds, the last fact turned last; what a value leaves of it is searched once.

    `seen`: what was searched, the whole first.
    """
    axes = axes if _size(axes) <= TOGETHER_MAX else _named(axes, frozenset(atoms(formula)))
    if (size := _size(axes)) <= TOGETHER_MAX:
        everywhere = (1 << size) - 1
        found = _set(formula, _sets(tuple(axes.values()), everywhere), everywhere)
        return _situation((found & -found).bit_length() - 1, axes, near) if found else None
    rest = dict(axes)
    fact, parts = rest.popitem()
    for part in parts:
        if len(seen) > LEFT_MAX:
            raise TooMany(next(iter(seen)))
        if (left := _given(formula, fact, part.holding)) not in seen:
            seen[left] = None
            if there := _search(left, rest, replace(near, **{fact: part.value}), seen):
                return there
    return None


def _size(axes: Axes) -> int:
    return prod(map(len, axes.values()))


def _named(axes: Axes, named: frozenset[Formula]) -> dict[str, tuple[_Part, ...]]:
    """As far as it matters for these."""
    told = {fact: _unlike(_Part(one.value, one.holding & named) for one in parts) for fact, parts in axes.items()}
    return {fact: parts for fact, parts in told.items() if any(part.holding for part in parts)}


def _given(formula: Formula, fact: str, holding: frozenset[Formula]) -> Formula:
    """What is left of `formula` where of the conditions on `fact` just these hold."""
    match formula:
        case kind.All() | kind.AnyOf():
            ends: tuple[Formula, Formula] = (Always(), NEVER)
            neutral, deciding = ends if isinstance(formula, kind.All) else ends[::-1]
            left = dict.fromkeys(_given(part, fact, holding) for part in formula.parts)
            left.pop(neutral, None)
            several = type(formula)(parts=tuple(left)) if len(left) > 1 else next(iter(left), neutral)
            return deciding if deciding in left else several
        case kind.Not():
            part = _given(formula.part, fact, holding)
            return Always() if part == NEVER else NEVER if part == Always() else kind.Not(part=part)
        case _:
            known = LOOKS_AT.get(type(formula)) == fact
            return formula if not known else Always() if formula in holding else NEVER


# --- a condition as a set of situations: the bit `a + len(first axis) * (b + len(second) * ...)`


@lru_cache(maxsize=4)
def _sets(axes: tuple[tuple[_Part, ...], ...], everywhere: int) -> Mapping[Formula, int]:
    sets, stride = dict[Formula, int](), 1
    for parts in axes:
        repeated = everywhere // ((1 << stride * len(parts)) - 1)
        for n, part in enumerate(parts):
            places = (((1 << stride) - 1) << (n * stride)) * repeated
            sets |= {one: sets.get(one, 0) | places for one in part.holding}
        stride *= len(parts)
    return sets


def _set(formula: Formula, sets: Mapping[Formula, int], everywhere: int) -> int:
    match formula:
        case Always():
            return everywhere
        case kind.All():
            return reduce(and_, (_set(part, sets, everywhere) for part in formula.parts), everywhere)
        case kind.AnyOf():
            return reduce(or_, (_set(part, sets, everywhere) for part in formula.parts), 0)
        case kind.Not():
            return everywhere & ~_set(formula.part, sets, everywhere)
        case _:
            return sets.get(formula, 0)


def _situation(bit: int, axes: Axes, near: Situation) -> Situation:
    for fact, parts in axes.items():
        bit, n = divmod(bit, len(parts))
        near = replace(near, **{fact: parts[n].value})
    return near


# --- what each kind of condition looks at, and where it can change there


def _overlaps(whole: Iterable[Any], lines: Mapping[Any, Iterable[Any]]) -> Iterator[_Part]:
    """The ways in which `lines` lie over each other inside `whole`, each with its first place.

    Each, `whole` too, is where it begins and ends to hold, in turn.
    """
    turns = defaultdict[Any, int](int)
    for n, line in enumerate((whole, *lines.values())):
        for place in line:
            turns[place] ^= 1 << n
    ways: dict[int, Any] = {}
    for way, place in zip(accumulate((turns[place] for place in sorted(turns)), xor), sorted(turns), strict=True):
        if way & 1:  # outside `whole` nothing holds
            ways.setdefault(way, place)
    named = tuple(enumerate(lines, 1))
    return (_Part(place, frozenset(one for n, one in named if way >> n & 1)) for way, place in ways.items())


def _addresses(plain: Iterable[kind.Networks]) -> Iterator[_Part]:
    for place, holding in _overlaps((0, kind.V4 + (1 << IPV6LENGTH)), {one: kind.edges(one) for one in plain}):
        yield _Part(IPv6Address(place - kind.V4) if place >= kind.V4 else IPv4Address(place), holding)


def _ages(plain: Iterable[kind.Recent]) -> Iterator[_Part]:
    """The longest of each kind, so counted backwards; and that nobody signed in."""
    yield _Part(None, frozenset())
    before_all = -max(one.seconds for one in plain) - 1
    for place, holding in _overlaps((before_all, 1), {one: (-one.seconds, 1) for one in plain}):
        yield _Part(-place, holding)


def _countries(plain: Sequence[kind.Countries]) -> Iterator[_Part]:
    for code in (UNKNOWN, NOWHERE, *(code for one in plain for code in one.countries)):
        yield _Part(code, frozenset(one for one in plain if code in one.countries))


def _moments(plain: tuple[kind.Hours, ...]) -> Iterator[_Part]:
    # In a week of each kind of those to come.
    shown = zone(plain[0].zone)
    mondays = _weeks(*(tuple(dict.fromkeys(getattr(one, name) for one in plain)) for name in ("zone", "holidays")))
    lines = {one: [moment for monday in mondays for moment in _switches(one, monday)] for one in plain}
    looked_at = [moment for monday in mondays for moment in (monday, monday + WEEK)]
    for moment, holding in _overlaps(looked_at, lines):
        yield _Part(moment.astimezone(shown), holding)


@lru_cache(maxsize=65_536)
def _switches(hours: kind.Hours, monday: datetime) -> tuple[datetime, ...]:
    """When in this week they begin and cease to hold: where they, a day or the clock itself may change, looked at."""
    cuts = {monday, *_turns(hours.zone)}
    for day, minute, fold in product(range(-1, len(DAYS) + 1), {0, hours.start, hours.end}, (0, 1)):
        local = (monday + timedelta(days=day, minutes=minute)).replace(tzinfo=zone(hours.zone), fold=fold)
        cuts.add(local.astimezone(UTC))
    found: list[datetime] = []
    for cut in sorted(cut for cut in cuts if monday <= cut < monday + WEEK):
        if holds(hours, Situation(cut)) is (len(found) % 2 == 0):
            found.append(cut)
    return (*found, *[monday + WEEK] * (len(found) % 2))


@lru_cache(maxsize=256)
def _weeks(zones: tuple[str, ...], holidays: tuple[tuple[str, ...], ...]) -> tuple[datetime, ...]:
    """The first Monday of each kind of week: the zones' clocks stand alike, and change alike, and the same days are free."""
    kinds: dict[tuple[Any, ...], datetime] = {}
    for n, alike in enumerate(zip(*map(_clocks, zones), *map(_free, holidays), strict=True)):
        kinds.setdefault(alike, MONDAY + n * WEEK)
    return tuple(kinds.values())


@lru_cache(maxsize=4096)
def _free(holidays: tuple[str, ...]) -> tuple[bytes, ...]:
    """Of each week, which of the days near it are holidays."""
    days, named = range(NEAR.start, WEEKS * len(DAYS) + NEAR.stop), frozenset(holidays)
    free = bytes(kind.is_holiday(named, (MONDAY + timedelta(days=day)).date()) for day in days)
    return tuple(free[day : day + len(NEAR)] for day in range(0, WEEKS * len(DAYS), len(DAYS)))


@lru_cache(maxsize=256)
def _clocks(name: str) -> tuple[tuple[Any, ...], ...]:
    """Of each week, how the zone's clock stands at its start, and when it changes in it."""
    return tuple(
        (monday.astimezone(zone(name)).utcoffset(), *(turn - monday for turn in _turns(name) if monday <= turn < end))
        for monday, end in pairwise(MONDAY + n * WEEK for n in range(WEEKS + 1))
    )


@lru_cache(maxsize=256)
def _turns(name: str) -> tuple[datetime, ...]:
    """When this zone's clock changes; no zone's changes twice in a week."""

    def offset(minute: int) -> timedelta | None:
        return (MONDAY + timedelta(minutes=minute)).astimezone(zone(name)).utcoffset()

    weeks = [(n * MINUTES_A_WEEK, offset(n * MINUTES_A_WEEK)) for n in range(WEEKS + 1)]
    found = []
    for (start, before), (end, after) in pairwise(weeks):
        if before != after:
            turned = [start, end]  # the last minute before, and the first after
            while turned[1] - turned[0] > 1:
                middle = sum(turned) // 2
                turned[offset(middle) != before] = middle
            found.append(MONDAY + timedelta(minutes=turned[1]))
    return tuple(found)


def duration(seconds: int) -> str:
    unit, size = next(one for one in UNITS if not seconds % one[1])
    return counted(seconds // size, unit)


LOOKS_AT: Final[Mapping[type, str]] = {
    kind.Hours: "at",
    kind.Networks: "source",
    kind.Countries: "country",
    kind.Device: "device",
    kind.Mfa: "acr",
    kind.Recent: "age_s",
}
PARTS: Final[Mapping[str, Callable[[Any], Iterable[_Part]]]] = {
    "at": _moments,
    "source": _addresses,
    "country": _countries,
    "device": lambda plain: (_Part(False, frozenset()), _Part(True, frozenset(plain))),
    "acr": lambda plain: (_Part("", frozenset()), _Part(MFA, frozenset(plain))),
    "age_s": _ages,
}
COUNTRIES: Final = {UNKNOWN: "an unknown country", NOWHERE: "any other country"}
WORDS: Final[Mapping[str, Callable[[Situation], str]]] = {
    "country": lambda one: f"in {COUNTRIES.get(one.country, one.country)}",
    "device": lambda one: f"on {'a' if one.device else 'no'} registered device",
    "acr": lambda one: f"signed in with {'more than one factor' if one.acr == MFA else 'one factor'}",
    "age_s": lambda one: "no person signed in" if one.age_s is None else f"{duration(one.age_s)} after the sign-in",
}
