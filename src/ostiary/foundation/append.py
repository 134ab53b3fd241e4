"""A file of lines that is only added to: what is written is there whole or not at all, and a full file is laid aside."""

import errno
import os
from pathlib import Path
from typing import Final

from ostiary.foundation.files import PRIVATE

SEGMENT_MAX_BYTES: Final = 64 * 1024 * 1024
LINE_MAX_BYTES: Final = 256 * 1024  # more than a hundred operations and records can make


class Appended:
    """One writer at a time; it is opened when it is needed."""

    def __init__(self, path: Path) -> None:
        self.path, self._descriptor = path, -1

    def add(self, lines: bytes, *, durable: bool = False) -> None:
        """Returns once the file, or with `durable` the disk, has them; raises OSError when it can't have them."""
        descriptor = self.open()
        before = os.fstat(descriptor).st_size
        try:
            if os.write(descriptor, lines) < len(lines):
                raise OSError(errno.ENOSPC, f"the disk took only a part of a line for {self.path}")  # noqa: TRY301  what follows is the same
            if durable:
                os.fdatasync(descriptor)
        except OSError:
            os.ftruncate(descriptor, before)  # a part of a line would spoil the next one
            raise

    def open(self) -> int:
        """The descriptor; of a new file when this one is large or was moved away."""
        if self._descriptor >= 0:
            at = os.fstat(self._descriptor)
            if at.st_nlink and at.st_size < SEGMENT_MAX_BYTES and self.path.exists():
                return self._descriptor
            self.close()
        if self.path.exists() and self.path.stat().st_size >= SEGMENT_MAX_BYTES:
            stamp = max(self.path.stat().st_mtime_ns, 1)
            self.path.rename(self.path.with_name(f"{self.path.stem}-{stamp}{self.path.suffix}"))
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
        self._cut_torn_line()
        return self._descriptor

    def _cut_torn_line(self) -> None:
        """What a crash left half written was never answered; the next line must not continue it."""
        size = os.fstat(self._descriptor).st_size
        tail = os.pread(self._descriptor, LINE_MAX_BYTES, max(0, size - LINE_MAX_BYTES))
        if tail and not tail.endswith(b"\n"):
            os.ftruncate(self._descriptor, size - len(tail) + tail.rfind(b"\n") + 1)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
