"""From a request to business operations, by the kind of the system it is for."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from msgspec.structs import replace

from ostiary.erp import tryton
from ostiary.erp.openapi import Match, fields_sent, operation_of
from ostiary.erp.operation import Call, Pattern, Problem, Request, Unreadable
from ostiary.foundation.home import Home
from ostiary.guard import records
from ostiary.guard.knowledge import Ready
from ostiary.plan.model import Apart, Kind, System


class Read(NamedTuple):
    """What a request would do, and for a described operation which one it is."""

    call: Call | Unreadable
    match: Match | None = None


class Adapters:
    def __init__(self, home: Home) -> None:
        self._home = home

    def read(self, ready: Ready, system: System, request: Request, *, observed: bool) -> Read:
        match system.kind:
            case Kind.OPENAPI:
                found = ready.tables[system.name].find(request.method, request.path)
                if found is None:
                    return Read(Unreadable(problem=Problem.UNKNOWN_OPERATION, detail="no such operation is described"))
                operation = operation_of(found)
                if any(pattern.holds(operation) for pattern in ready.fields):
                    operation = replace(operation, fields_written=fields_sent(found, request))
                return Read(Call(operations=(operation,)), found)
            case Kind.TRYTON:
                catalogue = self._catalogue(system.name)
                if catalogue is None:
                    detail = "what this system offers has not been learned yet"
                    return Read(Unreadable(problem=Problem.UNKNOWN_OPERATION, detail=detail))
                name, database = system.name, system.database
                call = tryton.read(request, system=name, database=database, catalogue=catalogue, observed=observed)
                return Read(call)

    def between(self, rules: Iterable[Apart]) -> Iterator[Pattern]:
        """The objects in the middle of each rule's link: who changes a record of them may turn it."""
        for rule in (rule for rule in rules if rule.steps[1:]):
            models = known.models if (known := self._catalogue(rule.then.system)) else {}
            objects = {name for name in models if rule.then.holds_object(name)}
            for step in rule.steps[:-1]:
                fields = (models[name].get(step) for name in objects)
                objects = {field.target for field in fields if field and field.target in models}
                yield from (replace(rule.then, object=name) for name in objects)

    def owners(self, system: str) -> records.Owners:
        """What the records of a system are parts of, where that is known."""
        return known.owners if (known := self._catalogue(system)) else {}

    def _catalogue(self, system: str) -> tryton.Catalogue | None:
        return tryton.learned(self._home.catalogue(system))
