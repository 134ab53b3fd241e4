"""What a key of the document is, and the JSON Schema of what keys hold."""

import re
from collections.abc import Callable
from enum import StrEnum
from typing import Any

from msgspec import Struct

from ostiary.policy.words import NAME, VARIABLE

Schema = dict[str, Any]


class Key(Struct, frozen=True):
    """`value` is what the key holds, as JSON Schema; `example` one that the parser takes.

    `read` makes a value of each text (of a free one `str`), for the model's `field`; None: the parser reads it by hand.
    `names`: what of the document it names. `empty`: what is wrong with an empty list, and what to write instead.
    """

    name: str
    says: str
    value: Schema
    example: Any
    field: str
    read: Callable[..., Any] | None = None
    names: str = ""
    many: bool = False
    empty: tuple[str, ...] = ()


class Part(Struct, frozen=True, kw_only=True):
    """A mapping with fixed keys. `rules`: how the keys depend on each other, as JSON Schema.

    `example`: what to write into one that says nothing, where it has to say something.
    """

    name: str
    says: str
    keys: tuple[Key, ...]
    needed: tuple[str, ...] = ()
    rules: Schema = {}
    example: str = ""

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
