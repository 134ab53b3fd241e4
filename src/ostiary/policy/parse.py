"""From the texts of a policy to a typed one, or to every problem of the texts at once.

What several files say together is as if it stood in one. Nothing is read from a disk here: whoever has the texts finds
those that a pattern names. A pack, rules and roles that come with Ostiary, is a part of a policy too,
`packs/FAMILY/KIND.yaml`, that calls the system it is for SYSTEM; what a policy says itself stands in its place.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from functools import cache, partial
from importlib import resources
from typing import Any, Final, NamedTuple

from msgspec import Struct

from ostiary.policy import node, sections
from ostiary.policy.keys import RESERVED_LIMITS
from ostiary.policy.model import Always, Approvals, Limit, Limits, Never, Policy, Response, System
from ostiary.policy.node import Node, Problem, Scalar, Sequence, items_of, names_in, problem_at, value_at
from ostiary.policy.reader import Reader
from ostiary.policy.words import FORMS, Wrong, nearest

VALUES_MAX: Final = 5_000_000  # about 100 MB of plan
FILES_MAX: Final = 100
DEPTH_MAX: Final = 8
STARS_MAX: Final = 2  # in one step of a path
AT_MOST: Final = f"at most {FILES_MAX} files, {DEPTH_MAX} deep, with {node.TEXT_MAX_BYTES} characters in all"

Find = Callable[[str], Mapping[str, str]]  # a pattern -> texts, by their path below the policy's folder; raises Wrong
SYSTEM: Final = "SYSTEM/"


class Parsed(Struct, frozen=True, kw_only=True):
    """`policy` is None where a problem keeps it from meaning anything for certain; `files` are those that it includes.

    `systems`: those that were understood, whatever else was not.
    """

    policy: Policy | None
    problems: tuple[Problem, ...]
    files: frozenset[str] = frozenset()
    systems: tuple[System, ...] = ()


def parse(text: str, file: str, files: Mapping[str, str] = {}) -> Parsed:
    """The policy in `text`; `file` is how problems and lines name it, `files` are the texts that it may include."""
    told = gathered(file, text, among(files))
    if told.problems:
        return Parsed(policy=None, problems=tuple(told.problems))
    included = frozenset(told.texts)
    root = with_packs(merged(told), told)
    reader = Reader(file, told.texts)
    policy = _policy(reader, root)
    order = list(told.texts)
    found = dict.fromkeys([*told.problems, *reader.problems])
    problems = tuple(sorted(found, key=lambda one: (order.index(one.file), one.line, one.column)))
    return Parsed(policy=None if problems else policy, problems=problems, files=included, systems=policy.systems)


def _policy(reader: Reader, root: Node) -> Policy:
    part, told = reader.read(root, "policy", what="the policy")
    reader.named(part.get("variables"), reader.define, what="variables")
    reader.names |= {name: names_in(part.get(f"{name}s")) for name in ("system", "department", "context", "role")}
    departments = sections.read_departments(reader, part.get("departments"))
    systems = sections.read_systems(reader, part.get("systems"))
    reader.kinds = {system.name: system.kind for system in systems}
    policy = Policy(
        **{"name": "", **told},
        file=reader.file,
        systems=systems,
        departments=departments,
        contexts=sections.read_contexts(reader, part.get("contexts")),
        roles=sections.read_roles(reader, part.get("roles"), departments),
        apart=sections.read_apart(reader, part.get("apart"), part.get("controls")),
        never=reader.each(part.get("never"), partial(sections.read_statement, reader, Never), what="never"),
        always=reader.each(part.get("always"), partial(sections.read_statement, reader, Always), what="always"),
        limits=_limits(reader, part.get("limits")),
        approvals=Approvals(**_values(reader, part, "approvals")),
        response=Response(**_values(reader, part, "response")),
        tests=reader.each(part.get("tests"), partial(sections.read_test, reader), what="tests"),
    )
    reader.unused()
    _refuse_too_much(reader, policy)
    return policy


def _refuse_too_much(reader: Reader, policy: Policy) -> None:
    """Of each grant the plan holds all values again, those of its context too."""
    own = Counter({one.name: len(one.networks + one.holidays + one.countries) for one in policy.contexts})
    parts = {one.name: (one.name, *one.every, *one.some, *one.none) for one in policy.contexts}
    left = VALUES_MAX
    for role in policy.roles:
        context = sum(own[part] for name in role.when for part in parts.get(name, ()))
        left -= sum(len(may.patterns) * (context + len(may.fields) + len(may.where)) for may in role.may)
        if left < 0:
            told = f"with role {role.name} the grants hold more than {VALUES_MAX} values of their contexts"
            reader.report(role.source, told, "larger networks, or fewer lines of `may` in that context")
            return


def _values(reader: Reader, policy: dict[str, Node], name: str) -> dict[str, Any]:
    return reader.read(policy[name], name)[1] if name in policy else {}


def _limits(reader: Reader, node: Node | None) -> Limits:
    told = dict(reader.named(node, partial(_limit, reader), what="limits"))
    named = {
        name: Limit(name=name, requests=one["requests"][0], seconds=one["requests"][1], source=one["lines"]["requests"])
        for name, one in sorted(told.items())
        if "requests" in one
    }
    own = {name: named.pop(name) for name in RESERVED_LIMITS if name in named}
    default = told.get("default", {"lines": {}})
    body, line = default.get("body_bytes", Limits().body_bytes), default["lines"].get("body")
    return Limits(**own, roles=tuple(named.values()), body_bytes=body, source=line)


def _limit(reader: Reader, name: str, key: Scalar, node: Node) -> tuple[str, dict[str, Any]]:
    """What the limit says, and the line of each."""
    reader.known([(name, key)], "role", RESERVED_LIMITS)
    nodes, values = reader.read(node, "default-limit" if name == "default" else "limit", what=f"limit {name}")
    return name, {**values, "lines": {said: reader.source(at) for said, at in nodes.items()}}


# --- several files


class Files(NamedTuple):
    """`texts`: of the policy's own file and of all that it includes; `trees`: what was read of them, in that order."""

    texts: dict[str, str]
    trees: list[node.Mapping]
    problems: list[Problem]


def gathered(file: str, text: str, find: Find) -> Files:
    """The file and all that it includes, each once, however deep and in whatever circle."""
    files, pending = Files({file: text}, [], []), [(file, 0)]
    for name, depth in pending:  # it grows meanwhile
        root, problems = node.read(files.texts[name], name)
        files.problems.extend(problems)
        if isinstance(root, node.Mapping):
            files.trees.append(root)
        elif root is not None:
            files.problems.append(problem_at(root, "the policy is a mapping of names to values", "key: value"))
        for item in items_of(value_at(root, "include")):
            new = {name: text for name, text in _named(item, find, files.problems).items() if name not in files.texts}
            files.texts.update(new)
            pending += [(one, depth + 1) for one in new]
            size = sum(map(len, files.texts.values()))
            if depth == DEPTH_MAX or len(pending) > FILES_MAX or size > node.TEXT_MAX_BYTES:
                files.problems.append(problem_at(item, "the policy includes too much", AT_MOST))
                return files
    return files


def among(texts: Mapping[str, str]) -> Find:
    """Finds in texts that somebody else has read."""

    def find(pattern: str) -> Mapping[str, str]:
        return {one: texts[one] for one in sorted(texts) if FORMS["PATH"].fullmatch(one) and _matches(one, pattern)}

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
        plain = FORMS["PATTERN"].fullmatch(pattern) and "**" not in pattern
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


# --- packs


@cache
def packs() -> Mapping[str, str]:
    """The text of every pack, by its name."""
    folder = resources.files("ostiary.policy") / "packs"
    files = [(family.name, file) for family in folder.iterdir() for file in family.iterdir()]
    return {f"{family}/{file.name.removesuffix('.yaml')}": file.read_text("utf-8") for family, file in sorted(files)}


def with_packs(root: node.Mapping, files: Files) -> node.Mapping:
    """The policy with all that its packs say; `files` grows by their texts, and by what is wrong with naming them."""
    for item in reversed(items_of(value_at(root, "packs"))):
        if tree := _tree(item, root, files):
            root = _over(root, tree)
    return root


def _tree(item: Node, root: node.Mapping, files: Files) -> node.Mapping | None:
    form = FORMS["PACK"].fullmatch(item.text) if isinstance(item, Scalar) else None
    system, name = form.groups() if form else ("", "")
    wrong = None
    if name not in packs():
        wrong = f"there is no pack {name or getattr(item, 'text', '')!r}", nearest(name, packs()) or "sod/tryton"
    elif name in files.texts:
        wrong = f"the pack {name} is named twice", "once, for one system"
    elif len(meant := _meant(root, name.partition("/")[2], system)) != 1:
        told = " or ".join(f"{one}/{name}" for one in meant) or f"a system of kind {name.partition('/')[2]}"
        wrong = f"{item.text!r} is for one system, and here are {len(meant)} that it may mean", told  # type: ignore[union-attr] # it has matched
    if wrong:
        files.problems.append(problem_at(item, f"packs: {wrong[0]}", wrong[1]))
        return None
    files.texts[name] = packs()[name].replace(SYSTEM, f"{meant[0]}/")
    tree, problems = node.read(files.texts[name], name)
    files.problems.extend(problems)
    return tree if isinstance(tree, node.Mapping) else None


def _meant(root: node.Mapping, kind: str, system: str | None) -> list[str]:
    """The systems of this kind, or the one of them that is named."""
    systems = value_at(root, "systems")
    of_kind = [name for name in names_in(systems) if _text(value_at(systems, name), "kind") == kind]
    return [name for name in of_kind if system in {None, name}]


def _over(root: node.Mapping, pack: node.Mapping) -> node.Mapping:
    """Both, where `root` stands in the place of what the pack says."""
    entries = dict(root.entries)
    for name, (key, value) in pack.entries.items():
        own = entries[name][1] if name in entries else None
        match own, value:
            case node.Mapping(), node.Mapping():
                entries[name] = (entries[name][0], own._replace(entries={**value.entries, **own.entries}))
            case Sequence(), Sequence():
                ids = {_text(one, "id") for one in own.items}
                others = (one for one in value.items if _text(one, "id") not in ids)
                entries[name] = (entries[name][0], own._replace(items=(*own.items, *others)))
            case None, _:
                entries[name] = (key, value)
    return root._replace(entries=entries)


def _text(of: Node | None, key: str) -> str:
    told = value_at(of, key)
    return told.text if isinstance(told, Scalar) else ""
