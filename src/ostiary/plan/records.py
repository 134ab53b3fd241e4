"""What lies beyond a grant of fewer fields or records; what is not established lies beyond it."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from operator import ge, gt, le, lt
from typing import Final

from msgspec import Struct

from ostiary.erp.operation import OWN, Condition, Operation, Verb

NUMBER: Final = re.compile(r"-?[0-9]{1,30}(\.[0-9]{1,30})?")
ORDER: Final = {"<": lt, "<=": le, ">": gt, ">=": ge}
Value = str | None  # as text; None where it can't be told
Together = Mapping[tuple[str, str], Sequence[Operation]]  # object, id -> all that one call does to the record


class Records(Struct, frozen=True, kw_only=True):
    """What was established: fields that the ERP stores, what records hold of them, which values are the caller's own."""

    stored: frozenset[tuple[str, str]] = frozenset()  # object, field
    held: Mapping[tuple[str, str], Mapping[str, Value]] = {}  # object, id
    own: frozenset[tuple[str, str, str]] = frozenset()  # object, field, value

    def __add__(self, more: "Records") -> "Records":
        return Records(stored=self.stored | more.stored, held={**self.held, **more.held}, own=self.own | more.own)


def beyond(fields: Sequence[str], operation: Operation) -> frozenset[str]:
    """The fields that the operation names and the grant does not; an id alone may always be read.

    A grant of every field is none of fields that write others: what these are, nobody can say.
    """
    named = operation.fields_written | (operation.fields_read - {"id"})
    return (named if fields else operation.fields_computed).difference(fields)


def unmet(where: Iterable[Condition], operation: Operation, call: Together, records: Records) -> str:
    """The first record and condition that don't surely agree, before the call and with what it writes; "" for none."""
    for condition in where:
        for record, value in _values(condition.field, operation, call, records):
            if not _holds(condition, operation.object, value, records):
                named = operation.ids or operation.sent
                why = "" if named else "; a call that names no ids is refused, whatever the records hold"
                return f"{record} is not granted: {condition}{why}"
    return ""


def _values(field: str, operation: Operation, call: Together, records: Records) -> Iterator[tuple[str, Value]]:
    """Every value that the field has in the operation's records, or gets there by the call."""
    name = operation.object
    if (name, field) not in records.stored or not (operation.ids or operation.sent):
        yield name, None  # the ERP computes it; or nobody knows beforehand which records these are
    for one in operation.ids:
        yield f"{name} {one}", records.held.get((name, one), {}).get(field)
    for row in () if operation.ids else map(dict, operation.sent):
        yield f"a new {name}", row.get(field)
    about = {id(other): other for record in operation.ids for other in call[name, record]}
    for other in {id(operation): operation, **about}.values():
        told = [row[field] for row in map(dict, other.sent) if field in row]
        unknown = other.verb is Verb.EXECUTE and other is not operation
        yield from ((name, value) for value in told)
        if unknown or (field in other.fields_written and not told):
            yield name, None


def _holds(condition: Condition, name: str, value: Value, records: Records) -> bool:
    match condition.compare:
        case "own":
            return value == OWN or (name, condition.field, value) in records.own
        case "in":
            return value in condition.values
        case compare:
            (bound,) = condition.values
            return bool(value and NUMBER.fullmatch(value) and ORDER[compare](Decimal(value), Decimal(bound)))
