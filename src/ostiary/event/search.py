"""Finds events in the files they were written to, the newest first, without reading more than it must."""

import os
import re
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from ostiary.event.record import LINE_MAX_BYTES, Event, decoded, read
from ostiary.foundation.errors import harmless

CHUNK_BYTES: Final = 256 * 1024
LATE_MAX: Final = timedelta(hours=1)  # a line is written when its request ends, and bears the time of its start
READ_MAX_BYTES: Final = 512 * 1024 * 1024  # of one search: some ten seconds
# As the gate makes them: node, start, connection, and the nanosecond in which the request began.
DECISION: Final = re.compile(r"[\w.-]+-[0-9a-f]+-\d+\.(\d{10})\d{9}", re.ASCII)


class Filter(Struct, frozen=True, kw_only=True):
    """Empty means any. `principal` is the subject or the client; `operation` the start of a permission."""

    principal: str = ""
    reason: str = ""
    operation: str = ""
    since: datetime | None = None
    break_glass: bool = False

    def takes(self, event: Event) -> bool:
        return (
            self.principal in ("", event.subject, event.client, f"client:{event.client}")
            and self.reason in ("", event.reason)
            and event.operation.startswith(self.operation)
            and (event.emergency or not self.break_glass)
            and (self.since is None or event.at >= self.since)
        )


class TooMuch(Exception):
    """More would have to be read than one search may; what was found until then is the newest."""


def find(log: Path, wanted: Filter, *, limit: int = 20) -> Iterator[Event]:
    """At most `limit` events of `log` and its rotated files that `wanted` takes, the newest first."""
    return islice(filter(wanted.takes, events(log, wanted.since, READ_MAX_BYTES)), max(limit, 0))


def events(log: Path, since: datetime | None, most_bytes: int = sys.maxsize) -> Iterator[Event]:
    """Every event since then, the newest first; raises TooMuch past so many bytes."""
    for event in filter(None, map(read, lines(log, since, most_bytes))):
        if since is not None and event.at < since - LATE_MAX:
            return
        if since is None or event.at >= since:
            yield event


def decided_at(decision: str) -> datetime | None:
    """When the request began; None where the gate did not make this id."""
    told = DECISION.fullmatch(decision)
    return None if told is None else datetime.fromtimestamp(int(told[1]), UTC)


def find_decision(log: Path, decision: str) -> Event | None:
    """The event of one decision, looked for only where its id says that it can be."""
    for line in _about(log, decision):
        event = read(line)
        if event is not None and event.decision == decision:
            return event
    return None


def guard_line(log: Path, decision: str) -> dict[str, Any] | None:
    """What the guard wrote about this decision, fit to be shown; None where it was not asked."""
    for line in _about(log, decision):
        found = decoded(line)
        if found is not None and found.get("decision") == decision:
            return {str(name): _shown(value) for name, value in found.items()}
    return None


def lines(log: Path, since: datetime | None, most_bytes: int = sys.maxsize) -> Iterator[bytes]:
    """Every line of the files that were written to since then, the newest first; raises TooMuch past so many bytes."""
    return _lines(reversed(_written(log, since)), most_bytes)


def _about(log: Path, decision: str) -> Iterator[bytes]:
    """The lines that may be about it: the first file that was written to since is the likeliest."""
    began = decided_at(decision)
    needle = decision.encode()
    if began is not None:
        yield from (line for line in _lines(_written(log, began, began + LATE_MAX)) if needle in line)


def _shown(value: Any) -> Any:
    match value:
        case str():
            return harmless(value)
        case list():
            return [_shown(one) for one in value]
        case _:
            return value


def files(log: Path) -> tuple[Path, ...]:
    """The rotated files of `log`, oldest first, then `log` itself if it is there."""
    rotated = sorted(log.parent.glob(f"{log.stem}-*{log.suffix}"))
    return (*rotated, log) if log.exists() else tuple(rotated)


def _written(log: Path, since: datetime | None, until: datetime | None = None) -> list[Path]:
    """The files with lines that were written in this time, oldest first."""
    found, before = [], 0.0
    for path in files(log):
        try:
            last = path.stat().st_mtime
        except FileNotFoundError:  # retention took it meanwhile
            continue
        if (since is None or last >= since.timestamp()) and (until is None or before <= until.timestamp()):
            found.append(path)
        before = last
    return found


def _lines(paths: Iterable[Path], most_bytes: int = READ_MAX_BYTES) -> Iterator[bytes]:
    begun = 0
    for path in paths:
        if begun >= most_bytes:
            raise TooMuch
        try:
            begun += path.stat().st_size
            yield from backwards(path)
        except FileNotFoundError:
            continue


def backwards(path: Path) -> Iterator[bytes]:
    """The lines of a file from its end; of a line longer than any event only a part, which no reader takes."""
    with path.open("rb") as file:
        position, rest = file.seek(0, os.SEEK_END), b""
        while position > 0:
            size = min(CHUNK_BYTES, position)
            position -= size
            file.seek(position)
            first, *others = (file.read(size) + rest).split(b"\n")
            yield from (line for line in reversed(others) if line)
            rest = first[: LINE_MAX_BYTES + 1]
        if rest:
            yield rest
