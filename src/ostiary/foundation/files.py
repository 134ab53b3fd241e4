"""Files that others read while we write, whole or not at all; files that nobody else may read."""

import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ostiary.foundation.errors import OperatorFault

PRIVATE: Final = 0o600
OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


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
