"""What each caller does as a rule, and what of the last day is unlike it (standard B8).

Nothing is usual of somebody who was seen on fewer than DAYS_MIN days before. Networks are those that one caller can own
addresses in; an hour is like the one before and the one after it, on the same kind of day.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct

from ostiary.event.record import NONE, Event, stamp
from ostiary.foundation.origin import named

LATELY: Final = timedelta(days=1)
DAYS_MIN: Final = 3
MANY: Final = 3  # times the most calls of any day before
MANY_MIN: Final = 20
SATURDAY: Final = 5
NETWORKS_MAX: Final = 1_000  # of one caller; further ones are not told apart
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

    def take(self, event: Event, *, late: bool) -> None:
        self.last = max(self.last, stamp(event.at))
        which = self.lately if late else self.before
        for dimension, value in _dimensions(event):
            if value in which[dimension] or len(which[dimension]) < NETWORKS_MAX:
                which[dimension][value] += 1
                if late:
                    self.examples[dimension, value] = event.decision

    def habit(self, principal: str) -> Habit:
        days = self.before["day"]
        return Habit(
            principal=principal, days=len(days), calls=days.total(), busiest=max(days.values(), default=0), last=self.last,
            operations=[one for one, _ in self.before["operation"].most_common()],
            networks=[one for one, _ in self.before["network"].most_common()],
        )  # fmt: skip

    def unusual(self, principal: str) -> Iterator[Unusual]:
        busiest = max(self.before["day"].values(), default=0)
        for dimension, values in self.lately.items():
            for value, times in values.items():
                if self._strange(dimension, value, times, busiest):
                    yield Unusual(
                        principal=principal, what="calls in a day" if dimension == "day" else dimension, value=value,
                        times=times, decision=self.examples[dimension, value],
                    )  # fmt: skip

    def _strange(self, dimension: str, value: str, times: int, busiest: int) -> bool:
        if dimension == "day":
            return times > max(MANY_MIN, MANY * busiest)
        known = self.before[dimension]
        return not (_near(value) & known.keys() if dimension == "hour" else value in known)


def patterns(events: Iterable[Event], now: datetime) -> tuple[list[Habit], list[Unusual]]:
    """Of what was allowed, by caller; of one who is new, that alone."""
    seen: dict[str, Seen] = defaultdict(Seen)
    for event in events:
        if event.subject != NONE:
            caller = UNPROVED if event.subject.startswith(f"{UNPROVED}:") else event.subject
            seen[caller].take(event, late=event.at > now - LATELY)
    unusual = list[Unusual]()
    for principal, one in sorted(seen.items()):
        if len(one.before["day"]) >= DAYS_MIN:
            unusual += one.unusual(principal)
        elif not one.before["day"] and (times := one.lately["day"].total()):
            decision = next(iter(one.examples.values()))
            unusual.append(Unusual(principal=principal, what="caller", value=principal, times=times, decision=decision))
    return [one.habit(principal) for principal, one in sorted(seen.items())], unusual


def _dimensions(event: Event) -> Iterator[tuple[str, str]]:
    yield "operation", event.operation
    yield "network", named(event.source)
    yield "hour", _hour(event.at.weekday() >= SATURDAY, event.at.hour)
    yield "day", event.at.date().isoformat()


def _hour(weekend: bool, hour: int) -> str:
    return f"{'weekend' if weekend else 'weekday'} {hour % 24:02}:00 UTC"


def _near(hour: str) -> set[str]:
    kind, number = hour.startswith("weekend"), int(hour.partition(" ")[2][:2])
    return {_hour(kind, number + beside) for beside in (-1, 0, 1)}
