"""Policies with something changed: a key, a word, a value; most of them wrong, some still right."""

from copy import deepcopy
from random import Random
from typing import Any

from hypothesis import strategies as st

from policy.documents import Writer, structures

JUNK = (
    "", "NO", "null", "~", "true", "12", "1.5", "2026-03-03", "x", "*", "a/b", "mon", "sat - sun", "mon-xyz", "8-18",
    "22:00-22:00", "24:00-25:00", "08:00 - 12:00", "UTC", "Mars/Base", "203.0.113.1/24", "::1", "fe80::1%eth0", "0/minute",
    "5 / second", "10 GB", "10MB", "0 B", "1 days", "0 days", "erp.example.com", "a/../b", "https://x", "http://x:99999",
    "sale.sale: read", "sale.sale: read, write", "erp/sale.*: read", "*: read", "sale: dance", "sale.sale: execute a-b",
    "sale.sale:read,read", "2026-03-03T10:00", "2026-03-03T10:00Z", "2026-13-03T10:00Z", "party.company", "a.b.c.d.e",
    "the x", "the clerk", "tryton", "openapi", "session", "user", "partner", "allow", "keep", "clerk", "office", "a" * 101,
)  # fmt: skip
# What a key may hold, or nearly: written otherwise than the random policies do.
NEARLY: dict[str, tuple[Any, ...]] = {
    "policy": ("NO", "12", "~", "a: b"),
    "at": ("api.example.com/a/", "null", "12", "1e5", "EXAMPLE.com", "x.y/..", "x.y/~a"),
    "upstream": ("http://[::1]:80", "https://a.b/c/", "http://a:0", "http://a:70000", "ftp://a"),
    "database": ("12", "true", "a.b", "a/b", "-a"),
    "audience": ("x", "12", "urn:x", "https://x.y/z", "urn:a#b", "urn: a"),
    "hand-over": ("none", "key", "oauth", "session", "Session"),
    "sends": ("Authorization: token {key}", ["X-Key: {key}", "X-B: {basic}"], "Host: {key}", "X-Key", [], "X: {x}"),
    "token-from": ("https://a.test/t?x=1", "http://127.0.0.1:9/t", "http://a.test/t", "https://a.test", "a.test/t"),
    "token-scope": ("a/.default", "12"),
    "of": ("12", "NO"),
    "days": ("mon", "mon,tue", "sat - mon , wed", "mon-", "MON"),
    "hours": ("08:00 - 12:00", "23:59-00:00", "00:00-24:00", "24:00-01:00", "08:60-09:00", "08:00-08:00", "8:00-9:00"),
    "zone": ("Asia/Kolkata", "Etc/GMT+5", "europe/berlin", "localtime", "posix/UTC"),
    "networks": ("10.0.0.0/8", "::/0", ["203.0.113.7"], "10.0.0.1/8", "10.0.0.0/255.0.0.0", []),
    "level": ("system", "department", "user", "partner", "User"),
    "may": (
        "*: read",
        "erp/*:read,write",
        " sale.sale : execute  a-b ",
        "sale.*.x: read",
        "sale: read,",
        "sale.sale: 1",
        [],
    ),
    "when": ("on", ["on", "NO"], []),
    "includes": ([], "clerk", ["clerk", "clerk"], "n", "NO"),
    "outside": ("office", [], ["on", "NO"]),
    "always": ([{"name": "x", "may": "a: read"}], {}, [{"name": "x"}]),
    "variables": ({"x": "10.0.0.0/8"}, {"clerk": ["mon", "the clerk"]}, {"x": []}),
    "include": ("roles/*.yaml", [], "../a.yaml", ["a.yml"]),
    "permissions": (["erp/a: read", "erp/a: read"], ["erp/a: read"], "erp/a: read"),
    "holidays": ("2026-12-24", "12-25", ["02-29"], "02-28", "2023-02-29", "2024-02-29", "24.12.2026", "1-1", []),
    "countries": ("DE", ["NO", "AT"], "UK", "de", "DEU", "XK", []),
    "country": ("DE", "UK", "NO"),
    "devices": ("registered", "known"),
    "device": ("registered", "known"),
    "assurance": ("mfa", "password"),
    "signed-in": ("1 minute", "0 minutes", "31 days", "5min"),
    "within": ("15 minutes", "1second", "0 hours", "1 days", "365 day", "30days", "0 days", "4000 days", "30"),
    "link": ("party", "a.b.c.d", "a.b.c.d.e", "null", "1a"),
    "requests": ("1/second", "00000001 / day", "0/day", "5/week", "60 per minute"),
    "body": ("1B", "100 MB", "101 MB", "10 mb"),
    "does": ("erp/sale.sale:read", "erp/sale.sale: execute  x1", "erp/sale.sale: read, read", "erp/sale.*: read"),
    "from": ("::1", "203.0.113.300", "fe80::1%eth0", "12"),
    "expect": ("allow", "deny", "Allow"),
    "who": ([], "clerk", ["NO"]),
    "approvals": ({}, {"policy": "0"}, {"policy": "1", "break-glass": "10"}, "1"),
    "response": ({}, {"guesses": "0/minute"}, {"guesses": "5/hour"}, {"block": "1 day"}, {"spare": "here"}, "1"),
    "when-silent": ("keep", "close", "open", "keep 10 minutes", "keep 31 days", "keep 0 hours", "close 1 hour"),
    "when-owner-leaves": ("end", "stay", "keep"),
}
KEYS = (
    "kind",
    "at",
    "spec",
    "of",
    "days",
    "hours",
    "zone",
    "networks",
    "level",
    "may",
    "when",
    "link",
    "within",
    "Policy",
    "",
)


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in a structure."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, one in inner for place in ((value, key), *_places(one))]


def mutate(value: Any, random: Random) -> None:
    """One change, in place."""
    container, key = random.choice(_places(value))
    match random.randrange(12):
        case 0:
            del container[key]
        case 1 if isinstance(container, dict):
            container[random.choice([*KEYS, *JUNK])] = container.pop(key)
        case 2:
            container[key] = [container[key]]
        case 3:
            container[key] = random.choice([[], {}, {"a": "b"}, ["x", "y"]])
        case 4:
            container[key] = random.choice(JUNK)
        case _ if near := [place for place in _places(value) if place[1] in NEARLY]:
            container, key = random.choice(near)
            container[key] = random.choice(NEARLY[key])


@st.composite
def mutated(draw: Any) -> str:
    """A policy as text, with one to three changes."""
    random = Random(draw(st.integers(0, 2**32)))
    value = deepcopy(draw(structures()))
    for _ in range(random.choice([1, 1, 1, 2, 3])):
        if _places(value):
            mutate(value, random)
    return Writer(random).document(value) if value else ""


@st.composite
def scratched(draw: Any) -> str:
    """A policy's text with a few characters changed anywhere."""
    random = Random(draw(st.integers(0, 2**32)))
    text = Writer(random).document(draw(structures()))
    for _ in range(random.choice([1, 1, 2, 5])):
        at = random.randrange(len(text) + 1)
        new = random.choice(["", " ", "\n", ":", "-", "#", '"', "'", "[", "]", "{", "}", ",", "&a ", "*a", "!t ", "|", ">", "%", "\t", "\r", "\0", "\u2028", "\ud800", "é", "--- ", "? "])  # fmt: skip
        text = text[:at] + new + text[at + random.randrange(3) :]
    return text
