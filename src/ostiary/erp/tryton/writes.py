"""What is written: values of records, and the commands in them that make, change and delete others."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ostiary.erp.catalogue import MANY, ONE
from ostiary.erp.operation import OWN, Refused, Verb
from ostiary.erp.walk import DEPTH_MAX, Walk

CONTEXT_PRIVATE: Final = frozenset({"_timestamp"})  # `_datetime`, the other one that Tryton hears, reads the past
NAME: Final = "rec_name"  # what a link shows of the record it leads to
LISTS = frozenset({"dict", "multiselection"})  # types of a field that take a list as their value
MAKER = "create_uid"
MEANT = frozenset({"true", "false", OWN})  # a text like that must not be taken for what it is not
Row = frozenset[tuple[str, str | None]]


def context(value: Any, pointer: str) -> None:
    """Tryton takes settings from the context; those that begin with `_`, and the user, are not the caller's to set."""
    if not isinstance(value, dict):
        raise Refused.invalid("the last parameter is the context, a mapping", pointer)
    for name in value:
        if name == "user" or (name.startswith("_") and name not in CONTEXT_PRIVATE):
            raise Refused.invalid("the context holds a private key", f"{pointer}/{name[:20]}")


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
    for part in sorted(walk.parts(model) - {model}):
        walk.does(part, Verb.WRITE, "copy", pointer=pointer, fields_written=_all(walk, part))


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
