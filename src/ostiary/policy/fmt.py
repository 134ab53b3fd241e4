"""The document in its one form, comments kept: short parts on one line, the rest one entry a line.

What an author decides stays: the order of everything, and where there is an empty line. A text that another reader
would take for a number, a date or a truth value stands in quotes.

No comment is lost: each belongs to an entry. One behind something belongs to it; one on a line of its own belongs to
what follows, unless it is indented deeper: then it closes the part above, as a line that was commented out does.
"""

import re
from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from itertools import dropwhile, takewhile
from operator import not_
from typing import Final, NamedTuple

from ostiary.policy.node import Mapping, Node, Place, Scalar, Sequence, refusal
from ostiary.policy.parse import among, gathered, parse

WIDTH: Final = 120
STEP: Final = 2
PLAIN: Final = re.compile(r"[^\W_][\w./*+()'&=%~;@ -]*")
# YAML 1.1 and 1.2: truth values, nothing, and everything that begins like a number or a date.
MEANT_OTHERWISE: Final = re.compile(r"y|n|yes|no|on|off|true|false|null|[0-9][0-9a-fox_.e+-]*", re.IGNORECASE)
HASH: Final = re.compile(r"(?:^|(?<=[ \t]))#")
OPENING: Final = re.compile(r"[ \t?-]*")
END: Final = (1 << 40, 1)  # behind every place


def fmt(text: str, file: str = "policy.yaml") -> str:
    """`text` in its one form, with the same meaning; a document that does not parse is refused with its problems."""
    return formatted(text, file, {})[file]


def formatted(text: str, file: str, files: dict[str, str]) -> dict[str, str]:
    """Each text by its name, in its one form: the policy's own and those of the `files` that it includes."""
    if problems := parse(text, file, files).problems:
        raise refusal(file, problems)
    texts = gathered(file, text, among(files))
    trees = zip(texts.texts, texts.trees, strict=True)
    return {name: "\n".join(_Page(texts.texts[name], root).written(root)) + "\n" for name, root in trees}


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


class _Entry(NamedTuple):
    """A key with its value, or an item."""

    key: Scalar | None
    value: Node

    @property
    def start(self) -> Place:
        first = self.key or self.value
        return first.line, first.column

    @property
    def begins(self) -> Place:
        """The first word of an item, or the key: what stands above it, stands above the item."""
        inner = () if self.key else _entries(self.value)
        return inner[0].begins if inner else self.start


def _entries(node: Node) -> list[_Entry]:
    match node:
        case Mapping(entries=entries):
            return [_Entry(key, value) for key, value in entries.values()]
        case Sequence(items=items):
            return [_Entry(None, item) for item in items]
    return []


class _Page:
    """A document that is written anew, each comment when it is come by: `_comments` are those still to be written.

    By line, of which none holds two, each with its column.
    """

    def __init__(self, text: str, root: Node) -> None:
        self._lines = text.splitlines()
        self._comments = OrderedDict(_comments(self._lines, root))

    def written(self, root: Node) -> list[str]:
        return [*self._below(root, 0, END, 1), *self._taken(END, 0)]

    def _below(self, node: Node, indent: int, until: Place, column: int) -> list[str]:
        """The lines of the entries in `node`, with the comments that close it; the first one is not empty.

        `until`: where what follows begins; `column`: how far to the right. Between brackets all is closed by the bracket.
        """
        if isinstance(node, Scalar) or not (entries := _entries(node)):
            return []
        lines, closed = list[str](), node.end
        starts = [*(one.start for one in entries[1:]), closed or until]
        columns = [*(node.column for _ in entries[1:]), column]
        for entry, start, right in zip(entries, starts, columns, strict=True):
            lines += self._taken(entry.begins, indent)
            lines += [""] if self._is_apart(*entry.start) else []
            lines += self._entry(entry, indent, start, right)
        lines += self._taken(closed or until, indent, 1 if closed else max(node.column, column + 1))
        return list(dropwhile(not_, lines))

    def _entry(self, entry: _Entry, indent: int, until: Place, column: int) -> Iterator[str]:
        """One comment fits beside it; an earlier one goes above it."""
        key, value = entry
        end = (value.line, value.end) if isinstance(value, Scalar) else value.end
        inner = _entries(value)
        earlier = self._beside((key.line, key.end), inner[0].start if inner else end or until) if key else ""
        left = len(self._comments)
        body = self._below(value, indent + STEP, until, column)
        holds_comments = len(self._comments) < left
        beside = self._beside(end, until) if end else ""
        pad, head = " " * indent, f"{_word(key.text)}:" if key else "-"
        if earlier and beside:
            yield pad + earlier
        behind = f" {beside or earlier}".rstrip()
        told = f"{pad}{head} {one_line(value)}"
        if not body or not (holds_comments or indent == 0 or len(told) > WIDTH):
            yield told + behind
        elif key:
            yield pad + head + behind
            yield from body
        else:
            yield from _itemised([beside, *body] if beside else body, pad)

    def _taken(self, until: Place, indent: int, column: int = 0) -> Iterator[str]:
        """The comments before `until`, as long as they stand so far to the right, with the empty lines above them."""
        while self._comments:
            line = next(iter(self._comments))
            at, text = self._comments[line]
            if (line, at) >= until or at < column:
                return
            del self._comments[line]
            yield from [""] if self._is_empty(line - 1) else []
            yield " " * indent + text

    def _beside(self, end: Place, until: Place) -> str:
        """The comment behind `end` in its line."""
        line, behind = end
        at, text = self._comments.get(line, (0, ""))
        if not (behind <= at and (line, at) < until):
            return ""
        del self._comments[line]
        return text

    def _is_apart(self, line: int, column: int) -> bool:
        """Whether an empty line stands above what begins there."""
        return self._is_empty(line - 1) and OPENING.fullmatch(self._lines[line - 1][: column - 1]) is not None

    def _is_empty(self, line: int) -> bool:
        return line > 0 and not self._lines[line - 1].strip()


def _itemised(body: list[str], pad: str) -> Iterator[str]:
    """Behind a dash, but for comments before the first entry: they stand above it."""
    above = list(takewhile(lambda line: line.lstrip().startswith("#"), body))
    yield from (pad + line.lstrip() for line in above)
    yield f"{pad}- {body[len(above)].lstrip()}"
    yield from body[len(above) + 1 :]


def _comments(lines: list[str], root: Node) -> Iterator[tuple[int, tuple[int, str]]]:
    """Every `#` that YAML reads as one: at the start or behind a blank, and in no text."""
    texts: dict[int, list[Scalar]] = defaultdict(list)
    for one in _scalars(root):
        texts[one.line].append(one)
    for number, line in enumerate(lines, 1):
        signs = (found.start() + 1 for found in HASH.finditer(line))
        if at := next((at for at in signs if not any(one.column <= at < one.end for one in texts[number])), 0):
            yield number, (at, line[at - 1 :].rstrip())


def _scalars(node: Node) -> Iterator[Scalar]:
    if isinstance(node, Scalar):
        yield node
    for key, value in _entries(node):
        yield from _scalars(key) if key else ()
        yield from _scalars(value)
