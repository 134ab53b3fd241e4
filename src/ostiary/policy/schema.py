"""JSON Schema 2020-12 of the document, for editors: never stricter than the parser, which has the last word."""

from typing import Any, Final

from ostiary.policy.keys import PARTS
from ostiary.policy.shape import Key, Part

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """The schema, with every key's meaning and an example."""
    return {
        "$schema": DIALECT,
        "$id": "urn:ostiary:policy",
        "title": "Ostiary policy",
        **_part(PARTS["policy"]),
        "$defs": {name: _part(part) for name, part in PARTS.items() if name != "policy"},
    }


def _part(part: Part) -> dict[str, Any]:
    needed = {"required": list(part.needed)} if part.needed else {}
    return {
        "description": part.says,
        "type": "object",
        "properties": {key.name: _key(key) for key in part.keys},
        **needed,
        "additionalProperties": False,
        **part.rules,
    }


def _key(key: Key) -> dict[str, Any]:
    return {"description": key.says, **key.value, "examples": [key.example]}
