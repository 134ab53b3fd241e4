"""The watch's judgement: a pure step from what was known and what happened to what is known and what was found; and the
rules that everybody has, each with what it is given.

What the rules say stands in rules.toml. Time comes from the events and from the caller. Events in any batches give the
same findings.

How a system answers is judged minute by minute, and how much is asked of it, against what is usual in that hour. Shares
are of the requests that were let through: refusals, which anybody can cause, must not dilute them. For the same reason
only what was let through counts as payload.

Who fails to show who he is, is counted over the last minute for each address and each client. Only what was tried counts
towards a block: a caller who shows nothing guesses nothing, and any web page can make its visitors' browsers send
requests without a token. What the gate refused because of a measure or a limit of ours counts nowhere: a block must not
feed itself.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from ostiary.event.record import NONE, Event
from ostiary.foundation.data import beside
from ostiary.foundation.origin import named
from ostiary.plan.decide import Reason

MINUTE_S: Final = 60
GRACE: Final = timedelta(seconds=5)  # Envoy flushes its log at least every second
SAMPLES_MAX: Final = 5  # decision ids in the evidence


class Rule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What fires, why it matters, how to look into it."""

    severity: Literal["warning", "high", "critical"]
    what: str
    why: str
    investigate: str
    staying: bool = False  # until somebody says that it is over


RULES: Final[Mapping[str, Rule]] = msgspec.convert(beside(__file__), dict[str, Rule])


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


HOUR_MINUTES: Final = 60
DAY_HOURS: Final = 24
EWMA_WEIGHT: Final = 0.3
OURSELVES: Final = "ostiary"  # requests that belong to no system
SYSTEMS_MAX: Final = 100
OTHER: Final = "other"  # all systems beyond
KEYS_MAX: Final = 10_000  # remembered from one batch to the next; who failed longest ago goes first


class Minute(Struct, frozen=True, kw_only=True):
    """Of one system. Slow, failed and bytes are of those let through; the decisions go once it is judged."""

    requests: int = 0
    answered: int = 0
    slow: int = 0
    failed: int = 0
    closed: int = 0  # of those that failed: by the gate itself
    bytes: int = 0
    worst_ms: int = 0
    slow_decisions: tuple[str, ...] = ()
    failed_decisions: tuple[str, ...] = ()


class Baseline(Struct, frozen=True, kw_only=True):
    """What is usual in one hour of the day, weighted towards the latest days."""

    hours: int = 0
    requests: float = 0.0
    bytes: float = 0.0


class Traffic(Struct, frozen=True, kw_only=True):
    """All that is remembered between two steps. Minutes are counted since the epoch, hours of the day are UTC."""

    minutes: dict[str, dict[int, Minute]] = {}  # system -> minute
    baselines: dict[str, dict[int, Baseline]] = {}  # system -> hour of the day
    judged: int = 0  # the last minute that was judged
    began: int = 0  # the first minute that was seen: an hour begun before it is not learnt from


def counted(before: Traffic, events: Sequence[Event], until: datetime, limits: Thresholds) -> Traffic:
    """With `events` added to their minutes."""
    minutes = {system: dict(cells) for system, cells in before.minutes.items()}
    known = {*minutes, *before.baselines}
    first = int(until.timestamp()) // MINUTE_S
    for event in events:
        system = told_apart(OURSELVES if event.system == NONE else event.system, known)
        cells, minute = minutes.setdefault(system, {}), int(ended(event, until)) // MINUTE_S
        cells[minute] = _with(cells.get(minute, Minute()), event, limits)
        first = min(first, minute)
    return msgspec.structs.replace(before, minutes=minutes, began=before.began or first)


def judged(traffic: Traffic, until: datetime, limits: Thresholds) -> tuple[Traffic, list[Finding]]:
    """Judges every minute that ended before `until`, in order, and learns from every hour that ended."""
    last = int((until - GRACE).timestamp()) // MINUTE_S - 1
    found = list[Finding]()
    for minute in sorted({n for cells in traffic.minutes.values() for n in cells if traffic.judged < n <= last}):
        traffic = _learnt(traffic, minute - 1)
        for system, cells in traffic.minutes.items():
            if minute in cells:
                found += _answers(system, cells, minute, limits)
                found += _amounts(system, cells, minute, traffic.baselines.get(system, {}), limits)
    traffic = _learnt(traffic, last)
    return msgspec.structs.replace(traffic, minutes=_recent(traffic.minutes, traffic.judged)), found


def told_apart(system: str, known: set[str]) -> str:
    """The system, or `OTHER`: `known` grows to so many as can be told apart."""
    if system not in known and len(known) < SYSTEMS_MAX:
        known.add(system)
    return system if system in known else OTHER


def _with(cell: Minute, event: Event, limits: Thresholds) -> Minute:
    failed = event.status >= 500  # noqa: PLR2004  RFC 9110 section 15.6
    if not failed and event.reason != Reason.ALLOWED:
        return msgspec.structs.replace(cell, requests=cell.requests + 1)
    slow = event.duration_ms > limits.slow_ms
    return Minute(
        requests=cell.requests + 1,
        answered=cell.answered + 1,
        slow=cell.slow + slow,
        failed=cell.failed + failed,
        closed=cell.closed + (event.reason == Reason.CLOSED),
        bytes=cell.bytes + event.bytes_in + event.bytes_out,
        worst_ms=max(cell.worst_ms, event.duration_ms),
        slow_decisions=_sampled(cell.slow_decisions, event, take=slow),
        failed_decisions=_sampled(cell.failed_decisions, event, take=failed),
    )


def _sampled(before: tuple[str, ...], event: Event, *, take: bool) -> tuple[str, ...]:
    return (*before, event.decision) if take and len(before) < SAMPLES_MAX else before


def _answers(system: str, cells: Mapping[int, Minute], minute: int, limits: Thresholds) -> Iterator[Finding]:
    """What the minute itself shows, and the hour that ends with it."""
    cell = cells[minute]
    if cell.slow >= limits.few and cell.slow > limits.slow_share * cell.answered:
        told: dict[str, Any] = {"requests": cell.answered, "slow": cell.slow, "worst_ms": cell.worst_ms}
        yield _finding("slow-responses", system, minute, {**told, "decisions": list(cell.slow_decisions)})
    errors, passed = cell.failed - cell.closed, cell.answered - cell.closed
    if errors >= limits.few and errors > limits.error_share * passed:
        told = {"requests": cell.answered, "errors": errors, "decisions": list(cell.failed_decisions)}
        yield _finding("error-rate", system, minute, told)
    hour = [one for n, one in cells.items() if minute - HOUR_MINUTES < n <= minute]
    answered, failed, closed = map(sum, zip(*((one.answered, one.failed, one.closed) for one in hour), strict=True))
    if cell.failed and failed >= limits.few and failed > limits.unavailable_share * answered:
        served = round(100 * (1 - failed / answered), 3)
        told = {"requests": answered, "failed": failed, "closed": closed, "served_percent": served}
        yield _finding("availability", system, minute, {**told, "decisions": list(cell.failed_decisions)})


def _amounts(
    system: str, cells: Mapping[int, Minute], minute: int, usual: Mapping[int, Baseline], limits: Thresholds
) -> Iterator[Finding]:
    """Holds the clock hour so far against what the whole hour usually brings."""
    hour = minute // HOUR_MINUTES
    before = usual.get(hour % DAY_HOURS, Baseline())
    if before.hours < limits.baseline_hours_min:
        return
    requests, size = _sums(cell for n, cell in cells.items() if n // HOUR_MINUTES == hour and n <= minute)
    if requests >= limits.volume_min and requests > limits.above_baseline * before.requests:
        told = {"requests": requests, "usual": round(before.requests), "hour_utc": hour % DAY_HOURS}
        yield _finding("request-volume", system, minute, told)
    if size >= limits.payload_min_bytes and size > limits.above_baseline * before.bytes:
        told = {"bytes": size, "usual": round(before.bytes), "hour_utc": hour % DAY_HOURS}
        yield _finding("payload-size", system, minute, told)


def _finding(rule: str, system: str, minute: int, evidence: dict[str, Any]) -> Finding:
    at = datetime.fromtimestamp((minute + 1) * MINUTE_S, UTC)
    return Finding(rule=rule, key=f"system:{system}", at=at, evidence=evidence)


def _sums(cells: Iterable[Minute]) -> tuple[int, int]:
    chosen = tuple(cells)
    return sum(cell.requests for cell in chosen), sum(cell.bytes for cell in chosen)


def _learnt(traffic: Traffic, last: int) -> Traffic:
    """Every hour seen whole that ended up to the minute `last` moves its baseline."""
    known = {system: dict(hours) for system, hours in traffic.baselines.items()}
    for system, cells in traffic.minutes.items():
        for hour in sorted({n // HOUR_MINUTES for n in cells}):
            first, end = hour * HOUR_MINUTES, hour * HOUR_MINUTES + HOUR_MINUTES - 1
            if traffic.began <= first and traffic.judged < end <= last:
                usual = known.setdefault(system, {}).get(hour % DAY_HOURS, Baseline())
                sums = _sums(cell for n, cell in cells.items() if n // HOUR_MINUTES == hour)
                known[system][hour % DAY_HOURS] = _moved(usual, *sums)
    return msgspec.structs.replace(traffic, baselines=known, judged=max(traffic.judged, last))


def _moved(usual: Baseline, requests: int, size: int) -> Baseline:
    weight = EWMA_WEIGHT if usual.hours else 1.0
    return Baseline(
        hours=usual.hours + 1,
        requests=usual.requests + weight * (requests - usual.requests),
        bytes=usual.bytes + weight * (size - usual.bytes),
    )


def _recent(minutes: Mapping[str, Mapping[int, Minute]], last: int) -> dict[str, dict[int, Minute]]:
    """The last hour and the clock hour it began in; of a judged minute only the figures."""
    first = (last - HOUR_MINUTES) // HOUR_MINUTES * HOUR_MINUTES
    kept = {
        system: {n: _plain(cell) if n <= last else cell for n, cell in cells.items() if n >= first}
        for system, cells in minutes.items()
    }
    return {system: cells for system, cells in kept.items() if cells}


def _plain(cell: Minute) -> Minute:
    if cell.slow_decisions or cell.failed_decisions:
        return msgspec.structs.replace(cell, slow_decisions=(), failed_decisions=())
    return cell


class Tries(Struct, frozen=True, kw_only=True):
    """The latest ones, as many as it takes to fire, and the minute in which it fired last."""

    latest: tuple[tuple[float, str], ...] = ()  # (epoch seconds, decision)
    told: int = 0


def noted(
    before: Mapping[str, Tries], events: Sequence[Event], until: datetime, limits: Thresholds, old_tokens_s: float = 0.0
) -> tuple[dict[str, Tries], list[Finding]]:
    """Fires at once, and at most once in a minute for each rule and key.

    Up to `old_tokens_s` honest callers still try tokens of a key that was taken back: told, and no address is blocked.
    """
    known, found = dict(before), list[Finding]()
    for event in events:
        at = ended(event, until)
        for rule, key in _counts(event, old_tokens=at <= old_tokens_s):
            name = f"{rule} {key}"
            tries = _tried(known.pop(name, Tries()), at, event.decision, limits)
            minute = int(at) // MINUTE_S
            if len(tries.latest) > limits.failures and tries.told != minute:
                tries = Tries(latest=tries.latest, told=minute)
                found.append(_guessed(rule, key, tries))
            known[name] = tries  # at the end: the order of the dictionary is the order of the latest tries
    oldest = (until - GRACE).timestamp() - MINUTE_S
    living = [(name, tries) for name, tries in known.items() if tries.latest[-1][0] > oldest]
    return dict(living[-KEYS_MAX:]), found


def _counts(event: Event, *, old_tokens: bool) -> Iterator[tuple[str, str]]:
    """What a failure counts towards (standard F3)."""
    if event.reason in {Reason.TOKEN_INVALID, Reason.CREDENTIAL_INVALID}:  # what was tried is wrong
        old = old_tokens and event.reason == Reason.TOKEN_INVALID
        yield "authentication-failures", f"{'old-token' if old else 'address'}:{named(event.source)}"
    elif event.reason == Reason.TOKEN_MISSING:
        yield "calls-without-token", f"address:{named(event.source)}"
    elif event.reason == Reason.TOKEN_REVOKED and event.client != NONE:  # the gate refuses it; its owner is to know
        yield "authentication-failures", f"client:{event.client.removeprefix('client:')}"


def _tried(before: Tries, at: float, decision: str, limits: Thresholds) -> Tries:
    recent = [one for one in before.latest if one[0] > at - MINUTE_S]
    return Tries(latest=(*recent, (at, decision))[-limits.failures - 1 :], told=before.told)


def _guessed(rule: str, key: str, tries: Tries) -> Finding:
    samples = [decision for _, decision in tries.latest[-SAMPLES_MAX:]]
    evidence = {"failures": len(tries.latest), "within_s": MINUTE_S, "decisions": samples}
    return Finding(rule=rule, key=key, at=datetime.fromtimestamp(tries.latest[-1][0], UTC), evidence=evidence)


class State(Struct, frozen=True, kw_only=True):
    """All that is remembered between two steps; kept in the store as JSON, bounded whatever callers do."""

    tries: dict[str, Tries] = {}  # by "rule key"
    traffic: Traffic = Traffic()


def step(
    state: State,
    events: Sequence[Event],
    until: datetime,
    limits: Thresholds = Thresholds(),  # noqa: B008  frozen
    old_tokens_s: float = 0.0,
) -> tuple[State, tuple[Finding, ...]]:
    """Takes in `events`, and judges every minute that ended before `until`, when no more of it is to come."""
    tries, failed = noted(state.tries, events, until, limits, old_tokens_s)
    after, found = judged(counted(state.traffic, events, until, limits), until, limits)
    return State(tries=tries, traffic=after), (*failed, *found, *_refused(events))


def _refused(events: Sequence[Event]) -> list[Finding]:
    """By system and caller, whose credential an ERP does not take."""
    first = {f"{one.system} {one.subject}": one for one in reversed(events) if one.reason == "erp-refuses"}
    told = [(key, one.at, {"decisions": [one.decision]}) for key, one in first.items()]
    return [Finding(rule="erp-refuses", key=key, at=at, evidence=evidence) for key, at, evidence in told]
