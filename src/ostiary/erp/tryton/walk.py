"""One request's walk: the operations found so far, what a path of fields reads, and how much may be asked at once.

A filter or an order by another object's field tells what that field holds (CVE-2024-36259, PYSEC-2019-127), so it
counts as reading it; `domain` walks these. What is written may create, write, copy and delete records of other objects:
each is an operation of its own.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, NoReturn

from msgspec.structs import replace

from ostiary.erp.operation import OWN, Operation, Refused, Verb
from ostiary.erp.tryton.catalogue import MANY, Catalogue, Field

OPERATIONS_MAX: Final = 1_000
STEPS_MAX: Final = 50_000  # fields, clauses and values in one request: a tenth of a second
DEPTH_MAX: Final = 16
HOPS_MAX: Final = 8
IDS_MAX: Final = 10_000
ID_MAX: Final = 2**63 - 1
CONTEXT_PRIVATE: Final = frozenset({"_timestamp"})  # `_datetime`, the other one that Tryton hears, reads the past
# Names as in a request, none of them long. Each text is read in one way only: were `_` also what parts the words of an
# object's name, the ways to read a name of many would double with each.
OBJECT: Final = r"([a-z0-9_][A-Za-z0-9_]{0,99}(?:\.[A-Za-z0-9_]{1,100}){0,9})"
METHOD: Final = "([A-Za-z][A-Za-z0-9_]{0,99})"
NAME: Final = frozenset({"rec_name"})  # what a link shows of the record it leads to
ONE = frozenset({"many2one", "one2one"})
LISTS = frozenset({"dict", "multiselection"})  # types of a field that take a list as their value
MAKER = "create_uid"
MEANT = frozenset({"true", "false", OWN})  # a text like that must not be taken for what it is not
Row = frozenset[tuple[str, str | None]]


class Place(NamedTuple):
    """Where a path of fields begins and ends: the object's own field, and the last field of all."""

    head: str
    end: Field


class Walk:
    """One request's operations, the one it was sent for first."""

    def __init__(self, system: str, catalogue: Catalogue, *, observed: bool = False) -> None:
        self._system, self._observed = system, observed
        self.catalogue = catalogue
        self.opened = True
        self._found: dict[tuple[str, ...], Operation] = {}
        self._steps = self._ids = 0

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
        **fields: frozenset[Any],
    ) -> None:
        """Notes one operation; said again of the same place, its fields add up."""
        names = {name for row in fields.get("sent", ()) for name, _ in row}
        fields["fields_computed"] = frozenset(name for name in names if self.catalogue.computes(object_, name))
        owners = self.catalogue.owners.get(object_, {}) if fields["fields_computed"] else {}
        fields["part_of"] = frozenset(owners.values())
        key = (object_, verb, action, *ids, pointer)
        known = self._found.get(key)
        if known is not None:
            self._found[key] = replace(known, **{name: getattr(known, name) | more for name, more in fields.items()})
            return
        if len(self._found) >= OPERATIONS_MAX:
            raise Refused.too_large(f"more than {OPERATIONS_MAX} operations in one request", pointer)
        self._found[key] = Operation(
            system=self._system, object=object_, verb=verb, action=action, ids=tuple(ids), pointer=pointer, **fields
        )

    def beyond(self, method: str) -> None:
        """Notes what is never opened, and passes in observation alone."""
        if not self._observed:
            raise Refused.unknown("this kind of method is not open", "/method")
        self.opened = False
        object_, _, action = method.rpartition(".")
        self.does(object_, Verb.EXECUTE, action, pointer="/method")

    def step(self, pointer: str) -> None:
        """Counts one part of the request."""
        self._steps += 1
        if self._steps > STEPS_MAX:
            raise Refused.too_large(f"more than {STEPS_MAX} fields, conditions and values in one request", pointer)

    def model(self, name: str) -> dict[str, Field]:
        fields = self.catalogue.models.get(name)
        if fields is None:
            raise Refused.unknown(f"there is no object {_shown(name)}")
        return fields

    def field(self, model: str, name: str, pointer: str) -> Field:
        field = self.model(model).get(name)
        if field is None:
            raise Refused.unknown(f"{model} has no field {_shown(name)}", pointer)
        return field

    def reads(self, model: str, paths: Any, *, pointer: str) -> frozenset[str]:
        """The object's own fields among `paths`; what lies behind a dot is read in the object it leads to."""
        return frozenset(self.path(model, path, pointer).head for path in texts(paths, pointer))

    def path(self, model: str, path: str, pointer: str) -> Place:
        """Follows `party.addresses.city`; each object on the way is read."""
        names = path.split(".")
        if len(names) > HOPS_MAX:
            raise Refused.invalid("the field's path is too long", pointer)
        names[-1] = names[-1].removesuffix(":string")  # the text of a selection
        at, end = model, Field("")
        for number, name in enumerate(names):
            self.step(pointer)
            if number:
                at = end.target or dead_end(path, pointer)
                self.does(at, Verb.READ, "read", pointer=pointer, fields_read=frozenset({name}))
            end = self.field(at, name, pointer)
        return Place(names[0], end)

    def names(self, target: str, pointer: str) -> None:
        """A link shown, sorted or compared by name reads the name of the record it leads to."""
        self.model(target)
        self.does(target, Verb.READ, "search", pointer=pointer, fields_read=NAME)

    def ids(self, value: Any, pointer: str) -> tuple[str, ...]:
        """Record ids as texts; a number alone, or a list of them, each once. Tryton would take 5.0, "5" and true too."""
        listed = [value] if type(value) is int else value
        if not isinstance(listed, list):
            raise Refused.invalid("record ids are a list of numbers", pointer)
        self._ids += len(listed)
        if self._ids > IDS_MAX:
            raise Refused.too_large(f"more than {IDS_MAX} record ids in one request", pointer)
        if not all(type(one) is int and 0 < one <= ID_MAX for one in listed) or len(set(listed)) != len(listed):
            raise Refused.invalid("record ids are different whole numbers above 0", pointer)
        return tuple(map(str, listed))


def texts(value: Any, pointer: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise Refused.invalid("fields are a list of texts", pointer)
    return value


def context(value: Any, pointer: str) -> None:
    """Tryton takes settings from the context; those that begin with `_`, and the user, are not the caller's to set."""
    if not isinstance(value, dict):
        raise Refused.invalid("the last parameter is the context, a mapping", pointer)
    for name in value:
        if name == "user" or (name.startswith("_") and name not in CONTEXT_PRIVATE):
            raise Refused.invalid("the context holds a private key", f"{pointer}/{name[:20]}")


def dead_end(path: str, pointer: str) -> NoReturn:
    raise Refused.unknown(f"{_shown(path)} leads nowhere that is known", pointer)


def _shown(text: str) -> str:
    """The caller's own word, cut: it is sent back in an answer."""
    return repr(text[:60])


# --- what is written


def plain(value: Any) -> str | None:
    """A value of Tryton's JSON as text; None for nothing, for many, and for what two readers could read differently."""
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return repr(value)
        case str() if value not in MEANT:
            return value
        case {"__class__": "Decimal", "decimal": str(text), **more} if not more:
            return text
    return None


def row(values: Mapping[str, Any], unknown: frozenset[str] = frozenset()) -> Row:
    """What is written; of `unknown` fields the ERP itself chooses the value."""
    return frozenset((name, None if name in unknown else plain(value)) for name, value in values.items())


def creates(
    walk: Walk, model: str, rows: Any, *, pointer: str, depth: int = DEPTH_MAX, back: frozenset[str] = frozenset()
) -> None:
    """`back`: the fields of nested records by which the ERP itself links them to the record they are made with."""
    if not isinstance(rows, list):
        raise Refused.invalid("a list of values is needed", pointer)
    written, sent = back, set[Row]()
    walk.does(model, Verb.WRITE, "create", pointer=pointer)
    for number, values in enumerate(rows):
        written |= writes(walk, model, values, pointer=f"{pointer}/{number}", depth=depth)
        sent.add(row(values, back) | (set() if MAKER in values else {(MAKER, OWN)}))
    walk.does(model, Verb.WRITE, "create", pointer=pointer, fields_written=written, sent=frozenset(sent))


def pairs(walk: Walk, model: str, listed: Sequence[Any], *, pointer: str, depth: int = DEPTH_MAX) -> None:
    """`ids, values, ids, values, ...`: several writes in one call."""
    if not listed or len(listed) % 2:
        raise Refused.invalid("ids and values come in pairs", pointer)
    for number in range(0, len(listed), 2):
        at = f"{pointer}/{number}"
        ids = walk.ids(listed[number], at)
        walk.does(model, Verb.WRITE, "write", ids, at)
        written = writes(walk, model, listed[number + 1], pointer=f"{pointer}/{number + 1}", depth=depth)
        told = frozenset({row(listed[number + 1])})
        walk.does(model, Verb.WRITE, "write", ids, at, fields_written=written, sent=told)


def copies(walk: Walk, model: str, ids: Any, values: Any, *, pointer: str, depth: int = DEPTH_MAX) -> None:
    """A copy is new records of the object and of all that belongs to it, however deep."""
    numbers = walk.ids(ids, pointer)
    walk.does(model, Verb.WRITE, "copy", numbers, pointer, fields_written=_all(walk, model))
    written = writes(walk, model, {} if values is None else values, pointer=pointer, depth=depth)
    walk.does(model, Verb.WRITE, "copy", numbers, pointer, sent=frozenset({row(values or {}, written)}))
    for part in sorted(_parts(walk, model) - {model}):
        walk.does(part, Verb.WRITE, "copy", pointer=pointer, fields_written=_all(walk, part))


def _parts(walk: Walk, model: str) -> set[str]:
    found, ahead = set(), [model]
    while ahead:
        found.add(name := ahead.pop())
        targets = {field.target for field in walk.model(name).values() if field.type == "one2many"}
        ahead += targets - found - {""}
    return found


def _all(walk: Walk, model: str) -> frozenset[str]:
    return frozenset(walk.model(model))


def writes(walk: Walk, model: str, values: Any, *, pointer: str, depth: int = DEPTH_MAX) -> frozenset[str]:
    """The fields that `values` writes; commands in them are operations on the objects they lead to."""
    if not isinstance(values, dict) or depth == 0:
        raise Refused.invalid("values are a mapping, not nested too deeply", pointer)
    for name, value in values.items():
        walk.step(pointer)
        at = f"{pointer}/{name[:60]}"
        field = walk.field(model, name, at)
        if field.type in MANY and value is not None:
            _commands(walk, model, field.target, value, pointer=at, depth=depth)
        elif field.type not in LISTS and isinstance(value, list):
            raise Refused.invalid("this field takes no list", at)
        elif field.type in ONE and value is not None and type(value) is not int:
            raise Refused.invalid("a link to one record is its number", at)  # Tryton would take "07", 7.5 and true too
    return frozenset(values)


def _commands(walk: Walk, model: str, target: str, commands: Any, *, pointer: str, depth: int) -> None:
    walk.model(target)
    if not isinstance(commands, list):
        raise Refused.invalid("a link to many takes a list of commands", pointer)
    back = _back(walk, model, target)
    for number, command in enumerate(commands):
        _command(walk, target, command, back, pointer=f"{pointer}/{number}", depth=depth)


def _command(walk: Walk, target: str, command: Any, back: frozenset[str], *, pointer: str, depth: int) -> None:
    """`create`, `copy`, `add` and `remove` also write the field of the target that leads back."""
    match command:
        case ["create", list(rows)]:
            creates(walk, target, rows, pointer=pointer, depth=depth - 1, back=back)
        case ["write", _, _, *_]:
            pairs(walk, target, command[1:], pointer=pointer, depth=depth - 1)
        case ["delete", list(ids)]:
            walk.does(target, Verb.DELETE, "delete", walk.ids(ids, pointer), pointer)
        case ["add" | "remove", list(ids)]:
            walk.does(target, Verb.WRITE, "write", walk.ids(ids, pointer), pointer, fields_written=back)
        case ["copy", list(ids), *values] if len(values) <= 1:
            copies(walk, target, ids, (values or [{}])[0], pointer=pointer, depth=depth - 1)
        case _:
            raise Refused.unknown("the command in a link is not known", pointer)


def _back(walk: Walk, model: str, target: str) -> frozenset[str]:
    """Every field of the target that may lead back: the catalogue does not say which one it is."""
    back = {name for name, field in walk.model(target).items() if field.target == model or field.type == "reference"}
    return frozenset(back - {"create_uid", "write_uid"})
