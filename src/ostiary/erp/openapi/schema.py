"""A schema of the document as one self-contained JSON Schema 2020-12 text."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import jsonschema_rs
import msgspec

from ostiary.erp.openapi.document import Refused, at, escaped, local

DEFINITIONS_MAX: Final = 500
SCHEMA_MAX_BYTES: Final = 256 * 1024
SCHEMAS_MAX_BYTES: Final = 64 * 1024 * 1024  # of all operations: a plan holds each, also where they name the same
WEIGHT_MAX: Final = 2_000  # schemas that judge one value: a body may hold 200,000, and each takes 10 ns at least
# Keywords whose value is a schema, a list of schemas, or a mapping of names to schemas (JSON Schema 2020-12, core):
# all of those beside it judge what a schema judges; of those inside it one judges each part of that.
BRANCHES: Final = frozenset(["not", "if", "then", "else", "allOf", "anyOf", "oneOf"])
BESIDE: Final = BRANCHES | {"dependentSchemas", "contains", "patternProperties"}
LISTED: Final = {"enum": 20, "dependentRequired": 2}  # keywords of which each entry weighs so much, one after the other
LEFT_OVER: Final = frozenset(["unevaluatedItems", "unevaluatedProperties"])
INSIDE: Final = LEFT_OVER | {"items", "prefixItems", "properties", "additionalProperties", "propertyNames"}
NAMED: Final = frozenset(["properties", "patternProperties", "dependentSchemas"])
DIALECTS: Final = frozenset(
    ["https://json-schema.org/draft/2020-12/schema", "https://spec.openapis.org/oas/3.1/dialect/base"]
)
REBASING: Final = frozenset(["$id", "$anchor", "$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$schema"])
PROSE: Final = frozenset(["description", "title", "example", "examples", "externalDocs", "$comment"])
# Definitions judge nothing: those that a reference names come along.
NOTES: Final = PROSE | {"xml", "discriminator", "deprecated", "default", "readOnly", "writeOnly", "$defs"}


class Bundler:
    """Follows references from one schema and carries what they name along as `$defs`; circles stay circles."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self._old = str(document["openapi"]).startswith("3.0")
        self._left, self._texts = SCHEMAS_MAX_BYTES, dict[str, str]()

    def bundle(self, schema: Any, pointer: str, extra: dict[str, Any] | None = None) -> str:
        """The text; raises Refused where the schema can't be enforced as it stands, or not in bounded time."""
        if self._left < 0:
            raise Refused(pointer, f"all schemas together are larger than {SCHEMAS_MAX_BYTES} bytes")
        self._targets, self._leads, parts = [pointer], list[list[int]](), list[Any]()
        for target in self._targets:  # it grows meanwhile
            self._leads.append([])
            parts.append(self._convert(at(self._document, target) if parts else schema, target))
        whole, *definitions = parts
        if definitions:
            named = {f"s{n}": one for n, one in enumerate(definitions, 1)}
            whole = {"$defs": named, **(whole if isinstance(whole, dict) else {"allOf": [whole]})}
        if extra and isinstance(whole, dict):
            whole = {**whole, **extra}
        text = msgspec.json.encode(whole, order="deterministic").decode()
        self._left -= len(text)
        if text not in self._texts:
            _check(whole, text, pointer)
            self._weigh(parts)
        return self._texts.setdefault(text, text)

    def _convert(self, schema: Any, pointer: str) -> Any:
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, dict):
            raise Refused(pointer, "a schema is an object")
        if schema.get("$schema") in DIALECTS:
            schema = {key: value for key, value in schema.items() if key != "$schema"}
        if found := REBASING & schema.keys():
            raise Refused(pointer, f"{min(found)} is not understood in a schema")
        if "$ref" in schema and self._old:  # OpenAPI 3.0.3, "Reference Object": its siblings are ignored
            schema = {"$ref": schema["$ref"]}
        whole = {key: self._keyword(key, value, pointer) for key, value in schema.items() if key not in NOTES}
        return self._decided(_from_3_0(whole) if self._old else whole)

    def _decided(self, schema: dict[str, Any]) -> dict[str, Any]:
        """The same, with a choice, and the step that closes a circle, as a condition: it is met or not.

        Else the validator makes the errors of all branches, at each level of the value, before it tells of one.
        """
        closes = "$ref" in schema and int(schema["$ref"].removeprefix("#/$defs/s")) < len(self._leads)
        whole = sorted(key for key in schema if key in {"anyOf", "oneOf"} or (key == "$ref" and closes))
        met = [{"if": {key: schema[key]}, "else": {"not": {}}} for key in whole]
        together = [{"allOf": schema["allOf"]}] if "allOf" in schema else []
        rest = {key: value for key, value in schema.items() if key not in whole}
        return {**rest, "allOf": [*together, *met]} if met else schema

    def _keyword(self, key: str, value: Any, pointer: str) -> Any:
        below = f"{pointer}/{escaped(key)}"
        if key == "$ref":
            target = local(value, pointer)
            if target not in self._targets[1:]:
                self._targets.append(target)
            if len(self._targets) > 1 + DEFINITIONS_MAX:
                raise Refused(pointer, f"more than {DEFINITIONS_MAX} schemas are reached from here")
            self._leads[-1].append(number := self._targets.index(target, 1))
            return f"#/$defs/s{number}"
        if key in NAMED and isinstance(value, dict):
            return {name: self._convert(part, f"{below}/{escaped(name)}") for name, part in value.items()}
        if key not in BESIDE | INSIDE:
            return value
        if isinstance(value, list):
            return [self._convert(part, f"{below}/{n}") for n, part in enumerate(value)]
        return self._convert(value, below)

    def _weigh(self, parts: Sequence[Any]) -> None:
        """Refuses what would be judged without end: a chain in which each names the next twice doubles at each link.

        A circle is weighed once: the validator remembers what it found in one.
        """
        known: dict[str, tuple[int, int]] = {}
        told = f"with all it refers to, each time it does, it is more than {WEIGHT_MAX} schemas for one value"
        for number in _inner_first(self._leads):
            known[f"#/$defs/s{number}"] = weight = _weight(parts[number], known)
            if max(weight) > WEIGHT_MAX:
                raise Refused(
                    self._targets[number],
                    f"{told}; name each once, not in several parts of allOf or anyOf, and few numbers in an enum",
                )


def _from_3_0(schema: dict[str, Any]) -> dict[str, Any]:
    """OpenAPI 3.0's own dialect to 2020-12: `nullable`, and exclusive limits that were flags."""
    for flag, limit in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if isinstance(schema.get(flag), bool) and schema.pop(flag) and limit in schema:
            schema[flag] = schema.pop(limit)
    if schema.pop("nullable", False) is True and "type" in schema:
        schema = {"anyOf": [{"type": "null"}, schema]}
    return schema


def _check(schema: Any, text: str, pointer: str) -> None:
    if len(text) > SCHEMA_MAX_BYTES:
        raise Refused(pointer, f"the schema with all it refers to is larger than {SCHEMA_MAX_BYTES} bytes")
    try:
        compiled(schema)
    except (jsonschema_rs.ValidationError, ValueError) as problem:
        hint = "; patterns may have no look-around or back references" if "regex" in str(problem) else ""
        why = str(problem).splitlines()[0][:200]
        raise Refused(pointer, f"not a schema that can be enforced: {why}{hint}") from None


def compiled(schema: Any) -> jsonschema_rs.Draft202012Validator:
    """In linear time: no look-around in a pattern, and no back reference. Nothing is fetched."""
    linear = jsonschema_rs.RegexOptions()
    return jsonschema_rs.Draft202012Validator(schema, validate_formats=True, offline=True, pattern_options=linear)


def _inner_first(leads: Sequence[Sequence[int]]) -> list[int]:
    """Each behind those it leads to, but where that is a circle."""
    done, begun, ahead = dict[int, None](), set[int](), [*reversed(range(len(leads)))]
    while ahead:
        if (number := ahead[-1]) in begun:
            done[ahead.pop()] = None
        else:
            begun.add(number)
            ahead += [one for one in leads[number] if one not in begun]
    return [*done]


def _weight(schema: Any, known: Mapping[str, tuple[int, int]]) -> tuple[int, int]:
    """How many schemas judge a value, and how many at most one that lies in it."""
    own = within = inside = 0
    for key, value in schema.items() if isinstance(schema, dict) else ():
        if key in INSIDE:
            inside = max(inside, *(max(_weight(part, known)) for part in _parts(key, value)), 0)
        elif key in LISTED and not _looked_up(value):
            own += LISTED[key] * len(value)
        elif key in BESIDE or key == "$ref":
            parts = (_weight(part, known) for part in _parts(key, value))
            found = [known.get(value, (1, 0))] if key == "$ref" else [*parts]
            own, within = own + sum(one for one, _ in found), within + sum(one for _, one in found)
    again = isinstance(schema, dict) and not LEFT_OVER.isdisjoint(schema)  # to find what is left over
    return 1 + own * (1 + again), within * (1 + again) + inside


def _looked_up(values: Any) -> bool:
    """Whether the validator finds a value among these at once, as texts alone; it compares others one by one."""
    return isinstance(values, list) and all(value is None or isinstance(value, str) for value in values)


def _parts(key: str, value: Any) -> Iterable[Any]:
    return value.values() if key in NAMED else value if isinstance(value, list) else (value,)
