"""YAML as a tree with positions: YAML 1.2 core scalars, no tags, anchors, aliases or duplicate keys, and limits."""

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import yaml

from ostiary.policy.problem import Problem

TEXT_MAX_BYTES: Final = 1024 * 1024
DEPTH_MAX: Final = 32
NODES_MAX: Final = 200_000
LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Report = Callable[["Node | tuple[int, int]", str, str], None]


class Scalar(NamedTuple):
    text: str
    line: int
    column: int


class Sequence(NamedTuple):
    items: tuple["Node", ...]
    line: int
    column: int


class Mapping(NamedTuple):
    entries: dict[str, tuple[Scalar, "Node"]]
    line: int
    column: int


Node = Scalar | Sequence | Mapping


class Unreadable(Exception):
    def __init__(self, line: int, column: int, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.where = (line, column, message, hint)


def read(text: str, file: str) -> tuple[Node | None, list[Problem]]:
    """The document's tree, or the first thing that keeps it from being one."""
    try:
        return _document(text), []
    except Unreadable as problem:
        line, column, message, hint = problem.where
        return None, [Problem(file=file, line=line, column=column, message=message, hint=hint)]
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        said = getattr(problem, "problem", None) or getattr(problem, "reason", None) or "not YAML"
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        return None, [Problem(file=file, line=line, column=column, message=f"this is not YAML: {said}")]
    except (UnicodeEncodeError, ValueError) as problem:
        return None, [Problem(file=file, line=1, column=1, message=f"the text is not valid: {problem}")]


def _document(text: str) -> Node:
    if len(text.encode()) > TEXT_MAX_BYTES:
        raise Unreadable(1, 1, f"the document is larger than {TEXT_MAX_BYTES} bytes", "split it")
    events: Iterator[Any] = iter(yaml.parse(text, Loader=LOADER))
    left = [NODES_MAX]
    root: Node | None = None
    for event in events:
        if isinstance(event, yaml.DocumentStartEvent):
            if root is not None:
                raise Unreadable(_line(event), 1, "there is a second document", "one document in one file")
        elif isinstance(event, yaml.NodeEvent):
            root = _node(event, events, left, DEPTH_MAX)
    if root is None:
        raise Unreadable(1, 1, "the document is empty", "policy: NAME")
    return root


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _node(event: Any, events: Iterator[Any], left: list[int], depth: int) -> Node:
    line, column = _line(event), event.start_mark.column + 1
    left[0] -= 1
    if isinstance(event, yaml.AliasEvent) or event.anchor:
        raise Unreadable(line, column, "anchors and aliases are not used here", "write it out")
    if event.tag is not None:
        raise Unreadable(line, column, f"tags such as {event.tag} are not used here", "remove it")
    if depth == 0 or left[0] < 0:
        raise Unreadable(line, column, "the document is nested too deeply or too large", "simplify it")
    match event:
        case yaml.ScalarEvent():
            return Scalar(event.value, line, column)
        case yaml.SequenceStartEvent():
            items = []
            while not isinstance(inner := next(events), yaml.SequenceEndEvent):
                items.append(_node(inner, events, left, depth - 1))
            return Sequence(tuple(items), line, column)
    return Mapping(_entries(events, left, depth), line, column)


def _entries(events: Iterator[Any], left: list[int], depth: int) -> dict[str, tuple[Scalar, Node]]:
    entries: dict[str, tuple[Scalar, Node]] = {}
    while not isinstance(inner := next(events), yaml.MappingEndEvent):
        key = _node(inner, events, left, depth - 1)
        if not isinstance(key, Scalar):
            raise Unreadable(key.line, key.column, "a key is a word", "name: value")
        if key.text in entries:
            earlier = entries[key.text][0].line
            raise Unreadable(key.line, key.column, f"{key.text!r} stands already in line {earlier}", "keep one of them")
        entries[key.text] = (key, _node(next(events), events, left, depth - 1))
    return entries
