"""Every key of the document: what it means, what it holds, an example. Parser, JSON Schema and reference read this.

What is said of them stands in keys.toml, part by part. The JSON Schema 2020-12, for editors, is never stricter than the
parser, which has the last word.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec import Struct, convert

from ostiary.foundation.data import beside
from ostiary.policy import words
from ostiary.policy.model import Assurance, Devices, Expected, HandOver, Kind, Level, OwnerLeaves, Severity
from ostiary.policy.words import FORMS, NAME, VARIABLE

RESERVED_LIMITS: Final = ("anonymous", "identity", "default")
ENUMERATIONS: Final = {
    one.__name__: one for one in (Assurance, Devices, Expected, HandOver, Kind, Level, OwnerLeaves, Severity)
}
# What reads the text by the name that `holds` has; an enumeration reads its own words, and there is none for what the
# parser reads by hand.
READS: Final[Mapping[str, Callable[..., Any]]] = {
    **{name.upper(): read for name, read in vars(words).items() if name.islower() and name.upper() in FORMS},
    **ENUMERATIONS,
    "PERMISSION": words.patterns,
    "TEXT": str,
}
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]


class Key(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """As keys.toml tells of it; `example` is one that the parser takes."""

    name: str
    field: str
    says: str
    holds: str
    example: Any
    names: str = ""
    many: bool = False
    unquoted: bool = False
    empty: tuple[str, ...] = ()
    default: str | None = None
    min_items: int | None = None
    max_items: int | None = None

    @property
    def read(self) -> Callable[..., Any] | None:
        return READS.get(self.holds)


class Part(Struct, frozen=True, forbid_unknown_fields=True):
    """A mapping with fixed keys. `rules`: how the keys depend on each other, as JSON Schema.

    `example`: what to write into one that says nothing, where it has to say something.
    `elsewhere`: what is looked for here, and where it stands.
    """

    name: str
    says: str
    keys: tuple[Key, ...]
    needed: tuple[str, ...] = ()
    rules: dict[str, Any] = {}
    example: str = ""
    elsewhere: dict[str, str] = {}


def _part(name: str, told: Mapping[str, Any]) -> Part:
    keys = [{"name": key, "field": key.replace("-", "_"), **one} for key, one in told["keys"].items()]
    return convert({"name": name, **told, "keys": keys}, Part)


_TOLD: Final = beside(__file__)
PARTS: Final[Mapping[str, Part]] = {name: _part(name, told) for name, told in _TOLD.items()}


# --- JSON Schema


def json_schema() -> Schema:
    """The schema, with every key's meaning and an example."""
    return {
        "$schema": DIALECT,
        "$id": "urn:ostiary:policy",
        "title": "Ostiary policy",
        **_described(PARTS["policy"]),
        "$defs": {name: _described(part) for name, part in PARTS.items() if name != "policy"},
    }


def _described(part: Part) -> Schema:
    needed = {"required": list(part.needed)} if part.needed else {}
    return {
        "description": part.says,
        "type": "object",
        "properties": {key.name: _about(key) for key in part.keys},
        **needed,
        "additionalProperties": False,
        **part.rules,
    }


def _about(key: Key) -> Schema:
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
PERMISSION: Final = _text(FORMS["PERMISSION"])
TWO_LINES: Final[Schema] = {"type": "array", "items": _some(PERMISSION), "minItems": 2, "maxItems": 2}
FIELDS: Final[Schema] = {"type": "object", "propertyNames": _text(FORMS["FIELD"])}
# By the name that `holds` has in keys.toml: every form of `words`, every enumeration, and what is neither.
HOLDS: Final[Mapping[str, Schema]] = {
    **{name: _text(form) for name, form in FORMS.items()},
    **{name: {"enum": list(map(str, told))} for name, told in ENUMERATIONS.items()},
    "TEXT": TEXT,
    "LINES": _some({"anyOf": [PERMISSION, _ref("grant")]}),
    "DUTIES": {"anyOf": [TWO_LINES, _some(_text(VARIABLE))]},
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
