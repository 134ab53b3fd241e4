"""Finds events in the files they were written to, the newest first, without reading more than it must."""

import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from ostiary.event.record import LINE_MAX_BYTES, Event, harmless, read

CHUNK_BYTES: Final = 256 * 1024
LATE_MAX: Final = timedelta(hours=1)  # a line is written when its request ends, and bears the time of its start
DECIDED: Final = re.compile(r"\.(\d{10})\d{9}")  # the gate's decision ids end with the nanosecond they began at


class Filter(Struct, frozen=True, kw_only=True):
    """Empty means any. `principal` is the subject or the client; `operation` the start of a permission."""

    decision: str = ""
    principal: str = ""
    reason: str = ""
    operation: str = ""
    since: datetime | None = None

    def takes(self, event: Event) -> bool:
        return (
            self.decision in ("", event.decision)
            and self.principal in ("", event.subject, event.client, f"client:{event.client}")
            and self.reason in ("", event.reason)
            and event.operation.startswith(self.operation)
            and (self.since is None or event.at >= self.since)
        )


def find(log: Path, wanted: Filter, *, limit: int = 20) -> Iterator[Event]:
    """At most `limit` events of `log` and its rotated files that `wanted` takes."""
    needle, since = wanted.decision.encode(), wanted.since or _decided(wanted.decision)
    left = min(limit, 1) if wanted.decision else limit
    for line in _lines(log, since) if left > 0 else ():
        event = read(line) if needle in line else None
        if event is None:
            continue
        if since is not None and event.at < since - LATE_MAX:
            return
        if wanted.takes(event):
            left -= 1
            yield event
        if left <= 0:
            return


def _decided(decision: str) -> datetime | None:
    """No line of that decision is older; None where the id does not tell."""
    told = DECIDED.search(decision)
    return None if told is None else datetime.fromtimestamp(int(told[1]), UTC)


def guard_line(log: Path, decision: str) -> dict[str, Any] | None:
    """What the guard wrote about this decision, fit to be shown; None where it was not asked."""
    needle = decision.encode()
    for line in _lines(log, _decided(decision)):
        found = _decoded(line) if needle in line else None
        if isinstance(found, dict) and found.get("decision") == decision:
            return {str(name): _shown(value) for name, value in found.items()}
    return None


def _decoded(line: bytes) -> Any:
    try:
        return msgspec.json.decode(line)
    except (ValueError, RecursionError):
        return None


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


def _lines(log: Path, since: datetime | None) -> Iterator[bytes]:
    for path in reversed(files(log)):
        try:
            if since is not None and path.stat().st_mtime < since.timestamp():
                return
            yield from backwards(path)
        except FileNotFoundError:  # retention took it meanwhile
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
