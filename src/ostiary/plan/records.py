"""What lies beyond a grant of fewer fields or records; what is not established lies beyond it."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from operator import ge, gt, le, lt
from typing import Final

from msgspec import Struct

from ostiary.erp.operation import OWN, Condition, Operation, Verb

NUMBER: Final = re.compile(r"-?[0-9]{1,30}(\.[0-9]{1,30})?")
ORDER: Final = {"<": lt, "<=": le, ">": gt, ">=": ge}
Value = str | None  # as text; None where it can't be told


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


class Together:
    """What one call does to each record: looked at once, however many of its operations are about the record."""

    def __init__(self, operations: Iterable[Operation], records: Records) -> None:
        self.records = records
        self._about = defaultdict[tuple[str, str], list[Operation]](list)
        self._executing = Counter[tuple[str, str]]()
        self._written: dict[tuple[str, str, Condition], bool] = {}
        for one in operations:
            for place in ((one.object, record) for record in set(one.ids)):
                self._about[place].append(one)
                self._executing[place] += one.verb is Verb.EXECUTE

    def keeps(self, condition: Condition, record: str, operation: Operation) -> bool:
        """Whether nothing but the operation runs code on one of its records, and no value against the condition is written."""
        place = operation.object, record
        if self._executing[place] > (operation.verb is Verb.EXECUTE):
            return False
        known = (*place, condition)
        if known not in self._written:
            values = (value for one in self._about[place] for value in _told(condition.field, one))
            self._written[known] = all(_holds(condition, operation.object, value, self.records) for value in values)
        return self._written[known]


def unmet(where: Iterable[Condition], operation: Operation, call: Together) -> str:
    """The first record and condition that don't surely agree, before the call and with what it writes; "" for none."""
    for condition in where:
        if record := _astray(condition, operation, call):
            named = operation.ids or operation.sent
            why = "" if named else "; a call that names no ids is refused, whatever the records hold"
            return f"{record} is not granted: {condition}{why}"
    return ""


def _astray(condition: Condition, operation: Operation, call: Together) -> str:
    """One of the operation's records for which the condition may not hold, or to which the call may write such a value."""
    name, field, records = operation.object, condition.field, call.records
    if (name, field) not in records.stored or not (operation.ids or operation.sent):
        return name  # the ERP computes it; or nobody knows beforehand which records these are
    for one in operation.ids:
        if not _holds(condition, name, records.held.get((name, one), {}).get(field), records):
            return f"{name} {one}"
    if not operation.ids:
        made = (row.get(field) for row in map(dict, operation.sent))
        return "" if all(_holds(condition, name, value, records) for value in made) else f"a new {name}"
    return "" if all(call.keeps(condition, one, operation) for one in operation.ids) else name


def _told(field: str, operation: Operation) -> Iterator[Value]:
    """Every value that the operation writes to the field."""
    told = [row[field] for row in map(dict, operation.sent) if field in row]
    yield from told
    if field in operation.fields_written and not told:
        yield None


def _holds(condition: Condition, name: str, value: Value, records: Records) -> bool:
    match condition.compare:
        case "own":
            return value == OWN or (name, condition.field, value) in records.own
        case "in":
            return value in condition.values
        case compare:
            (bound,) = condition.values
            return bool(value and NUMBER.fullmatch(value) and ORDER[compare](Decimal(value), Decimal(bound)))
