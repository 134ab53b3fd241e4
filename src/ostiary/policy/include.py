"""A policy over several files: what they say together, as if it stood in one.

Nothing is read from a disk here: whoever has the texts finds those that a pattern names.
"""

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Final, NamedTuple

from ostiary.policy import node
from ostiary.policy.node import TEXT_MAX_BYTES, Node, Scalar, Sequence, items_of, problem_at, read, value_at
from ostiary.policy.problem import Problem
from ostiary.policy.words import PATH, PATTERN, Wrong

FILES_MAX: Final = 100
DEPTH_MAX: Final = 8
STARS_MAX: Final = 2  # in one step of a path
AT_MOST: Final = f"at most {FILES_MAX} files, {DEPTH_MAX} deep, with {TEXT_MAX_BYTES} characters in all"

Find = Callable[[str], Mapping[str, str]]  # a pattern -> texts, by their path below the policy's folder; raises Wrong


class Files(NamedTuple):
    """`texts`: of the policy's own file and of all that it includes; `trees`: what was read of them, in that order."""

    texts: dict[str, str]
    trees: list[node.Mapping]
    problems: list[Problem]


def gathered(file: str, text: str, find: Find) -> Files:
    """The file and all that it includes, each once, however deep and in whatever circle."""
    files, pending = Files({file: text}, [], []), [(file, 0)]
    for name, depth in pending:  # it grows meanwhile
        root, problems = read(files.texts[name], name)
        files.problems.extend(problems)
        if isinstance(root, node.Mapping):
            files.trees.append(root)
        elif root is not None:
            files.problems.append(problem_at(root, "the policy is a mapping of names to values", "key: value"))
        for item in items_of(value_at(root, "include")):
            new = {name: text for name, text in _named(item, find, files.problems).items() if name not in files.texts}
            files.texts.update(new)
            pending += [(one, depth + 1) for one in new]
            if depth == DEPTH_MAX or len(pending) > FILES_MAX or sum(map(len, files.texts.values())) > TEXT_MAX_BYTES:
                files.problems.append(problem_at(item, "the policy includes too much", AT_MOST))
                return files
    return files


def among(texts: Mapping[str, str]) -> Find:
    """Finds in texts that somebody else has read."""

    def find(pattern: str) -> Mapping[str, str]:
        return {name: texts[name] for name in sorted(texts) if PATH.fullmatch(name) and _matches(name, pattern)}

    return find


def _matches(name: str, pattern: str) -> bool:
    """Step by step, as a folder would: a star leads into no other folder."""
    steps, forms = name.split("/"), pattern.split("/")
    return len(steps) == len(forms) and all(map(fnmatchcase, steps, forms))


def merged(files: Files) -> node.Mapping:
    """What all of them say; a name that two of them give is a problem."""
    first, *others = files.trees
    entries = dict(first.entries)
    for name, (key, value) in ((name, entry) for tree in others for name, entry in tree.entries.items()):
        if name not in entries:
            entries[name] = (key, value)
        elif name != "include":
            entries[name] = (key, _together(entries[name], (key, value), files.problems))
    return first._replace(entries=entries)


def _named(item: Node, find: Find, problems: list[Problem]) -> Mapping[str, str]:
    """The texts that this line includes."""
    pattern = item.text if isinstance(item, Scalar) else ""
    found: Mapping[str, str] = {}
    try:
        plain = PATTERN.fullmatch(pattern) and "**" not in pattern
        found = find(pattern) if plain and all(one.count("*") <= STARS_MAX for one in pattern.split("/")) else {}
    except Wrong as problem:
        problems.append(problem_at(item, f"include: {problem.message}", problem.hint))
    else:
        if not found:
            told = f"no file below the policy's folder is named {pattern!r}"
            problems.append(problem_at(item, f"include: {told}", "roles/*.yaml, or roles/sales.yaml"))
    return found


def _together(one: tuple[Scalar, Node], other: tuple[Scalar, Node], problems: list[Problem]) -> Node:
    match one[1], other[1]:
        case node.Mapping() as mine, node.Mapping() as theirs:
            twice = mine.entries.keys() & theirs.entries.keys()
            problems.extend(_twice(mine.entries[name][0], theirs.entries[name][0]) for name in twice)
            return mine._replace(entries=mine.entries | theirs.entries)
        case Sequence() as mine, Sequence() as theirs:
            return mine._replace(items=mine.items + theirs.items)
    problems.append(_twice(one[0], other[0]))
    return one[1]


def _twice(one: Scalar, other: Scalar) -> Problem:
    return problem_at(other, f"{other.text!r} stands already in {one.file}, line {one.line}", "keep one of them")
