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


def one_of(told: type[StrEnum], default: str = "") -> Schema:
    return {"enum": [str(word) for word in told], **({"default": str(default)} if default else {})}


def some(item: Schema) -> Schema:
    """One value alone counts as a list of one."""
    return {"anyOf": [item, {"type": "array", "items": item}]}


def needs(key: str, told: tuple[str, ...], then: str) -> Schema:
    held = {"properties": {key: {"enum": list(told)}}, "required": [key]}
    return {"if": held, "then": {"required": [then]}}


def named(part: str) -> Schema:
    return {
        "type": "object",
        "propertyNames": {"pattern": f"^(?:{NAME.pattern})$"},
        "additionalProperties": {"$ref": f"#/$defs/{part}"},
    }


def list_of(part: str) -> Schema:
    return {"type": "array", "items": {"$ref": f"#/$defs/{part}"}}
