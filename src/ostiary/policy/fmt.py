"""The document in its one form, comments kept: short parts on one line, the rest one entry a line.

What an author decides stays: the order of everything, and where there is an empty line. A text that another reader
would take for a number, a date or a truth value stands in quotes.

No comment is lost: each belongs to an entry. One behind something belongs to it; one on a line of its own belongs to
what follows, unless it is indented deeper: then it closes the part above, as a line that was commented out does.
"""

import re
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, NamedTuple

from ostiary.policy.node import Mapping, Node, Place, Scalar, Sequence, refusal
from ostiary.policy.parse import among, gathered, parse

WIDTH: Final = 120
STEP: Final = 2
PLAIN: Final = re.compile(r"[^\W_][\w./*+()'&=%~;@ -]*")
# YAML 1.1 and 1.2: truth values, nothing, and everything that begins like a number or a date.
MEANT_OTHERWISE: Final = re.compile(r"y|n|yes|no|on|off|true|false|null|[0-9][0-9a-fox_.e+-]*", re.IGNORECASE)
HASH = re.compile(r"(?:^|(?<=[ \t]))#")
OPENING = re.compile(r"[ \t?-]*$")


@dataclass(eq=False)
class Entry:
    """A key with its value, or an item. `above`: comment lines, "" for an empty one; `below`: behind the last child."""

    key: Scalar | None
    value: Node
    column: int
    parent: "Entry | None" = None
    children: list["Entry"] = field(default_factory=list)
    first: int = 0  # its number in reading order
    last: int = 0  # that of its last descendant
    above: list[str] = field(default_factory=list)
    beside: str = ""
    below: list[str] = field(default_factory=list)
    gap: bool = False

    @cached_property
    def holds_comments(self) -> bool:
        """What does can't stand on one line; asked when every comment is at its place."""
        return bool(self.below) or any(one.above or one.beside or one.holds_comments for one in self.children)

    @property
    def start(self) -> Place:
        return (self.key.line, self.key.column) if self.key else (self.value.line, self.value.column)

    @property
    def ends(self) -> Iterator[Place]:
        """Behind its key, and behind its value where that ends with a sign of its own."""
        if self.key:
            yield self.key.line, self.key.end
        if isinstance(self.value, Scalar):
            yield self.value.line, self.value.end
        elif self.value.end:
            yield self.value.end

    def holds(self, place: Place) -> bool:
        """`place` is between its brackets."""
        end = None if isinstance(self.value, Scalar) else self.value.end
        return end is not None and self.start < place < end

    @property
    def in_lines(self) -> bool:
        return not isinstance(self.value, Scalar) and self.value.end is None


def fmt(text: str, file: str = "policy.yaml") -> str:
    """`text` in its one form, with the same meaning; a document that does not parse is refused with its problems."""
    return formatted(text, file, {})[file]


def formatted(text: str, file: str, files: dict[str, str]) -> dict[str, str]:
    """Each text by its name, in its one form: the policy's own and those of the `files` that it includes."""
    if problems := parse(text, file, files).problems:
        raise refusal(file, problems)
    texts = gathered(file, text, among(files))
    trees = zip(texts.texts, texts.trees, strict=True)
    return {name: "\n".join(_lines_below(entries_of(root, texts.texts[name]), 0)) + "\n" for name, root in trees}


def one_line(node: Node) -> str:
    """`node` on one line."""
    match node:
        case Scalar(text=text):
            return _word(text)
        case Sequence(items=items):
            return f"[{', '.join(map(one_line, items))}]"
        case Mapping(entries=entries):
            return f"{{{', '.join(f'{_word(name)}: {one_line(value)}' for name, (_, value) in entries.items())}}}"


def _word(text: str) -> str:
    if PLAIN.fullmatch(text) and not text.endswith(" ") and not MEANT_OTHERWISE.fullmatch(text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _lines_below(entry: Entry, indent: int) -> Iterator[str]:
    """The lines of the entries in `entry`; the first one has no empty line before it."""
    lines: list[str] = []
    for child in entry.children:
        lines += [*child.above, *([""] if child.gap else []), *_lines_of(child, indent, section=indent == 0)]
    lines += entry.below
    first = next((number for number, line in enumerate(lines) if line), 0)
    pad = " " * indent
    yield from (pad + line if line.startswith("#") else line for line in lines[first:])


def _lines_of(entry: Entry, indent: int, *, section: bool) -> Iterator[str]:
    head = " " * indent + (f"{_word(entry.key.text)}:" if entry.key else "-")
    beside = f" {entry.beside}" if entry.beside else ""
    told = f"{head} {one_line(entry.value)}"
    if not entry.children or not (section or entry.holds_comments or len(told) > WIDTH):
        yield told + beside
    elif entry.key:
        yield head + beside
        yield from _lines_below(entry, indent + STEP)
    else:
        if entry.beside:
            yield entry.beside
        first, *rest = _lines_below(entry, indent + STEP)
        yield f"{head} {first.lstrip()}"
        yield from rest


# --- the document as entries, each with the comments and empty lines that belong to it


class Comment(NamedTuple):
    place: Place
    text: str
    alone: bool
    gap: bool


def entries_of(root: Node, text: str) -> Entry:
    """The document's entries, with every comment of `text` at one of them."""
    lines = text.splitlines()
    top = Entry(None, root, 1, first=-1)
    order = list(_grow(top, lines))[1:]
    attach = _Attach(top, order)
    for comment in _comments(lines, order):
        attach.take(comment)
    return top


def _grow(entry: Entry, lines: list[str]) -> Iterator[Entry]:
    """The entry and all below it, in reading order; children are made on the way."""
    line, column = entry.start
    entry.gap = _is_empty(lines, line - 1) and OPENING.match(lines[line - 1][: column - 1]) is not None
    yield entry
    entry.last = entry.first
    for child in _entries_in(entry):
        child.first = entry.last + 1
        entry.children.append(child)
        yield from _grow(child, lines)
        entry.last = child.last


def _entries_in(entry: Entry) -> Iterator[Entry]:
    match entry.value:
        case Mapping(entries=entries):
            for key, value in entries.values():
                yield Entry(key, value, key.column, entry)
        case Sequence(items=items, column=column, end=end):
            for item in items:
                yield Entry(None, item, column if end is None else item.column, entry)


def _is_empty(lines: list[str], line: int) -> bool:
    """`line` counts from 1."""
    return 0 < line <= len(lines) and not lines[line - 1].strip()


def _comments(lines: list[str], order: Iterable[Entry]) -> Iterator[Comment]:
    """Every `#` that YAML reads as one: at the start or behind a blank, and in no text."""
    texts: dict[int, list[Scalar]] = defaultdict(list)
    for entry in order:
        for part in (entry.key, entry.value):
            if isinstance(part, Scalar):
                texts[part.line].append(part)
    for number, line in enumerate(lines, 1):
        for found in HASH.finditer(line):
            column = found.start() + 1
            if not any(one.column <= column < one.end for one in texts[number]):
                alone = not line[: found.start()].strip()
                gap = alone and _is_empty(lines, number - 1)
                yield Comment((number, column), line[found.start() :].rstrip(), alone, gap)
                break


class _Attach:
    """Gives each comment, in reading order, to its entry."""

    def __init__(self, top: Entry, order: list[Entry]) -> None:
        self._top, self._order = top, order
        self._starts = [entry.start for entry in order]
        ends = [(end, -number, entry) for number, entry in enumerate(order) for end in entry.ends]
        self._ends = sorted(ends, key=lambda one: one[:2])
        self._closing = (0, len(order))  # the gap between two entries, and how deep the last comment in it stood

    def take(self, comment: Comment) -> None:
        before = None if comment.alone else self._ended(comment.place)
        if before is not None:
            self._beside(before, comment.text)
            return
        lines = ["", comment.text] if comment.gap else [comment.text]
        after = bisect_left(self._starts, comment.place)
        closed = self._closed(after, comment.place)
        if closed is None and after < len(self._order):
            _outermost(self._order[after]).above += lines
        else:
            (closed or self._top).below += lines

    def _ended(self, place: Place) -> Entry | None:
        """What ends last before `place`, in its line; of several the outermost."""
        number = bisect_right(self._ends, place, key=lambda one: one[0])
        end, _, entry = self._ends[number - 1] if number else ((0, 0), 0, None)
        return entry if end[0] == place[0] else None

    def _beside(self, entry: Entry, text: str) -> None:
        """One comment fits beside an entry; an earlier one goes above it."""
        if entry.beside:
            _outermost(entry).above.append(entry.beside)
        entry.beside = text

    def _closed(self, after: int, place: Place) -> Entry | None:
        """The part that a comment at `place` closes, before the entry number `after`; None: it belongs to that one."""
        following = self._order[after] if after < len(self._order) else None
        gap, deepest = self._closing
        entry: Entry | None = self._order[after - 1] if after else None
        found: Entry | None = None
        while entry is not None and found is None and not (following and after <= entry.last):
            if entry.children and (gap != after or entry.first <= deepest) and _closes(entry, place, following):
                found = entry
            entry = entry.parent
        self._closing = (after, found.first if found else -1)
        return found


def _closes(entry: Entry, place: Place, following: Entry | None) -> bool:
    if entry.holds(place):
        return True
    deeper = place[1] > (following.column if following else 1)
    return entry.in_lines and deeper and place[1] >= entry.children[0].column


def _outermost(entry: Entry) -> Entry:
    """The item that `entry` begins, whose dash stands before it; else `entry`."""
    above = entry.parent
    while above is not None and above.parent is not None and above.key is None and above.children[0] is entry:
        entry, above = above, above.parent
    return entry
