"""The small texts of the document: hours, days, networks, rates, sizes, permissions. Each raises Wrong.

The patterns are shared with the JSON Schema, so they keep to what every regular expression engine understands. A text of
the form `RATE` is read by `rate`.
"""

import re
from collections.abc import Sequence
from datetime import date, datetime
from functools import cache
from importlib import resources
from ipaddress import IPv6Network, ip_address, ip_network
from typing import Final

from ostiary.erp.operation import OWN, Condition, Operation, Pattern, Verb
from ostiary.foundation.origin import MAPPED
from ostiary.policy.problem import nearest

WEEK: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
SECONDS: Final = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
BYTES: Final = {"B": 1, "KB": 1024, "MB": 1024**2}
REQUESTS_MAX: Final = 10_000_000
BODY_MAX_BYTES: Final = 100 * 1024**2
WITHIN_MAX_DAYS: Final = 3660
AGE_MAX_S: Final = 30 * SECONDS["day"]  # no sign-in counts for longer
UNSTEADY: Final = ("02-28", "02-29")  # the day after depends on the year
PORT_MAX: Final = 65535
DAY_MINUTES: Final = 24 * 60

_DAY: Final = "(?:" + "|".join(WEEK) + ")"
_DAYS: Final = f"{_DAY}(?: *- *{_DAY})?"
_HOST: Final = "[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?"
_NAME: Final = "[A-Za-z][A-Za-z0-9_.-]{0,99}"
_EXACT: Final = r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*"
_OBJECT: Final = rf"(?:\*|{_EXACT}(?:\.\*)?)"
_ACTION: Final = "[A-Za-z0-9_][A-Za-z0-9_-]*"
_VERB: Final = "(?:" + "|".join(Verb) + ")"
_DOING: Final = f"{_VERB}(?: +{_ACTION})?"
_STEP: Final = "[A-Za-z0-9_][A-Za-z0-9_.-]*"
_PATH: Final = f"(?:{_STEP}/){{0,8}}{_STEP}[.]yaml"  # below a folder: no step begins with a dot
_FIELD: Final = "[A-Za-z_][A-Za-z0-9_]*"

NAME: Final = re.compile(_NAME)
VARIABLE: Final = re.compile(f"the ({_NAME})")
DAYS: Final = re.compile(f"{_DAYS}(?: *, *{_DAYS})*")
HOURS: Final = re.compile("([0-9]{2}):([0-9]{2}) *- *([0-9]{2}):([0-9]{2})")
ZONE: Final = re.compile("[A-Za-z0-9_+/-]{1,100}")
ADDRESS: Final = re.compile("[0-9A-Fa-f.:]{2,45}")
NETWORK: Final = re.compile("[0-9A-Fa-f.:]{2,45}(?:/[0-9]{1,3})?")
RATE: Final = re.compile("([0-9]{1,8}) */ *(" + "|".join(SECONDS) + ")")
SIZE: Final = re.compile("([0-9]{1,9}) *(" + "|".join(BYTES) + ")")
HOLIDAY: Final = re.compile("(?:20[0-8][0-9]-)?[0-9]{2}-[0-9]{2}")  # a proof looks no further
COUNTRY: Final = re.compile("[A-Z]{2}")
AGE: Final = re.compile("([0-9]{1,5}) *(" + "|".join(SECONDS) + ")s?")
BLOCK: Final = AGE
SILENT: Final = re.compile(f"close|keep(?: {AGE.pattern})?")
FOREVER_S: Final = 1 << 40
WITHIN: Final = re.compile("([0-9]{1,4}) *days?")
PLACE: Final = re.compile(f"({_HOST})((?:/[A-Za-z0-9._~-]+)*)/?")
UPSTREAM: Final = re.compile(r"https?://(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(?::([0-9]{1,5}))?(?:/[A-Za-z0-9._~/-]*)?")
TOKEN_FROM: Final = re.compile(
    r"https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?/[A-Za-z0-9._~/-]*(?:\?[A-Za-z0-9._~=&-]*)?"
)
SENT: Final = re.compile("([A-Za-z][A-Za-z0-9-]{0,60}): *([!-~][ -~]{0,300})")
_OURS: Final = re.compile(  # what the request is about, and what tells of the caller
    "(?:x-(?:gw|envoy|forwarded|request)|content|if|proxy|accept|transfer|sec)-.*"
    "|host|cookie|connection|keep-alive|te|trailer|upgrade|expect|date|range|prefer|dpop|user-agent|trace.*"
)
DATABASE: Final = re.compile("[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}")
LINK: Final = re.compile(rf"{_FIELD}(?:\.{_FIELD}){{0,3}}")
FIELD: Final = re.compile("[A-Za-z_][A-Za-z0-9_-]*")
BOUND: Final = re.compile(r"([<>]=?) *(-?[0-9]{1,15}(?:\.[0-9]{1,9})?)")
VALUE: Final = re.compile("[A-Za-z0-9_.-]{1,100}")
MOMENT: Final = re.compile("[12][0-9]{3}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(?::[0-9]{2})?(?:Z|[+-][0-9]{2}:[0-9]{2})?")
_DOINGS: Final = f"{_DOING}(?: *, *{_DOING})* *"
DOINGS: Final = re.compile(_DOINGS)
COLONLESS: Final = re.compile(f" *([^ :]+) +({_DOINGS})")
PERMISSION: Final = re.compile(f" *(?:{_NAME}/)?{_OBJECT} *: *{_DOINGS}")
OPERATION: Final = re.compile(f" *(?:{_NAME}/)?{_EXACT} *: *{_DOING} *")
OTHERS: Final = re.compile("[1-9]")
GUESSES: Final = re.compile("([1-9][0-9]{0,2}) */ *minute")
RULE: Final = re.compile("[A-Za-z][A-Za-z0-9_-]{0,39}")
PACK: Final = re.compile(f"(?:({_NAME})/)?([a-z-]+/[a-z]+)")
DAY: Final = re.compile("[12][0-9]{3}-[0-9]{2}-[0-9]{2}")
OBJECT: Final = re.compile(_OBJECT)
ACTION: Final = re.compile(_ACTION)
PATTERN: Final = re.compile(_PATH.replace("_", "_*"))
PATH: Final = re.compile(_PATH)


class Wrong(ValueError):
    """The text means nothing here; `hint` is what to write instead."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message, self.hint = message, hint


def days(text: str) -> tuple[int, ...]:
    """`mon-fri`, `sat`, `fri-mon`: numbers from Monday 0."""
    _read(DAYS, text, "are no days", "mon-fri, or sat, sun")
    found: set[int] = set()
    for part in text.replace(" ", "").split(","):
        first, _, last = part.partition("-")
        start, end = WEEK.index(first), WEEK.index(last or first)
        found |= {n % 7 for n in range(start, end + 1 if end >= start else end + 8)}
    return tuple(sorted(found))


def hours(text: str) -> tuple[int, int]:
    """`08:00-18:00` in minutes of the day; the end is not part of it, 24:00 is the day's end."""
    a, b, c, d = map(int, _read(HOURS, text, "are no hours", '"08:00-18:00", in quotes').groups())
    start, end = a * 60 + b, c * 60 + d
    if max(b, d) > 59 or start >= DAY_MINUTES or end > DAY_MINUTES:  # noqa: PLR2004  minutes of an hour
        raise Wrong(f"{text!r} are no hours of a day", '"08:00-18:00"')
    if start == end:
        raise Wrong(f"{text!r} end as they begin", '"00:00-24:00" is the whole day')
    return start, end


def zone(text: str) -> str:
    """A name of the time zone database that Envoy reads too, whatever the machine calls its own."""
    if text not in _zones():
        raise Wrong(f"{text!r} is no time zone", nearest(text, _zones()) or "Europe/Berlin or UTC")
    return text


@cache
def _zones() -> frozenset[str]:
    return frozenset((resources.files("tzdata") / "zones").read_text("utf-8").split()) - {"Factory"}


def holiday(text: str) -> str:
    """`2026-12-24`, or `12-24` for every year."""
    try:
        date.fromisoformat("" if not HOLIDAY.fullmatch(text) else text if len(text) > len("12-24") else f"2024-{text}")
    except ValueError as problem:
        raise Wrong(f"{text!r} is no day until 2089", "2026-12-24, or 12-24 for every year") from problem
    if text in UNSTEADY:
        raise Wrong(f"{text!r} is no day of every year", "2026-12-24, with the year")
    return text


def day(text: str) -> date:
    try:
        return date.fromisoformat(text if DAY.fullmatch(text) else "")
    except ValueError as problem:
        raise Wrong(f"{text!r} is no day", "2026-12-31") from problem


def rule(text: str) -> str:
    hint = "P2P-01: a letter, then letters, digits, '-' and '_', at most 40 in all"
    return _read(RULE, text, "is no id of a rule", hint)[0]


def country(text: str) -> str:
    """A code of ISO 3166-1, as the database has it; of Kosovo the one that everybody uses."""
    if text not in _countries():
        raise Wrong(f"{text!r} is no country", "DE, AT: two letters of ISO 3166")
    return text


@cache
def _countries() -> frozenset[str]:
    lines = (resources.files("tzdata") / "zoneinfo" / "iso3166.tab").read_text("utf-8").splitlines()
    return frozenset(line[:2] for line in lines if not line.startswith("#")) | {"XK"}


def age(text: str) -> int:
    """`15 minutes` in seconds."""
    match = AGE.fullmatch(text)
    seconds = int(match[1]) * SECONDS[match[2]] if match else 0
    if not 0 < seconds <= AGE_MAX_S:
        raise Wrong(f"{text!r} is no time up to 30 days", "15 minutes")
    return seconds


def network(text: str) -> str:
    try:
        found = ip_network(_plain(NETWORK, text))
    except ValueError as problem:
        raise Wrong(f"{text!r} is no network ({problem})", "203.0.113.0/24 or 2001:db8::/32") from problem
    if isinstance(found, IPv6Network) and found.subnet_of(MAPPED):  # nobody would be in it: see `origin.unmapped`
        raise Wrong(f"{text!r} is a network of IPv4 as IPv6 writes it", "203.0.113.0/24")
    return str(found)


def address(text: str) -> str:
    try:
        return str(ip_address(_plain(ADDRESS, text)))
    except ValueError as problem:
        raise Wrong(f"{text!r} is no address", "203.0.113.7") from problem


def _plain(form: re.Pattern[str], text: str) -> str:
    """No scope ids, no netmasks: what Envoy would read otherwise."""
    if not form.fullmatch(text):
        raise ValueError("an address, perhaps with /bits")
    return text


def rate(text: str) -> tuple[int, int]:
    """`60/minute` as requests and seconds."""
    match = RATE.fullmatch(text)
    if match is None or not 0 < int(match[1]) <= REQUESTS_MAX:
        raise Wrong(f"{text!r} is no rate", "1000/hour (second, minute, hour, day)")
    return int(match[1]), SECONDS[match[2]]


def guesses(text: str) -> int:
    """`5/minute` as how many."""
    return int(_read(GUESSES, text, "is no number of tries in a minute", "5/minute, at most 999")[1])


def block(text: str) -> int:
    """`10 minutes` in seconds, a day at most."""
    if (seconds := age(text)) > SECONDS["day"]:
        raise Wrong(f"{text!r} is longer than a day", "10 minutes; an address has other people tomorrow")
    return seconds


def silent(text: str) -> int:
    """`close`, `keep` and `keep 10 minutes` in seconds."""
    _read(SILENT, text, "is nothing the gate can do", "close, keep, or keep 10 minutes")
    _, _, time = text.partition(" ")
    return age(time) if time else FOREVER_S if text == "keep" else 0


def size(text: str) -> int:
    """`10 MB` in bytes."""
    match = SIZE.fullmatch(text)
    bytes_ = int(match[1]) * BYTES[match[2]] if match else 0
    if not 0 < bytes_ <= BODY_MAX_BYTES:
        raise Wrong(f"{text!r} is no size up to 100 MB", "10 MB")
    return bytes_


def within(text: str) -> int:
    match = WITHIN.fullmatch(text)
    if match is None or not 0 < int(match[1]) <= WITHIN_MAX_DAYS:
        raise Wrong(f"{text!r} is no time up to {WITHIN_MAX_DAYS} days", "30 days")
    return int(match[1])


def others(text: str) -> int:
    """How many people more."""
    return int(_read(OTHERS, text, "is no number of people from 1 to 9", "1; or leave the key out")[0])


def place(text: str) -> tuple[str, str]:
    """`erp.example.com/prefix` as host and prefix."""
    match = PLACE.fullmatch(text)
    if match is None or {".", ".."} & set(match[2].split("/")):
        raise Wrong(f"{text!r} is no place", "erp.example.com or api.example.com/shop, without https:// and port")
    return match[1], match[2]


def upstream(text: str) -> str:
    match = UPSTREAM.fullmatch(text)
    if match is None or not 0 < int(match[1] or 1) <= PORT_MAX:
        raise Wrong(f"{text!r} is no upstream", '"http://127.0.0.1:8000"')
    return text.rstrip("/")


def database(text: str) -> str:
    return _read(DATABASE, text, "names no database", "letters, digits, '_', '-' and '.'")[0]


def token_from(text: str) -> str:
    """A token endpoint: a client's secret goes there, so by https, unless it stays on this machine."""
    place = _read(TOKEN_FROM, text, "is no token endpoint", '"https://login.example.com/oauth2/token"')
    if text.startswith("http:") and place[1] not in {"127.0.0.1", "localhost", "[::1]"}:
        raise Wrong(f"{text!r} is not asked by https", f"https://{text.removeprefix('http://')}")
    return text


def sent(text: str) -> str:
    """`Authorization: token {key}`: a header of the ERP's credential, its name in lower case, and what it holds."""
    hint = '"Authorization: token {key}", in quotes'
    name, form = _read(SENT, text, "is no header with its value", hint).groups()
    if _OURS.fullmatch(name.lower()):
        raise Wrong(f"{name} tells of the request itself, and holds no credential", hint)
    if re.search("[{}]", re.sub("{(?:key|login|basic)}", "", form)):
        raise Wrong(f"{form!r} has braces around another word", "{key}, {login} or {basic}")
    return f"{name.lower()}: {form}"


def link(text: str) -> str:
    """`party` or `move.party`: fields to follow, at most four."""
    return _read(LINK, text, "is no path of at most four fields", "party or move.party")[0]


def field(text: str) -> str:
    told = "is no field of the object itself"
    return _read(FIELD, text, told, "its name alone; what it leads to is granted by a line of that object")[0]


def value(text: str) -> str:
    """What a record holds under a field."""
    return _read(VALUE, text, "is no value that a record may hold", "4999, draft, or own")[0]


def condition(name: str, text: str) -> Condition:
    """Of the field `name`: `own`, a bound (`<= 5000`), or what it must be (`draft`)."""
    if text == OWN:
        return Condition(field=name, compare="own")
    if match := BOUND.fullmatch(text):
        return Condition(field=name, compare=match[1], values=(match[2],))  # type: ignore[arg-type] # one of the pattern's
    if not VALUE.fullmatch(text):
        raise Wrong(f"{text!r} is no condition", 'own, "<= 5000", or what it may be: [draft, submitted]')
    return Condition(field=name, compare="in", values=(text,))


def moment(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text if MOMENT.fullmatch(text) else "")
    except ValueError as problem:
        raise Wrong(f"{text!r} is no moment", '"2026-03-03T10:00+01:00"') from problem
    if at.tzinfo is None:
        raise Wrong(f"{text!r} has no offset from UTC", f'"{text}+01:00"')
    return at


def patterns(text: str, systems: Sequence[str]) -> tuple[Pattern, ...]:
    """`erp/sale.*: read, execute approve`: one pattern for each verb; the system may be left out while it is alone."""
    left, colon, right = text.partition(":")
    if match := COLONLESS.fullmatch(text):
        raise Wrong(f"{text!r} has no colon", f'"{match[1]}: {match[2]}"')
    if not colon:
        raise Wrong(f"{text!r} has no verb", f'"{text.strip()}: read"')
    system, object_ = _object(left.strip(), systems)
    verbs = dict.fromkeys(_verb(part.strip()) for part in right.split(","))
    return tuple(Pattern(system=system, object=object_, verb=verb, action=action) for verb, action in verbs)


def operation(text: str, systems: Sequence[str]) -> Operation:
    """One operation, exactly: `sale.sale: write`, `account.payment: execute approve`."""
    found = patterns(text, systems)
    if "," in text or "*" in found[0].object:
        raise Wrong(f"{text!r} is more than one operation", '"OBJECT: write", of one object and one verb')
    return found[0].operation


def _object(text: str, systems: Sequence[str]) -> tuple[str, str]:
    system, slash, name = text.rpartition("/")
    if not slash:
        if len(systems) != 1:
            raise Wrong(f"{text!r} does not say which system", f"{min(systems, default='erp')}/{text}")
        system = systems[0]
    elif system not in systems:
        raise Wrong(f"there is no system {system!r}", ", ".join(f"{known}/{name}" for known in sorted(systems)))
    if not OBJECT.fullmatch(name):
        raise Wrong(f"{name!r} names no object", "letters, digits, '_', '-' and '.', perhaps .* at its end; or *")
    return system, name


def _read(form: re.Pattern[str], text: str, told: str, hint: str) -> re.Match[str]:
    """The text, which has this form; else it is Wrong, and is `told` so."""
    match = form.fullmatch(text)
    if match is None:
        raise Wrong(f"{text!r} {told}", hint)
    return match


def _verb(text: str) -> tuple[Verb, str]:
    word, _, action = text.partition(" ")
    if word not in set(Verb):
        raise Wrong(f"{word!r} is no verb", "read, write, execute or delete")
    if action and not ACTION.fullmatch(action.strip()):
        raise Wrong(f"{action!r} names no action", "execute approve")
    return Verb(word), action.strip()
