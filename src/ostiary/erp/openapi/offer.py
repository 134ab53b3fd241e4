"""Described operations as an offer."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from ostiary.erp.offer import Offer
from ostiary.erp.operation import Verb
from ostiary.erp.route import Route

CHOICES: Final = ("allOf", "anyOf", "oneOf")


def offer(routes: Iterable[Route]) -> Offer:
    """Each operation, and of an object the fields that can be written; none where a body may hold what no schema names."""
    listed, fields, unknown = tuple(routes), defaultdict[str, dict[str, str]](dict), set[str]()
    for route in listed:
        if route.verb is Verb.WRITE:
            schema = msgspec.json.decode(route.body_schema) if route.body_schema else {}
            named = set(_named(schema, schema.get("$defs", {}), set())) if isinstance(schema, dict) else set()
            unknown |= {route.object} if route.body_schema and not named else set()
            named |= {one.name for one in route.parameters if one.place != "path"}
            fields[route.object] |= dict.fromkeys(named, "")
    links = {name: told for name, told in fields.items() if name not in unknown}
    return Offer(operations=tuple(route.operation for route in listed), links=links)


def _named(schema: Any, definitions: Mapping[str, Any], passed: set[str]) -> Iterator[str]:
    """What stands at the top of a body, or of each row of a list. Every reference is followed once: circles end."""
    if isinstance(schema, dict):
        yield from schema.get("properties", ())
        below = [part for key in CHOICES for part in schema.get(key, ())] + [schema.get("items")]
        name = schema.get("$ref", "").rpartition("/")[2]
        below += [definitions.get(name)] if name not in passed else []
        passed.add(name)
        for part in below:
            yield from _named(part, definitions, passed)
