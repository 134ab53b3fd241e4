"""Departments and roles: who belongs where, who includes whom, and what each level may at most hold."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from msgspec import Struct

from ostiary.erp.operation import Condition, Pattern, Verb
from ostiary.policy import keys, words
from ostiary.policy.levels import Above, excess, misfit
from ostiary.policy.model import Kind, Level, May, RoleRule
from ostiary.policy.node import Mapping as Entries
from ostiary.policy.node import Node, Scalar, value_at
from ostiary.policy.reader import Reader


class Known(Struct, frozen=True, kw_only=True):
    """The names that a rule may refer to. `kinds`: of the systems that were understood."""

    systems: Sequence[str]
    kinds: Mapping[str, Kind]
    departments: Above
    contexts: Sequence[str]
    roles: Sequence[str]


def read_departments(reader: Reader, node: Node | None) -> Above:
    """Each, in the document's order, with those that it is part of."""
    found = reader.named(node, partial(_department, reader), what="departments")
    names = [name for name, _, _ in found]
    for _, parent, key in found:
        if parent:
            reader.known([(parent, key)], names, what="department")
    steps = {name: (parent,) for name, parent, _ in found if parent}
    above = {name: reached(name, steps) for name in names}
    for name, _, key in found:
        if name in above[name]:
            reader.report(key, f"department {name} is part of itself", "remove one `of`")
    return above


def _department(reader: Reader, name: str, key: Scalar, node: Node) -> tuple[str, str, Node]:
    part = reader.mapping(node, keys.PARTS["department"], what=f"department {name}")
    return name, reader.text(part.get("of"), what="of"), part.get("of", key)


def read_roles(reader: Reader, node: Node | None, known: Known) -> tuple[RoleRule, ...]:
    """The roles; none includes itself, by whatever way, or one that is beyond it."""
    roles = reader.named(node, partial(_role, reader, known), what="roles")
    includes, by_name = {role.name: role.includes for role in roles}, {role.name: role for role in roles}
    told = node.entries if isinstance(node, Entries) else {}
    for role in roles:
        key, value = told[role.name]
        if role.name in reached(role.name, includes):
            reader.report(key, f"role {role.name} includes itself", "remove one of the includes")
        for name, item in reader.texts(value_at(value, "includes"), what="includes"):
            if name in by_name and (why := misfit(role, by_name[name], known.departments)):
                reader.report(item, f"role {role.name}: {why.message}", why.hint)
    return roles


def reached(name: str, steps: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """All that is below `name`, however deep; itself only where that leads in a circle."""
    found: dict[str, None] = {}
    pending = list(steps.get(name, ()))
    while pending:
        one = pending.pop()
        if one not in found:
            found[one] = None
            pending.extend(steps.get(one, ()))
    return tuple(found)


def _role(reader: Reader, known: Known, name: str, key: Scalar, node: Node) -> RoleRule:
    if name in keys.RESERVED_LIMITS:
        reader.report(key, f"{name} is a limit's name, so it can't be a role's", f"{name}-role")
    part = reader.mapping(node, keys.PARTS["role"], what=f"role {name}")
    level = reader.word(part.get("level"), Level, what="level")
    department = reader.text(part.get("of"), what="of")
    if department:
        reader.known([(department, part["of"])], known.departments, what="department")
    elif level in {Level.DEPARTMENT, Level.USER} and "of" not in part:
        reader.report(key, f"a role of level {level} belongs to a department", "of: DEPARTMENT")
    reader.refuse_empty(part.get("when"), "no context is named", "leave `when` out, or name one")
    return RoleRule(
        name=name,
        level=level or Level.PARTNER,  # where it is told and wrong, the policy is refused
        department=department,
        includes=reader.known(reader.texts(part.get("includes"), what="includes"), known.roles, what="role"),
        may=tuple(_may(reader, known, level, part.get("may"))),
        when=reader.known(reader.texts(part.get("when"), what="when"), known.contexts, what="context"),
        source=reader.source(key),
    )


def _may(reader: Reader, known: Known, level: Level | None, node: Node | None) -> Iterable[May]:
    for item in reader.permissions(node, what="may"):
        part: dict[str, Node] = {"do": item}
        if isinstance(item, Entries):
            part = reader.mapping(item, keys.PARTS["grant"], what="may")
        found = reader.understood(part.get("do"), partial(words.patterns, systems=known.systems), what="may") or ()
        for much in excess(level, found, known.kinds) if level else ():
            reader.report(item, much.message, much.hint)
        _check_seen(reader, found, known, part)
        fields, where = read_fields(reader, part.get("fields")), tuple(_where(reader, part.get("where")))
        yield May(patterns=found, fields=fields, where=where, source=reader.source(item))


def read_fields(reader: Reader, node: Node | None) -> tuple[str, ...]:
    """Names of fields, sorted; where there is a list, it is not empty."""
    items = reader.items(node, what="fields")
    reader.refuse_empty(node, "no field is named", "leave `fields` out, or name one")
    return tuple(sorted({name for item in items if (name := reader.understood(item, words.field, what="fields"))}))


def _where(reader: Reader, node: Node | None) -> Iterable[Condition]:
    """Of a field, every bound must hold, and of its values one."""
    if node is not None and (not isinstance(node, Entries) or not node.entries):
        reader.report(node, "where is a mapping of fields to values", 'where: {amount: "<= 5000"}')
    for key, value in node.entries.values() if isinstance(node, Entries) else ():
        name, items = reader.understood(key, words.field, what="where") or "", reader.items(value, what=key.text)
        told = [one for item in items if (one := reader.understood(item, partial(words.condition, name), what=name))]
        yield from (one for one in told if one.compare != "in")
        if among := {word for one in told if one.compare == "in" for word in one.values}:
            yield Condition(field=name, compare="in", values=tuple(sorted(among)))
        reader.refuse_empty(value, f"{key.text} may hold nothing", "[draft, submitted]")


def _check_seen(reader: Reader, patterns: Iterable[Pattern], known: Known, part: dict[str, Node]) -> None:
    """What can't be seen of a call can't be held to: it is refused, not left out."""
    unseen = next((one.system for one in patterns if known.kinds.get(one.system, Kind.TRYTON) is not Kind.TRYTON), "")
    verbs = {one.verb for one in patterns}
    if "fields" in part and (odd := verbs - ({Verb.WRITE} if unseen else {Verb.READ, Verb.WRITE})):
        told = f"{unseen} shows only the fields that are written" if unseen else "fields are read and written"
        reader.report(part["fields"], f"{told}, not those of {min(odd)}", f"a line of its own for {min(odd)}")
    if "where" in part and unseen:
        told = f"{unseen} does not say what a record holds; only kind tryton does"
        reader.report(part["where"], told, "leave `where` out, or give the operation to fewer")
