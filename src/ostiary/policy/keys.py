"""Every key of the document: what it means, what it holds, an example. Parser, JSON Schema and reference read this.

What is said of them stands in keys.toml, part by part.
"""

import re
import tomllib
from collections.abc import Callable, Mapping
from importlib import resources
from typing import Any, Final

from ostiary.policy import words
from ostiary.policy.model import Assurance, Devices, Expected, HandOver, Kind, Level, Severity, WhenSilent
from ostiary.policy.shape import Key, Part, Schema, list_of, named, one_of, part, some, text

RESERVED_LIMITS: Final = ("anonymous", "default")

# What YAML calls a number or a truth value is a text here, so an editor must not refuse it.
TEXT: Final[Schema] = {"type": ["string", "number", "boolean", "null"]}
PERMISSION: Final = text(words.PERMISSION)
TWO_LINES: Final[Schema] = {"type": "array", "items": some(PERMISSION), "minItems": 2, "maxItems": 2}
ENUMERATIONS: Final = (Assurance, Devices, Expected, HandOver, Kind, Level, Severity, WhenSilent)
# By the name that `holds` has in keys.toml: every form of `words`, every enumeration, and what is neither.
HOLDS: Final[Mapping[str, Schema]] = {
    **{name: text(form) for name, form in vars(words).items() if isinstance(form, re.Pattern)},
    **{told.__name__: one_of(told) for told in ENUMERATIONS},
    "TEXT": TEXT,
    "LINES": some({"anyOf": [PERMISSION, part("grant")]}),
    "DUTIES": {"anyOf": [TWO_LINES, some(text(words.VARIABLE))]},
    "CONDITIONS": {"type": "object", "propertyNames": text(words.FIELD), "additionalProperties": some(TEXT)},
    "RECORD": {"type": "object", "propertyNames": text(words.FIELD), "additionalProperties": TEXT},
    "HELD": {**named("value"), "additionalProperties": {**some(TEXT), "minItems": 1}},
    "LIMITS": {**named("limit"), "properties": {"default": part("default-limit")}},
}
HOLDS_OF: Final[Mapping[str, Callable[[str], Schema]]] = {"by name": named, "list": list_of, "part": part}
# What reads a text of the form; an enumeration reads its own words.
READS: Final[Mapping[str, Callable[..., Any]]] = {
    **{name.upper(): read for name, read in vars(words).items() if name.islower() and hasattr(words, name.upper())},
    **{told.__name__: told for told in ENUMERATIONS},
    "PERMISSION": words.patterns,
    "TEXT": str,
}
SCHEMA_WORDS: Final = ("default", "minItems", "maxItems")  # that keys.toml may add


def _value(told: Mapping[str, Any]) -> Schema:
    kind, _, of = told["holds"].partition(": ")
    value = HOLDS_OF[kind](of) if of else HOLDS[kind]
    if "unquoted" in told:
        value = {**value, **TEXT}
    if "many" in told:
        value = some(value)
    return {**value, **{word: told[word] for word in SCHEMA_WORDS if word in told}}


def _part(name: str, told: Mapping[str, Any]) -> Part:
    return Part(
        name=name,
        says=told["says"],
        keys=tuple(_key(key, one) for key, one in told["keys"].items()),
        needed=tuple(told.get("needed", ())),
        rules=told.get("rules", {}),
        example=told.get("example", ""),
    )


def _key(name: str, told: Mapping[str, Any]) -> Key:
    return Key(
        name=name,
        says=told["says"],
        value=_value(told),
        example=told["example"],
        field=told.get("field", name.replace("-", "_")),
        read=READS.get(told["holds"]),
        names=told.get("names", ""),
        many="many" in told,
        empty=tuple(told.get("empty", ())),
    )


_TOLD: Final = tomllib.loads((resources.files("ostiary.policy") / "keys.toml").read_text("utf-8"))
PARTS: Final[Mapping[str, Part]] = {name: _part(name, told) for name, told in _TOLD.items()}
