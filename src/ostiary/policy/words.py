"""The small texts of the document: hours, days, networks, rates, sizes, permissions. Each raises Wrong.

What is said of their forms stands in words.toml, form by form. A text of the form `RATE` is read by `rate`.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import date, datetime
from difflib import get_close_matches
from functools import cache, wraps
from importlib import resources
from ipaddress import IPv6Network, ip_address, ip_network
from typing import Final, TypeVar

from ostiary.erp.operation import OWN, Condition, Operation, Pattern, Verb
from ostiary.foundation.data import beside
from ostiary.foundation.origin import MAPPED

T = TypeVar("T")
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
FOREVER_S: Final = 1 << 40
ASK_S: Final = 1  # as long as the lease, and then the guard is asked: more than closing, less than any `keep`
FEW: Final = 12
OURS: Final = re.compile(  # what the request is about, and what tells of the caller
    "(?:x-(?:gw|envoy|forwarded|request)|content|if|proxy|accept|transfer|sec)-.*"
    "|host|cookie|connection|keep-alive|te|trailer|upgrade|expect|date|range|prefer|dpop|user-agent|trace.*"
)
_TOLD: Final[dict[str, dict[str, str]]] = beside(__file__)
FORMS: Final[dict[str, re.Pattern[str]]] = {}
for _name, _one in _TOLD.items():
    FORMS[_name] = re.compile(re.sub("{([A-Z_]+)}", lambda part: FORMS[part[1]].pattern, _one["form"]))
NAME, VARIABLE, DOINGS, OBJECT, ACTION = map(FORMS.__getitem__, ("NAME", "VARIABLE", "DOINGS", "OBJECT", "ACTION"))


class Wrong(Exception):
    """The text means nothing here; `hint` is what to write instead."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message, self.hint = message, hint


def _reads(name: str) -> Callable[[Callable[[re.Match[str]], T]], Callable[[str], T]]:
    """Reads a text of this form; where it has another one, or a value that there is not, it is Wrong."""

    def reading(meaning: Callable[[re.Match[str]], T]) -> Callable[[str], T]:
        @wraps(meaning)
        def read(text: str) -> T:
            with suppress(ValueError):
                if match := FORMS[name].fullmatch(text):
                    return meaning(match)
            raise Wrong(f"{text!r} {_TOLD[name]['told']}", _TOLD[name]["instead"])

        return read

    return reading


def _whole(match: re.Match[str]) -> str:
    return match[0]


def _number(match: re.Match[str]) -> int:
    return int(match[match.lastindex or 0])


def _up_to(most: int, number: int) -> int:
    if not 0 < number <= most:
        raise ValueError
    return number


database, rule, audience = _reads("DATABASE")(_whole), _reads("RULE")(_whole), _reads("AUDIENCE")(_whole)
others, guesses = _reads("OTHERS")(_number), _reads("GUESSES")(_number)
link, field, value = _reads("LINK")(_whole), _reads("FIELD")(_whole), _reads("VALUE")(_whole)


@_reads("DAYS")
def days(match: re.Match[str]) -> tuple[int, ...]:
    """`mon-fri`, `sat`, `fri-mon`: numbers from Monday 0."""
    found: set[int] = set()
    for part in match[0].replace(" ", "").split(","):
        first, _, last = part.partition("-")
        start, end = WEEK.index(first), WEEK.index(last or first)
        found |= {n % 7 for n in range(start, end + 1 if end >= start else end + 8)}
    return tuple(sorted(found))


@_reads("HOURS")
def hours(match: re.Match[str]) -> tuple[int, int]:
    """`08:00-18:00` in minutes of the day; the end is not part of it, 24:00 is the day's end."""
    a, b, c, d = map(int, match.groups())
    start, end = a * 60 + b, c * 60 + d
    if max(b, d) > 59 or start >= DAY_MINUTES or end > DAY_MINUTES:  # noqa: PLR2004  minutes of an hour
        raise Wrong(f"{match[0]!r} are no hours of a day", '"08:00-18:00"')
    if start == end:
        raise Wrong(f"{match[0]!r} end as they begin", '"00:00-24:00" is the whole day')
    return start, end


def zone(text: str) -> str:
    """A name of the time zone database that Envoy reads too, whatever the machine calls its own."""
    if text not in _zones():
        raise Wrong(f"{text!r} is no time zone", nearest(text, _zones()) or "Europe/Berlin or UTC")
    return text


@cache
def _zones() -> frozenset[str]:
    return frozenset((resources.files("tzdata") / "zones").read_text("utf-8").split()) - {"Factory"}


@_reads("HOLIDAY")
def holiday(match: re.Match[str]) -> str:
    """`2026-12-24`, or `12-24` for every year."""
    text = match[0]
    date.fromisoformat(text if len(text) > len("12-24") else f"2024-{text}")
    if text in UNSTEADY:
        raise Wrong(f"{text!r} is no day of every year", "2026-12-24, with the year")
    return text


@_reads("DAY")
def day(match: re.Match[str]) -> date:
    return date.fromisoformat(match[0])


def country(text: str) -> str:
    """A code of ISO 3166-1, as the database has it; of Kosovo the one that everybody uses."""
    if text not in _countries():
        raise Wrong(f"{text!r} is no country", "DE, AT: two letters of ISO 3166")
    return text


@cache
def _countries() -> frozenset[str]:
    lines = (resources.files("tzdata") / "zoneinfo" / "iso3166.tab").read_text("utf-8").splitlines()
    return frozenset(line[:2] for line in lines if not line.startswith("#")) | {"XK"}


@_reads("AGE")
def age(match: re.Match[str]) -> int:
    """`15 minutes` in seconds."""
    return _up_to(AGE_MAX_S, int(match[1]) * SECONDS[match[2]])


@_reads("NETWORK")
def network(match: re.Match[str]) -> str:
    """No scope ids, no netmasks: what Envoy would read otherwise."""
    try:
        found = ip_network(match[0])
    except ValueError as problem:
        raise Wrong(f"{match[0]!r} is no network ({problem})", _TOLD["NETWORK"]["instead"]) from problem
    if isinstance(found, IPv6Network) and found.subnet_of(MAPPED):  # nobody would be in it: see `origin.unmapped`
        raise Wrong(f"{match[0]!r} is a network of IPv4 as IPv6 writes it", "203.0.113.0/24")
    return str(found)


@_reads("ADDRESS")
def address(match: re.Match[str]) -> str:
    return str(ip_address(match[0]))


@_reads("RATE")
def rate(match: re.Match[str]) -> tuple[int, int]:
    """`60/minute` as requests and seconds."""
    return _up_to(REQUESTS_MAX, int(match[1])), SECONDS[match[2]]


def block(text: str) -> int:
    """`10 minutes` in seconds, a day at most."""
    if (seconds := age(text)) > SECONDS["day"]:
        raise Wrong(f"{text!r} is longer than a day", "10 minutes; an address has other people tomorrow")
    return seconds


@_reads("SILENT")
def silent(match: re.Match[str]) -> int:
    """`close`, `ask`, `keep` and `keep 10 minutes` in seconds."""
    word, _, time = match[0].partition(" ")
    return max(age(time), ASK_S + 1) if time else {"keep": FOREVER_S, "ask": ASK_S}.get(word, 0)


@_reads("SIZE")
def size(match: re.Match[str]) -> int:
    """`10 MB` in bytes."""
    return _up_to(BODY_MAX_BYTES, int(match[1]) * BYTES[match[2]])


@_reads("WITHIN")
def within(match: re.Match[str]) -> int:
    """`30 days` as how many."""
    return _up_to(WITHIN_MAX_DAYS, int(match[1]))


@_reads("PLACE")
def place(match: re.Match[str]) -> tuple[str, str]:
    """`erp.example.com/prefix` as host and prefix."""
    if {".", ".."} & set(match[2].split("/")):
        raise ValueError
    return match[1], match[2]


@_reads("UPSTREAM")
def upstream(match: re.Match[str]) -> str:
    _up_to(PORT_MAX, int(match[1] or 1))
    return match[0].rstrip("/")


@_reads("TOKEN_FROM")
def token_from(match: re.Match[str]) -> str:
    """A token endpoint: a client's secret goes there, so by https, unless it stays on this machine."""
    text = match[0]
    if text.startswith("http:") and match[1] not in {"127.0.0.1", "localhost", "[::1]"}:
        raise Wrong(f"{text!r} is not asked by https", f"https://{text.removeprefix('http://')}")
    return text


@_reads("SENT")
def sent(match: re.Match[str]) -> str:
    """`Authorization: token {key}`: a header of the ERP's credential, its name in lower case, and what it holds."""
    name, form = match.groups()
    if OURS.fullmatch(name.lower()):
        raise Wrong(f"{name} tells of the request itself, and holds no credential", _TOLD["SENT"]["instead"])
    if re.search("[{}]", re.sub("{(?:key|login|basic)}", "", form)):
        raise Wrong(f"{form!r} has braces around another word", "{key}, {login} or {basic}")
    return f"{name.lower()}: {form}"


def condition(name: str, text: str) -> Condition:
    """Of the field `name`: `own`, a bound (`<= 5000`), or what it must be (`draft`)."""
    if text == OWN:
        return Condition(field=name, compare="own")
    if match := FORMS["BOUND"].fullmatch(text):
        return Condition(field=name, compare=match[1], values=(match[2],))  # type: ignore[arg-type] # one of the pattern's
    if not FORMS["VALUE"].fullmatch(text):
        raise Wrong(f"{text!r} is no condition", 'own, "<= 5000", or what it may be: [draft, submitted]')
    return Condition(field=name, compare="in", values=(text,))


@_reads("MOMENT")
def moment(match: re.Match[str]) -> datetime:
    at = datetime.fromisoformat(match[0])
    if at.tzinfo is None:
        raise Wrong(f"{match[0]!r} has no offset from UTC", f'"{match[0]}+01:00"')
    return at


def patterns(text: str, systems: Sequence[str]) -> tuple[Pattern, ...]:
    """`erp/sale.*: read, execute approve`: one pattern for each verb; the system may be left out while it is alone."""
    left, colon, right = text.partition(":")
    if match := FORMS["COLONLESS"].fullmatch(text):
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


def _verb(text: str) -> tuple[Verb, str]:
    word, _, action = text.partition(" ")
    if word not in set(Verb):
        raise Wrong(f"{word!r} is no verb", "read, write, execute or delete")
    if action and not ACTION.fullmatch(action.strip()):
        raise Wrong(f"{action!r} names no action", "execute approve")
    return Verb(word), action.strip()


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that was probably meant; else all of them, when they are few; else nothing."""
    words = sorted(known)
    return closest(word, words) or (", ".join(words) if len(words) <= FEW else "")


def closest(word: str, known: Iterable[str]) -> str:
    """The known word that was probably meant; else nothing."""
    return next(iter(get_close_matches(word, known, n=1)), "")
