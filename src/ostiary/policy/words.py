"""The small texts of the document: hours, days, networks, rates, sizes, patterns. Each raises ValueError("what|hint")."""

import re
from collections.abc import Sequence
from datetime import datetime
from ipaddress import ip_address, ip_network
from typing import Final
from zoneinfo import ZoneInfo

from ostiary.erp.operation import Operation, Pattern, Verb

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
SECONDS: Final = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
BYTES: Final = {"B": 1, "KB": 1024, "MB": 1024**2}
REQUESTS_MAX: Final = 10_000_000
BODY_MAX_BYTES: Final = 100 * 1024**2
WITHIN_MAX_DAYS: Final = 3660
DAY_MINUTES: Final = 24 * 60
OBJECT: Final = re.compile(r"\*|[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*(?:\.\*)?")
ACTION: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
HOST: Final = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?")
PREFIX: Final = re.compile(r"(?:/[A-Za-z0-9._~-]+)*")
UPSTREAM: Final = re.compile(r"https?://(?:[A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(?::\d{1,5})?(?:/[A-Za-z0-9._~/-]*)?")


def days(text: str) -> tuple[int, ...]:
    """`mon-fri`, `sat`, `fri-mon`: numbers from Monday 0."""
    found: set[int] = set()
    for part in text.replace(" ", "").split(","):
        first, _, last = part.partition("-")
        if first not in DAYS or (last or first) not in DAYS:
            raise ValueError(f"{part!r} are no days|mon-fri, or sat, sun")
        start, end = DAYS.index(first), DAYS.index(last or first)
        found |= {n % 7 for n in range(start, end + 1 if end >= start else end + 8)}
    return tuple(sorted(found))


def hours(text: str) -> tuple[int, int]:
    """`08:00-18:00` in minutes of the day; the end is not part of it, 24:00 is the day's end."""
    match = re.fullmatch(r"(\d\d):(\d\d)-(\d\d):(\d\d)", text.replace(" ", ""))
    if match is None:
        raise ValueError(f'{text!r} are no hours|"08:00-18:00", in quotes')
    a, b, c, d = map(int, match.groups())
    start, end = a * 60 + b, c * 60 + d
    if max(b, d) > 59 or start >= DAY_MINUTES or end > DAY_MINUTES:  # noqa: PLR2004  minutes of an hour
        raise ValueError(f'{text!r} are no hours of a day|"08:00-18:00"')
    return start, end % DAY_MINUTES if start == 0 else end


def zone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (OSError, ValueError, KeyError) as problem:
        raise ValueError(f"{text!r} is no time zone|a name such as Europe/Berlin or UTC") from problem
    return text


def network(text: str) -> str:
    try:
        return str(ip_network(text))
    except ValueError as problem:
        raise ValueError(f"{text!r} is no network ({problem})|203.0.113.0/24 or 2001:db8::/32") from problem


def address(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError as problem:
        raise ValueError(f"{text!r} is no address|203.0.113.7") from problem


def rate(text: str) -> tuple[int, int]:
    """`60/minute` as requests and seconds."""
    match = re.fullmatch(r"(\d{1,8})\s*/\s*(second|minute|hour|day)", text)
    if match is None or not 0 < int(match[1]) <= REQUESTS_MAX:
        raise ValueError(f"{text!r} is no rate|1000/hour (second, minute, hour, day)")
    return int(match[1]), SECONDS[match[2]]


def size(text: str) -> int:
    """`10 MB` in bytes."""
    match = re.fullmatch(r"(\d{1,9})\s*(B|KB|MB)", text)
    bytes_ = int(match[1]) * BYTES[match[2]] if match else 0
    if not 0 < bytes_ <= BODY_MAX_BYTES:
        raise ValueError(f"{text!r} is no size up to 100 MB|10 MB")
    return bytes_


def within(text: str) -> int:
    match = re.fullmatch(r"(\d{1,4})\s*days?", text)
    if match is None or not 0 < int(match[1]) <= WITHIN_MAX_DAYS:
        raise ValueError(f"{text!r} is no time|30 days")
    return int(match[1])


def place(text: str) -> tuple[str, str]:
    """`erp.example.com/prefix` as host and prefix."""
    host, slash, rest = text.partition("/")
    prefix = f"{slash}{rest}".rstrip("/")
    if not HOST.fullmatch(host) or not PREFIX.fullmatch(prefix):
        raise ValueError(f"{text!r} is no place|erp.example.com or api.example.com/shop, without https:// and port")
    return host, prefix


def upstream(text: str) -> str:
    if not UPSTREAM.fullmatch(text):
        raise ValueError(f"{text!r} is no upstream|http://127.0.0.1:8000")
    return text.rstrip("/")


def moment(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError as problem:
        raise ValueError(f'{text!r} is no moment|"2026-03-03T10:00+01:00"') from problem
    if at.tzinfo is None:
        raise ValueError(f'{text!r} has no offset from UTC|"{text}+01:00"')
    return at


def patterns(text: str, systems: Sequence[str]) -> tuple[Pattern, ...]:
    """`erp/sale.*: read, execute approve`: one pattern for each verb; the system may be left out while it is alone."""
    left, colon, right = text.partition(":")
    if not colon:
        raise ValueError(f"{text!r} has no verb|{text.strip()}: read")
    system, object_ = _object(left.strip(), systems)
    verbs = dict.fromkeys(_verb(part.strip()) for part in right.split(","))
    return tuple(Pattern(system=system, object=object_, verb=verb, action=action) for verb, action in verbs)


def operation(text: str, systems: Sequence[str]) -> Operation:
    """One operation, exactly: `sale.sale: write`, `account.payment: execute approve`."""
    found = patterns(text, systems)
    if len(found) != 1 or "*" in found[0].object:
        raise ValueError(f"{text!r} is more than one operation|sale.sale: write")
    (one,) = found
    return Operation(system=one.system, object=one.object, verb=one.verb, action=one.action)


def _object(text: str, systems: Sequence[str]) -> tuple[str, str]:
    system, slash, name = text.rpartition("/")
    if not slash:
        if len(systems) != 1:
            raise ValueError(f"{text!r} does not say which system|{(sorted(systems) or ['erp'])[0]}/{text}")
        system = systems[0]
    elif system not in systems:
        raise ValueError(f"there is no system {system!r}|{', '.join(f'{known}/{name}' for known in sorted(systems))}")
    if not OBJECT.fullmatch(name):
        raise ValueError(f"{name!r} names no object|sale.sale, sale.* or *")
    return system, name


def _verb(text: str) -> tuple[Verb, str]:
    word, _, action = text.partition(" ")
    if word not in set(Verb):
        raise ValueError(f"{word!r} is no verb|read, write, execute or delete")
    if action and not ACTION.fullmatch(action.strip()):
        raise ValueError(f"{action!r} names no action|execute approve")
    return Verb(word), action.strip()
