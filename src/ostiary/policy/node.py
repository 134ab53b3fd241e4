"""YAML as a tree with positions, and what is wrong there: where, what, and what to write instead.

YAML 1.2 core scalars, no tags, anchors, aliases or duplicate keys, and limits.
Whatever two readers could read differently is refused: characters that can't be seen, odd line ends, texts that go over
several lines.
"""

import re
from collections.abc import Collection, Iterator
from typing import Any, Final, NamedTuple

import yaml
from msgspec import Struct, to_builtins

from ostiary.foundation.errors import OperatorFault, counted
from ostiary.policy.model import Source

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

UNCLOSED: Final = "the bracket of line {} is not closed, or a comma or quotes are missing behind it"
CLOSE: Final = "close it in its line; a text with a colon or a comma stands in quotes"
INDENTED: Final = "lines that belong together indented alike, and nothing behind a closing sign"
CURLY: Final = tuple("“”„‟«»‘’‚")
NAMED: Final = re.compile(" *[^ :]+:( |$)")
# The first part of it that is among the YAML parser's words, what it says here ("": their own), and what to write.
MEANINGS: Final = (
    ("\t", "a tab stands here", "spaces"),
    ("flow", UNCLOSED, CLOSE),
    ("scanning a quoted", "the quote of line {} is not closed", "both quotes in one line"),
    ("scanning an alias", "a text that begins with * needs quotes", '"*: read"'),
    ("start any token", "a text that begins with this sign needs quotes", '"the text", in quotes'),
    ("mapping values", "", 'NAME: VALUE in each line; a text with a colon stands in quotes, "orders: read"'),
    ("parsing a block", "what stands here does not belong to what stands above it", INDENTED),
    ("", "", ""),
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


def says_nothing(node: Node) -> bool:
    return isinstance(node, Mapping) and not node.entries


class Problem(Struct, frozen=True, kw_only=True):
    """`line` and `column` count from 1."""

    file: str
    line: int
    column: int
    message: str
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}: {self.message}"
        return f"{place}\n    write instead: {self.hint}" if self.hint else place


def problem_at(node: "Node | Source", message: str, hint: str = "") -> Problem:
    return Problem(file=node.file, line=node.line, column=node.column, message=message, hint=hint)


def refusal(file: str, problems: Collection[Problem]) -> OperatorFault:
    """All of them as one error."""
    told = "\n".join(f"  {one}" for one in problems)
    message = f"{file} has {counted(len(problems), 'problem')}:\n{told}"
    hint = "mend the lines above; nothing was changed"
    return OperatorFault("policy-invalid", message, hint=hint, problems=map(to_builtins, problems))


class _Reading:
    """How many nodes may still come, of which file and lines, and in which the brackets were opened that are open."""

    def __init__(self, file: str, text: str) -> None:
        self.file, self.left, self.opened, self.lines = file, NODES_MAX, list[int](), text.split("\n")


class Unreadable(Exception):
    """Its arguments: the place, what is wrong there, and what to write instead."""


def read(text: str, file: str) -> tuple[Node | None, list[Problem]]:
    """The document's tree, or the first thing that keeps it from being one."""
    try:
        return _document(text, file), []
    except Unreadable as problem:
        (line, column), message, hint = problem.args
    except yaml.YAMLError as problem:
        (line, column), message, hint = _no_yaml(problem, text)
    return None, [Problem(file=file, line=line, column=column, message=message, hint=hint)]


def _no_yaml(problem: Any, text: str) -> tuple[Place, str, str]:
    """As of Unreadable, by MEANINGS."""
    mark = getattr(problem, "problem_mark", None)
    if mark is None:
        return (1, 1), f"this is not YAML: {getattr(problem, 'reason', problem)}", ""
    words = f"{problem.context} {problem.problem}{text[mark.index : mark.index + 1]}"
    said, hint = next((said, hint) for part, said, hint in MEANINGS if part in words)
    lines, began = text.split("\n"), _place(problem.context_mark or mark)
    if "expected ':'" in words:
        return began, *_colonless(lines, *began)
    if "parsing a block" in words:
        said = _misplaced(lines, mark) or said
    return _place(mark), f"this is not YAML: {said.format(began[0]) or problem.problem}", hint


def _colonless(lines: list[str], line: int, column: int) -> tuple[str, str]:
    """What is wrong with a line that should begin `NAME: `, and what to write instead."""
    word, _, rest = lines[line - 1][column - 1 :].partition(" ")
    name, colon, value = word.strip().partition(":")
    if colon and value:
        return f"a space is missing behind the colon of line {line}", f"{name}: {value}"
    return f"a colon is missing behind {name} in line {line}", f"{name}: {rest.strip() or '...'}"


def _misplaced(lines: list[str], mark: Any) -> str:
    """How the line with the mark is indented otherwise than the one above it; "" where it is not, or not wholly."""
    above = next((number for number in range(mark.line - 1, -1, -1) if lines[number].strip(" \r")), mark.line)
    own = lines[mark.line][mark.column :]
    indent = len(lines[above]) - len(lines[above].lstrip(" " if own.startswith("-") else " -"))
    if indent == mark.column or lines[mark.line][: mark.column].strip():
        return ""
    return f"line {mark.line + 1} is indented {'more' if mark.column > indent else 'less'} than line {above + 1}"


def _document(text: str, file: str) -> Node:
    _check_characters(text)
    if len(text.encode()) > TEXT_MAX_BYTES:
        raise Unreadable((1, 1), f"the document is larger than {TEXT_MAX_BYTES} bytes", "split it")
    events: Iterator[Any] = iter(yaml.parse(text, Loader=LOADER))
    reading = _Reading(file, text)
    root: Node | None = None
    for event in events:
        if isinstance(event, yaml.DocumentStartEvent):
            if root is not None:
                raise Unreadable(_place(event.start_mark), "there is a second document", "one document in one file")
        elif isinstance(event, yaml.NodeEvent):
            root = _node(event, events, reading, DEPTH_MAX)
    if root is None:
        raise Unreadable((1, 1), "the document is empty", "policy: NAME; in a file that is included roles: ...")
    return root


def _check_characters(text: str) -> None:
    found = UNSEEN.search(text)
    if found:
        before = text[: found.start()]
        place = before.count("\n") + 1, found.start() - before.rfind("\n")
        raise Unreadable(place, f"U+{ord(found[0]):04X} is a character that can't be seen", "remove it")


def _place(mark: Any) -> Place:
    return int(mark.line) + 1, int(mark.column) + 1


def _node(event: Any, events: Iterator[Any], reading: _Reading, depth: int) -> Node:
    place = _place(event.start_mark)
    reading.left -= 1
    if isinstance(event, yaml.AliasEvent) or event.anchor:
        raise Unreadable(place, "anchors and aliases are not used here", "write it out")
    if event.tag is not None:
        raise Unreadable(place, f"tags such as {event.tag} are not used here", "remove it")
    if depth == 0 or reading.left < 0:
        raise Unreadable(place, "the document is nested too deeply or too large", LIMITS)
    if isinstance(event, yaml.ScalarEvent):
        return _scalar(event, reading)
    reading.opened += place[:1] if event.flow_style else ()
    if isinstance(event, yaml.SequenceStartEvent):
        items = []
        while not isinstance(last := next(events), yaml.SequenceEndEvent):
            items.append(_node(last, events, reading, depth - 1))
        return Sequence(tuple(items), *place, _closed(last, reading), reading.file)
    entries: dict[str, tuple[Scalar, Node]] = {}
    while not isinstance(last := next(events), yaml.MappingEndEvent):
        key = _node(last, events, reading, depth - 1)
        if not isinstance(key, Scalar):
            raise Unreadable((key.line, key.column), "a key is a word", "name: value")
        if key.text in entries:
            told = f"{key.text!r} stands already in line {entries[key.text][0].line}"
            raise Unreadable((key.line, key.column), told, "keep one of them")
        entries[key.text] = (key, _node(next(events), events, reading, depth - 1))
    return Mapping(entries, *place, _closed(last, reading), reading.file)


def _scalar(event: Any, reading: _Reading) -> Scalar:
    (line, column), (last, end) = _place(event.start_mark), _place(event.end_mark)
    if not event.style and event.value.startswith(CURLY):
        raise Unreadable((line, column), "these are typographic quotes", '"the text"')
    if last != line and not event.style:
        _over_lines(reading, line, column)
    if last != line or event.style in {"|", ">"}:
        raise Unreadable((line, column), "a text stands in one line", '"the text", in quotes')
    if len(event.value) > SCALAR_MAX_CHARS:
        raise Unreadable((line, column), f"the text is longer than {SCALAR_MAX_CHARS} characters", "shorten it")
    if not event.value.isprintable():
        raise Unreadable((line, column), f"{event.value!r} has characters that can't be seen", "remove them")
    return Scalar(event.value, line, column, end, reading.file)


def _over_lines(reading: _Reading, line: int, column: int) -> None:
    """Says why a text that begins there goes on in the next line, as far as that can be seen."""
    if reading.opened:
        raise Unreadable((line, column), UNCLOSED.format(reading.opened[-1]), CLOSE)
    own, below = reading.lines[line - 1 : line + 1]
    indent = len(below) - len(below.lstrip(" "))
    if NAMED.match(below) and (indent == column - 1 or not own[: column - 1].strip()):
        raise Unreadable((line, column), *_colonless(reading.lines, line, column))
    if NAMED.match(below):
        raise Unreadable((line + 1, indent + 1), f"line {line + 1} is indented more than line {line}", INDENTED)


def _closed(last: Any, reading: _Reading) -> Place | None:
    return _place(last.end_mark) if reading.opened and reading.opened.pop() else None
