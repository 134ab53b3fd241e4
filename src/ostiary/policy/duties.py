"""Rules about what must not be, and tests of what is: `apart` with its controls, `never`, `tests`."""

from collections.abc import Iterator, Mapping
from datetime import date
from functools import partial
from itertools import product
from typing import Any, TypeVar

from msgspec.structs import replace

from ostiary.erp.operation import Pattern, Verb
from ostiary.policy import keys, model, words
from ostiary.policy.node import Node
from ostiary.policy.reader import Reader
from ostiary.policy.roles import Known, read_fields
from ostiary.policy.shape import Part

S = TypeVar("S", model.Never, model.Always)
LOOPBACK = "127.0.0.1"
DUTIES = 2
APART = "apart/"


def read_apart(reader: Reader, known: Known, node: Node | None, controls: Node | None) -> tuple[model.Apart, ...]:
    """The rules, each with its controls; a pack's, whose id another one has, was left out before."""
    named = dict[str, Node]()
    rules = [
        rule for item in enumerate(reader.items(node, what="apart"), 1) for rule in _apart(reader, known, item, named)
    ]
    found = [one for node in reader.items(controls, what="controls") for one in _control(reader, known, node, named)]
    return tuple(
        replace(rule, controls=tuple(one for of, one in found if f"{rule.id}.".startswith(f"{APART}{of}.")))
        for rule in rules
    )


def _control(
    reader: Reader, known: Known, node: Node, named: Mapping[str, Node]
) -> Iterator[tuple[str, model.Control]]:
    """By the id of each rule in whose place it is."""
    part = reader.mapping(node, keys.PARTS["control"], what="a control")
    rules = reader.known(reader.texts(part.get("rules"), what="rules"), named, what="rule of `apart` with the id")
    until = reader.understood(part.get("until"), words.day, what="until")
    for name in ("rules", "roles"):
        told = f"`{name}` of a control names nothing"
        reader.refuse_empty(part.get(name), told, "take the control away, or name one")
    control = model.Control(
        roles=reader.known(reader.texts(part.get("roles"), what="roles"), known.roles, what="role"),
        what=reader.text(part.get("what"), what="what"),
        owner=reader.text(part.get("owner"), what="owner"),
        reason=reader.text(part.get("reason"), what="reason"),
        until=until or date.min,
        source=reader.source(node),
    )
    yield from ((rule, control) for rule in rules)


def _apart(reader: Reader, known: Known, item: tuple[int, Node], named: dict[str, Node]) -> Iterator[model.Apart]:
    """One rule; where its sides name several verbs it is several, `apart/1`, `apart/1.2`, ... under one name."""
    number, node = item
    part = reader.mapping(node, keys.PARTS["apart"], what="an apart rule")
    sides = [_side(reader, known, side) for side in _sides(reader, part.get("permissions"))]
    id_ = reader.understood(part.get("id"), words.rule, what="id") or str(number)
    if id_ in named:
        reader.report(part["id"], f"another rule has the id {id_} ({reader.source(named[id_])})", "one id for one rule")
    elif "id" in part:
        named[id_] = part["id"]
    name = reader.text(part.get("name"), what="name")
    within = reader.understood(part.get("within"), words.within, what="within") or 0
    link = reader.understood(part.get("link"), words.link, what="link") or ""
    severity = reader.word(part.get("severity"), model.Severity, what="severity") or model.Severity.HIGH
    if "link" in part and "within" not in part:
        reader.report(node, "a link needs a time", "within: 30 days")
    if len(sides) != DUTIES:
        return
    if "within" in part:
        _check_history(reader, known.kinds, part["permissions"], {pattern.system for side in sides for pattern in side})
    pairs = list(product(*sides))
    for nth, (first, then) in enumerate(pairs, 1):
        yield model.Apart(
            id=f"{APART}{id_}" + (f".{nth}" if len(pairs) > 1 else ""),
            name=name,
            first=first,
            then=then,
            link=link,
            within_days=within,
            severity=severity,
            source=reader.source(node),
        )


def _sides(reader: Reader, node: Node | None) -> tuple[Node, ...]:
    sides = reader.permissions(node, what="permissions")
    if node is not None and len(sides) != DUTIES:
        reader.report(node, "apart names two permissions", '["party.party: write", "account.payment: execute"]')
    return sides


def _side(reader: Reader, known: Known, node: Node) -> list[Pattern]:
    """All that counts as this duty."""
    reader.refuse_empty(node, "a duty is one permission at least", '"party.party: write"')
    lines = reader.permissions(node, what="permissions")
    return [pattern for line in lines for pattern in _patterns(reader, known, line, "permissions")]


def _check_history(reader: Reader, kinds: Mapping[str, model.Kind], node: Node, systems: set[str]) -> None:
    """Only where the ERP itself says who made a record can a rule about history be enforced."""
    if len(systems) > 1:
        reader.report(node, "both duties of a rule with `within` are of one system", "leave `within` out")
    for system in sorted(systems):
        if kinds.get(system, model.Kind.TRYTON) is not model.Kind.TRYTON:
            reader.report(node, f"{system} does not say who made a record; only kind tryton does", "leave `within` out")


def _patterns(reader: Reader, known: Known, node: Node, what: str) -> tuple[Pattern, ...]:
    return reader.understood(node, partial(words.patterns, systems=known.systems), what=what) or ()


def read_statement(reader: Reader, known: Known, kind: type[S], shape: Part, node: Node) -> S:
    """One statement; what it speaks of is not nothing, or it would hold of itself; nor are roles that are named."""
    part = reader.mapping(node, shape, what=f"a rule of `{shape.name}`")
    items = reader.permissions(part.get("may"), what="may")
    told = f"`may` of a rule of `{shape.name}` names nothing"
    reader.refuse_empty(part.get("may"), told, 'may: "account.*: read, write"')
    roles = reader.texts(part.get("roles"), what="roles")
    reader.refuse_empty(part.get("roles"), "no role is named", "leave `roles` out to speak of every role")
    contexts = reader.texts(part.get("outside", part.get("when")), what="context")
    context = reader.known(contexts, known.contexts, what="context")
    if len(contexts) != ("outside" in part or "when" in part):
        reader.report(
            node, f"a rule of `{shape.name}` names one context", "one that is made of others by all, any or not"
        )
    return kind(
        name=reader.text(part.get("name"), what="name"),
        level=reader.word(part.get("level"), model.Level, what="level"),
        roles=reader.known(roles, known.roles, what="role"),
        patterns=tuple(pattern for item in items for pattern in _patterns(reader, known, item, "may")),
        context=context[0] if context else "",
        source=reader.source(node),
    )


def read_test(reader: Reader, known: Known, node: Node) -> model.Example | None:
    part = reader.mapping(node, keys.PARTS["test"], what="a test")
    does = reader.understood(part.get("does"), partial(words.operation, systems=known.systems), what="does")
    when = reader.understood(part.get("at"), words.moment, what="at")
    address = reader.understood(part.get("from"), words.address, what="from")
    who = reader.known(reader.texts(part.get("who"), what="who"), known.roles, what="role")
    expect = reader.word(part.get("expect"), model.Expected, what="expect")
    shown: dict[str, Any] = {
        "country": reader.understood(part.get("country"), words.country, what="country") or "",
        "device": reader.word(part.get("device"), model.Devices, what="device") is not None,
        "mfa": reader.word(part.get("assurance"), model.Assurance, what="assurance") is not None,
        "signed_in": reader.understood(part.get("signed-in"), words.age, what="signed-in"),
    }
    if does is None or when is None or expect is None:
        return None
    fields = frozenset(read_fields(reader, part.get("fields")))
    named = {"fields_read": fields} if does.verb is Verb.READ else {"fields_written": fields}
    source, where = reader.source(node), address or LOOPBACK
    does = replace(does, **named)
    return model.Example(who=who, does=does, when=when, address=where, expect=expect, source=source, **shown)
