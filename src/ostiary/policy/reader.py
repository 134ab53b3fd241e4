"""Reads typed values off the tree and keeps every problem, so that all are told at once."""

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Final, TypeVar

from ostiary.policy.model import Source
from ostiary.policy.node import NODES_MAX, Mapping, Node, Scalar, Sequence, items_of, problem_at, says_nothing
from ostiary.policy.problem import Problem, nearest
from ostiary.policy.shape import Part
from ostiary.policy.words import DOINGS, NAME, VARIABLE, Wrong

T = TypeVar("T")
W = TypeVar("W", bound=StrEnum)
LINE_MAX_CHARS: Final = 300  # a plan holds a line again for each grant that it makes


class Reader:
    """`problems` grows; what could not be read comes back as None or is left out."""

    def __init__(self, file: str, texts: dict[str, str]) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self._variables: dict[str, tuple[Node, ...]] = {}
        self._unused: dict[str, Scalar] = {}
        self._left = NODES_MAX  # that variables may still stand for
        self._lines = {name: text.splitlines() for name, text in texts.items()}

    def report(self, node: Node, message: str, hint: str = "") -> None:
        self.problems.append(problem_at(node, message, hint))

    def source(self, node: Node) -> Source:
        lines = self._lines[node.file]
        line = lines[node.line - 1] if node.line <= len(lines) else ""
        start = node.column - 1 if len(line) > LINE_MAX_CHARS else 0  # of a long line what begins there
        told = line[start : start + LINE_MAX_CHARS].strip()
        return Source(file=node.file, line=node.line, text=told, column=node.column)

    def define(self, name: str, key: Scalar, node: Node) -> None:
        """What `the NAME` stands for from now on: a variable may be made of those before it, so of no circle."""
        told = () if isinstance(node, Mapping) else self.items(node, what=f"variable {name}")
        found = tuple(one for one in told if isinstance(one, Scalar))
        none = isinstance(node, Mapping) or (isinstance(node, Sequence) and not node.items)
        if none or len(found) < len(told):
            self.report(node, f"variable {name} holds no values", "a text, or a list of them")
        self._variables[name] = found
        if NAME.fullmatch(name):  # nothing can name another one
            self._unused[name] = key

    def unused(self) -> None:
        """Reports the variables that nothing has named."""
        for name, key in self._unused.items():
            self.report(key, f"variable {name} is not used", f"the {name}, where its values are meant")

    def _meant(self, node: Node) -> tuple[Node, ...]:
        """The node itself, or what the variable that it names stands for."""
        match = VARIABLE.fullmatch(node.text) if isinstance(node, Scalar) else None
        if match is None:
            return (node,)
        self._unused.pop(match[1], None)
        if match[1] not in self._variables:
            hint = nearest(match[1], self._variables) or f"variables: {{{match[1]}: ...}}"
            self.report(node, f"there is no variable {match[1]!r}", hint)
        found = self._variables.get(match[1], ())
        self._left -= len(found)
        if -len(found) <= self._left < 0:  # told once
            self.report(node, f"variables stand for more than {NODES_MAX} values in all", "fewer values, or wider ones")
        return found if self._left >= 0 else ()

    def mapping(self, node: Node, part: Part, *, what: str) -> dict[str, Node]:
        """The entries by key; unknown keys and missing ones are problems."""
        if not isinstance(node, Mapping):
            self.report(node, f"{what} is a mapping of names to values", "key: value")
            return {}
        known = part.names
        for name, (key, _) in node.entries.items():
            if name not in known:
                self.report(key, f"{what} has no key {name!r}", nearest(name, known))
        for name in part.needed:
            if name not in node.entries:
                self.report(node, f"{what} needs the key {name!r}", f"{name}: ...")
        return {name: value for name, (_, value) in node.entries.items() if name in known}

    def optional(self, node: Node | None, part: Part, example: str) -> dict[str, Node]:
        """As `mapping`, of a part that may be left out; where it stands, it says something."""
        if node is None:
            return {}
        if says_nothing(node):
            self.report(node, f"{part.name} says nothing", example)
        return self.mapping(node, part, what=part.name)

    def named(self, node: Node | None, read: Callable[[str, Scalar, Node], T | None], *, what: str) -> tuple[T, ...]:
        """`{name: value}` where the names are the operator's own."""
        if node is None:
            return ()
        if not isinstance(node, Mapping):
            self.report(node, f"{what} is a mapping of names to values", "name: {...}")
            return ()
        found = []
        for name, (key, value) in node.entries.items():
            if not NAME.fullmatch(name):
                self.report(key, f"{what}: {name!r} is not a name", "letters, digits, '-', '_' and '.', a letter first")
            if (one := read(name, key, value)) is not None:
                found.append(one)
        return tuple(found)

    def each(self, node: Node | None, read: Callable[[Node], T | None], *, what: str) -> tuple[T, ...]:
        """A list, item by item."""
        return tuple(one for item in self.items(node, what=what) if (one := read(item)) is not None)

    def each_of(self, part: dict[str, Node], key: str, read: Callable[[str], T], example: str) -> tuple[T, ...]:
        """A list of texts that `read` understands; where the key stands, it names one at least."""
        self.refuse_empty(part.get(key), f"{key} names none", f"{key}: [{example}]")
        return self.each(part.get(key), lambda item: self.understood(item, read, what=key), what=key)

    def text(self, node: Node | None, *, what: str, default: str = "") -> str:
        if node is None:
            return default
        if not isinstance(node, Scalar) or not node.text:
            self.report(node, f"{what} is a text", "one text, and no empty one")
            return default
        return node.text

    def word(self, node: Node | None, words: type[W], *, what: str) -> W | None:
        """One of a few words."""
        told = self.text(node, what=what)
        if node is None or not told:
            return None
        if told not in set(words):
            self.report(node, f"{what} can't be {told!r}", nearest(told, words))
            return None
        return words(told)

    def items(self, node: Node | None, *, what: str) -> tuple[Node, ...]:
        """A list; one value alone counts as a list of one."""
        if isinstance(node, Mapping):
            self.report(node, f"{what} is a list", "[a, b]")
        told = node.items if isinstance(node, Sequence) else (node,) if isinstance(node, Scalar) else ()
        return tuple(one for item in told for one in self._meant(item))

    def permissions(self, node: Node | None, *, what: str) -> tuple[Node, ...]:
        """As `items`; lines that YAML took apart, for want of quotes, are told once and read as they were meant."""
        found: list[Node] = []
        for line, meant in _lines(items_of(node)):
            if meant and isinstance(line, Scalar):
                self.report(line, f"{what}: the quotes are missing", f'"{meant}"')
                found.append(line._replace(text=meant))
            else:
                found += self._meant(line)
        return tuple(found)

    def refuse_empty(self, node: Node | None, message: str, hint: str) -> None:
        """Reports a list without items; what else is wrong with a list is reported where it is read."""
        if isinstance(node, Sequence) and not node.items:
            self.report(node, message, hint)

    def texts(self, node: Node | None, *, what: str) -> tuple[tuple[str, Node], ...]:
        found = ((self.text(item, what=f"each of {what}"), item) for item in self.items(node, what=what))
        return tuple((text, item) for text, item in found if text)

    def understood(self, node: Node | None, read: Callable[[str], T], *, what: str) -> T | None:
        """What `read` makes of the text; None where there is none, or where `read` finds it Wrong."""
        if node is not None and len(meant := self._meant(node)) == 1:
            (node,) = meant
        text = self.text(node, what=what)
        if node is None or not text:
            return None
        try:
            return read(text)
        except Wrong as problem:
            self.report(node, f"{what}: {problem.message}", problem.hint)
            return None

    def known(self, names: Iterable[tuple[str, Node]], words: Iterable[str], *, what: str) -> tuple[str, ...]:
        """The names that exist; others are problems with the nearest one as the hint."""
        existing = set(words)
        for name, node in names:
            if name not in existing:
                self.report(node, f"there is no {what} {name!r}", nearest(name, existing))
        return tuple(name for name, _ in names if name in existing)


def _lines(items: Iterable[Node]) -> list[tuple[Node, str]]:
    """The lines of permissions in a list, each with what it is in quotes where YAML took it apart."""
    found: list[tuple[Node, str]] = []
    for item in items:
        told = item.entries.values() if isinstance(item, Mapping) else ()
        lines = [(key, f"{key.text}: {verbs}") for key, value in told if (verbs := _verbs(value))]
        if lines and len(lines) == len(told):
            found += lines
        elif found and found[-1][1] and _verbs(item):
            found[-1] = found[-1][0], f"{found[-1][1]}, {_verbs(item)}"
        else:
            found.append((item, ""))
    return found


def _verbs(node: Node) -> str:
    return node.text if isinstance(node, Scalar) and DOINGS.fullmatch(node.text) else ""
