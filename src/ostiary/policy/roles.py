"""Departments and roles: who belongs where, who includes whom, and what each level may at most hold."""

from collections.abc import Iterable, Mapping
from functools import partial

from ostiary.erp.operation import Condition, Pattern, Verb
from ostiary.policy import keys, words
from ostiary.policy.levels import Above, excess, misfit
from ostiary.policy.model import Kind, Level, May, RoleRule
from ostiary.policy.node import Mapping as Entries
from ostiary.policy.node import Node, Scalar, value_at
from ostiary.policy.reader import Reader


def read_departments(reader: Reader, node: Node | None) -> Above:
    """Each, in the document's order, with those that it is part of."""
    steps = dict(reader.named(node, partial(_department, reader), what="departments"))
    above = {name: reached(name, steps) for name in steps}
    for name, parts in above.items():
        if name in parts and (told := value_at(value_at(node, name), "of")):
            reader.report(told, f"department {name} is part of itself", "remove one `of`")
    return above


def _department(reader: Reader, name: str, _key: Scalar, node: Node) -> tuple[str, tuple[str, ...]]:
    """The name, and of what it is part."""
    _, told = reader.read(node, "department", what=f"department {name}")
    return name, tuple(told.values())


def read_roles(reader: Reader, node: Node | None, above: Above) -> tuple[RoleRule, ...]:
    """The roles; none includes itself, by whatever way, or one that is beyond it."""
    roles = reader.named(node, partial(_role, reader), what="roles")
    includes, by_name = {role.name: role.includes for role in roles}, {role.name: role for role in roles}
    told = node.entries if isinstance(node, Entries) else {}
    for role in roles:
        key, value = told[role.name]
        if role.name in reached(role.name, includes):
            reader.report(key, f"role {role.name} includes itself", "remove one of the includes")
        for name, item in reader.texts(value_at(value, "includes"), what="includes"):
            if name in by_name and (why := misfit(role, by_name[name], above)):
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


def _role(reader: Reader, name: str, key: Scalar, node: Node) -> RoleRule:
    if name in keys.RESERVED_LIMITS:
        reader.report(key, f"{name} is a limit's name, so it can't be a role's", f"{name}-role")
    part, told = reader.read(node, "role", what=f"role {name}")
    level = told.pop("level", None)
    if level in {Level.DEPARTMENT, Level.USER} and "of" not in part:
        reader.report(key, f"a role of level {level} belongs to a department", "of: DEPARTMENT")
    may = tuple(_may(reader, level, item) for item in reader.permissions(part.get("may"), what="may"))
    # Where the level is told and wrong, the policy is refused.
    return RoleRule(name=name, level=level or Level.PARTNER, may=may, source=reader.source(key), **told)


def _may(reader: Reader, level: Level | None, line: Node) -> May:
    part: dict[str, Node] = {}
    if isinstance(line, Entries):
        part, told = reader.read(line, "grant", what="may")
    else:
        told = {"patterns": reader.patterns(line, what="may")}
    found = told.get("patterns", ())
    for much in excess(level, found, reader.kinds) if level else ():
        reader.report(line, much.message, much.hint)
    _check_seen(reader, found, part)
    fields, where = tuple(sorted(set(told.get("fields", ())))), tuple(_where(reader, part.get("where")))
    return May(patterns=found, fields=fields, where=where, source=reader.source(line))


def _where(reader: Reader, node: Node | None) -> Iterable[Condition]:
    """Of a field, every bound must hold, and of its values one."""
    for name, written, value in reader.by_field(node, what="where", example='{amount: "<= 5000"}'):
        items = reader.items(value, what=written)
        told = [one for item in items if (one := reader.understood(item, partial(words.condition, name), what=name))]
        yield from (one for one in told if one.compare != "in")
        if among := {word for one in told if one.compare == "in" for word in one.values}:
            yield Condition(field=name, compare="in", values=tuple(sorted(among)))
        reader.refuse_empty(value, f"{written} may hold nothing", "[draft, submitted]")


def _check_seen(reader: Reader, patterns: Iterable[Pattern], part: dict[str, Node]) -> None:
    """What can't be seen of a call can't be held to: it is refused, not left out."""
    unseen = next((one.system for one in patterns if reader.kinds.get(one.system, Kind.TRYTON) is not Kind.TRYTON), "")
    verbs = {one.verb for one in patterns}
    if "fields" in part and (odd := verbs - ({Verb.WRITE} if unseen else {Verb.READ, Verb.WRITE})):
        told = f"{unseen} shows only the fields that are written" if unseen else "fields are read and written"
        reader.report(part["fields"], f"{told}, not those of {min(odd)}", f"a line of its own for {min(odd)}")
    if "where" in part and unseen:
        told = f"{unseen} does not say what a record holds; only kind tryton does"
        reader.report(part["where"], told, "leave `where` out, or give the operation to fewer")
