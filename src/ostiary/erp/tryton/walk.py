"""Walks fields, domains and values, and gathers every operation: what links lead to is read or written too.

A filter or an order by another object's field tells what that field holds (CVE-2024-36259, PYSEC-2019-127), so it
counts as reading it. A value may create, write and delete records of other objects: each is an operation of its own.
"""

from collections.abc import Sequence
from typing import Any, Final, NoReturn

from msgspec.structs import replace

from ostiary.erp.operation import Operation, Problem, Unreadable, Verb
from ostiary.erp.tryton.catalogue import MANY, Catalogue, Field

OPERATIONS_MAX: Final = 2_000
DEPTH_MAX: Final = 16
HOPS_MAX: Final = 8
IDS_MAX: Final = 10_000
CONTEXT_PRIVATE: Final = frozenset({"_timestamp", "_datetime"})  # the only private keys that Tryton hears


class Refused(Exception):
    """A signal inside this package; `read` gives it back as a value."""

    def __init__(self, problem: Problem, detail: str, pointer: str = "") -> None:
        super().__init__(detail)
        self.told = Unreadable(problem=problem, detail=detail, pointer=pointer)

    @classmethod
    def unknown(cls, detail: str, pointer: str = "") -> "Refused":
        return cls(Problem.UNKNOWN_OPERATION, detail, pointer)

    @classmethod
    def invalid(cls, detail: str, pointer: str = "") -> "Refused":
        return cls(Problem.INVALID, detail, pointer)


class Walk:
    """One request's operations, the one it was sent for first."""

    def __init__(self, system: str, catalogue: Catalogue) -> None:
        self._system = system
        self.catalogue = catalogue
        self._found: dict[tuple[str, ...], Operation] = {}

    @property
    def operations(self) -> tuple[Operation, ...]:
        return tuple(self._found.values())

    def does(
        self,
        object_: str,
        verb: Verb,
        action: str,
        ids: Sequence[str] = (),
        pointer: str = "",
        **fields: frozenset[str],
    ) -> None:
        """Notes one operation; said again of the same place, its fields add up."""
        key = (object_, verb, action, *ids, pointer)
        known = self._found.get(key)
        if known is not None:
            self._found[key] = replace(known, **{name: getattr(known, name) | more for name, more in fields.items()})
            return
        if len(self._found) >= OPERATIONS_MAX:
            raise Refused(Problem.TOO_LARGE, f"more than {OPERATIONS_MAX} operations in one request", pointer)
        self._found[key] = Operation(
            system=self._system, object=object_, verb=verb, action=action, ids=tuple(ids), pointer=pointer, **fields
        )

    def model(self, name: str) -> dict[str, Field]:
        fields = self.catalogue.models.get(name)
        if fields is None:
            raise Refused.unknown(f"there is no object {_shown(name)}")
        return fields

    def reads(self, model: str, paths: Sequence[str], *, pointer: str) -> frozenset[str]:
        """The object's own fields among `paths`; what lies behind a dot is read in the object it leads to."""
        return frozenset(self._path(model, path, pointer) for path in paths)

    def _path(self, model: str, path: str, pointer: str) -> str:
        names = path.split(".")
        if len(names) > HOPS_MAX:
            raise Refused.invalid("the field's path is too long", pointer)
        at = model
        for number, name in enumerate(names):
            last = number == len(names) - 1
            field = self._field(at, name.partition(":")[0] if last else name, pointer)
            if number:
                self.does(at, Verb.READ, "read", pointer=pointer, fields_read=frozenset({name}))
            if not last:
                at = field.target or self._dead_end(path, pointer)
        return names[0].partition(":")[0]

    def _field(self, model: str, name: str, pointer: str) -> Field:
        field = self.model(model).get(name)
        if field is None:
            raise Refused.unknown(f"{model} has no field {_shown(name)}", pointer)
        return field

    def _dead_end(self, path: str, pointer: str) -> NoReturn:
        raise Refused.unknown(f"{_shown(path)} leads nowhere that is known", pointer)

    def filters(self, model: str, domain: Any, *, pointer: str, depth: int = DEPTH_MAX) -> frozenset[str]:
        """The object's own fields that a domain looks at."""
        if not isinstance(domain, list) or depth == 0:
            raise Refused.invalid("a domain is a list, not nested too deeply", pointer)
        if _is_clause(domain):
            return self._clause(model, domain, pointer, depth)
        parts = domain[1:] if domain[:1] in (["AND"], ["OR"]) else domain
        found: frozenset[str] = frozenset()
        for number, part in enumerate(parts):
            found |= self.filters(model, part, pointer=f"{pointer}/{number}", depth=depth - 1)
        return found

    def _clause(self, model: str, clause: list[Any], pointer: str, depth: int) -> frozenset[str]:
        path, operator, value = clause[:3]
        head = self._path(model, path, pointer)
        if operator in {"where", "not where"}:
            target = self._target(model, path, pointer)
            below = self.filters(target, value, pointer=f"{pointer}/2", depth=depth - 1)
            self.does(target, Verb.READ, "search", pointer=pointer, filter_fields=below)
        elif not isinstance(operator, str):
            raise Refused.invalid("a clause is [field, operator, value]", pointer)
        elif len(clause) > 3 or self._leads_on(model, path):  # noqa: PLR2004  field, operator, value, object
            self._through(model, path, clause, pointer)
        return frozenset({head})

    def _leads_on(self, model: str, path: str) -> bool:
        """A link compared with a text is compared with the name of the record it leads to."""
        return bool(self._target_or_none(model, path))

    def _through(self, model: str, path: str, clause: list[Any], pointer: str) -> None:
        named = clause[3] if len(clause) > 3 else None  # noqa: PLR2004
        targets = {self._target_or_none(model, path), named} - {None, ""}
        for target in sorted(str(target) for target in targets):
            self.model(target)
            if len(clause) > 3 or _holds_text(clause[2]):  # noqa: PLR2004
                self.does(target, Verb.READ, "search", pointer=pointer, filter_fields=frozenset({"rec_name"}))

    def _target(self, model: str, path: str, pointer: str) -> str:
        return self._target_or_none(model, path) or self._dead_end(path, pointer)

    def _target_or_none(self, model: str, path: str) -> str:
        at = model
        for name in path.split("."):
            field = self.catalogue.field(at, name)
            at = field.target if field else ""
        return at

    def orders(self, model: str, order: Any, *, pointer: str) -> frozenset[str]:
        if order is None:
            return frozenset()
        if not isinstance(order, list):
            raise Refused.invalid("an order is a list of [field, direction]", pointer)
        found = set()
        for number, part in enumerate(order):
            match part:
                case [str(path), str() | None]:
                    found.add(self._path(model, path, f"{pointer}/{number}"))
                case _:
                    raise Refused.invalid("an order is a list of [field, direction]", f"{pointer}/{number}")
        return frozenset(found)

    def writes(self, model: str, values: Any, *, pointer: str, depth: int = DEPTH_MAX) -> frozenset[str]:
        """The fields that `values` writes; commands in them are operations on the objects they lead to."""
        if not isinstance(values, dict) or depth == 0:
            raise Refused.invalid("values are a mapping, not nested too deeply", pointer)
        for name, value in values.items():
            field = self._field(model, name, f"{pointer}/{name}")
            if field.type in MANY and value is not None:
                self._commands(field.target, value, f"{pointer}/{name}", depth)
            elif field.type not in {"dict", "multiselection"} and isinstance(value, list):
                raise Refused.invalid(f"{name} takes no list", f"{pointer}/{name}")
        return frozenset(values)

    def _commands(self, target: str, commands: Any, pointer: str, depth: int) -> None:
        self.model(target)
        if not isinstance(commands, list):
            raise Refused.invalid("a link to many takes a list of commands", pointer)
        for number, command in enumerate(commands):
            self._command(target, command, f"{pointer}/{number}", depth)

    def _command(self, target: str, command: Any, pointer: str, depth: int) -> None:
        match command:
            case ["create", list(rows)]:
                self.creates(target, rows, pointer=pointer, depth=depth - 1)
            case ["write", _, _, *_]:
                self.pairs(target, command[1:], pointer=pointer, depth=depth - 1)
            case ["delete", list(ids)]:
                self.does(target, Verb.DELETE, "delete", numbers(ids, pointer), pointer)
            case ["add" | "remove", list(ids)]:
                self.does(target, Verb.WRITE, "write", numbers(ids, pointer), pointer)
            case ["copy", list(ids), *values] if len(values) <= 1:
                written = self.writes(target, (values or [{}])[0], pointer=pointer, depth=depth - 1)
                self.does(target, Verb.WRITE, "copy", numbers(ids, pointer), pointer, fields_written=written)
            case _:
                raise Refused.unknown("the command in a link is not known", pointer)

    def creates(self, model: str, rows: Any, *, pointer: str, depth: int = DEPTH_MAX) -> None:
        if not isinstance(rows, list):
            raise Refused.invalid("a list of values is needed", pointer)
        written: frozenset[str] = frozenset()
        self.does(model, Verb.WRITE, "create", pointer=pointer)
        for number, values in enumerate(rows):
            written |= self.writes(model, values, pointer=f"{pointer}/{number}", depth=depth)
        self.does(model, Verb.WRITE, "create", pointer=pointer, fields_written=written)

    def pairs(self, model: str, pairs: Sequence[Any], *, pointer: str, depth: int = DEPTH_MAX) -> None:
        """`ids, values, ids, values, ...`: several writes in one call."""
        if not pairs or len(pairs) % 2:
            raise Refused.invalid("ids and values come in pairs", pointer)
        for number in range(0, len(pairs), 2):
            at = f"{pointer}/{number}"
            ids = numbers(pairs[number], at)
            self.does(model, Verb.WRITE, "write", ids, at)
            written = self.writes(model, pairs[number + 1], pointer=f"{pointer}/{number + 1}", depth=depth)
            self.does(model, Verb.WRITE, "write", ids, at, fields_written=written)


def numbers(ids: Any, pointer: str) -> tuple[str, ...]:
    """Record ids as texts; a number alone, or a list of them, each once."""
    listed = [ids] if isinstance(ids, int) else ids
    if not isinstance(listed, list) or len(listed) > IDS_MAX:
        raise Refused.invalid("record ids are a list of numbers", pointer)
    if not all(type(one) is int for one in listed) or len(set(listed)) != len(listed):
        raise Refused.invalid("record ids are different whole numbers", pointer)
    return tuple(map(str, listed))


def context(value: Any, pointer: str) -> None:
    """Tryton takes settings from the context; those that begin with `_` are not the caller's."""
    if not isinstance(value, dict):
        raise Refused.invalid("the last parameter is the context, a mapping", pointer)
    for name in value:
        if name.startswith("_") and name not in CONTEXT_PRIVATE:
            raise Refused.invalid("the context holds a private key", f"{pointer}/{name}")


def _holds_text(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and any(isinstance(one, str) for one in value))


def _is_clause(domain: list[Any]) -> bool:
    return (
        len(domain) >= 3  # noqa: PLR2004  field, operator, value
        and isinstance(domain[0], str)
        and domain[0] not in {"AND", "OR"}
    )


def _shown(text: str) -> str:
    """The caller's own word, cut: it is sent back in an answer."""
    return repr(text[:60])
