"""Figures for Prometheus: bounded label sets, OpenTelemetry's names where there are some, nobody's name or record."""

from collections.abc import Collection, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from ostiary.event.record import NONE, Event, verb
from ostiary.foundation.clock import Clock
from ostiary.monitor.rules import OTHER, told_apart
from ostiary.plan.decide import Reason

# OpenTelemetry semantic conventions, HTTP: a method it doesn't know is "_OTHER"; the buckets are its advice.
METHODS: Final = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"})
BUCKETS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
VERBS: Final = frozenset({"read", "write", "execute", "delete"})
REASONS: Final = frozenset({*Reason, NONE})


class Metrics:
    """One registry of its own; safe to share between threads. What the watch sets by itself is public."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._registry = clock, CollectorRegistry()
        self._systems: set[str] = set()
        self._lease_at = clock.now()  # an age from the start on, though nobody has renewed it yet
        on = self._registry
        self._duration = Histogram(
            "http_server_request_duration_seconds",
            "Duration of HTTP server requests",
            ("http_request_method", "http_response_status_code"),
            buckets=BUCKETS_S,
            registry=on,
        )
        self._decisions = Counter("ostiary_decisions", "Decisions", ("system", "verb", "reason"), registry=on)
        self._tokens = Counter("ostiary_tokens_issued", "Answers of the token endpoint that held a token", registry=on)
        self.unreadable = Counter("ostiary_events_unreadable", "Lines of the log that are no event", registry=on)
        self.lost = Counter("ostiary_events_lost", "Gaps in the log: a file gone or cut", registry=on)
        self.faults = Counter("ostiary_watch_faults", "Rounds of the watch that failed", registry=on)
        self.revoked = Gauge("ostiary_revoked_keys", "Revocations that a living token may carry", registry=on)
        self.alerts = Gauge("ostiary_alerts_open", "Alerts that are not resolved", registry=on)
        self.measures = Gauge("ostiary_measures_live", "Measures in force", registry=on)
        self.unsent = Gauge("ostiary_notices_lost", "Alerts that the webhook did not take", registry=on)
        self.disk = Gauge("ostiary_disk_free_bytes", "Room on the disk of the home folder", registry=on)
        self._revision = Gauge("ostiary_policy_revision", "1 for the revision in force", ("revision",), registry=on)
        self._lease = Gauge("ostiary_lease_age_seconds", "Since the gate's lease was renewed last", registry=on)

    def count(self, events: Sequence[Event]) -> None:
        for event in events:
            method = _one_of(METHODS, event.method, "_OTHER")
            status = str(event.status) if 100 <= event.status < 600 else "0"  # noqa: PLR2004  RFC 9110 section 15
            self._duration.labels(method, status).observe(event.duration_ms / 1000)
            system, done = told_apart(event.system, self._systems), _one_of(VERBS, verb(event), NONE)
            self._decisions.labels(system, done, _one_of(REASONS, event.reason, OTHER)).inc()
            if event.system == NONE and event.path == "/identity/token" and event.status == 200:  # noqa: PLR2004  RFC 6749 section 5.1
                self._tokens.inc()

    def in_force(self, revision: str) -> None:
        self._revision.clear()
        if revision:
            self._revision.labels(revision).set(1)

    def lease_renewed(self) -> None:
        self._lease_at = self._clock.now()

    @property
    def lease_age_s(self) -> float:
        return (self._clock.now() - self._lease_at).total_seconds()

    def render(self) -> bytes:
        """The Prometheus text format, version 0.0.4."""
        self._lease.set(self.lease_age_s)
        return generate_latest(self._registry)


def _one_of(words: Collection[str], word: str, other: str) -> str:
    return word if word in words else other
