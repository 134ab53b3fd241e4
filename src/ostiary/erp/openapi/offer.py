"""Described operations as an offer."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from ostiary.erp.offer import Offer
from ostiary.erp.operation import Verb
from ostiary.erp.route import Route


def offer(routes: Iterable[Route]) -> Offer:
    """Each operation, and of an object the fields that can be written; none where a body may hold what no schema names."""
    listed, links, open_ = tuple(routes), defaultdict[str, dict[str, str]](dict), set[str]()
    for route in (one for one in listed if one.verb is Verb.WRITE):
        schema = msgspec.json.decode(route.body_schema or "{}")
        named = set(_named(schema, schema.get("$defs", {}), set())) if isinstance(schema, dict) else set()
        if route.body_schema and not named:
            open_.add(route.object)
        names = (*named, *(one.name for one in route.parameters if one.place != "path"))
        links[route.object] |= dict.fromkeys(names, "")
    known = {name: fields for name, fields in links.items() if name not in open_}
    return Offer(operations=tuple(route.operation for route in listed), links=known)


def _named(schema: Any, definitions: Mapping[str, Any], passed: set[str]) -> Iterator[str]:
    """What stands at the top of a body, or of each row of a list. Every reference is followed once: circles end."""
    if isinstance(schema, dict):
        yield from schema.get("properties", ())
        name = schema.get("$ref", "").rpartition("/")[2]
        below = [part for key in ("allOf", "anyOf", "oneOf") for part in schema.get(key, ())]
        below += [schema.get("items"), schema.get("if"), None if name in passed else definitions.get(name)]
        passed.add(name)
        for part in below:
            yield from _named(part, definitions, passed)
