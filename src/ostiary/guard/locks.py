"""Operations on one record go one after the other, from the decision to the ERP's answer."""

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, Final

import msgspec
from msgspec import Struct

WAIT_MAX_S: Final = 5.0
HOLD_MAX_S: Final = 60.0  # longer than any request may take at the gate
WAITING_MAX: Final = 1_000
LOOK_EVERY_S: Final = 0.01
READ_MAX_BYTES: Final = 4 * 1024 * 1024

Record = tuple[str, str, str]  # system, object, id


class Busy(Exception):
    """Another operation on the record has not ended in time."""


class Locks:
    """Held by decision id; let go when the gate's access log names the decision, or after `hold_max_s`."""

    def __init__(self, access_log: Path, *, wait_max_s: float = WAIT_MAX_S, hold_max_s: float = HOLD_MAX_S) -> None:
        self._log = _Tail(access_log)
        self._wait_max_s, self._hold_max_s = wait_max_s, hold_max_s
        self._taken: set[Record] = set()
        self._held: dict[str, tuple[frozenset[Record], float]] = {}
        self._freed = asyncio.Condition()
        self._waiting = 0
        self._watcher: asyncio.Task[None] | None = None

    async def hold(self, decision: str, records: Iterable[Record]) -> None:
        """Takes all `records` at once when all are free, in the order of asking; raises Busy, and then holds none."""
        wanted = frozenset(records)
        if not wanted:
            return
        if self._waiting >= WAITING_MAX or decision in self._held:
            raise Busy
        self._waiting += 1
        try:
            async with asyncio.timeout(self._wait_max_s), self._freed:
                await self._freed.wait_for(lambda: self._taken.isdisjoint(wanted))
                self._taken |= wanted
                self._held[decision] = (wanted, asyncio.get_running_loop().time() + self._hold_max_s)
        except TimeoutError:
            raise Busy from None
        finally:
            self._waiting -= 1
        self._watch()

    async def release(self, decision: str) -> None:
        records, _ = self._held.pop(decision, (frozenset[Record](), 0.0))
        if records:
            async with self._freed:
                self._taken -= records
                self._freed.notify_all()

    def _watch(self) -> None:
        if self._watcher is None or self._watcher.done():
            self._log.skip()
            self._watcher = asyncio.create_task(self._look())

    async def _look(self) -> None:
        """Reads the access log only while something is held."""
        while self._held:
            await asyncio.sleep(LOOK_EVERY_S)
            now = asyncio.get_running_loop().time()
            lapsed = [decision for decision, (_, until) in self._held.items() if until < now]
            for decision in [*self._log.new(), *lapsed]:
                await self.release(decision)

    def stop(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
        self._log.close()


class _Line(Struct):
    decision: str = ""


class _Tail:
    """The decision ids that appear at the end of a file of JSON lines, across its rotation."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._rest = b""

    def skip(self) -> None:
        """Forgets what stands there already."""
        self.close()
        if self._path.exists():
            self._file = self._path.open("rb")
            self._file.seek(0, 2)

    def new(self) -> list[str]:
        found = self._read()
        try:
            at = self._path.stat()
            if self._file is None or not os.path.samestat(at, os.fstat(self._file.fileno())):
                self.close()
                self._file = self._path.open("rb")
                found += self._read()
        except FileNotFoundError:  # between the two steps of a rotation, or before the first line
            pass
        return found

    def _read(self) -> list[str]:
        if self._file is None:
            return []
        *lines, self._rest = (self._rest + self._file.read(READ_MAX_BYTES)).split(b"\n")
        return [decision for line in lines if (decision := _decision(line))]

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file, self._rest = None, b""


def _decision(line: bytes) -> str:
    try:
        return msgspec.json.decode(line, type=_Line).decision
    except msgspec.MsgspecError:
        return ""
