"""What a key of the document is, and the JSON Schema of what keys hold."""

import re
from enum import StrEnum
from typing import Any

from msgspec import Struct

from ostiary.policy.words import NAME, VARIABLE

Schema = dict[str, Any]


class Key(Struct, frozen=True):
    """`value` is what the key holds, as JSON Schema; `example` one that the parser takes."""

    name: str
    says: str
    value: Schema
    example: Any


class Part(Struct, frozen=True, kw_only=True):
    """A mapping with fixed keys. `rules`: how the keys depend on each other, as JSON Schema."""

    name: str
    says: str
    keys: tuple[Key, ...]
    needed: tuple[str, ...] = ()
    rules: Schema = {}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(key.name for key in self.keys)


def text(form: re.Pattern[str]) -> Schema:
    """A variable may stand for it."""
    return {"type": "string", "pattern": f"^(?:{form.pattern}|{VARIABLE.pattern})$"}


def one_of(told: type[StrEnum]) -> Schema:
    return {"enum": [str(word) for word in told]}


def some(item: Schema) -> Schema:
    """One value alone counts as a list of one."""
    return {"anyOf": [item, {"type": "array", "items": item}]}


def part(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def named(name: str) -> Schema:
    names = {"pattern": f"^(?:{NAME.pattern})$"}
    return {"type": "object", "propertyNames": names, "additionalProperties": part(name)}


def list_of(name: str) -> Schema:
    return {"type": "array", "items": part(name)}
