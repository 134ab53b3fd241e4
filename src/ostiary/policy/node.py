"""YAML as a tree with positions: YAML 1.2 core scalars, no tags, anchors, aliases or duplicate keys, and limits.

Whatever two readers could read differently is refused: characters that can't be seen, odd line ends, texts that go over
several lines.
"""

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import yaml

from ostiary.policy.problem import Problem

TEXT_MAX_BYTES: Final = 1024 * 1024
SCALAR_MAX_CHARS: Final = 1000
DEPTH_MAX: Final = 32
NODES_MAX: Final = 200_000
LIMITS: Final = f"at most {DEPTH_MAX} levels and {NODES_MAX} values"
LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# Controls, line ends other than \n and \r\n, and what turns the reading order (the "Trojan Source" characters).
UNSEEN: Final = re.compile(
    "[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufffe\uffff\ud800-\udfff]|\r(?!\n)"
)

Place = tuple[int, int]  # line and column, from 1


class Scalar(NamedTuple):
    """`end`: the column behind it, in the same line."""

    text: str
    line: int
    column: int
    end: int
    file: str = ""


class Sequence(NamedTuple):
    """`end`: the place behind `]`; None for one that is written in lines."""

    items: tuple["Node", ...]
    line: int
    column: int
    end: Place | None
    file: str = ""


class Mapping(NamedTuple):
    """`end`: the place behind `}`; None for one that is written in lines."""

    entries: dict[str, tuple[Scalar, "Node"]]
    line: int
    column: int
    end: Place | None
    file: str = ""


Node = Scalar | Sequence | Mapping


def names_in(node: Node | None) -> tuple[str, ...]:
    """The keys of a mapping, understood or not."""
    return tuple(node.entries) if isinstance(node, Mapping) else ()


def value_at(of: Node | None, key: str) -> Node | None:
    """What stands under the key, where `of` is a mapping that has it."""
    return of.entries[key][1] if isinstance(of, Mapping) and key in of.entries else None


def items_of(node: Node | None) -> tuple[Node, ...]:
    """The items of a list; one value alone counts as a list of one."""
    return node.items if isinstance(node, Sequence) else () if node is None else (node,)


def problem_at(node: Node, message: str, hint: str = "") -> Problem:
    return Problem(file=node.file, line=node.line, column=node.column, message=message, hint=hint)


def says_nothing(node: Node) -> bool:
    return isinstance(node, Mapping) and not node.entries


class _Reading:
    """How many nodes may still come, of which file."""

    def __init__(self, file: str) -> None:
        self.file, self.left = file, NODES_MAX


class Unreadable(Exception):
    def __init__(self, line: int, column: int, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.where = (line, column, message, hint)


def read(text: str, file: str) -> tuple[Node | None, list[Problem]]:
    """The document's tree, or the first thing that keeps it from being one."""
    try:
        return _document(text, file), []
    except Unreadable as problem:
        line, column, message, hint = problem.where
        return None, [Problem(file=file, line=line, column=column, message=message, hint=hint)]
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        said = getattr(problem, "problem", None) or getattr(problem, "reason", None) or "not YAML"
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        return None, [Problem(file=file, line=line, column=column, message=f"this is not YAML: {said}")]


def _document(text: str, file: str) -> Node:
    _check_characters(text)
    if len(text.encode()) > TEXT_MAX_BYTES:
        raise Unreadable(1, 1, f"the document is larger than {TEXT_MAX_BYTES} bytes", "split it")
    events: Iterator[Any] = iter(yaml.parse(text, Loader=LOADER))
    reading = _Reading(file)
    root: Node | None = None
    for event in events:
        if isinstance(event, yaml.DocumentStartEvent):
            if root is not None:
                raise Unreadable(*_place(event.start_mark), "there is a second document", "one document in one file")
        elif isinstance(event, yaml.NodeEvent):
            root = _node(event, events, reading, DEPTH_MAX)
    if root is None:
        raise Unreadable(1, 1, "the document is empty", "policy: NAME")
    return root


def _check_characters(text: str) -> None:
    found = UNSEEN.search(text)
    if found:
        before = text[: found.start()]
        line, column = before.count("\n") + 1, found.start() - before.rfind("\n")
        raise Unreadable(line, column, f"U+{ord(found[0]):04X} is a character that can't be seen", "remove it")


def _place(mark: Any) -> Place:
    return int(mark.line) + 1, int(mark.column) + 1


def _node(event: Any, events: Iterator[Any], reading: _Reading, depth: int) -> Node:
    line, column = _place(event.start_mark)
    reading.left -= 1
    if isinstance(event, yaml.AliasEvent) or event.anchor:
        raise Unreadable(line, column, "anchors and aliases are not used here", "write it out")
    if event.tag is not None:
        raise Unreadable(line, column, f"tags such as {event.tag} are not used here", "remove it")
    if depth == 0 or reading.left < 0:
        raise Unreadable(line, column, "the document is nested too deeply or too large", LIMITS)
    match event:
        case yaml.ScalarEvent():
            return _scalar(event, reading.file)
        case yaml.SequenceStartEvent():
            items = []
            while not isinstance(inner := next(events), yaml.SequenceEndEvent):
                items.append(_node(inner, events, reading, depth - 1))
            return Sequence(tuple(items), line, column, _closed(event, inner), reading.file)
    entries, last = _entries(events, reading, depth)
    return Mapping(entries, line, column, _closed(event, last), reading.file)


def _scalar(event: Any, file: str) -> Scalar:
    (line, column), (last, end) = _place(event.start_mark), _place(event.end_mark)
    if last != line or event.style in {"|", ">"}:
        raise Unreadable(line, column, "a text stands in one line", '"the text", in quotes')
    if len(event.value) > SCALAR_MAX_CHARS:
        raise Unreadable(line, column, f"the text is longer than {SCALAR_MAX_CHARS} characters", "shorten it")
    if not event.value.isprintable():
        raise Unreadable(line, column, f"{event.value!r} has characters that can't be seen", "remove them")
    return Scalar(event.value, line, column, end, file)


def _closed(start: Any, last: Any) -> Place | None:
    return _place(last.end_mark) if start.flow_style else None


def _entries(events: Iterator[Any], reading: _Reading, depth: int) -> tuple[dict[str, tuple[Scalar, Node]], Any]:
    entries: dict[str, tuple[Scalar, Node]] = {}
    while not isinstance(inner := next(events), yaml.MappingEndEvent):
        key = _node(inner, events, reading, depth - 1)
        if not isinstance(key, Scalar):
            raise Unreadable(key.line, key.column, "a key is a word", "name: value")
        if key.text in entries:
            earlier = entries[key.text][0].line
            raise Unreadable(key.line, key.column, f"{key.text!r} stands already in line {earlier}", "keep one of them")
        entries[key.text] = (key, _node(next(events), events, reading, depth - 1))
    return entries, inner
