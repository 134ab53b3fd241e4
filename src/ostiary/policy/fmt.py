"""The document in its one form, comments kept: short parts on one line, the rest one entry a line.

What an author decides stays: the order of everything, and where there is an empty line. A text that another reader
would take for a number, a date or a truth value stands in quotes.
"""

import re
from collections.abc import Iterator
from typing import Final

from ostiary.policy.comments import Entry, entries_of
from ostiary.policy.include import among, gathered
from ostiary.policy.node import Mapping, Node, Scalar, Sequence
from ostiary.policy.parse import parse
from ostiary.policy.problem import refusal

WIDTH: Final = 120
STEP: Final = 2
PLAIN: Final = re.compile(r"[^\W_][\w./*+()'&=%~;@ -]*")
# YAML 1.1 and 1.2: truth values, nothing, and everything that begins like a number or a date.
MEANT_OTHERWISE: Final = re.compile(r"y|n|yes|no|on|off|true|false|null|[0-9][0-9a-fox_.e+-]*", re.IGNORECASE)


def fmt(text: str, file: str = "policy.yaml") -> str:
    """`text` in its one form, with the same meaning; a document that does not parse is refused with its problems."""
    return formatted(text, file, {})[file]


def formatted(text: str, file: str, files: dict[str, str]) -> dict[str, str]:
    """Each text by its name, in its one form: the policy's own and those of the `files` that it includes."""
    if problems := parse(text, file, files).problems:
        raise refusal(file, problems)
    texts = gathered(file, text, among(files))
    trees = zip(texts.texts, texts.trees, strict=True)
    return {name: "\n".join(_children(entries_of(root, texts.texts[name]), 0)) + "\n" for name, root in trees}


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


def _children(entry: Entry, indent: int) -> Iterator[str]:
    """The lines of the entries in `entry`; the first one has no empty line before it."""
    lines: list[str] = []
    for child in entry.children:
        lines += [*child.above, *([""] if child.gap else []), *_entry(child, indent, section=indent == 0)]
    lines += entry.below
    first = next((number for number, line in enumerate(lines) if line), 0)
    pad = " " * indent
    yield from (pad + line if line.startswith("#") else line for line in lines[first:])


def _entry(entry: Entry, indent: int, *, section: bool) -> Iterator[str]:
    head = " " * indent + (f"{_word(entry.key.text)}:" if entry.key else "-")
    beside = f" {entry.beside}" if entry.beside else ""
    told = f"{head} {one_line(entry.value)}"
    if not entry.children or not (section or entry.holds_comments or len(told) > WIDTH):
        yield told + beside
    elif entry.key:
        yield head + beside
        yield from _children(entry, indent + STEP)
    else:
        if entry.beside:
            yield entry.beside
        first, *rest = _children(entry, indent + STEP)
        yield f"{head} {first.lstrip()}"
        yield from rest
