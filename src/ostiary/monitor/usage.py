"""What each caller does as a rule, and what of the last day is unlike it (standard B8).

A day is 24 hours, the last of them ends now. Nothing is usual of somebody who was seen on fewer than DAYS_MIN days before.
Networks are those that one caller can own addresses in; an hour is like the one before and the one after it, on the same
kind of day.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct

from ostiary.event.record import NONE
from ostiary.foundation.clock import stamp
from ostiary.foundation.origin import named
from ostiary.plan.decide import Recorded

DAY: Final = timedelta(days=1)
DAYS_MIN: Final = 3
MANY: Final = 3  # times the most calls of any day before
MANY_MIN: Final = 20
SATURDAY: Final = 5
CALLS: Final = "calls in a day"
VALUES_MAX: Final = 1_000  # of one caller's operations, networks, ...; where there are more, none is unlike them
UNPROVED: Final = "unproved"  # whoever is observed chooses his own name


class Habit(Struct, frozen=True, kw_only=True):
    """What one caller did before the last day; `busiest`: calls of its busiest day."""

    principal: str
    days: int
    calls: int
    busiest: int
    operations: list[str]
    networks: list[str]
    last: str


class Unusual(Struct, frozen=True, kw_only=True):
    """What was done lately and never before; `decision` is one to `explain`."""

    principal: str
    what: str
    value: str
    times: int
    decision: str


class Seen:
    """One caller's calls: before, and lately, each by dimension and value."""

    def __init__(self) -> None:
        self.before: dict[str, Counter[str]] = defaultdict(Counter)
        self.lately: dict[str, Counter[str]] = defaultdict(Counter)
        self.examples: dict[tuple[str, str], str] = {}
        self.last = ""

    def take(self, use: Recorded, day: int) -> None:
        """`day`: how many days ago."""
        which = self.before if day else self.lately
        self.last = max(self.last, stamp(use.facts.here.at)) if day else self.last
        for dimension, value in _dimensions(use, day):
            if value in which[dimension] or len(which[dimension]) < VALUES_MAX:
                which[dimension][value] += 1
                if not day:
                    self.examples[dimension, value] = use.decision

    def habit(self, principal: str) -> Habit:
        days = self.before[CALLS]
        return Habit(
            principal=principal, days=len(days), calls=days.total(), busiest=max(days.values(), default=0), last=self.last,
            operations=[one for one, _ in self.before["operation"].most_common()],
            networks=[one for one, _ in self.before["network"].most_common()],
        )  # fmt: skip

    def unusual(self, principal: str) -> Iterator[Unusual]:
        busiest = max(self.before[CALLS].values(), default=0)
        for what, values in self.lately.items():
            for value, times in values.items():
                if self._strange(what, value, times, busiest):
                    example = self.examples[what, value]
                    yield Unusual(principal=principal, what=what, value=value, times=times, decision=example)

    def _strange(self, dimension: str, value: str, times: int, busiest: int) -> bool:
        if dimension == CALLS:
            return times > max(MANY_MIN, MANY * busiest)
        known = self.before[dimension]
        return len(known) < VALUES_MAX and known.keys().isdisjoint(_near(value) if dimension == "hour" else (value,))


def patterns(uses: Iterable[Recorded], now: datetime) -> tuple[list[Habit], list[Unusual]]:
    """Of what was allowed, by caller; of one who is new, that alone."""
    seen: dict[str, Seen] = defaultdict(Seen)
    for use in uses:
        if use.principal != NONE:
            caller = UNPROVED if use.principal.startswith(f"{UNPROVED}:") else use.principal
            seen[caller].take(use, max((now - use.facts.here.at) // DAY, 0))
    unusual = list[Unusual]()
    for principal, one in sorted(seen.items()):
        if len(one.before[CALLS]) >= DAYS_MIN:
            unusual += one.unusual(principal)
        elif not one.before[CALLS] and (times := one.lately[CALLS].total()):
            decision = next(iter(one.examples.values()))
            unusual.append(Unusual(principal=principal, what="caller", value=principal, times=times, decision=decision))
    return [one.habit(principal) for principal, one in sorted(seen.items())], unusual


def _dimensions(use: Recorded, day: int) -> Iterator[tuple[str, str]]:
    at = use.facts.here.at
    yield from (("operation", did.permission) for did in use.facts.operations)
    yield "network", named(str(use.facts.here.source))
    yield "hour", _hour(at.weekday() >= SATURDAY, at.hour)
    yield CALLS, f"{day} days ago" if day else "the last 24 hours"


def _hour(weekend: bool, hour: int) -> str:
    return f"{'weekend' if weekend else 'weekday'} {hour % 24:02}:00 UTC"


def _near(hour: str) -> set[str]:
    kind, number = hour.startswith("weekend"), int(hour.partition(" ")[2][:2])
    return {_hour(kind, number + beside) for beside in (-1, 0, 1)}
