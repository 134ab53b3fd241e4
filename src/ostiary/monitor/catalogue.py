"""The rules of the watch that everybody has, what each of them is given, and what it finds.

What they say stands in catalogue.toml.
"""

import tomllib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from ostiary.event.record import Event

MINUTE_S: Final = 60
GRACE: Final = timedelta(seconds=5)  # Envoy flushes its log at least every second
SAMPLES_MAX: Final = 5  # decision ids in the evidence


class Rule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What fires, why it matters, how to look into it."""

    id: str
    severity: Literal["warning", "high", "critical"]
    what: str
    why: str
    investigate: str
    staying: bool = False  # until somebody says that it is over


_WORDS: Final = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
RULES: Final[Mapping[str, Rule]] = {name: msgspec.convert({"id": name, **told}, Rule) for name, told in _WORDS.items()}


class Thresholds(Struct, frozen=True, kw_only=True):
    """Standard F3. `few` and the `*_min` keep a handful of requests from being a share."""

    slow_ms: int = 500
    slow_share: float = 0.05  # more than 5 % above 500 ms is a p95 above 500 ms
    failures: int = 5
    error_share: float = 0.05
    unavailable_share: float = 0.001
    few: int = 3
    above_baseline: float = 1.2
    baseline_hours_min: int = 3
    volume_min: int = 100
    payload_min_bytes: int = 1_000_000


class Finding(Struct, frozen=True, kw_only=True):
    """A rule fired for `key` at `at`."""

    rule: str
    key: str
    at: datetime
    evidence: dict[str, Any]


def ended(event: Event, until: datetime) -> float:
    """When its line was written; a clock that is ahead does not reach into minutes to come."""
    return min(event.at.timestamp() + event.duration_ms / 1000, until.timestamp())


def reached(events: Sequence[Event], now: datetime) -> datetime:
    """How far time came in a batch that more will follow: nothing later is to be judged yet."""
    return datetime.fromtimestamp(max((ended(event, now) for event in events), default=0), UTC)
