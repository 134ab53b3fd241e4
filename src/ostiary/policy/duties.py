"""Rules about what must not be, and tests of what is: `apart` with its controls, `never`, `tests`."""

from collections.abc import Iterator
from itertools import product
from typing import Final, TypeVar

from msgspec.structs import replace

from ostiary.erp.operation import Pattern, Verb
from ostiary.policy import model, words
from ostiary.policy.node import Node
from ostiary.policy.reader import Reader, made

S = TypeVar("S", model.Never, model.Always)
DUTIES: Final = 2
APART: Final = "apart/"
RULE: Final = "rule of `apart` with the id"  # as a control names one


def read_apart(reader: Reader, node: Node | None, controls: Node | None) -> tuple[model.Apart, ...]:
    """The rules, each with its controls; a pack's, whose id another one has, was left out before."""
    named = dict[str, Node]()
    rules = [rule for item in enumerate(reader.items(node, what="apart"), 1) for rule in _apart(reader, item, named)]
    reader.names[RULE] = tuple(named)
    found = [one for node in reader.items(controls, what="controls") for one in _control(reader, node)]
    return tuple(
        replace(rule, controls=tuple(one for of, one in found if f"{rule.id}.".startswith(f"{APART}{of}.")))
        for rule in rules
    )


def _control(reader: Reader, node: Node) -> Iterator[tuple[str, model.Control]]:
    """By the id of each rule in whose place it is."""
    _, told = reader.read(node, "control", what="a control")
    rules = told.pop("rules", ())
    if control := made(model.Control, told, source=reader.source(node)):
        yield from ((rule, control) for rule in rules)


def _apart(reader: Reader, item: tuple[int, Node], named: dict[str, Node]) -> Iterator[model.Apart]:
    """One rule; where its sides name several verbs it is several, `apart/1`, `apart/1.2`, ... under one name."""
    number, node = item
    part, told = reader.read(node, "apart", what="an apart rule")
    sides = [_side(reader, side) for side in _sides(reader, part.get("permissions"))]
    id_ = told.pop("id", str(number))
    if id_ in named:
        reader.report(part["id"], f"another rule has the id {id_} ({reader.source(named[id_])})", "one id for one rule")
    elif "id" in part:
        named[id_] = part["id"]
    if "link" in part and "within" not in part:
        reader.report(node, "a link needs a time", "within: 30 days")
    if len(sides) != DUTIES:
        return
    if "within" in part:
        _check_history(reader, part["permissions"], {pattern.system for side in sides for pattern in side})
    pairs = list(product(*sides))
    for nth, (first, then) in enumerate(pairs, 1):
        of_several = f".{nth}" if len(pairs) > 1 else ""
        rule = made(
            model.Apart, told, id=f"{APART}{id_}{of_several}", first=first, then=then, source=reader.source(node)
        )
        yield from [rule] if rule else []


def _sides(reader: Reader, node: Node | None) -> tuple[Node, ...]:
    sides = reader.permissions(node, what="permissions")
    if node is not None and len(sides) != DUTIES:
        reader.report(node, "apart names two permissions", '["OBJECT: write", "OTHER: execute"]')
    return sides


def _side(reader: Reader, node: Node) -> list[Pattern]:
    """All that counts as this duty."""
    reader.refuse_empty(node, "a duty is one permission at least", '"OBJECT: write"')
    lines = reader.permissions(node, what="permissions")
    return [pattern for line in lines for pattern in reader.patterns(line, what="permissions")]


def _check_history(reader: Reader, node: Node, systems: set[str]) -> None:
    """Only where the ERP itself says who made a record can a rule about history be enforced."""
    if len(systems) > 1:
        reader.report(node, "both duties of a rule with `within` are of one system", "leave `within` out")
    for system in sorted(systems):
        if reader.kinds.get(system, model.Kind.TRYTON) is not model.Kind.TRYTON:
            reader.report(node, f"{system} does not say who made a record; only kind tryton does", "leave `within` out")


def read_statement(reader: Reader, kind: type[S], node: Node) -> S | None:
    """One statement; what it speaks of is not nothing, or it would hold of itself; nor are roles that are named."""
    name = kind.__name__.lower()
    part, told = reader.read(node, name, what=f"a rule of `{name}`")
    for key in part.keys() & {"outside", "when"}:
        if len(reader.items(part[key], what=key)) != 1:
            reader.report(
                node, f"a rule of `{name}` names one context", "one that is made of others by all, any or not"
            )
    context = next(iter(told.pop("contexts", ())), "")
    return made(kind, told, context=context, source=reader.source(node))


def read_test(reader: Reader, node: Node) -> model.Example | None:
    part, told = reader.read(node, "test", what="a test")
    fields = frozenset(told.pop("fields", ()))
    if does := told.get("does"):
        told["does"] = replace(does, **{"fields_read" if does.verb is Verb.READ else "fields_written": fields})
    return made(model.Example, told, record=dict(_record(reader, part.get("record"))), source=reader.source(node))


def _record(reader: Reader, node: Node | None) -> Iterator[tuple[str, str]]:
    """Each field and its one value."""
    for name, written, value in reader.by_field(node, what="record", example='{amount: "4999", create_uid: own}'):
        held = reader.understood(value, words.value, what=written)
        if name and held:
            yield name, held
