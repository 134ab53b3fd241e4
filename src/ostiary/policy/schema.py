"""JSON Schema 2020-12 of the document, for editors: never stricter than the parser, which has the last word."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from ostiary.policy import words
from ostiary.policy.keys import ENUMERATIONS, PARTS, Key, Part
from ostiary.policy.words import NAME, VARIABLE

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]


def json_schema() -> Schema:
    """The schema, with every key's meaning and an example."""
    return {
        "$schema": DIALECT,
        "$id": "urn:ostiary:policy",
        "title": "Ostiary policy",
        **_part(PARTS["policy"]),
        "$defs": {name: _part(part) for name, part in PARTS.items() if name != "policy"},
    }


def _part(part: Part) -> Schema:
    needed = {"required": list(part.needed)} if part.needed else {}
    return {
        "description": part.says,
        "type": "object",
        "properties": {key.name: _key(key) for key in part.keys},
        **needed,
        "additionalProperties": False,
        **part.rules,
    }


def _key(key: Key) -> Schema:
    kind, _, of = key.holds.partition(": ")
    value = HOLDS_OF[kind](of) if of else HOLDS[kind]
    if key.unquoted:
        value = {**value, **TEXT}
    if key.many:
        value = _some(value)
    bounds = {"default": key.default, "minItems": key.min_items, "maxItems": key.max_items}
    told = {word: bound for word, bound in bounds.items() if bound is not None}
    return {"description": key.says, **value, **told, "examples": [key.example]}


def _text(form: re.Pattern[str]) -> Schema:
    """A variable may stand for it."""
    return {"type": "string", "pattern": f"^(?:{form.pattern}|{VARIABLE.pattern})$"}


def _some(item: Schema) -> Schema:
    """One value alone counts as a list of one."""
    return {"anyOf": [item, {"type": "array", "items": item}]}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def _named(name: str) -> Schema:
    names = {"pattern": f"^(?:{NAME.pattern})$"}
    return {"type": "object", "propertyNames": names, "additionalProperties": _ref(name)}


# What YAML calls a number or a truth value is a text here, so an editor must not refuse it.
TEXT: Final[Schema] = {"type": ["string", "number", "boolean", "null"]}
PERMISSION: Final = _text(words.PERMISSION)
TWO_LINES: Final[Schema] = {"type": "array", "items": _some(PERMISSION), "minItems": 2, "maxItems": 2}
FIELDS: Final[Schema] = {"type": "object", "propertyNames": _text(words.FIELD)}
# By the name that `holds` has in keys.toml: every form of `words`, every enumeration, and what is neither.
HOLDS: Final[Mapping[str, Schema]] = {
    **{name: _text(form) for name, form in vars(words).items() if isinstance(form, re.Pattern)},
    **{name: {"enum": list(map(str, told))} for name, told in ENUMERATIONS.items()},
    "TEXT": TEXT,
    "LINES": _some({"anyOf": [PERMISSION, _ref("grant")]}),
    "DUTIES": {"anyOf": [TWO_LINES, _some(_text(words.VARIABLE))]},
    "CONDITIONS": {**FIELDS, "additionalProperties": _some(TEXT)},
    "RECORD": {**FIELDS, "additionalProperties": TEXT},
    "HELD": {**_named("value"), "additionalProperties": {**_some(TEXT), "minItems": 1}},
    "LIMITS": {**_named("limit"), "properties": {"default": _ref("default-limit")}},
}
HOLDS_OF: Final[Mapping[str, Callable[[str], Schema]]] = {
    "by name": _named,
    "list": lambda name: {"type": "array", "items": _ref(name)},
    "part": _ref,
}
