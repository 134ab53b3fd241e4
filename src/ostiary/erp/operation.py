"""The normal form of a business call: what an adapter says a request would do."""

from enum import StrEnum
from typing import Final, Literal

from msgspec import Struct

POINTER_MAX_CHARS: Final = 200
OWN: Final = "own"  # as a value: the caller's own; no adapter takes it from a request


class Verb(StrEnum):
    """The four kinds of permission (standard B3)."""

    READ = "read"
    WRITE = "write"
    EXECUTE = "execute"
    DELETE = "delete"


def doing(verb: Verb, action: str) -> str:
    return f"{verb}.{action}" if action else str(verb)


class Operation(Struct, frozen=True, kw_only=True):
    """One business operation on one object; a nested write or a batch part is an operation of its own.

    `action` is the ERP's own method name (`create`, `approve`), "" where HTTP alone says it.
    `ids` is empty for a creation or where the request names none. `fields_read` are those shown, and those that a filter
    or an order tells of. `sent`: each row that is written, its values as texts, None for what is no plain value.
    `fields_computed`: of these fields those for which the ERP writes others, nobody knows which; perhaps those of a record
    that this one is a part of, and of the objects `part_of`.
    `pointer` is the JSON pointer of the part.
    """

    system: str
    object: str
    verb: Verb
    action: str = ""
    ids: tuple[str, ...] = ()
    fields_read: frozenset[str] = frozenset()
    fields_written: frozenset[str] = frozenset()
    fields_computed: frozenset[str] = frozenset()
    part_of: frozenset[str] = frozenset()
    sent: frozenset[frozenset[tuple[str, str | None]]] = frozenset()
    pointer: str = ""

    @property
    def permission(self) -> str:
        """`erp/account.payment:execute.approve`, the most exact name of what is done."""
        return f"{self.system}/{self.object}:{doing(self.verb, self.action)}"

    @property
    def pattern(self) -> "Pattern":
        """Of just this."""
        return Pattern(system=self.system, object=self.object, verb=self.verb, action=self.action)


def operation_named(permission: str) -> Operation | None:
    """`erp/account.payment:execute.approve` back as what it names."""
    place, _, act = permission.rpartition(":")
    system, _, name = place.partition("/")
    verb, _, action = act.partition(".")
    if not name or verb not in set(Verb):
        return None
    return Operation(system=system, object=name, verb=Verb(verb), action=action)


class Call(Struct, frozen=True, kw_only=True):
    """A request that was understood: everything in it, the operation it was sent for first.

    `opened`: not for observation alone, where the ERP's own client may do what no policy can grant.
    """

    operations: tuple[Operation, ...]
    opened: bool = True


class Problem(StrEnum):
    """Each is a `plan.decide.Reason` too."""

    UNKNOWN_OPERATION = "unknown-operation"
    INVALID = "invalid"
    TOO_LARGE = "too-large"


class Unreadable(Struct, frozen=True, kw_only=True):
    """A request that was not understood, and is therefore denied. `detail` names nothing internal.

    `operations`: what was understood of it until then. Only who may do these is told what is wrong with the rest.
    """

    problem: Problem
    detail: str
    pointer: str = ""
    operations: tuple[Operation, ...] = ()


class Refused(Exception):
    """A signal inside an adapter, which gives `told` back as a value."""

    def __init__(self, problem: Problem, detail: str, pointer: str = "") -> None:
        super().__init__(detail)
        self.told = Unreadable(problem=problem, detail=detail, pointer=pointer[:POINTER_MAX_CHARS])

    @classmethod
    def unknown(cls, detail: str, pointer: str = "") -> "Refused":
        return cls(Problem.UNKNOWN_OPERATION, detail, pointer)

    @classmethod
    def invalid(cls, detail: str, pointer: str = "") -> "Refused":
        return cls(Problem.INVALID, detail, pointer)

    @classmethod
    def too_large(cls, detail: str, pointer: str = "") -> "Refused":
        return cls(Problem.TOO_LARGE, detail, pointer)


class Request(Struct, frozen=True, kw_only=True):
    """An HTTP request as the gate saw it: path as on the wire, for an adapter below the system's prefix; header names lower case."""

    method: str
    path: str
    query: str = ""
    headers: dict[str, str] = {}
    body: bytes = b""


class Pattern(Struct, frozen=True, kw_only=True, gc=False):
    """A set of operations of one system: an object or a `prefix.*` or `*`, one verb, perhaps one action.

    `sale.*` holds every object that begins with `sale.`; `action` "" holds every action of the verb.
    """

    system: str
    object: str
    verb: Verb
    action: str = ""

    def holds(self, other: "Operation | Pattern") -> bool:
        """Of a pattern: every operation that is in it."""
        return (
            self.system == other.system
            and self.verb is other.verb
            and self.action in ("", other.action)
            and self.holds_object(other.object)
        )

    def holds_object(self, name: str) -> bool:
        """An object, or every one of a pattern's."""
        if self.object == "*":
            return True
        return name.startswith(self.object[:-1]) if self.object.endswith(".*") else name == self.object

    @property
    def operation(self) -> Operation:
        """An operation in it; where it holds many, one that needs not exist."""
        name = f"{self.object[:-1]}anything" if self.object.endswith("*") else self.object
        return Operation(system=self.system, object=name, verb=self.verb, action=self.action)

    def both(self, other: "Pattern") -> "Pattern":
        """What is in this one and in the other, which it meets."""
        name = other.object if self.holds_object(other.object) else self.object
        return Pattern(system=self.system, object=name, verb=self.verb, action=self.action or other.action)

    def meets(self, other: "Pattern") -> bool:
        """Some operation is in both."""
        return (
            self.system == other.system
            and self.verb is other.verb
            and (self.action == other.action or "" in (self.action, other.action))
            and (self.holds_object(other.object) or other.holds_object(self.object))
        )

    def within(self, other: "Pattern") -> bool:
        """Every operation of this one is in `other`."""
        return other.holds(self)

    def __str__(self) -> str:
        """Also the scope that grants just this: `erp/sale.*:read`, `erp/account.payment:execute.approve`."""
        return f"{self.system}/{self.object}:{doing(self.verb, self.action)}"


class Condition(Struct, frozen=True, kw_only=True, gc=False):
    """What a field of the record must hold: the caller's own, one of `values`, or a number on one side of the only one."""

    field: str
    compare: Literal["own", "in", "<", "<=", ">", ">="]
    values: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.field} {self.compare} {', '.join(self.values)}".rstrip()


def covering_scopes(operation: Operation | Pattern) -> tuple[str, ...]:
    """Every scope text that covers all of `operation`, the most exact first; at most 2 × (segments + 1)."""
    segments = operation.object.split(".")
    objects = [operation.object, *(".".join(segments[:n]) + ".*" for n in range(len(segments) - 1, 0, -1)), "*"]
    verbs = dict.fromkeys((doing(operation.verb, operation.action), str(operation.verb)))
    return tuple(f"{operation.system}/{name}:{verb}" for name in dict.fromkeys(objects) for verb in verbs)
