"""One request as it happened: read from the line that Envoy wrote, found in the files it was written to, the newest first,
without reading more than it must, and shown to people.
"""

import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from ostiary.foundation.clock import stamp
from ostiary.foundation.data import beside
from ostiary.foundation.errors import harmless
from ostiary.foundation.ids import EMERGENCY

IDENTITY: Final = "/identity/"  # below it stands what the identity server is asked
UNPROVED: Final = "unproved:"  # before a name that nothing proves
NONE: Final = "-"  # what Envoy writes where there is nothing
ALLOWED: Final = "allowed"
LINE_MAX_BYTES: Final = 64 * 1024
TEXT_MAX_CHARS: Final = 1000
NUMBER_MAX: Final = 2**53
JWT: Final = re.compile(r"eyJ[\w-]{5,}(\.[\w-]*)*", re.ASCII)
CHUNK_BYTES: Final = 256 * 1024
LATE_MAX: Final = timedelta(hours=1)  # a line is written when its request ends, and bears the time of its start
READ_MAX_BYTES: Final = 512 * 1024 * 1024  # of one search: some ten seconds
# As the gate makes them: node, start, connection, and the nanosecond in which the request began.
DECISION: Final = re.compile(r"[\w.-]+-[0-9a-f]+-\d+\.(\d{10})\d{9}", re.ASCII)


class Event(Struct, frozen=True, kw_only=True):
    """A word is "-" where there was nothing, a number 0."""

    at: datetime
    decision: str
    revision: str = NONE
    node: str = NONE
    source: str = NONE
    method: str = NONE
    host: str = NONE  # where it was asked; what was passed on was at its system's
    path: str = NONE
    operation: str = NONE
    system: str = NONE
    subject: str = NONE
    client: str = NONE
    grant: str = NONE
    jti: str = NONE
    role_set: str = NONE
    country: str = NONE
    device: str = NONE  # "registered"
    acr: str = NONE
    signed_in_s: int = 0
    scopes: str = NONE
    status: int = 0
    reason: str = NONE
    rule: str = NONE
    draft: str = NONE  # "reason:rule" of the draft that was asked too
    flags: str = NONE
    details: str = NONE
    bytes_in: int = 0
    bytes_out: int = 0
    duration_ms: int = 0
    passed_us: int = 0
    upstream_us: int = 0
    guard_us: int = 0
    tls: str = NONE
    agent: str = NONE

    @property
    def emergency(self) -> bool:
        """Done with a role that the caller has for a time."""
        return self.role_set.startswith(EMERGENCY)


NUMBERS: Final = tuple(one.name for one in msgspec.structs.fields(Event) if one.type is int)
_TOLD: Final = beside(__file__)
KEPT: Final = _TOLD["kept"]  # word -> what Envoy writes for it
WRITTEN: Final = _TOLD["line"]  # key -> the same of each of its words
LINE: Final = {
    key: tuple(name for word in words for name in (KEPT if word == "kept" else word.split()))
    for key, words in WRITTEN.items()
}


def read(line: bytes) -> Event | None:
    """The event of one line, or None for a line that is none: count it and go on."""
    found = decoded(line) if len(line) <= LINE_MAX_BYTES else None
    return None if found is None else _event(found)


def decoded(line: bytes) -> dict[str, Any] | None:
    """The object that a line holds, or None where it holds none."""
    try:
        found = msgspec.json.decode(line)
    except (ValueError, RecursionError):  # msgspec's own errors and a wrong UTF-8 are ValueErrors
        return None
    return found if isinstance(found, dict) else None


def _event(line: dict[str, Any]) -> Event | None:
    """Strict about time and decision id, forgiving about the rest. Unknown keys are left out."""
    told = {name: text for key, names in LINE.items() for name, text in _parted(line.get(key), names).items()}
    at = _time(told.pop("at"))
    if at is None or told["decision"] == NONE:
        return None
    inside = _parted(told.pop("inside"), ("guard_us", "reason", "rule", "draft", "subject", "operation"))
    del told["class"]
    judged, _, rule = told.pop("judged").partition(":")
    told["rule"] = rule or NONE
    told["client"] = _client(told["subject"], told.pop("acting"))
    told["system"], _, operation = told["operation"].partition("/")
    told["operation"] = NONE if operation in ("", NONE) else told["operation"]
    told["reason"] = _reason((told["reason"], inside.pop("reason"), judged), passed=_number(told["passed_us"]) > 0)
    if told["reason"] == NONE:
        told["rule"] = NONE
    if inside["guard_us"] != NONE:  # who was asked last has said more; whose token was verified, the gate
        did, who = inside.pop("operation"), inside.pop("subject")
        told |= inside
        told["operation"] = told["operation"] if did == NONE else did
        told["subject"] = who if told["subject"] == NONE else told["subject"]
    if _number(told["passed_us"]):
        told["host"] = NONE  # the log has the ERP's
    if (asked := told.pop("asked")) != NONE:
        told["path"] = asked
    if "eyJ" in told["path"]:  # Envoy writes no query and a part of a path; a short token might fit into it
        told["path"] = JWT.sub("[redacted]", told["path"])
    facts: dict[str, Any] = {**told, **{name: _number(told.get(name)) for name in NUMBERS}}
    return Event(at=at, **facts)


def _reason(said: Iterable[str], *, passed: bool) -> str:
    """The last word of a refusal; "allowed" is said only of what was passed on, whoever left before an answer came."""
    words = [word for word in said if word != NONE]
    if words and words[0] != ALLOWED:
        return words[0]
    return ALLOWED if passed else NONE


def _client(subject: str, acting: str) -> str:
    """The client's own name. A client that acts for itself is the subject; else the generation of its key names it."""
    principal = subject if acting == NONE else acting.partition("#")[0]
    return principal.removeprefix("client:") if principal.startswith("client:") else NONE


def _parted(value: Any, names: Sequence[str]) -> dict[str, str]:
    parts = value.split(" ", len(names) - 1) if isinstance(value, str) else []
    return dict(zip(names, map(_text, [*parts, *[NONE] * (len(names) - len(parts))]), strict=True))


def _time(value: str) -> datetime | None:
    try:
        at = datetime.fromisoformat(value)
        return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError):  # no time, or none of our calendar
        return None


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        return NONE
    return harmless(value[:TEXT_MAX_CHARS])


def _number(value: Any) -> int:
    try:
        return min(max(int(value), 0), NUMBER_MAX)
    except (TypeError, ValueError, OverflowError):
        return 0


def shape(event: Event) -> dict[str, Any]:
    """For JSON output and tables."""
    return {**msgspec.structs.asdict(event), "at": stamp(event.at), "break_glass": event.emergency}


def told(event: Event) -> str:
    """One line for people: when, who, what, how it ended, why."""
    who = next((name for name in (event.subject, event.client, event.source) if name != NONE), NONE)
    who += " (break-glass)" if event.emergency else ""
    what = f"{event.method} {event.path}" if event.operation == NONE else event.operation
    why = event.reason if event.rule == NONE else f"{event.reason} ({event.rule})"
    return f"{stamp(event.at)} {who} {what}: {event.status} {why}, {event.duration_ms} ms [{event.decision}]"


def verb(event: Event) -> str:
    """The verb of its operation: `execute` of `erp/sale.sale:execute.confirm`."""
    return event.operation.rpartition(":")[2].strip().partition(".")[0].partition(" ")[0]


class Filter(Struct, frozen=True, kw_only=True):
    """Empty means any. `principal` is the subject or the client; `operation` the start of a permission.

    `since`: so far back it is read, and no further.
    """

    principal: str = ""
    reason: str = ""
    operation: str = ""
    since: datetime | None = None
    break_glass: bool = False

    def takes(self, event: Event) -> bool:
        return (
            self.principal
            in ("", event.subject, event.subject.removeprefix(UNPROVED), event.client, f"client:{event.client}")
            and self.reason in ("", event.reason)
            and event.operation.startswith(self.operation)
            and (event.emergency or not self.break_glass)
        )


class TooMuch(Exception):
    """More would have to be read than one search may; what was found until then is the newest."""


def find(log: Path, wanted: Filter, journal: Path, *, limit: int = 20) -> Iterator[Event]:
    """At most `limit` events of `log` and its rotated files that `wanted` takes, the newest first; those of the identity
    server with whom its `journal` names.
    """
    found = _named(events(log, wanted.since, READ_MAX_BYTES), lines(journal, wanted.since, READ_MAX_BYTES))
    return islice(filter(wanted.takes, found), max(limit, 0))


def _named(found: Iterable[Event], journal: Iterator[bytes]) -> Iterator[Event]:
    """Both are read from the end, and the journal no further back than it can tell of the event."""
    notes, read_to = dict[str, dict[str, Any]](), "z"
    for event in found:
        began = event.at.isoformat(timespec="seconds")
        while event.path.startswith(IDENTITY) and event.decision not in notes and read_to >= began:
            note = decoded(next(journal, b'{"at": ""}')) or {}
            read_to = str(note.get("at", read_to))
            notes |= {} if note.get("action") == "key" else {str(note.get("decision")): note}
        yield msgspec.structs.replace(event, **_who(notes.pop(event.decision, {})))


def _who(note: Mapping[str, Any]) -> dict[str, str]:
    """The account is what somebody named who did not prove that he is that one."""
    told = {name: _text(note[name]) for name in ("subject", "client") if name in note}
    return {"subject": f"{UNPROVED}{_text(note['account'])}", **told} if "account" in note else told


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
    found = filter(None, map(read, _about(log, decision)))
    return next((event for event in found if event.decision == decision), None)


def guard_line(log: Path, decision: str) -> dict[str, Any] | None:
    """What the guard wrote about this decision, fit to be shown; None where it was not asked."""
    found = filter(None, map(decoded, _about(log, decision)))
    line = next((line for line in found if line.get("decision") == decision), None)
    return None if line is None else {name: _shown(value) for name, value in line.items()}


def lines(log: Path, since: datetime | None, most_bytes: int = sys.maxsize) -> Iterator[bytes]:
    """Every line of the files that were written to since then, the newest first; raises TooMuch past so many bytes."""
    return _lines(reversed(_written(log, since)), most_bytes)


def _about(log: Path, decision: str) -> Iterator[bytes]:
    """The lines that may be about it: the first file that was written to since is the likeliest."""
    if began := decided_at(decision):
        needle = decision.encode()
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
