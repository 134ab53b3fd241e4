"""The policy, typed: what the document says, each part with the line where it stands."""

from collections.abc import Collection, Mapping
from datetime import date, datetime
from enum import StrEnum

from msgspec import Struct

from ostiary.erp.operation import Condition, Operation, Pattern
from ostiary.policy.words import BYTES, SECONDS


class Source(Struct, frozen=True, kw_only=True, gc=False):
    """Where in the policy something stands, line and column from 1, and the line's text."""

    file: str
    line: int
    text: str
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"

    @property
    def cited(self) -> str:
        return f"{self}: {self.text}"


class Level(StrEnum):
    """What a role may at most be about (standard B2)."""

    SYSTEM = "system"
    DEPARTMENT = "department"
    USER = "user"
    PARTNER = "partner"


class Kind(StrEnum):
    TRYTON = "tryton"
    ODOO = "odoo"
    OPENAPI = "openapi"


class HandOver(StrEnum):
    """How the ERP's own credential is presented."""

    NONE = "none"  # the upstream needs none
    KEY = "key"  # a key of the ERP's own for each principal, put on by Envoy
    SESSION = "session"  # the guard keeps a session for each ERP user
    OAUTH = "oauth"  # the guard fetches tokens from the ERP's own authorization server


class OwnerLeaves(StrEnum):
    """What becomes of the clients of a person who is disabled."""

    END = "end"
    STAY = "stay"  # until their last day: `status` shows them


class Expected(StrEnum):
    ALLOW = "allow"
    DENY = "deny"
    STEP_UP = "step-up"


class Devices(StrEnum):
    """From which the call may come."""

    REGISTERED = "registered"


class Assurance(StrEnum):
    """How a person must have signed in."""

    MFA = "mfa"  # with more than one factor


class System(Struct, frozen=True, kw_only=True):
    """A protected ERP: where callers reach it and where it is."""

    name: str
    kind: Kind
    host: str
    prefix: str  # "" or "/shop": taken off before the upstream sees the path
    upstream: str  # http(s)://host:port[/base]
    audience: str
    database: str = ""
    spec: str = ""  # the OpenAPI document, below the policy's folder
    hand_over: HandOver = HandOver.NONE
    sends: tuple[str, ...] = ()  # "authorization: token {key}": headers of the ERP's credential
    token_from: str = ""
    token_scope: str = ""
    observe_until: datetime | None = None  # in UTC
    source: Source

    def observed(self, at: datetime) -> bool:
        """Whether a caller's own ERP credential passes there, whatever the policy grants."""
        return self.observe_until is not None and at < self.observe_until

    @property
    def sent(self) -> dict[str, str]:
        """What it is sent as its credential: header, in lower case, and its form."""
        return {name: form for name, _, form in (line.partition(": ") for line in self.sends)}

    @property
    def guarded(self) -> bool:
        """Every request needs a look inside: the operation is not in the URL alone."""
        return self.kind is not Kind.OPENAPI


class ContextRule(Struct, frozen=True, kw_only=True):
    """All parts must hold. `days` empty: no hours are asked for; `networks` and `countries` empty, `within` 0: likewise.

    `every`, `some`, `none`: other contexts, of which all, one and none must hold.
    """

    name: str
    days: tuple[int, ...] = ()
    hours: tuple[int, int] = (0, 0)  # minutes of the day
    zone: str = ""
    holidays: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    countries: tuple[str, ...] = ()
    device: Devices | None = None
    assurance: Assurance | None = None
    within: int = 0
    every: tuple[str, ...] = ()
    some: tuple[str, ...] = ()
    none: tuple[str, ...] = ()
    source: Source


class May(Struct, frozen=True, kw_only=True):
    """One line of a role's `may`: its patterns, one for each verb; no `fields` are every field."""

    patterns: tuple[Pattern, ...]
    fields: tuple[str, ...] = ()
    where: tuple[Condition, ...] = ()
    source: Source


class RoleRule(Struct, frozen=True, kw_only=True):
    name: str
    level: Level
    department: str = ""
    includes: tuple[str, ...] = ()
    may: tuple[May, ...] = ()
    when: tuple[str, ...] = ()
    source: Source


class Severity(StrEnum):
    """How bad it is where a rule about duties is broken."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"


class Control(Struct, frozen=True, kw_only=True):
    """Why whoever holds one of `roles` directly may do both duties of a rule all the same, to the end of `until` in UTC.

    `what` is done instead, and `owner` answers for it.
    """

    roles: tuple[str, ...]
    what: str
    owner: str
    reason: str
    until: date
    source: Source


class Apart(Struct, frozen=True, kw_only=True):
    """Nobody may do `first` and then `then`, but under a control.

    Static (`within_days` 0): nobody may hold both. Dynamic: nobody may do `then` to a record whose `link`
    (a field path of then's object; "" is the record itself) names a record to which he did `first`
    within the last `within_days` days.
    """

    id: str
    name: str
    first: Pattern
    then: Pattern
    link: str = ""
    within_days: int = 0
    severity: Severity = Severity.HIGH
    controls: tuple[Control, ...] = ()
    source: Source

    @property
    def dynamic(self) -> bool:
        return self.within_days > 0

    @property
    def steps(self) -> list[str]:
        return self.link.split(".") if self.link else []

    def controlled(self, roles: Collection[str], on: date) -> bool:
        """Whether on this day somebody to whom `roles` are assigned may do both, under a control."""
        return any(on <= one.until and not set(one.roles).isdisjoint(roles) for one in self.controls)


class Statement(Struct, frozen=True, kw_only=True):
    """Of the roles of this level and of these roles; of every role where neither is named. `context`: "" for none."""

    name: str
    level: Level | None = None
    roles: tuple[str, ...] = ()
    patterns: tuple[Pattern, ...]
    context: str = ""
    source: Source

    def speaks_of(self, name: str, level: Level) -> bool:
        return name in self.roles or level is self.level or not (self.roles or self.level)


class Never(Statement, frozen=True, kw_only=True):
    """None of them may do any of the patterns, outside the context."""


class Always(Statement, frozen=True, kw_only=True):
    """Each of them may do all of the patterns, whenever the context holds."""


class Limit(Struct, frozen=True, kw_only=True):
    """`requests` in each `seconds`; a token bucket that holds as many."""

    name: str  # "anonymous", "identity", "default" or the role's name
    requests: int
    seconds: int
    source: Source | None = None  # None: no line says so

    def __str__(self) -> str:
        return f"{self.requests}/{next(unit for unit, seconds in SECONDS.items() if seconds == self.seconds)}"


class Limits(Struct, frozen=True, kw_only=True):
    # For each address without a known caller, and for each principal.
    anonymous: Limit = Limit(name="anonymous", requests=60, seconds=60)
    # For each address, where clients show their credential at the authorization server: 300 tokens a second, and some.
    identity: Limit = Limit(name="identity", requests=20_000, seconds=60)
    default: Limit = Limit(name="default", requests=1000, seconds=3600)
    # For each principal that holds the role, or one that includes it: the most generous wins.
    roles: tuple[Limit, ...] = ()
    body_bytes: int = 10 * 1024 * 1024  # standard E4
    source: Source | None = None  # of the body

    @property
    def body(self) -> str:
        return f"{self.body_bytes / BYTES['MB']:g} MB"


class Approvals(Struct, frozen=True, kw_only=True):
    """How many others must say yes before it happens (standard G4)."""

    policy: int = 0  # to a change of the policy
    break_glass: int = 0  # to a role for a time
    roles: int = 0  # to a role for good

    @property
    def giving(self) -> int:
        """How many a role for good needs: an emergency that needs a second person has no way around it."""
        return max(self.roles, self.break_glass)


class Response(Struct, frozen=True, kw_only=True):
    """What the watch does about who guesses: tries in a minute that are no guessing yet, and an address's first block."""

    guesses: int = 5
    block_s: int = 600  # doubled each time again within a week, a day at most
    spared: tuple[str, ...] = ()  # networks that are never blocked


class Example(Struct, frozen=True, kw_only=True):
    """A test that stands in the policy. `record`: field -> value; empty: what meets every condition."""

    who: tuple[str, ...]
    does: Operation
    record: Mapping[str, str] = {}
    when: datetime
    address: str = "127.0.0.1"
    country: str = ""
    device: Devices | None = None
    assurance: Assurance | None = None
    signed_in: int | None = None  # so many seconds ago; None where nobody did
    expect: Expected
    source: Source


class Policy(Struct, frozen=True, kw_only=True):
    file: str
    name: str
    systems: tuple[System, ...] = ()
    departments: Mapping[str, tuple[str, ...]] = {}  # each with those that it is part of, the nearest first
    contexts: tuple[ContextRule, ...] = ()
    roles: tuple[RoleRule, ...] = ()
    apart: tuple[Apart, ...] = ()
    never: tuple[Never, ...] = ()
    always: tuple[Always, ...] = ()
    limits: Limits
    silent_s: int = 0  # for so long, and never less than its lease, the gate goes on as it was without control
    when_owner_leaves: OwnerLeaves = OwnerLeaves.END
    approvals: Approvals = Approvals()
    response: Response = Response()
    tests: tuple[Example, ...] = ()
