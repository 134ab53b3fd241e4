"""Operations on one record go one after the other, from the decision to the ERP's answer."""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from msgspec import Struct

from ostiary.event.record import Event
from ostiary.event.tail import Cursor, at_end, poll
from ostiary.guard.erp import monotonic

WAIT_MAX_S: Final = 5.0
HOLD_MAX_S: Final = 300.0  # an ERP whose caller has gone works on: longer than it does on any request
# Envoy's flags of a request that no upstream got to see.
NOT_SENT: Final = frozenset({"UH", "UF", "UO", "NR", "NC", "RL", "UAEX", "DO", "OM"})
WAITING_EACH_MAX: Final = 16  # requests of one person: nobody's flood keeps others from waiting
HELD_EACH_MAX: Final = 1_000  # records of one person, as many as one request may name: who hangs up keeps no more
WAITING_MAX: Final = 10_000
LOOK_EVERY_S: Final = 0.01

Record = tuple[str, str, str]  # system, object, id

log = logging.getLogger(__name__)


class Busy(Exception):
    """Another operation on the record has not ended in time."""


class _Waiting(Struct, frozen=True, eq=False):
    records: frozenset[Record]  # for itself alone
    shared: frozenset[Record]
    person: str
    granted: "asyncio.Future[None]"


class Locks:
    """Held by decision id; let go when the access log shows that the ERP is done with it, or after `hold_max_s`.

    A caller who hangs up is logged at once, and the gate gives up after a time, while the ERP goes on and commits:
    only an answer that began, or a request that was not sent, ends it.
    """

    def __init__(self, access_log: Path, *, wait_max_s: float = WAIT_MAX_S, hold_max_s: float = HOLD_MAX_S) -> None:
        self._log = _Done(access_log)
        self._wait_max_s, self._hold_max_s = wait_max_s, hold_max_s
        self._taken: set[Record] = set()
        self._shared: Counter[Record] = Counter()
        self._held: dict[str, tuple[_Waiting, float]] = {}
        self._queue: dict[str, _Waiting] = {}
        self._watcher: asyncio.Task[None] | None = None

    async def hold(self, decision: str, records: Iterable[Record], person: str, shared: Iterable[Record] = ()) -> None:
        """Takes all `records` at once, in the order of asking on each of them; raises Busy, and then holds none.

        `shared` are not to change meanwhile, but others may look at them too.
        """
        wanted = frozenset(records)
        if not wanted:
            return
        if decision in self._held or decision in self._queue:
            raise Busy
        held = sum(len(one.records) for one, _ in self._held.values() if one.person == person)
        if held and held + len(wanted) > HELD_EACH_MAX:
            raise Busy
        waiting = _Waiting(wanted, frozenset(shared) - wanted, person, asyncio.get_running_loop().create_future())
        self._queue[decision] = waiting
        self._grant()
        if waiting.granted.done():
            return
        try:
            self._bound(person)
            async with asyncio.timeout(self._wait_max_s):
                await waiting.granted
        except BaseException as stopped:
            self._give_up(decision)
            if isinstance(stopped, TimeoutError):
                raise Busy from None
            raise

    def _give_up(self, decision: str) -> None:
        self._queue.pop(decision, None)
        self.release(decision)
        self._grant()

    def _bound(self, person: str) -> None:
        own = sum(waiting.person == person for waiting in self._queue.values())
        if own > WAITING_EACH_MAX or len(self._queue) > WAITING_MAX:
            raise Busy

    def _grant(self) -> None:
        """Gives every one in the queue what nobody holds and nobody before him waits for: no one is overtaken."""
        taken, shared = set(self._taken), set(self._shared)
        for decision, waiting in list(self._queue.items()):
            free = taken.isdisjoint(waiting.records | waiting.shared) and shared.isdisjoint(waiting.records)
            if free and not waiting.granted.done():
                del self._queue[decision]
                self._taken |= waiting.records
                self._shared.update(waiting.shared)
                self._held[decision] = (waiting, monotonic() + self._hold_max_s)
                waiting.granted.set_result(None)
                self._watch()
            taken |= waiting.records
            shared |= waiting.shared

    def release(self, decision: str) -> None:
        if decision in self._held:
            done, _ = self._held.pop(decision)
            self._taken -= done.records
            self._shared.subtract(done.shared)
            for record in done.shared:
                if not self._shared[record]:
                    del self._shared[record]
            self._grant()

    def _watch(self) -> None:
        if self._watcher is None or self._watcher.done():
            if len(self._held) == 1:  # the one that was just granted: before it, nothing was waited for
                self._log.skip()
            self._watcher = asyncio.create_task(self._look())

    async def _look(self) -> None:
        """Reads the access log only while something is held."""
        while self._held:
            await asyncio.sleep(LOOK_EVERY_S)
            now = monotonic()
            lapsed = [decision for decision, (_, until) in self._held.items() if until < now]
            for decision in [*self._log.new(), *lapsed]:
                self.release(decision)

    def stop(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()


class _Done:
    """The decisions that the ERP is done with, as the access log comes to tell it."""

    def __init__(self, access_log: Path) -> None:
        self._path = access_log
        self._cursor = Cursor()
        self._fails = False

    def skip(self) -> None:
        """Forgets what stands there already."""
        with suppress(OSError):  # `new` says so, and begins where it was: an old line ends nothing that is held now
            self._cursor = at_end(self._path)

    def new(self) -> list[str]:
        """What has come since; a log that can't be read is told once, and read on where it can be again."""
        try:
            batch = poll(self._path, self._cursor)
        except FileNotFoundError:  # renamed just now, in a rotation
            return []
        except OSError:
            if not self._fails:
                log.exception("the access log can't be read; records stay held until it can")
            self._fails = True
            return []
        self._cursor, self._fails = batch.cursor, False
        return [event.decision for event in batch.events if _over(event)]


def _over(event: Event) -> bool:
    """The ERP has answered the request, or never saw it."""
    return bool(event.upstream_us) or not NOT_SENT.isdisjoint(event.flags.split(","))
