"""The policy, typed: what the document says, each part with the line where it stands."""

from datetime import datetime

from msgspec import Struct

from ostiary.erp.operation import Operation, Pattern


class At(Struct, frozen=True):
    """Where something stands: line from 1, and the line's text."""

    line: int
    text: str


class SystemRule(Struct, frozen=True, kw_only=True):
    name: str
    kind: str
    host: str
    prefix: str
    upstream: str
    audience: str
    database: str
    spec: str
    hand_over: str
    at: At


class ContextRule(Struct, frozen=True, kw_only=True):
    """All parts must hold. `days` empty: no hours are asked for; `networks` empty: none either."""

    name: str
    days: tuple[int, ...] = ()
    start: int = 0
    end: int = 0
    zone: str = ""
    networks: tuple[str, ...] = ()
    at: At


class May(Struct, frozen=True, kw_only=True):
    """One line of a role's `may`: its patterns, one for each verb."""

    patterns: tuple[Pattern, ...]
    at: At


class RoleRule(Struct, frozen=True, kw_only=True):
    name: str
    level: str
    department: str
    includes: tuple[str, ...]
    may: tuple[May, ...]
    when: tuple[str, ...]
    at: At


class ApartRule(Struct, frozen=True, kw_only=True):
    """`within_days` 0: nobody may hold both; else nobody may do both to linked records within so many days."""

    name: str
    first: tuple[Pattern, ...]
    then: tuple[Pattern, ...]
    link: str
    within_days: int
    at: At


class NeverRule(Struct, frozen=True, kw_only=True):
    name: str
    level: str
    roles: tuple[str, ...]
    patterns: tuple[Pattern, ...]
    at: At


class LimitRule(Struct, frozen=True, kw_only=True):
    """`requests` 0: not said here."""

    name: str
    requests: int = 0
    seconds: int = 0
    body_bytes: int = 0
    at: At


class Example(Struct, frozen=True, kw_only=True):
    """A test that stands in the policy."""

    who: tuple[str, ...]
    does: Operation
    when: datetime
    source: str
    allowed: bool
    at: At


class Policy(Struct, frozen=True, kw_only=True):
    file: str
    name: str
    systems: tuple[SystemRule, ...] = ()
    departments: tuple[str, ...] = ()
    contexts: tuple[ContextRule, ...] = ()
    roles: tuple[RoleRule, ...] = ()
    apart: tuple[ApartRule, ...] = ()
    never: tuple[NeverRule, ...] = ()
    limits: tuple[LimitRule, ...] = ()
    when_silent: str = "close"
    tests: tuple[Example, ...] = ()
