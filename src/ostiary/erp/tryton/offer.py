"""A learned catalogue as an offer."""

from collections.abc import Iterator
from typing import Final

from ostiary.erp.offer import Offer
from ostiary.erp.operation import Operation, Verb
from ostiary.erp.tryton.catalogue import Catalogue
from ostiary.erp.tryton.rpc import BY_NAME, FORM

VERBS: Final = {"create": Verb.WRITE, "write": Verb.WRITE, "copy": Verb.WRITE, "delete": Verb.DELETE}


def offer(catalogue: Catalogue, system: str) -> Offer:
    """Each method as the operation that `read` would find in a call of it, and where each field leads."""
    links = {name: {key: field.target for key, field in fields.items()} for name, fields in catalogue.models.items()}
    return Offer(operations=tuple(_operations(catalogue, system)), links=links)


def _operations(catalogue: Catalogue, system: str) -> Iterator[Operation]:
    for name in catalogue.models:  # a path of fields reads any of them
        yield Operation(system=system, object=name, verb=Verb.READ, action="read")
    for place, methods in catalogue.methods.items():
        kind, _, name = place.partition(".")
        for method in methods:
            if kind in {"wizard", "report"}:
                yield Operation(system=system, object=place, verb=Verb.EXECUTE, action=method)
            elif kind == "model" and FORM.fullmatch(method) is None:
                verb = VERBS.get(method, Verb.READ) if method in BY_NAME else Verb.EXECUTE
                yield Operation(system=system, object=name, verb=verb, action=method)
