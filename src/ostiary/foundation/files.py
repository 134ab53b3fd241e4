"""Files that others read while we write, whole or not at all; files that nobody else may read; and a file of lines that is
only added to, in which what is written is there whole or not at all, and which is laid aside when it is full.
"""

import errno
import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ostiary.foundation.errors import OperatorFault

PRIVATE: Final = 0o600
OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
SEGMENT_MAX_BYTES: Final = 64 * 1024 * 1024
LINE_MAX_BYTES: Final = 256 * 1024  # more than a hundred operations and records can make


def write_atomically(path: Path, data: bytes, *, mode: int = PRIVATE, durable: bool = False) -> None:
    """Replaces `path` by `data` in one rename; `durable` waits until the disk has both file and name."""
    write_together({path: data}, mode=mode, durable=durable)
    if durable:
        sync_folder(path.parent)


def write_together(files: Mapping[Path, bytes], *, mode: int | None = None, durable: bool = False) -> None:
    """Replaces these files by renames, begun when all are written beside; without `mode` each keeps its own."""
    beside = dict[Path, Path]()
    try:
        for path, data in files.items():
            beside[path] = _write_beside(path, data, mode or stat.S_IMODE(path.stat().st_mode), durable=durable)
        for path, new in beside.items():
            new.replace(path)
    except BaseException:
        for new in beside.values():
            new.unlink(missing_ok=True)
        raise


def write_once(path: Path, data: bytes) -> bytes:
    """Makes the private file `path` unless it is there already; returns what it holds: the first writer wins."""
    if not path.exists():
        beside = _write_beside(path, data, PRIVATE, durable=True)
        try:
            os.link(beside, path)
        except FileExistsError:
            pass
        finally:
            beside.unlink()
        sync_folder(path.parent)
    return read_private(path)


def read_private(path: Path) -> bytes:
    """The content; refuses a file that others than its owner may read or change."""
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_mode & OTHERS:
            raise OperatorFault("key-open-to-others", f"others may read {path}", hint=f"chmod 600 {path}")
        return file.read()


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_beside(path: Path, data: bytes, mode: int, *, durable: bool) -> Path:
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)  # whatever the umask says
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    return beside


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
