"""The plan: one policy, compiled; equal policies give equal plans."""

from enum import StrEnum

import msgspec
from msgspec import Struct

from ostiary.erp.operation import Pattern, Verb
from ostiary.foundation.ids import content_hash
from ostiary.plan.formula import Formula


class Source(Struct, frozen=True, kw_only=True):
    """Where in the policy a rule stands, and its text there."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class Level(StrEnum):
    """What a role may at most be about (standard B2)."""

    SYSTEM = "system"
    DEPARTMENT = "department"
    USER = "user"
    PARTNER = "partner"


class Kind(StrEnum):
    TRYTON = "tryton"
    OPENAPI = "openapi"


class HandOver(StrEnum):
    """How the ERP's own credential is presented."""

    NONE = "none"  # the upstream needs none
    STATIC = "static"  # one key for each principal or one for all, injected by Envoy
    SESSION = "session"  # the guard keeps a session for each ERP user


class System(Struct, frozen=True, kw_only=True):
    """A protected ERP: where callers reach it and where it is."""

    name: str
    kind: Kind
    host: str
    prefix: str  # "" or "/shop": taken off before the upstream sees the path
    upstream: str  # http(s)://host:port[/base]
    audience: str
    database: str = ""
    hand_over: HandOver = HandOver.NONE
    source: Source

    @property
    def guarded(self) -> bool:
        """Every request needs a look inside: the operation is not in the URL alone."""
        return self.kind is Kind.TRYTON


class Role(Struct, frozen=True, kw_only=True):
    """`closure` is the role itself and every role it includes, however deep, sorted."""

    name: str
    level: Level
    department: str = ""
    closure: tuple[str, ...]
    source: Source


class Context(Struct, frozen=True, kw_only=True):
    """A named condition; `name` joins the names in the policy with ' + '; 'always' where there is none."""

    name: str
    formula: Formula


class Grant(Struct, frozen=True, kw_only=True):
    """`role` may do `pattern` while `context` holds. `id` is stable: `clerk/2` is the role's second `may`."""

    id: str
    role: str
    pattern: Pattern
    context: Context
    source: Source


class Parameter(Struct, frozen=True, kw_only=True):
    """A described parameter; `schema` is JSON Schema 2020-12 as JSON text."""

    name: str
    place: str  # path, query, header
    required: bool
    schema: str


class Route(Struct, frozen=True, kw_only=True, cache_hash=True):
    """An operation that the URL names: method and path template below the system's prefix, `{name}` for one segment.

    `inspect`: the guard must look at the query or the body before it passes.
    """

    system: str
    method: str
    template: str
    object: str
    verb: Verb
    action: str = ""
    parameters: tuple[Parameter, ...] = ()
    body_schema: str = ""  # "" : no body is described, none may be sent
    body_required: bool = False
    inspect: bool = False


class Apart(Struct, frozen=True, kw_only=True):
    """Nobody may do `first` and then `then`.

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
    source: Source

    @property
    def dynamic(self) -> bool:
        return self.within_days > 0


class Never(Struct, frozen=True, kw_only=True):
    """No role of this level, and none of these roles, may hold any of the patterns, whatever the context."""

    name: str
    level: Level | None = None
    roles: tuple[str, ...] = ()
    patterns: tuple[Pattern, ...]
    source: Source


class Limit(Struct, frozen=True, kw_only=True):
    """`requests` in each `seconds`; a token bucket that holds as many."""

    name: str  # "anonymous", "default" or the role's name
    requests: int
    seconds: int


class Limits(Struct, frozen=True, kw_only=True):
    anonymous: Limit  # for each address without a known caller
    default: Limit  # for each principal
    roles: tuple[
        Limit, ...
    ] = ()  # for each principal that holds the role (or one that includes it): the most generous wins
    body_bytes: int = 10 * 1024 * 1024


class WhenSilent(StrEnum):
    """What the gate does when the control side is silent: standard style rule 16, an operator's word."""

    CLOSE = "close"
    KEEP = "keep"


class Plan(Struct, frozen=True, kw_only=True, cache_hash=True):
    policy: str
    systems: tuple[System, ...]
    roles: tuple[Role, ...]
    grants: tuple[Grant, ...]
    routes: tuple[Route, ...] = ()
    apart: tuple[Apart, ...] = ()
    never: tuple[Never, ...] = ()
    limits: Limits
    when_silent: WhenSilent = WhenSilent.CLOSE
    revision: str = ""  # the content hash of everything else; set by `seal`


def seal(plan: Plan) -> Plan:
    """The plan with its revision: a hash of all it says, so that the same policy has the same revision."""
    bare = msgspec.structs.replace(plan, revision="")
    return msgspec.structs.replace(bare, revision=content_hash(msgspec.json.encode(bare, order="deterministic")))


def to_json(plan: Plan) -> bytes:
    return msgspec.json.encode(plan, order="deterministic")


def from_json(data: bytes) -> Plan:
    """The plan in `data`; raises msgspec.ValidationError when it is none."""
    return msgspec.json.decode(data, type=Plan)
