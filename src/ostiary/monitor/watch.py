"""The watch: reads what happened, judges it, remembers, responds. It never touches the gate: it tells who does."""

import asyncio
import logging
import secrets
import shutil
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final, TypeVar

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, delete, func, select
from sqlalchemy.exc import DBAPIError

from ostiary.audit.log import check, entries
from ostiary.event import tail
from ostiary.foundation.clock import Clock
from ostiary.foundation.errors import OperatorFault, SystemFault
from ostiary.foundation.home import LEASE_S, SILENT_S, Home, Settings, write_once
from ostiary.monitor import alerts, rules
from ostiary.monitor.metrics import Metrics
from ostiary.monitor.rules import MINUTE_S, Finding, State, Thresholds, reached
from ostiary.plan.model import Response
from ostiary.store.database import Store, upsert
from ostiary.store.directory import clients_ending
from ostiary.store.plans import revision_in_force
from ostiary.store.tables import REVOCATION, WATCH_STATE

ROUND_S: Final = 1.0
BATCHES_MAX: Final = 16  # of one round: a block does not wait for a long backlog to end
DISK_FREE_MIN_BYTES: Final = 256 * 1024 * 1024  # above the guard's own floor: the gate closes first
DISK_FREE_AGAIN: Final = 1.25  # times the floor, so that the gate does not flap
PURPOSES: Final = 2  # of signing keys, which turn together in an emergency
TAIL: Final = "tail"
ALIVE: Final = "alive"  # when the lease was renewed last; nothing where it ended in order
CALLS_MAX: Final = 5  # for help without the store: after one lease, two, four, eight, sixteen

T = TypeVar("T")

log = logging.getLogger(__name__)


class Memory(Struct, frozen=True, kw_only=True):
    """What survives a restart: saved in the transaction of the alerts it led to, so that none is counted twice."""

    cursor: tail.Cursor = tail.Cursor()
    state: State = State()


class Watch:
    """`run` until cancelled; `metrics` may be rendered at any time."""

    def __init__(
        self,
        store: Store,
        home: Home,
        clock: Clock,
        settings: Settings,
        *,
        blocked_changed: Callable[[], None],
        reopen_logs: tail.ReopenLogs,
        disk_low: Callable[[bool], None] = lambda _: None,
        call: Callable[[str], bool] = lambda _: False,
        never: Sequence[str] = alerts.LOOPBACK,
        thresholds: Thresholds = Thresholds(),  # noqa: B008  frozen
        response: Callable[[], Response] = Response,
        free_bytes: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free,
        segment_max: int = tail.SEGMENT_MAX_BYTES,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.metrics = Metrics(clock)
        self._store, self._home, self._clock = store, home, clock
        self._tail, self._alive = (_of_node(home, name) for name in (TAIL, ALIVE))
        self._blocked_changed, self._disk_low, self._free_bytes = blocked_changed, disk_low, free_bytes
        self._reopen = reopen_logs
        self._token_life_s = settings.token_life_s
        self._never = (*never, *_own(settings.listen))
        self._thresholds, self._segment_max, self._sleep = thresholds, segment_max, sleep
        self._response = response
        self._call = call
        self._blocked: tuple[str, ...] = ()
        self._low, self._minute, self._begun = False, -1, False
        self._well_at, self._calls = clock.now(), 0

    async def run(self) -> None:
        """Every second a round; one that fails is counted and made again, for the watch must not end."""
        try:
            while True:
                try:
                    await asyncio.to_thread(self.tick)
                except Exception:
                    self.metrics.faults.inc()
                    log.exception("a round of the watch failed")
                    await asyncio.to_thread(self._fail, self._clock.now())
                await self._sleep(ROUND_S)
        finally:
            await asyncio.to_thread(self._end)

    def _fail(self, now: datetime) -> None:
        """Once nobody has watched for as long as the gate goes on by itself, it is told outside: the store takes nothing."""
        away = now - self._well_at
        if self._calls < CALLS_MAX and away > timedelta(seconds=LEASE_S * 2**self._calls):
            heard = self._call(alerts.unkept(_away(away, now)))
            self._calls = CALLS_MAX if heard else self._calls + 1

    def _end(self) -> None:
        """In order: nobody is to be told later that it was away."""
        with self._store.begin() as connection:
            connection.execute(delete(WATCH_STATE).where(WATCH_STATE.c.name == self._alive))

    def tick(self) -> None:
        """One round: disk first, then what happened, then what follows from it."""
        now = self._clock.now()
        minute = int(now.timestamp()) // MINUTE_S
        self._check_disk(now, fresh=minute != self._minute)
        behind = all(self._take_in(now) for _ in range(BATCHES_MAX))
        self._follow_up(now)
        self._stand(now)
        if minute != self._minute:
            self._tidy(now, behind=behind)
            self._check_audit(now)
            self._check_clients(now)
        self._minute = minute
        if self._calls:
            self._tell_of(_away(now - self._well_at, now))
        self._well_at, self._calls = now, 0

    def _take_in(self, now: datetime) -> bool:
        """Reads one batch and all that follows from it, in one transaction; whether there was more to read."""
        with self._store.read() as connection:
            memory, old_tokens_s = self._memory(connection), _taken_back_s(connection) + self._token_life_s
        batch = tail.poll(self._home.access_log, memory.cursor)
        until = reached(batch.events, now) if batch.more else now
        limits = msgspec.structs.replace(self._thresholds, failures=self._response().guesses)
        state, found = rules.step(memory.state, batch.events, until, limits, old_tokens_s)
        if batch.unreadable or batch.lost:
            evidence = {"unreadable": batch.unreadable, "gaps": batch.lost}
            found = (*found, Finding(rule="events-lost", key="events", at=now, evidence=evidence))
        after = Memory(cursor=batch.cursor, state=state)
        if after != memory or found:
            with self._store.begin() as connection:
                for finding in found:
                    self._fire(connection, finding, now)
                _remember(connection, self._tail, after)
        self.metrics.count(batch.events)
        self.metrics.unreadable.inc(batch.unreadable)
        self.metrics.lost.inc(batch.lost)
        if batch.lost:
            self._reopen_missing()
        return batch.more

    def _reopen_missing(self) -> None:
        """Who writes the log may go on writing to the file that was taken away."""
        if not self._home.access_log.exists():
            try:
                self._reopen()
            except (OSError, SystemFault) as problem:
                log.warning("the access log is gone, and is not reopened: %s", problem)

    def _fire(self, connection: Connection, finding: Finding, now: datetime) -> None:
        alert = alerts.fire(connection, finding)
        first = timedelta(seconds=self._response().block_s)
        alerts.respond(connection, finding, alert, now=now, never=self.never, first=first)

    @property
    def never(self) -> tuple[str, ...]:
        """The networks that nothing is done against."""
        return (*self._never, *self._response().spared)

    def _check_disk(self, now: datetime, *, fresh: bool) -> None:
        free = self._free_bytes(self._home.events)
        self.metrics.disk.set(free)
        low = free < DISK_FREE_MIN_BYTES * (DISK_FREE_AGAIN if self._low else 1)
        if low != self._low:
            self._disk_low(low)
            self._low, fresh = low, True
        if low and fresh:
            self._tell_of(Finding(rule="disk-low", key="disk", at=now, evidence={"free_bytes": free}))

    def _tell_of(self, finding: Finding) -> None:
        try:
            with self._store.begin() as connection:
                self._fire(connection, finding, finding.at)
        except (DBAPIError, SystemFault):
            # The store may be on the same full disk; the gate is closed, and reading goes on.
            log.exception("the store takes no alert about %s", finding.rule)

    def _check_audit(self, now: datetime) -> None:
        try:
            check(self._store, self._home)
        except OperatorFault as problem:
            self._tell_of(Finding(rule="audit-broken", key="audit", at=now, evidence={"why": problem.message}))

    def _check_clients(self, now: datetime) -> None:
        with self._store.read() as connection:
            found = clients_ending(connection, now)
        for client, why in found.items():
            self._tell_of(Finding(rule="client-ends", key=client, at=now, evidence={"why": why}))

    def _follow_up(self, now: datetime) -> None:
        with self._store.read() as connection:
            blocked = alerts.blocked(connection, now)
        if blocked != self._blocked:
            self._blocked_changed()
            self._blocked = blocked

    def _tidy(self, now: datetime, *, behind: bool) -> None:
        """Once a minute. Of what was not read yet nobody knows that it is quiet."""
        if not behind:
            with self._store.begin() as connection:
                alerts.resolve_quiet(connection, now)
        with self._store.read() as connection:
            reading = self._memory(connection).cursor.inode
        tail.retain(self._home.access_log, now, reading=reading)
        tail.retain(self._home.guard_log, now)
        tail.retain(self._home.identity_log, now)
        tail.rotate(self._home.access_log, now, self._reopen, segment_max=self._segment_max)

    def _stand(self, now: datetime) -> None:
        living = select(func.count()).select_from(REVOCATION).where(REVOCATION.c.expires_at_s > int(now.timestamp()))
        with self._store.read() as connection:
            self.metrics.alerts.set(alerts.open_alerts(connection))
            self.metrics.measures.set(alerts.live(connection, now))
            self.metrics.revoked.set(connection.execute(living).scalar_one())
        self.metrics.in_force(revision_in_force(self._home))

    def renewed(self) -> None:
        """The gate's lease is; keeps that it was not for long, by whoever was at work before this start too."""
        now, away_s = self._clock.now(), self.metrics.lease_age_s
        self.metrics.lease_renewed()
        with self._store.begin() as connection:
            if not self._begun and (before := _recalled(connection, self._alive, datetime)):
                away_s = (now - before).total_seconds()
            if away_s > SILENT_S:
                evidence = {"away_s": int(away_s)}
                self._fire(connection, Finding(rule="control-silent", key="control", at=now, evidence=evidence), now)
            _remember(connection, self._alive, now)
        self._begun = True

    def _memory(self, connection: Connection) -> Memory:
        return _recalled(connection, self._tail, Memory) or Memory()


def begin_anew(connection: Connection, home: Home) -> None:
    """After a restore: what it had read is not here, and nobody was to watch; what is usual is still known."""
    known = connection.scalars(select(WATCH_STATE.c.value).where(WATCH_STATE.c.name.startswith(TAIL))).first()
    connection.execute(delete(WATCH_STATE))
    state = msgspec.json.decode(known, type=Memory).state if known else State()
    _remember(connection, _of_node(home, TAIL), Memory(state=state))


def _of_node(home: Home, name: str) -> str:
    """What is kept of this node's own logs, by a name that lies beside them: nodes of a fleet share one store."""
    return f"{name} {write_once(home.events / 'node', secrets.token_hex(8).encode()).decode()}"


def _away(time: timedelta, now: datetime) -> Finding:
    return Finding(rule="store-silent", key="store", at=now, evidence={"away_s": int(time.total_seconds())})


def _own(listen: str) -> tuple[str, ...]:
    """The gate's own address, where it listens on one."""
    address = ip_address(listen)
    return () if address.is_unspecified else (str(address),)


def _taken_back_s(connection: Connection) -> float:
    """When signing keys in wrong hands were taken back last; a long time ago where they never were."""
    turned = entries(connection, action="key.rotate", limit=PURPOSES)
    compromised = (one["at"] for one in turned if one["after"].get("compromised"))
    return max((datetime.fromisoformat(at).timestamp() for at in compromised), default=0)


def _recalled(connection: Connection, name: str, kind: type[T]) -> T | None:
    value = connection.execute(select(WATCH_STATE.c.value).where(WATCH_STATE.c.name == name)).scalar_one_or_none()
    return None if value is None else msgspec.json.decode(value, type=kind)


def _remember(connection: Connection, name: str, value: object) -> None:
    upsert(connection, WATCH_STATE, {"name": name}, {"value": msgspec.json.encode(value)})
