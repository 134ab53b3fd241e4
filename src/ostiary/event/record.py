"""One request as it happened: read from the line that Envoy wrote, and shown to people."""

import re
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from msgspec import Struct

NONE: Final = "-"  # what Envoy writes where there is nothing
LINE_MAX_BYTES: Final = 64 * 1024
TEXT_MAX_CHARS: Final = 1000
NUMBER_MAX: Final = 2**53
JWT: Final = re.compile(r"eyJ[\w-]{5,}(\.[\w-]*)*", re.ASCII)


class Event(Struct, frozen=True, kw_only=True):
    """The access log's keys are these fields; "-" stands for nothing, 0 for a number that was not there."""

    at: datetime
    decision: str
    revision: str = NONE
    node: str = NONE
    source: str = NONE
    method: str = NONE
    path: str = NONE
    operation: str = NONE
    system: str = NONE
    subject: str = NONE
    client: str = NONE
    grant: str = NONE
    role_set: str = NONE
    status: int = 0
    reason: str = NONE
    rule: str = NONE
    flags: str = NONE
    details: str = NONE
    bytes_in: int = 0
    bytes_out: int = 0
    duration_ms: int = 0
    upstream_ms: int = 0
    guard_us: int = 0
    tls: str = NONE
    agent: str = NONE


NUMBERS: Final = ("status", "bytes_in", "bytes_out", "duration_ms", "upstream_ms", "guard_us")
TEXTS: Final = tuple(name for name in Event.__struct_fields__ if name not in (*NUMBERS, "at"))


def read(line: bytes) -> Event | None:
    """The event of one line, or None for a line that is none: count it and go on."""
    if len(line) > LINE_MAX_BYTES:
        return None
    try:
        found = msgspec.json.decode(line)
    except (ValueError, RecursionError):  # msgspec's own errors and a wrong UTF-8 are ValueErrors
        return None
    return _event(found) if isinstance(found, dict) else None


def _event(line: dict[str, Any]) -> Event | None:
    """Strict about time and decision id, forgiving about the rest. Unknown keys are left out."""
    at = _time(line.get("at"))
    texts = {name: _text(line.get(name)) for name in TEXTS}
    if texts["method"] == NONE:
        texts = {name: _undashed(text) for name, text in texts.items()}
    if at is None or texts["decision"] == NONE:
        return None
    if "eyJ" in texts["path"]:  # Envoy writes no query and a part of a path; a short token might fit into it
        texts["path"] = JWT.sub("[redacted]", texts["path"])
    facts: dict[str, Any] = {**texts, **{name: _number(line.get(name)) for name in NUMBERS}}
    return Event(at=at, **facts)


def _undashed(text: str) -> str:
    """Where a request was too broken to have a method, Envoy writes that dash behind other words too."""
    return text.removesuffix(NONE) or NONE


def _time(value: Any) -> datetime | None:
    try:
        at = datetime.fromisoformat(value)
        return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (TypeError, ValueError, OverflowError):  # no text, no time, or none of our calendar
        return None


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        return NONE
    return harmless(value[:TEXT_MAX_CHARS])


def harmless(text: str) -> str:
    """No control characters: what a caller chose must not draw on an operator's terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _number(value: Any) -> int:
    try:
        return min(max(int(value), 0), NUMBER_MAX)
    except (TypeError, ValueError, OverflowError):
        return 0


def shape(event: Event) -> dict[str, Any]:
    """For JSON output and tables."""
    return {**msgspec.structs.asdict(event), "at": stamp(event.at)}


def stamp(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def told(event: Event) -> str:
    """One line for people: when, who, what, how it ended, why."""
    who = next((name for name in (event.subject, event.client, event.source) if name != NONE), NONE)
    what = f"{event.method} {event.path}" if event.operation == NONE else event.operation
    why = event.reason if event.rule == NONE else f"{event.reason} ({event.rule})"
    return f"{stamp(event.at)} {who} {what}: {event.status} {why}, {event.duration_ms} ms [{event.decision}]"


def verb(event: Event) -> str:
    """The verb of its operation: `execute` of `erp/sale.sale:execute.confirm`."""
    return event.operation.rpartition(":")[2].strip().partition(".")[0].partition(" ")[0]
