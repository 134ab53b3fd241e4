"""The text of a document to plain values: YAML 1.2 core or JSON, bounded; references by pointer, local ones only.

And what is made of a document: its operations, and what is wrong with it.
"""

import re
from collections.abc import Hashable
from typing import Any, ClassVar, Final
from urllib.parse import unquote

import jiter
import yaml
from msgspec import Struct

from ostiary.erp.route import Route

DOCUMENT_MAX_BYTES: Final = 10 * 1024 * 1024
DEPTH_MAX: Final = 64
REFERENCE_CHAIN_MAX: Final = 16
VERSION: Final = re.compile(r"3\.[01](\.\d+)?\Z")


class Trouble(Struct, frozen=True, kw_only=True):
    """Something in the document that can't be enforced. What stands at `pointer` is left out, and so denied.

    `call`: the operation or the path, where it is about one.
    """

    pointer: str
    message: str
    call: str = ""

    def __str__(self) -> str:
        place, left_out = self.pointer or "/", f"{self.call} is left out, and so denied: {self.message}"
        return f"{left_out} ({place})" if self.call else f"{place}: {self.message}"


class Loaded(Struct, frozen=True, kw_only=True):
    """`fatal`: the document as a whole is unusable. `base`: the path below which its server has all others."""

    routes: tuple[Route, ...] = ()
    problems: tuple[Trouble, ...] = ()
    base: str = ""
    fatal: bool = False


class Refused(Exception):
    """A signal inside this package; `load` makes it a Trouble."""

    def __init__(self, pointer: str, message: str) -> None:
        super().__init__(message)
        self.trouble = Trouble(pointer=pointer, message=message)


def escaped(name: object) -> str:
    """One reference token of a JSON pointer (RFC 6901)."""
    return str(name).replace("~", "~0").replace("/", "~1")


class _Core(yaml.CSafeLoader):
    """YAML 1.2's core schema: `NO` is Norway, a date is a text; duplicate keys refused."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # type: ignore[misc] # the stubs know no class variable

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            name = getattr(key, "value", None)
            if not isinstance(name, str) or name in seen:
                line = key.start_mark.line + 1
                raise Refused("", f"line {line}: the key {str(name)[:80]!r} is given twice or no text")
            seen.add(name)
        return {str(key.value): self.construct_object(value, deep=deep) for key, value in node.value}


for tag, pattern, first in (
    ("null", r"(?:~|null|Null|NULL|)\Z", ["~", "n", "N", ""]),
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)\Z", list("tTfF")),
    ("int", r"[-+]?[0-9]+\Z", list("-+0123456789")),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z", list("-+0123456789.")),
):
    _Core.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(pattern), first)


def read_document(data: bytes) -> dict[str, Any]:
    """The document in `data`; raises Refused when it is too large, too deep, aliased, or no OpenAPI 3.0 or 3.1."""
    if len(data) > DOCUMENT_MAX_BYTES:
        raise Refused("", f"the document is larger than {DOCUMENT_MAX_BYTES} bytes")
    document = _parse(data)
    if not isinstance(document, dict):
        raise Refused("", "the document is no object")
    if not VERSION.match(str(document.get("openapi", ""))):
        raise Refused("/openapi", "only OpenAPI 3.0 and 3.1 are understood")
    return document


def _parse(data: bytes) -> Any:
    try:
        if data.lstrip()[:1] == b"{":
            return jiter.from_json(data, catch_duplicate_keys=True, allow_inf_nan=False)
        _check_events(data)
        return yaml.load(data, _Core)  # noqa: S506  a safe loader, narrowed
    except yaml.MarkedYAMLError as problem:
        line = problem.problem_mark.line + 1 if problem.problem_mark else 1
        told = " ".join(filter(None, [problem.context, problem.problem]))
        raise Refused("", f"line {line}: this is not YAML: {told}"[:300]) from problem
    except (ValueError, yaml.YAMLError) as problem:
        raise Refused("", " ".join(str(problem).split())[:300]) from problem


def _check_events(data: bytes) -> None:
    """Aliases would let a small text grow without bound; depth would exhaust the stack."""
    depth = 0
    for event in yaml.parse(data, yaml.CSafeLoader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) or getattr(event, "tag", None):
            raise Refused("", f"line {_line(event)}: anchors, aliases and tags are not taken")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEPTH_MAX:
            raise Refused("", f"line {_line(event)}: nested deeper than {DEPTH_MAX}")


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 0


def resolve(document: dict[str, Any], value: Any, pointer: str) -> tuple[Any, str]:
    """`value`, or what its chain of local references names, and where that stands."""
    for _ in range(REFERENCE_CHAIN_MAX):
        if not isinstance(value, dict) or "$ref" not in value:
            return value, pointer
        pointer = local(value["$ref"], pointer)
        value = at(document, pointer)
    raise Refused(pointer, f"a chain of more than {REFERENCE_CHAIN_MAX} references, or a circle")


def local(reference: Any, pointer: str) -> str:
    """The pointer in a reference into this document; nothing is ever fetched."""
    if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
        raise Refused(pointer, "only references into this document (#/...) are followed")
    return unquote(reference[1:])


def at(document: dict[str, Any], pointer: str) -> Any:
    value: Any = document
    for token in pointer.split("/")[1:]:
        name = token.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif isinstance(value, list) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        else:
            raise Refused(pointer, "nothing stands where this reference points")
    return value
