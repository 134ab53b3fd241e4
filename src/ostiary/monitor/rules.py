"""The rules of the watch: a pure step from what was known and what happened to what is known and what was found.

Time comes from the events and from the caller's tick. What the gate refused because of a measure or a limit of
ours counts towards no authentication failure: a block must not feed itself.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

import msgspec
from msgspec import Struct

from ostiary.event.record import NONE, Event
from ostiary.plan.reason import Reason

MINUTE_S: Final = 60
HOUR_MINUTES: Final = 60
GRACE: Final = timedelta(seconds=5)  # Envoy flushes its log at least every second
KEYS_MAX: Final = 10_000  # addresses and clients remembered; the ones that failed longest ago go first
FAILURES_KEPT: Final = 100  # of one key
SAMPLES_MAX: Final = 5  # decision ids in the evidence
EWMA_WEIGHT: Final = 0.3
OURSELVES: Final = "ostiary"  # key of requests that belong to no system


class Severity(StrEnum):
    WARNING = "warning"
    HIGH = "high"
    CRITICAL = "critical"


class Rule(Struct, frozen=True, kw_only=True):
    id: str
    severity: Severity
    what: str
    why: str
    investigate: str


class Thresholds(Struct, frozen=True, kw_only=True):
    """Standard F3. The `*_min` keep a handful of requests from being a share."""

    slow_ms: int = 500
    slow_share: float = 0.05  # more than 5 % above 500 ms is a p95 above 500 ms
    requests_min: int = 20
    failures: int = 5
    error_share: float = 0.05
    unavailable_share: float = 0.001
    unavailable_min: int = 3
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


class Minute(Struct, frozen=True, kw_only=True):
    """Of one system: how many requests, and of these how many were slow or failed."""

    total: int = 0
    slow: int = 0
    failed: int = 0
    bytes: int = 0
    worst_ms: int = 0
    slow_decisions: tuple[str, ...] = ()
    failed_decisions: tuple[str, ...] = ()


class Baseline(Struct, frozen=True, kw_only=True):
    """What is usual in one hour of the day, weighted towards the latest days."""

    hours: int = 0
    requests: float = 0.0
    bytes: float = 0.0


class State(Struct, frozen=True, kw_only=True):
    """All that is remembered between two steps; kept in the store as JSON."""

    minutes: dict[str, dict[int, Minute]] = {}  # system -> minute since the epoch
    baselines: dict[str, dict[int, Baseline]] = {}  # system -> hour of the day, UTC
    failures: dict[str, tuple[tuple[float, str], ...]] = {}  # key -> (epoch seconds, decision)
    judged: int = 0  # the last minute that was judged


SLOW: Final = Rule(
    id="slow-responses",
    severity=Severity.WARNING,
    what="The slowest twentieth of a system's responses took longer than 500 ms within one minute.",
    why="People wait, batch jobs overrun their windows, and time-outs follow.",
    investigate="Compare duration_ms with upstream_ms and guard_us of the decisions named: is it the ERP, or the gate?",
)
FAILURES: Final = Rule(
    id="authentication-failures",
    severity=Severity.HIGH,
    what="More than five failed authentications within a minute from one address or by one client.",
    why="Somebody guesses passwords or tries tokens, or a client goes on with a credential that has ended.",
    investigate="`ostiary event list --reason token-invalid`: one client, or many names? Call the client's owner first.",
)
ERRORS: Final = Rule(
    id="error-rate",
    severity=Severity.HIGH,
    what="More than 5 % of a system's answers within a minute were server errors.",
    why="The ERP, its database or the way to it fails.",
    investigate="Look at `flags` and `details` of the decisions named, then at the ERP's own log; run `ostiary doctor`.",
)
AVAILABILITY: Final = Rule(
    id="availability",
    severity=Severity.CRITICAL,
    what="Less than 99.9 % of a system's requests of the last hour were served.",
    why="At this rate a month's allowance of failures is spent long before its end.",
    investigate="`ostiary status` and `ostiary doctor`; refusals by policy do not count, server errors do.",
)
VOLUME: Final = Rule(
    id="request-volume",
    severity=Severity.WARNING,
    what="More than 120 % of the requests that are usual in this hour of the day.",
    why="A loop in an integration, a new job nobody announced, or somebody copying the database.",
    investigate="`ostiary event list`: which principal and operation grew? Month ends and imports are the usual innocents.",
)
PAYLOAD: Final = Rule(
    id="payload-size",
    severity=Severity.WARNING,
    what="More than 120 % of the bytes that are usual in this hour of the day.",
    why="Data leaves, or is loaded, in amounts that nobody saw before.",
    investigate="Look for large bytes_out: who reads, which operation, and was it ever read in this amount?",
)
UNREADABLE: Final = Rule(
    id="events-lost",
    severity=Severity.CRITICAL,
    what="Lines of the access log could not be read, or a part of it was gone.",
    why="What is not recorded can't be shown to an auditor.",
    investigate="Who else writes to, truncates or deletes files in the events folder? Is the disk sound?",
)
DISK: Final = Rule(
    id="disk-low",
    severity=Severity.CRITICAL,
    what="The disk of the home folder is nearly full.",
    why="The gate is closed before an event is lost.",
    investigate="Make room on that disk; the gate opens again by itself.",
)
RULES: Final[Mapping[str, Rule]] = {
    rule.id: rule for rule in (SLOW, FAILURES, ERRORS, AVAILABILITY, VOLUME, PAYLOAD, UNREADABLE, DISK)
}

FAILED: Final = frozenset({Reason.TOKEN_MISSING, Reason.TOKEN_INVALID, Reason.TOKEN_REVOKED})
OURS: Final = frozenset({Reason.ADDRESS_BLOCKED, Reason.RATE_LIMITED, Reason.CLOSED})


def step(
    state: State, events: Sequence[Event], now: datetime, thresholds: Thresholds | None = None
) -> tuple[State, tuple[Finding, ...]]:
    """Takes in `events` and judges every minute that ended before `now`."""
    limits = thresholds or Thresholds()
    failures, found = _failures(state.failures, events, now, limits)
    minutes = _counted(state.minutes, events, now, limits)
    last = int((now - GRACE).timestamp()) // MINUTE_S - 1
    ended = sorted({minute for system in minutes.values() for minute in system if state.judged < minute <= last})
    baselines = state.baselines
    for minute in ended:
        for system, cells in minutes.items():
            found += _judged(system, cells, minute, limits)
            found += _above(system, cells, minute, baselines, limits)
    baselines = _learned(baselines, minutes, state.judged, last)
    after = State(
        minutes=_recent(minutes, last), baselines=baselines, failures=failures, judged=max(state.judged, last)
    )
    return after, tuple(found)


def authentication_failed(event: Event) -> bool:
    """Standard F3; a wrong password shows the form again (200), a right one leads on (303)."""
    if event.reason in OURS:
        return False
    if event.path == "/identity/sign-in":
        return event.method == "POST" and event.status == 200  # noqa: PLR2004
    if event.path == "/identity/token":
        return event.status in (400, 401)  # RFC 6749 section 5.2
    return event.reason in FAILED


def _failures(
    before: Mapping[str, tuple[tuple[float, str], ...]], events: Sequence[Event], now: datetime, limits: Thresholds
) -> tuple[dict[str, tuple[tuple[float, str], ...]], list[Finding]]:
    known, found = dict(before), dict[str, Finding]()
    for event in filter(authentication_failed, events):
        at = _ended(event, now)
        for key in _keys(event):
            recent = [one for one in known.pop(key, ()) if one[0] > at - MINUTE_S]
            known[key] = (*recent, (at, event.decision))[-FAILURES_KEPT:]
            if len(known[key]) > limits.failures:
                samples = [decision for _, decision in known[key][-SAMPLES_MAX:]]
                evidence = {"failures": len(known[key]), "within_s": MINUTE_S, "decisions": samples}
                at_time = datetime.fromtimestamp(at, UTC)
                found[key] = Finding(rule=FAILURES.id, key=key, at=at_time, evidence=evidence)
    oldest = (now - GRACE).timestamp() - MINUTE_S
    living = {key: times for key, times in known.items() if times[-1][0] > oldest}
    return dict(list(living.items())[-KEYS_MAX:]), list(found.values())


def _keys(event: Event) -> list[str]:
    client = event.client.removeprefix("client:")
    named = (("address", event.source), ("client", client))
    return [f"{kind}:{value}" for kind, value in named if value != NONE]


def _ended(event: Event, now: datetime) -> float:
    """When its line was written; a clock that is ahead does not reach into minutes to come."""
    return min(event.at.timestamp() + event.duration_ms / 1000, now.timestamp())


def _counted(
    before: Mapping[str, Mapping[int, Minute]], events: Sequence[Event], now: datetime, limits: Thresholds
) -> dict[str, dict[int, Minute]]:
    minutes = {system: dict(cells) for system, cells in before.items()}
    for event in events:
        system = OURSELVES if event.system == NONE else event.system
        cells, minute = minutes.setdefault(system, {}), int(_ended(event, now)) // MINUTE_S
        cells[minute] = _with(cells.get(minute, Minute()), event, limits)
    return minutes


def _with(cell: Minute, event: Event, limits: Thresholds) -> Minute:
    slow, failed = event.duration_ms > limits.slow_ms, event.status >= 500  # noqa: PLR2004  RFC 9110 section 15.6
    return Minute(
        total=cell.total + 1,
        slow=cell.slow + slow,
        failed=cell.failed + failed,
        bytes=cell.bytes + event.bytes_in + event.bytes_out,
        worst_ms=max(cell.worst_ms, event.duration_ms),
        slow_decisions=_sampled(cell.slow_decisions, event, take=slow),
        failed_decisions=_sampled(cell.failed_decisions, event, take=failed),
    )


def _sampled(before: tuple[str, ...], event: Event, *, take: bool) -> tuple[str, ...]:
    return (*before, event.decision) if take and len(before) < SAMPLES_MAX else before


def _judged(system: str, cells: Mapping[int, Minute], minute: int, limits: Thresholds) -> list[Finding]:
    """What the minute itself shows, and the hour that ends with it."""
    cell = cells.get(minute)
    if cell is None:
        return []
    found = []
    if cell.total >= limits.requests_min and cell.slow / cell.total > limits.slow_share:
        told: dict[str, Any] = {"requests": cell.total, "slow": cell.slow, "worst_ms": cell.worst_ms}
        found.append(_finding(SLOW, system, minute, {**told, "decisions": list(cell.slow_decisions)}))
    if cell.total >= limits.requests_min and cell.failed / cell.total > limits.error_share:
        told = {"requests": cell.total, "errors": cell.failed, "decisions": list(cell.failed_decisions)}
        found.append(_finding(ERRORS, system, minute, told))
    hour = [cells[n] for n in cells if minute - HOUR_MINUTES < n <= minute]
    total, failed = sum(one.total for one in hour), sum(one.failed for one in hour)
    if cell.failed and failed >= limits.unavailable_min and failed / total > limits.unavailable_share:
        served = round(100 * (1 - failed / total), 3)
        told = {"requests": total, "failed": failed, "served_percent": served, "decisions": list(cell.failed_decisions)}
        found.append(_finding(AVAILABILITY, system, minute, told))
    return found


def _finding(rule: Rule, system: str, minute: int, evidence: dict[str, Any]) -> Finding:
    at = datetime.fromtimestamp((minute + 1) * MINUTE_S, UTC)
    return Finding(rule=rule.id, key=f"system:{system}", at=at, evidence=evidence)


def _above(
    system: str,
    cells: Mapping[int, Minute],
    minute: int,
    baselines: Mapping[str, Mapping[int, Baseline]],
    limits: Thresholds,
) -> list[Finding]:
    """Holds the clock hour so far against what the whole hour usually brings."""
    hour = minute // HOUR_MINUTES
    usual = baselines.get(system, {}).get(hour % 24, Baseline())
    if minute not in cells or usual.hours < limits.baseline_hours_min:
        return []
    requests, size = _hour(cells, hour)
    found = []
    if requests >= limits.volume_min and requests > limits.above_baseline * usual.requests:
        told = {"requests": requests, "usual": round(usual.requests), "hour_utc": hour % 24}
        found.append(_finding(VOLUME, system, minute, told))
    if size >= limits.payload_min_bytes and size > limits.above_baseline * usual.bytes:
        told = {"bytes": size, "usual": round(usual.bytes), "hour_utc": hour % 24}
        found.append(_finding(PAYLOAD, system, minute, told))
    return found


def _hour(cells: Mapping[int, Minute], hour: int) -> tuple[int, int]:
    chosen = [cell for minute, cell in cells.items() if minute // HOUR_MINUTES == hour]
    return sum(cell.total for cell in chosen), sum(cell.bytes for cell in chosen)


def _learned(
    before: Mapping[str, Mapping[int, Baseline]], minutes: Mapping[str, Mapping[int, Minute]], judged: int, last: int
) -> dict[str, dict[int, Baseline]]:
    """Every hour that ended between the minutes `judged` and `last` moves its baseline."""
    known = {system: dict(hours) for system, hours in before.items()}
    for system, cells in minutes.items():
        for hour in sorted({minute // HOUR_MINUTES for minute in cells}):
            end = hour * HOUR_MINUTES + HOUR_MINUTES - 1
            if judged < end <= last:
                usual = known.setdefault(system, {}).get(hour % 24, Baseline())
                known[system][hour % 24] = _moved(usual, *_hour(cells, hour))
    return known


def _moved(usual: Baseline, requests: int, size: int) -> Baseline:
    weight = EWMA_WEIGHT if usual.hours else 1.0
    return msgspec.structs.replace(
        usual,
        hours=usual.hours + 1,
        requests=usual.requests + weight * (requests - usual.requests),
        bytes=usual.bytes + weight * (size - usual.bytes),
    )


def _recent(minutes: Mapping[str, Mapping[int, Minute]], last: int) -> dict[str, dict[int, Minute]]:
    """The last hour and the clock hour it began in."""
    first = (last - HOUR_MINUTES) // HOUR_MINUTES * HOUR_MINUTES
    kept = {system: {n: cell for n, cell in cells.items() if n >= first} for system, cells in minutes.items()}
    return {system: cells for system, cells in kept.items() if cells}
