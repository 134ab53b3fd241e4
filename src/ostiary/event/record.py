"""One request as it happened: read from the line that Envoy wrote, and shown to people."""

import re
import tomllib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib import resources
from typing import Any, Final

import msgspec
from msgspec import Struct

from ostiary.foundation.errors import harmless
from ostiary.foundation.ids import EMERGENCY

NONE: Final = "-"  # what Envoy writes where there is nothing
ALLOWED: Final = "allowed"
LINE_MAX_BYTES: Final = 64 * 1024
TEXT_MAX_CHARS: Final = 1000
NUMBER_MAX: Final = 2**53
JWT: Final = re.compile(r"eyJ[\w-]{5,}(\.[\w-]*)*", re.ASCII)


class Event(Struct, frozen=True, kw_only=True):
    """A word is "-" where there was nothing, a number 0."""

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
_TOLD: Final = tomllib.loads((resources.files("ostiary.event") / "line.toml").read_text("utf-8"))
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


def stamp(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


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
