"""Packs: rules and roles that come with Ostiary. What a policy says itself stands in the place of what they say.

A pack is a part of a policy, `packs/FAMILY/KIND.yaml`, that calls the system it is for SYSTEM.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from typing import Final

from ostiary.policy import node
from ostiary.policy.include import Files
from ostiary.policy.node import Node, Scalar, Sequence, items_of, names_in, problem_at, read, value_at
from ostiary.policy.problem import nearest
from ostiary.policy.words import PACK

SYSTEM: Final = "SYSTEM/"


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
    form = PACK.fullmatch(item.text) if isinstance(item, Scalar) else None
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
    tree, problems = read(files.texts[name], name)
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
                entries[name] = (entries[name][0], own._replace(items=(*own.items, *_others(own.items, value.items))))
            case None, _:
                entries[name] = (key, value)
    return root._replace(entries=entries)


def _others(own: Iterable[Node], items: Iterable[Node]) -> Iterable[Node]:
    ids = {_text(one, "id") for one in own}
    return (one for one in items if _text(one, "id") not in ids)


def _text(of: Node | None, key: str) -> str:
    told = value_at(of, key)
    return told.text if isinstance(told, Scalar) else ""
