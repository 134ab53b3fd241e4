"""A request against the described operations: the one it is for, or nothing."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, unquote_to_bytes

from msgspec.structs import replace

from ostiary.erp.operation import Operation, Request
from ostiary.erp.route import Route
from ostiary.foundation import strict_json

PATH_MAX_BYTES: Final = 8_000
SEGMENTS_MAX: Final = 64
# RFC 3986 pchar without ";" (path parameters, which servers read differently); escapes are checked once decoded.
SEGMENT: Final = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,=:@-]|%[0-9A-Fa-f]{2})+\Z")
HIDDEN: Final = re.compile(r"[/\\%;\x00-\x1f\x7f-\x9f]")


class Match(NamedTuple):
    route: Route
    values: Mapping[str, str]  # path parameter -> decoded text


class Table:
    """The operations as a tree by segment: a request costs its own length, whatever the document's size."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._root = _Node()
        for route in routes:
            node = self._root
            for segment in route.template.split("/")[1:]:
                literal = "" if segment.startswith("{") else f"/{segment}"
                node.folded.add(literal.lower())
                node = node.children.setdefault(literal, _Node())
            node.routes[route.method] = route

    def find(self, method: str, path: str) -> Match | None:
        """Literal segments win over parameters, from the left; any odd spelling matches nothing."""
        segments = _segments(path)
        node = None if segments is None else _descend(self._root, segments)
        route = None if node is None else node.routes.get(method)
        if segments is None or route is None:
            return None
        pairs = zip(route.template.split("/")[1:], segments, strict=True)
        return Match(route, {name[1:-1]: _decoded(value) or "" for name, value in pairs if name.startswith("{")})


class _Node:
    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.folded: set[str] = set()  # what is a literal there in whatever letters is no parameter's value
        self.routes: dict[str, Route] = {}


def _descend(node: _Node, segments: Sequence[str]) -> _Node | None:
    """At most two branches a level, and a template's own depth: bounded by the document, not by the caller."""
    if not segments:
        return node if node.routes else None
    literal = f"/{segments[0]}"
    free = segments[0] and (literal in node.children or literal.lower() not in node.folded)
    for key in (literal, "") if free else (literal,):
        child = node.children.get(key)
        found = None if child is None else _descend(child, segments[1:])
        if found is not None:
            return found
    return None


def _segments(path: str) -> list[str] | None:
    if not path.startswith("/") or len(path) > PATH_MAX_BYTES:
        return None
    segments = path.split("/")[1:]
    body = segments[:-1] if segments[-1] == "" else segments
    fine = len(segments) <= SEGMENTS_MAX and all(SEGMENT.match(s) and _decoded(s) is not None for s in body)
    return segments if fine else None


def _decoded(segment: str) -> str | None:
    """The text of a segment; None where decoding gives a separator, a dot segment or another escape."""
    if "%" not in segment:
        return None if segment in {".", ".."} else segment
    try:
        text = unquote_to_bytes(segment).decode()
    except UnicodeDecodeError:
        return None
    return None if HIDDEN.search(text) or text in {".", ".."} else text


def operation_of(match: Match) -> Operation:
    """The business operation; the last path parameter names the record."""
    return replace(match.route.operation, ids=tuple(match.values.values())[-1:])


def fields_sent(match: Match, request: Request) -> frozenset[str]:
    """What stands at the body's top, and what query and headers name; a body that is not JSON is refused elsewhere."""
    try:
        body = strict_json.parse(request.body) if request.body else {}
    except strict_json.NotStrict:
        body = {}
    rows = body if isinstance(body, list) else [body]
    named = {name for row in rows for name in (row if isinstance(row, dict) else ["a body without names"])}
    named.update(name for name, _ in parse_qsl(request.query, keep_blank_values=True))
    headers = {one.name for one in match.route.parameters if one.place == "header"}
    return frozenset(named | headers.intersection(request.headers))
