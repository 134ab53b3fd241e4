"""One request's walk: the operations found so far, what a path of fields reads, and how much may be asked at once.

A filter or an order by another object's field tells what that field holds (CVE-2024-36259, PYSEC-2019-127), so it
counts as reading it. What is written may create, write, copy and delete records of other objects: each is an operation
of its own.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, NoReturn

from msgspec.structs import replace

from ostiary.erp.catalogue import Field, Site
from ostiary.erp.operation import Operation, Refused, Verb

OPERATIONS_MAX: Final = 1_000
STEPS_MAX: Final = 50_000  # fields, clauses and values in one request: a tenth of a second
DEPTH_MAX: Final = 16
HOPS_MAX: Final = 8
IDS_MAX: Final = 10_000
ID_MAX: Final = 2**63 - 1
# Names as in a request, none of them long. Each text is read in one way only: were `_` also what parts the words of an
# object's name, the ways to read a name of many would double with each.
OBJECT: Final = r"([a-z0-9_][A-Za-z0-9_]{0,99}(?:\.[A-Za-z0-9_]{1,100}){0,9})"
METHOD: Final = "([A-Za-z][A-Za-z0-9_]{0,99})"


class Place(NamedTuple):
    """Where a path of fields begins and ends: the object's own field, and the last field of all, of the object `at`."""

    head: str
    end: Field
    at: str


class Walk:
    """One request's operations, the one it was sent for first.

    `name`: the field that a link shows of the record it leads to.
    """

    def __init__(self, site: Site, name: str) -> None:
        self.site, self.catalogue, self._name = site, site.catalogue, frozenset({name})
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
            system=self.site.name, object=object_, verb=verb, action=action, ids=tuple(ids), pointer=pointer, **fields
        )

    def beyond(self, method: str) -> None:
        """Notes what is never opened, and passes in observation alone."""
        if not self.site.observed:
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
            raise Refused.unknown(f"there is no object {shown(name)}")
        return fields

    def field(self, model: str, name: str, pointer: str) -> Field:
        field = self.model(model).get(name)
        if field is None:
            raise Refused.unknown(f"{model} has no field {shown(name)}", pointer)
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
        return Place(names[0], end, at)

    def parts(self, model: str) -> set[str]:
        """The object, and all whose records are copied with its records, however deep."""
        found, ahead = set[str](), [model]
        while ahead:
            found.add(name := ahead.pop())
            targets = {one.target for one in self.model(name).values() if one.type == "one2many" and one.copied}
            ahead += targets - found - {""}
        return found

    def names(self, target: str, pointer: str) -> None:
        """A link shown, sorted or compared by name reads the name of the record it leads to."""
        self.model(target)
        self.does(target, Verb.READ, "search", pointer=pointer, fields_read=self._name)

    def compares(self, field: Field, value: Any, pointer: str) -> None:
        """A link compared with a text is compared with the name of the record it leads to."""
        if field.target and any(isinstance(one, str) for one in (value if isinstance(value, list) else [value])):
            self.names(field.target, pointer)

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


def dead_end(path: str, pointer: str) -> NoReturn:
    raise Refused.unknown(f"{shown(path)} leads nowhere that is known", pointer)


def shown(text: str) -> str:
    """The caller's own word, cut: it is sent back in an answer."""
    return repr(text[:60])
