"""Follows the access log across rotation: every line at least once, wherever the reader was stopped."""

import os
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import BinaryIO, Final

from msgspec import Struct

from ostiary.event.record import LINE_MAX_BYTES, Event, files, read
from ostiary.foundation.clock import to_us
from ostiary.foundation.errors import SystemFault

BATCH_MAX_BYTES: Final = 4 * 1024 * 1024
SEGMENT_MAX_BYTES: Final = 64 * 1024 * 1024
KEEP_MAX_BYTES: Final = 20 * 1024**3
KEEP_MAX: Final = timedelta(days=90)

ReopenLogs = Callable[[], None]


class Cursor(Struct, frozen=True, kw_only=True):
    """The next byte to read, in the file of this inode; 0 for the oldest file written to after `written_ns`."""

    inode: int = 0
    offset: int = 0
    written_ns: int = 0


class Batch(Struct, frozen=True, kw_only=True):
    """What was read; `lost` counts the gaps where the file being read was gone or had become shorter."""

    events: tuple[Event, ...] = ()
    cursor: Cursor
    unreadable: int = 0
    lost: int = 0
    more: bool = False


def at_end(log: Path) -> Cursor:
    """Behind all that is written so far; while the log is set aside, in the file that was it."""
    try:
        stat = log.stat()
    except FileNotFoundError:
        if not (here := files(log)):
            return Cursor()
        stat = here[-1].stat()
    return Cursor(inode=stat.st_ino, offset=stat.st_size, written_ns=stat.st_mtime_ns)


def poll(log: Path, cursor: Cursor) -> Batch:
    """The complete lines after `cursor`, from one file, at most `BATCH_MAX_BYTES` of them."""
    here = _here(log, cursor.inode)
    same = [n for n, (_, stat) in enumerate(here) if stat.st_ino == cursor.inode]
    left = same or [n for n, (_, stat) in enumerate(here) if stat.st_mtime_ns > cursor.written_ns]
    cut = bool(same) and here[same[0]][1].st_size < cursor.offset
    lost = int(cut or (cursor.inode != 0 and not same))
    if not left:
        return Batch(cursor=Cursor(written_ns=cursor.written_ns), lost=lost)
    offset = cursor.offset if same and not cut else 0
    return _read(here[left[0] :], offset, lost)


def _here(log: Path, inode: int) -> list[tuple[Path, os.stat_result]]:
    """The log alone where it is being read, as a hundred times a second for the locks; else all files, oldest first."""
    with suppress(FileNotFoundError):
        if (stat := log.stat()).st_ino == inode:
            return [(log, stat)]
    return [(path, path.stat()) for path in files(log)]


def _read(here: list[tuple[Path, os.stat_result]], offset: int, lost: int) -> Batch:
    """From the first of the files; once a newer one is there, the first does not grow any more."""
    path, stat = here[0]
    newer = len(here) > 1
    with path.open("rb") as file:
        lines, end, given_up = _lines(file, offset, last=newer)
        at = os.fstat(file.fileno())
    if at.st_ino != stat.st_ino:
        raise FileNotFoundError(f"{path} was set aside just now")  # and the offset is none of the new one's
    found = [read(line) for line in lines if line]
    events = tuple(event for event in found if event is not None)
    done = newer and end >= at.st_size
    inode, offset = (here[1][1].st_ino, 0) if done else (stat.st_ino, end)
    following = Cursor(inode=inode, offset=offset, written_ns=at.st_mtime_ns)
    unreadable = len(found) - len(events) + given_up
    return Batch(events=events, cursor=following, unreadable=unreadable, lost=lost, more=done or bool(lines))


def _lines(file: BinaryIO, offset: int, *, last: bool) -> tuple[list[bytes], int, int]:
    """(whole lines, the offset after them, parts given up): a file that grows no more gives up its last part."""
    file.seek(offset)
    data = file.read(BATCH_MAX_BYTES)
    whole, newline, rest = data.rpartition(b"\n")
    end = offset + len(whole) + len(newline)
    too_long = len(rest) > LINE_MAX_BYTES
    over = last and bool(rest) and len(data) < BATCH_MAX_BYTES
    if too_long or over:
        return whole.split(b"\n"), offset + len(data), 1
    return whole.split(b"\n") if newline else [], end, 0


def rotate(log: Path, now: datetime, reopen: ReopenLogs, *, segment_max: int = SEGMENT_MAX_BYTES) -> bool:
    """Moves a full log aside and has its writer open a new one; the old name comes back when the writer can't."""
    if not log.exists() or log.stat().st_size < segment_max:
        return False
    aside = _aside(log, now)
    log.rename(aside)
    try:
        reopen()
    except (OSError, SystemFault):
        if not log.exists():
            aside.rename(log)
        raise
    return True


def _aside(log: Path, now: datetime) -> Path:
    """A name after those of all files set aside before, whatever the clock says."""
    stamps = (path.stem.rpartition("-")[2] for path in files(log) if path != log)
    latest = max((int(stamp) for stamp in stamps if stamp.isdecimal()), default=0)
    stamp = max(to_us(now), latest + 1)
    return log.with_name(f"{log.stem}-{stamp:020}{log.suffix}")


def retain(
    log: Path, now: datetime, *, reading: int = 0, keep_bytes: int = KEEP_MAX_BYTES, keep: timedelta = KEEP_MAX
) -> tuple[Path, ...]:
    """Deletes the oldest rotated files beyond size or age, never the one being read (its inode) or a newer one."""
    gone: list[Path] = []
    here = [(path, path.stat()) for path in files(log)]
    total = sum(stat.st_size for _, stat in here)
    for path, stat in here:
        old = stat.st_mtime < (now - keep).timestamp()
        if path == log or stat.st_ino == reading or not (old or total > keep_bytes):
            break
        path.unlink()
        total -= stat.st_size
        gone.append(path)
    return tuple(gone)
