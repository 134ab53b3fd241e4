"""Reads typed values off the tree and keeps every problem, so that all are told at once."""

from collections.abc import Callable, Iterable, Iterator
from enum import EnumType, StrEnum
from functools import partial
from typing import Any, Final, TypeVar

from msgspec import Struct
from msgspec.structs import fields

from ostiary.erp.operation import Pattern
from ostiary.policy import words
from ostiary.policy.keys import PARTS, Key, Part
from ostiary.policy.model import Kind, Source
from ostiary.policy.node import NODES_MAX, Mapping, Node, Problem, Scalar, Sequence, items_of, problem_at, says_nothing
from ostiary.policy.words import DOINGS, NAME, VARIABLE, Wrong, closest, nearest

T = TypeVar("T")
S = TypeVar("S", bound=Struct)
OF_SYSTEMS: Final = (words.patterns, words.operation)  # what they mean turns on which systems there are
LINE_MAX_CHARS: Final = 300  # a plan holds a line again for each grant that it makes


def made(kind: type[S], told: dict[str, Any], **more: Any) -> S | None:
    """One of this kind; None where a field that it needs was not understood."""
    whole = {**told, **more}
    return kind(**whole) if whole.keys() >= {one.name for one in fields(kind) if one.required} else None


class Reader:
    """`problems` grows; what could not be read comes back as None or is left out.

    `names`: what the document defines, by what it is; `kinds`: those of the systems that were understood.
    """

    def __init__(self, file: str, texts: dict[str, str]) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self.names: dict[str, tuple[str, ...]] = {}
        self.kinds: dict[str, Kind] = {}
        self._variables: dict[str, tuple[Node, ...]] = {}
        self._unused: dict[str, Scalar] = {}
        self._left = NODES_MAX  # that variables may still stand for
        self._lines = {name: text.splitlines() for name, text in texts.items()}

    def report(self, node: Node | Source, message: str, hint: str = "") -> None:
        self.problems.append(problem_at(node, message, hint))

    def source(self, node: Node) -> Source:
        lines = self._lines[node.file]
        line = lines[node.line - 1] if node.line <= len(lines) else ""
        start = node.column - 1 if len(line) > LINE_MAX_CHARS else 0  # of a long line what begins there
        told = line[start : start + LINE_MAX_CHARS].strip()
        return Source(file=node.file, line=node.line, text=told, column=node.column)

    def define(self, name: str, key: Scalar, node: Node) -> None:
        """What `the NAME` stands for from now on: a variable may be made of those before it, so of no circle."""
        told = tuple(one for item in items_of(node) for one in self._meant(item))
        found = tuple(one for one in told if isinstance(one, Scalar))
        if not items_of(node) or len(found) < len(told):
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

    def read(self, node: Node, name: str, *, what: str = "") -> tuple[dict[str, Node], dict[str, Any]]:
        """The part of this name: what stands under its keys, and by the model's fields what of it was understood."""
        nodes = self._entries(node, PARTS[name], what=what or name)
        keys = [key for key in PARTS[name].keys if key.read and key.name in nodes]
        values = {key.field: self._value(key, nodes[key.name]) for key in keys}
        return nodes, {field: value for field, value in values.items() if value is not None}

    def _entries(self, node: Node, part: Part, *, what: str) -> dict[str, Node]:
        """By key; unknown keys, read as what was probably meant, and missing ones are problems."""
        if not isinstance(node, Mapping):
            self.report(node, f"{what} is a mapping of names to values", "key: value")
            return {}
        if part.example and says_nothing(node):
            self.report(node, f"{what} says nothing", part.example)
        known = [key.name for key in part.keys]
        found = {name: value for name, (_, value) in node.entries.items() if name in known}
        for key, value in (entry for name, entry in node.entries.items() if name not in known):
            word, _, text = key.text.partition(":")
            if text and word in known:
                self.report(key, f"{what}: a space is missing behind the colon", f"{word}: {text}")
                found.setdefault(word, key._replace(text=text))
            elif key.text in part.elsewhere:
                self.report(key, f"{what} has no key {key.text!r}", part.elsewhere[key.text])
            else:
                self.report(key, f"{what} has no key {key.text!r}", nearest(key.text, known))
                found.setdefault(closest(key.text, known), value)  # read as it was meant
        for name in part.needed:
            if name not in found:
                self.report(node, f"{what} needs the key {name!r}", f"{name}: ...")
        return {name: found[name] for name in known if name in found}

    def _value(self, key: Key, node: Node) -> Any:
        """What the text under the key means, or all that the list there does."""
        if key.empty:
            self.refuse_empty(node, *key.empty)
        if key.names and key.many:
            return self.known(self.texts(node, what=key.name), key.names)
        if key.many and key.read is words.patterns:
            lines = self.permissions(node, what=key.name)
            return tuple(one for line in lines for one in self.patterns(line, what=key.name))
        if key.many:
            return self.each(node, partial(self._one, key), what=key.name)
        return self._one(key, node)

    def _one(self, key: Key, node: Node) -> Any:
        assert key.read
        if isinstance(key.read, EnumType):
            return self._word(node, key.read, what=key.name)
        if key.read is str:
            text = self.text(node, what=key.name)
            told = self.known([(text, node)], key.names) if text and key.names else (text,)
            return told[0] if told else None
        more = {"systems": self.names["system"]} if key.read in OF_SYSTEMS else {}
        return self.understood(node, partial(key.read, **more), what=key.name)

    def patterns(self, node: Node, *, what: str) -> tuple[Pattern, ...]:
        """What a line of permissions means."""
        return self.understood(node, partial(words.patterns, systems=self.names["system"]), what=what) or ()

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

    def by_field(self, node: Node | None, *, what: str, example: str) -> Iterator[tuple[str, str, Node]]:
        """`{field: value}`: each field, "" for what is none, how it is written, and the value."""
        if node is not None and (not isinstance(node, Mapping) or says_nothing(node)):
            self.report(node, f"{what} is a mapping of fields to values", f"{what}: {example}")
        for key, value in node.entries.values() if isinstance(node, Mapping) else ():
            yield self.understood(key, words.field, what=what) or "", key.text, value

    def each(self, node: Node | None, read: Callable[[Node], T | None], *, what: str) -> tuple[T, ...]:
        """A list, item by item."""
        return tuple(one for item in self.items(node, what=what) if (one := read(item)) is not None)

    def text(self, node: Node, *, what: str) -> str:
        if isinstance(node, Scalar) and node.text:
            return node.text
        words = items_of(node) if isinstance(node, Sequence) else ()
        told = ", ".join(one.text for one in words if isinstance(one, Scalar))
        together = "one of them alone; for each other an entry of its own" if ":" in told else f'"{told}", in quotes'
        self.report(node, f"{what} is a text", together if told else "one text, and no empty one")
        return ""

    def _word(self, node: Node, words: EnumType, *, what: str) -> StrEnum | None:
        """One of a few words."""
        told = self.text(node, what=what)
        if told and told not in set(words):
            self.report(node, f"{what} can't be {told!r}", nearest(told, words))
            return None
        return words(told) if told else None

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

    def understood(self, node: Node, read: Callable[[str], T], *, what: str) -> T | None:
        """What `read` makes of the text; None where there is none, or where `read` finds it Wrong."""
        if len(meant := self._meant(node)) == 1:
            (node,) = meant
        if not (text := self.text(node, what=what)):
            return None
        try:
            return read(text)
        except Wrong as problem:
            self.report(node, f"{what}: {problem.message}", problem.hint)
            return None

    def known(self, names: Iterable[tuple[str, Node]], what: str, besides: tuple[str, ...] = ()) -> tuple[str, ...]:
        """The names that the document defines, or `besides`; others are problems with the nearest one as the hint."""
        existing = (*self.names[what], *besides)
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
