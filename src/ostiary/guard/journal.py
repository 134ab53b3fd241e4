"""The guard's own record: a line is on the disk before the ERP sees the request it is about."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from ostiary.foundation.errors import SystemFault
from ostiary.foundation.home import Appended

DISK_FREE_MIN_BYTES: Final = 64 * 1024 * 1024  # below it the gate closes before an event is lost
QUEUE_MAX_LINES: Final = 10_000
BATCH_MAX_LINES: Final = 500


class Line(Struct, frozen=True, kw_only=True):
    """One decision of the guard. `whole`: `operations` are all that it was about. `here`: `Circumstances`, as far as they were looked at. `us` is the time it took, in microseconds."""

    at: str
    decision: str
    revision: str
    system: str
    subject: str
    client: str
    here: Mapping[str, Any]
    role_set: str
    scopes: tuple[str, ...]
    person: str
    erp_user: str
    operations: tuple[str, ...]
    whole: bool
    records: tuple[str, ...]
    reason: str
    rule: str
    detail: str
    us: int


class Journal:
    """Writes lines in the order given; many wait for one flush (group commit)."""

    def __init__(self, path: Path, *, free_min_bytes: int = DISK_FREE_MIN_BYTES) -> None:
        self._file, self._free_min = Appended(path), free_min_bytes
        self._waiting: list[tuple[bytes, asyncio.Future[None] | None]] = []
        self._writer: asyncio.Task[None] | None = None

    async def record(self, line: Line) -> None:
        """Returns once the disk has the line; raises SystemFault("journal-closed") when it can't have it."""
        done = asyncio.get_running_loop().create_future()
        self._add(line, done)
        await done

    def note(self, line: Line) -> None:
        """The same for a refusal, which needs no proof before it is answered; dropped when the queue is full."""
        if len(self._waiting) < QUEUE_MAX_LINES:
            self._add(line, None)

    def _add(self, line: Line, done: asyncio.Future[None] | None) -> None:
        if len(self._waiting) >= QUEUE_MAX_LINES:
            raise SystemFault("journal-closed", "too many events wait for the disk")
        self._waiting.append((msgspec.json.encode(line) + b"\n", done))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write())

    async def _write(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:BATCH_MAX_LINES], self._waiting[BATCH_MAX_LINES:]
            try:
                await asyncio.to_thread(self._commit, [data for data, _ in batch])
                problem = None
            except Exception as failed:  # noqa: BLE001  nobody who waits may wait for ever
                problem = SystemFault("journal-closed", str(failed), hint="make room on the disk of the home folder")
            for _, done in batch:
                if done is not None and not done.done():
                    done.set_exception(problem) if problem else done.set_result(None)

    def _commit(self, lines: Sequence[bytes]) -> None:
        room = os.fstatvfs(self._file.open())
        if room.f_bavail * room.f_frsize < self._free_min:
            raise SystemFault("disk-nearly-full", f"less than {self._free_min} bytes are free beside {self._file.path}")
        self._file.add(b"".join(lines), durable=True)

    async def end(self) -> None:
        """What was noted is written before the file is closed."""
        if self._writer is not None:
            await self._writer
        self._file.close()
