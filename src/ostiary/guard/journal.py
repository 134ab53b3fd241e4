"""The guard's own record: a line is on the disk before the ERP sees the request it is about."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from ostiary.foundation.errors import SystemFault

DISK_FREE_MIN_BYTES: Final = 64 * 1024 * 1024  # below it the gate closes before an event is lost
SEGMENT_MAX_BYTES: Final = 64 * 1024 * 1024
QUEUE_MAX_LINES: Final = 10_000
BATCH_MAX_LINES: Final = 500
LINE_MAX_BYTES: Final = 256 * 1024  # more than a hundred operations and records can make


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
        self._path, self._free_min = path, free_min_bytes
        self._waiting: list[tuple[bytes, asyncio.Future[None] | None]] = []
        self._writer: asyncio.Task[None] | None = None
        self._descriptor = -1

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
        self._open()
        room = os.fstatvfs(self._descriptor)
        if room.f_bavail * room.f_frsize < self._free_min:
            raise SystemFault("disk-nearly-full", f"less than {self._free_min} bytes are free beside {self._path}")
        data, before = b"".join(lines), os.fstat(self._descriptor).st_size
        try:
            written = os.write(self._descriptor, data)
            os.fdatasync(self._descriptor)
        except OSError:
            os.ftruncate(self._descriptor, before)  # a part of a line would spoil the next one
            raise
        if written < len(data):
            os.ftruncate(self._descriptor, before)
            raise SystemFault("disk-nearly-full", f"the disk took only a part of a line for {self._path}")

    def _open(self) -> None:
        """Opens, or turns to a new file when this one is large or was moved away."""
        if self._descriptor >= 0:
            at = os.fstat(self._descriptor)
            if at.st_nlink and at.st_size < SEGMENT_MAX_BYTES and self._path.exists():
                return
            self._close()
        if self._path.exists() and self._path.stat().st_size >= SEGMENT_MAX_BYTES:
            stamp = max(self._path.stat().st_mtime_ns, 1)
            self._path.rename(self._path.with_name(f"{self._path.stem}-{stamp}{self._path.suffix}"))
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._cut_torn_line()

    def _cut_torn_line(self) -> None:
        """What a crash left half written was never answered; the next line must not continue it."""
        size = os.fstat(self._descriptor).st_size
        tail = os.pread(self._descriptor, LINE_MAX_BYTES, max(0, size - LINE_MAX_BYTES))
        if tail and not tail.endswith(b"\n"):
            os.ftruncate(self._descriptor, size - len(tail) + tail.rfind(b"\n") + 1)

    async def end(self) -> None:
        """What was noted is written before the file is closed."""
        if self._writer is not None:
            await self._writer
        self._close()

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
