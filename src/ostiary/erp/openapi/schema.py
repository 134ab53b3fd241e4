"""A schema of the document as one self-contained JSON Schema 2020-12 text."""

from typing import Any, Final

import jsonschema_rs
import msgspec

from ostiary.erp.openapi.document import at, local
from ostiary.erp.openapi.model import Refused, escaped

DEFINITIONS_MAX: Final = 500
SCHEMA_MAX_BYTES: Final = 256 * 1024
# Keywords whose value is a schema, a list of schemas, or a mapping of names to schemas (JSON Schema 2020-12, core).
PARTS: Final = frozenset(["items", "contains", "additionalProperties", "propertyNames"])
ONE: Final = PARTS | {"not", "if", "then", "else", "unevaluatedItems", "unevaluatedProperties"}
MANY: Final = frozenset(["allOf", "anyOf", "oneOf", "prefixItems"])
NAMED: Final = frozenset(["properties", "patternProperties", "dependentSchemas", "$defs"])
REBASING: Final = frozenset(["$id", "$anchor", "$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$schema"])
PROSE: Final = frozenset(["description", "title", "example", "examples", "externalDocs", "$comment"])
NOTES: Final = PROSE | {"xml", "discriminator", "deprecated", "default", "readOnly", "writeOnly"}


class Bundler:
    """Follows references from one schema and carries what they name along as `$defs`; circles stay circles."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self._old = str(document["openapi"]).startswith("3.0")

    def bundle(self, schema: Any, pointer: str, extra: dict[str, Any] | None = None) -> str:
        """The text; raises Refused where the schema can't be enforced as it stands."""
        names: dict[str, str] = {}
        whole = self._convert(schema, pointer, names)
        definitions: dict[str, Any] = {}
        while len(definitions) < len(names):
            for target, name in list(names.items()):
                if name not in definitions:
                    definitions[name] = self._convert(at(self._document, target), target, names)
        if definitions:
            whole = {"$defs": definitions, **(whole if isinstance(whole, dict) else {"allOf": [whole]})}
        if extra and isinstance(whole, dict):
            whole = {**whole, **extra}
        return _checked(whole, pointer)

    def _convert(self, schema: Any, pointer: str, names: dict[str, str]) -> Any:
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, dict):
            raise Refused(pointer, "a schema is an object")
        if found := REBASING & schema.keys():
            raise Refused(pointer, f"{min(found)} is not understood in a schema")
        if "$ref" in schema and self._old:  # OpenAPI 3.0.3, "Reference Object": its siblings are ignored
            schema = {"$ref": schema["$ref"]}
        whole = {key: self._keyword(key, value, pointer, names) for key, value in schema.items() if key not in NOTES}
        return _from_3_0(whole) if self._old else whole

    def _keyword(self, key: str, value: Any, pointer: str, names: dict[str, str]) -> Any:
        below = f"{pointer}/{escaped(key)}"
        if key == "$ref":
            target = local(value, pointer)
            if target not in names and len(names) >= DEFINITIONS_MAX:
                raise Refused(pointer, f"more than {DEFINITIONS_MAX} schemas are reached from here")
            return f"#/$defs/{names.setdefault(target, f's{len(names)}')}"
        if key in ONE:
            return self._convert(value, below, names)
        if key in MANY and isinstance(value, list):
            return [self._convert(part, f"{below}/{n}", names) for n, part in enumerate(value)]
        if key in NAMED and isinstance(value, dict):
            return {name: self._convert(part, f"{below}/{escaped(name)}", names) for name, part in value.items()}
        return value


def _from_3_0(schema: dict[str, Any]) -> dict[str, Any]:
    """OpenAPI 3.0's own dialect to 2020-12: `nullable`, and exclusive limits that were flags."""
    for flag, limit in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if isinstance(schema.get(flag), bool) and schema.pop(flag) and limit in schema:
            schema[flag] = schema.pop(limit)
    if schema.pop("nullable", False) is True and "type" in schema:
        schema = {"anyOf": [{"type": "null"}, schema]}
    return schema


def _checked(schema: Any, pointer: str) -> str:
    text = msgspec.json.encode(schema, order="deterministic").decode()
    if len(text) > SCHEMA_MAX_BYTES:
        raise Refused(pointer, f"the schema with all it refers to is larger than {SCHEMA_MAX_BYTES} bytes")
    try:
        options = jsonschema_rs.RegexOptions()
        jsonschema_rs.Draft202012Validator(schema, validate_formats=True, offline=True, pattern_options=options)
    except (jsonschema_rs.ValidationError, ValueError) as problem:
        hint = "; patterns may have no look-around or back references" if "regex" in str(problem) else ""
        raise Refused(
            pointer, f"not a schema that can be enforced: {str(problem).splitlines()[0][:200]}{hint}"
        ) from None
    return text
