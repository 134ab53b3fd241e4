"""The watch's judgement: a pure step from what was known and what happened to what is known and what was found.

Time comes from the events and from the caller. Events in any batches give the same findings.
"""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from ostiary.event.record import Event
from ostiary.monitor import failures, traffic
from ostiary.monitor.catalogue import REFUSED
from ostiary.monitor.failures import Tries
from ostiary.monitor.finding import Finding, Thresholds
from ostiary.monitor.traffic import Traffic


class State(Struct, frozen=True, kw_only=True):
    """All that is remembered between two steps; kept in the store as JSON, bounded whatever callers do."""

    tries: dict[str, Tries] = {}
    traffic: Traffic = Traffic()


def step(
    state: State,
    events: Sequence[Event],
    until: datetime,
    thresholds: Thresholds | None = None,
    old_tokens_s: float = 0.0,
) -> tuple[State, tuple[Finding, ...]]:
    """Takes in `events`, and judges every minute that ended before `until`, when no more of it is to come."""
    limits = thresholds or Thresholds()
    tries, failed = failures.noted(state.tries, events, until, limits, old_tokens_s)
    after, found = traffic.judged(traffic.counted(state.traffic, events, until, limits), until, limits)
    return State(tries=tries, traffic=after), (*failed, *found, *_refused(events))


def _refused(events: Sequence[Event]) -> list[Finding]:
    """By system and caller, whose credential an ERP does not take."""
    first = {f"{one.system} {one.subject}": one for one in reversed(events) if one.reason == REFUSED.id}
    return [
        Finding(rule=REFUSED.id, key=key, at=one.at, evidence={"decisions": [one.decision]})
        for key, one in first.items()
    ]
