"""Parameters and JSON bodies against what is described; a refusal names the JSON pointer and nothing internal."""

import math
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import jiter
import jsonschema_rs

from ostiary.erp.body import as_json, strict
from ostiary.erp.openapi.document import escaped
from ostiary.erp.openapi.schema import compiled
from ostiary.erp.operation import Refused, Request, Unreadable
from ostiary.erp.route import GIVEN, Parameter, Route

QUERY_MAX_PAIRS: Final = 200
VALIDATORS_MAX: Final = 4_096
# What no business text needs: controls but tab and line ends, DEL and C1, the byte order mark, bidirectional overrides
# and isolates (Unicode TR 36, 3.2), tag characters, noncharacters, lone surrogates.
DANGEROUS: Final = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\u202a-\u202e\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff\U000e0000-\U000e007f]"
)
HUGE_NUMBER: Final = re.compile(rb"[eE]\+?\d{3}|\d{300}")
JSON_TYPE: Final = re.compile(r"application/([\w.+-]+\+)?json(\s*;\s*charset=\"?utf-8\"?)?\s*\Z", re.IGNORECASE)
PLAIN: Final = re.compile(r"[ -~]{0,8000}")  # of a header: what the gate is told whole
PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
NUMBER: Final = re.compile(r"-?(0|[1-9]\d{0,30})(\.\d{1,30})?([eE][-+]?\d{1,2})?\Z", re.ASCII)
INTEGER: Final = re.compile(r"-?(0|[1-9]\d{0,30})\Z", re.ASCII)


def validate(route: Route | None, request: Request, values: Mapping[str, str]) -> Unreadable | None:
    """None where query, path `values`, headers and body are as `route` describes them; where nothing is described,
    where the body is strict JSON (RFC 8259; no duplicate key, no NaN, UTF-8), or an XML-RPC call, without dangerous
    characters.
    """
    try:
        if route is not None:
            _check_parameters(route, request, values)
            _check_body(route, request)
        elif request.body:
            _strict_json(as_json(request))
    except Refused as refused:
        return refused.told
    return None


def _check_parameters(route: Route, request: Request, values: Mapping[str, str]) -> None:
    query = _pairs(request.query)
    described = {parameter.name for parameter in route.parameters if parameter.place == "query"}
    for name in query:
        if name not in described:
            raise Refused.invalid("a query parameter is not described", f"/query/{_escaped(name)}")
    for parameter in route.parameters:
        match parameter.place:
            case "query":
                texts = query.get(parameter.name)
            case "path":
                texts = [values[parameter.name]]
            case _:  # only the headers that the gate passes on are seen here, so none is demanded
                texts = [request.headers[parameter.name]] if parameter.name in request.headers else None
        _check_parameter(parameter, texts)


def given(route: Route, request: Request) -> dict[str, str]:
    """The headers that the system gets to see of a request that was found to be as `route` describes it."""
    return {f"{GIVEN}{name}": request.headers[name] for name in route.headers if name in request.headers}


def _pairs(query: str) -> dict[str, list[str]]:
    pairs: dict[str, list[str]] = {}
    parts = query.split("&") if query else []
    if len(parts) > QUERY_MAX_PAIRS:
        raise Refused.invalid("too many query parameters", "/query")
    for part in parts:
        name, _, value = part.partition("=")
        pairs.setdefault(_text(name), []).append(_text(value))
    return pairs


def _text(quoted: str) -> str:
    if PERCENT.search(quoted):
        raise Refused.invalid("a percent sign is not followed by two hexadecimal digits", "/query")
    try:
        text = unquote_to_bytes(quoted.replace("+", " ")).decode()
    except UnicodeDecodeError:
        raise Refused.invalid("the query is not UTF-8", "/query") from None
    if DANGEROUS.search(text):
        raise Refused.invalid("a character that is not taken", "/query")
    return text


def _check_parameter(parameter: Parameter, texts: list[str] | None) -> None:
    pointer = f"/{parameter.place}/{_escaped(parameter.name)}"
    if texts is None:
        if parameter.required and parameter.place != "header":
            raise Refused.invalid("a required parameter is missing", pointer)
        return
    schema, validator = _validator(parameter.schema)
    if any(DANGEROUS.search(text) or (parameter.place == "header" and not PLAIN.fullmatch(text)) for text in texts):
        raise Refused.invalid("a character that is not taken", pointer)
    if _types(schema) == {"array"}:
        items = texts[0].split(",") if schema.get("x-commas") and len(texts) == 1 else texts
        value: Any = [_typed(text, _types(schema.get("items"))) for text in items]
    elif len(texts) > 1:
        raise Refused.invalid("a parameter stands more than once", pointer)
    else:
        value = _typed(texts[0], _types(schema))
    _check_schema(validator, value, pointer)


def _types(schema: Any) -> set[str]:
    """The JSON types a schema names at its top; one reference into its own `$defs` is followed by the bundler."""
    if not isinstance(schema, dict):
        return set()
    named = schema.get("type", ())
    parts = [*schema.get("anyOf", ()), *(one.get("if") for one in schema.get("allOf", ()) if isinstance(one, dict))]
    own = {named} if isinstance(named, str) else set(named)
    return own.union(*map(_types, parts)) - {"null"}


def _typed(text: str, types: set[str]) -> Any:
    """The value that `text` stands for, where a schema asks for a number or a boolean; else the text itself."""
    if "integer" in types and INTEGER.match(text):
        return int(text)
    if "number" in types and NUMBER.match(text):
        return float(text)
    if "boolean" in types and text in {"true", "false"}:
        return text == "true"
    return text


def _check_body(route: Route, request: Request) -> None:
    if not route.body_schema:
        if request.body:
            raise Refused.invalid("no body is described for this operation")
        return
    if not request.body:
        if route.body_required:
            raise Refused.invalid("a body is needed")
        return
    if not JSON_TYPE.match(request.headers.get("content-type", "")):
        raise Refused.invalid("the body's type is not application/json")
    value = _strict_json(request.body)
    _check_schema(_validator(route.body_schema)[1], value, "")


def _strict_json(body: bytes) -> Any:
    value = strict(body)
    if b"\\" in body or DANGEROUS.search(body.decode()) or HUGE_NUMBER.search(body):  # else no value can hide one
        _check_texts(value, "")
    return value


def _check_texts(value: Any, pointer: str) -> None:
    match value:
        case str() if DANGEROUS.search(value):
            raise Refused.invalid("a character that is not taken", pointer)
        case float() if not math.isfinite(value):
            raise Refused.invalid("a number is too large", pointer)
        case dict():
            for key, part in value.items():
                below = f"{pointer}/{_escaped(key)}"
                _check_texts(key, below)
                _check_texts(part, below)
        case list():
            for n, part in enumerate(value):
                _check_texts(part, f"{pointer}/{n}")


@lru_cache(maxsize=VALIDATORS_MAX)
def _validator(schema: str) -> tuple[Any, jsonschema_rs.Draft202012Validator]:
    parsed = jiter.from_json(schema.encode())
    return parsed, compiled(parsed)


def _check_schema(validator: jsonschema_rs.Draft202012Validator, value: Any, pointer: str) -> None:
    if validator.is_valid(value):
        return
    try:
        validator.validate(value)  # stops at the first error; `iter_errors` makes all of them before it gives one
    except jsonschema_rs.ValidationError as first:
        error = first
    path, name = [*error.instance_path], error.kind.name
    if (missing := getattr(error.kind, "property", None)) and name == "required":
        path.append(str(missing))
    path += getattr(error.kind, "unexpected", [])[:1]  # the first of what is not described
    where = pointer + "".join(f"/{_escaped(part)}" for part in path)
    what = "its description" if name == "not" else f"{name!r} of its description"  # of a choice, `bundle` makes a `not`
    raise Refused.invalid(f"the value does not meet {what}", where)


def _escaped(name: object) -> str:
    """One reference token of a JSON pointer (RFC 6901), with nothing in it that a terminal would act on."""
    return "".join(char if char.isprintable() else "\ufffd" for char in escaped(name)[:80])
