"""What stands under a policy's own names: systems, contexts, departments and roles, what must not be, and tests."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC
from functools import partial
from itertools import combinations, product
from typing import Any, Final, TypeVar

from msgspec import Struct, convert
from msgspec.structs import replace

from ostiary.erp.operation import Condition, Pattern, Verb
from ostiary.foundation.data import beside
from ostiary.policy import keys, model, words
from ostiary.policy.model import ContextRule, HandOver, Kind, Level, May, RoleRule, System
from ostiary.policy.node import Mapping as Entries
from ostiary.policy.node import Node, Scalar, names_in, value_at
from ostiary.policy.reader import Reader, made
from ostiary.policy.words import Wrong

BEARER: Final = "authorization: Bearer {key}"
KEY: Final = re.compile("{(?:key|basic)}")
OF_WAY: Final = {"sends": HandOver.KEY, "token-from": HandOver.OAUTH, "token-scope": HandOver.OAUTH}
EVERY_DAY: Final = tuple(range(7))
OTHERS: Final = ("all", "any", "not")
S = TypeVar("S", model.Never, model.Always)
DUTIES: Final = 2
APART: Final = "apart/"
RULE: Final = "rule of `apart` with the id"  # as a control names one


# --- systems: each with a place and an audience of its own
RANK: Final = {Level.PARTNER: 0, Level.USER: 1, Level.DEPARTMENT: 2, Level.SYSTEM: 3}


class Rules(Struct, frozen=True):
    """What is so for every system of one kind; see sections.toml."""

    needs: str
    ways: tuple[HandOver, ...]
    administration: tuple[str, ...] = ()
    path: str = ""
    example: str = ""


KINDS: Final = convert(beside(__file__), dict[Kind, Rules])
Above = Mapping[str, tuple[str, ...]]  # department -> those that it is part of, the nearest first


def read_systems(reader: Reader, node: Node | None) -> tuple[System, ...]:
    """The systems that were understood; what was not is reported."""
    systems = reader.named(node, partial(_system, reader), what="systems")
    if isinstance(node, Entries):
        _places_differ(reader, node, systems)
    return systems


def _system(reader: Reader, name: str, key: Scalar, node: Node) -> System | None:
    part, told = reader.read(node, "system", what=f"system {name}")
    kind, place = told.get("kind"), told.pop("at", None)
    if kind:
        needed = KINDS[kind].needs
        if needed not in part:
            reader.report(key, f"a system of kind {kind} needs the key {needed!r}", f"{needed}: ...")
        for other in {rules.needs for rules in KINDS.values()} & part.keys() - {needed}:
            reader.report(part[other], f"a system of kind {kind} has no {other}", f"leave `{other}` out")
        told.setdefault("hand_over", KINDS[kind].ways[0])
    _handed_over(reader, key, part, told)
    if place is None:
        return None
    host, prefix = place
    if prefix and kind is not Kind.OPENAPI:
        reader.report(part["at"], f"{str(kind).capitalize()} answers at its own paths, without a prefix", host)
    if until := told.get("observe_until"):
        told["observe_until"] = until.astimezone(UTC)
    sends = _sent(told) if told.get("hand_over") is HandOver.KEY else ()
    otherwise = {"audience": f"https://{host}{prefix}", "sends": sends}
    return made(System, {**otherwise, **told}, name=name, host=host, prefix=prefix, source=reader.source(key))


def _sent(told: Mapping[str, Any]) -> tuple[str, ...]:
    """By default; of several databases behind one address, Odoo is told which one is meant."""
    return (BEARER, f"x-odoo-database: {told.get('database')}") if told.get("kind") is Kind.ODOO else (BEARER,)


def _handed_over(reader: Reader, key: Scalar, part: dict[str, Node], told: dict[str, Any]) -> None:
    """Each form of it with what it needs, and nothing of another."""
    way, kind = told.get("hand_over"), told.get("kind")
    if kind and way not in (ways := KINDS[kind].ways):
        reader.report(part["hand-over"], f"a system of kind {kind} is not handed over by {way}", " or ".join(ways))
    if way is HandOver.OAUTH and "token-from" not in part:
        reader.report(key, "hand-over oauth needs the key 'token-from'", "token-from: ...")
    for name, of in OF_WAY.items():
        if name in part and way is not of:
            reader.report(part[name], f"{name} is for hand-over {of}", f"hand-over: {of}")
    sends = told.get("sends") or (BEARER,)
    if not any(map(KEY.search, sends)):
        reader.report(part["sends"], "no header holds the key", '"Authorization: Bearer {key}"')
    if len({line.partition(":")[0] for line in sends}) < len(sends):
        reader.report(part["sends"], "a header stands twice", "each once")


def _places_differ(reader: Reader, node: Entries, systems: Sequence[System]) -> None:
    """One place is one system; so is one audience, or a token for one would open the other."""
    for other, system in combinations(systems, 2):
        key = node.entries[system.name][0]
        if (system.host, system.prefix) == (other.host, other.prefix):
            reader.report(key, f"{system.name} and {other.name} are at the same place", "at: another")
        elif system.audience == other.audience:
            reader.report(key, f"{system.name} and {other.name} have one audience", "audience: ...")


# --- contexts: hours, place, device, sign-in, and what is made of others by all, any and not


def read_contexts(reader: Reader, node: Node | None) -> tuple[ContextRule, ...]:
    """The contexts; what one is made of is made of no others, so that each can be read at a glance."""
    told = node.entries if isinstance(node, Entries) else {}
    made = frozenset(name for name, (_, value) in told.items() if not set(OTHERS).isdisjoint(names_in(value)))
    return reader.named(node, partial(_context, reader, made), what="contexts")


def _context(reader: Reader, made: frozenset[str], name: str, key: Scalar, node: Node) -> ContextRule:
    part, told = reader.read(node, "context", what=f"context {name}")
    timed = part.keys() & {"days", "hours", "zone", "holidays"}
    if timed and not part.keys() >= {"hours", "zone"}:
        hint = 'hours: "08:00-18:00", zone: Europe/Berlin'
        reader.report(key, "hours need a zone, and days and holidays need both", hint)
    for one, item in (each for key in OTHERS for each in reader.texts(part.get(key), what=key)):
        if one in made:
            reader.report(item, f"context {one} is made of others itself", "name what it is made of")
    if timed:
        told.setdefault("days", EVERY_DAY)
    return ContextRule(name=name, source=reader.source(key), **told)


# --- departments and roles: who belongs where, who includes whom, what each level may at most hold


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


def _check_seen(reader: Reader, patterns: Collection[Pattern], part: dict[str, Node]) -> None:
    """What can't be seen of a call can't be held to: it is refused, not left out."""
    kinds = {one.system: reader.kinds.get(one.system, Kind.TRYTON) for one in patterns}
    unread = next((name for name, kind in kinds.items() if kind is Kind.OPENAPI), "")
    unseen = next((name for name, kind in kinds.items() if kind is not Kind.TRYTON), "")
    verbs = {one.verb for one in patterns}
    if "fields" in part and (odd := verbs - ({Verb.WRITE} if unread else {Verb.READ, Verb.WRITE})):
        told = f"{unread} shows only the fields that are written" if unread else "fields are read and written"
        reader.report(part["fields"], f"{told}, not those of {min(odd)}", f"a line of its own for {min(odd)}")
    if "where" in part and unseen:
        told = f"{unseen} does not say what a record holds; only kind tryton does"
        reader.report(part["where"], told, "leave `where` out, or give the operation to fewer")


# --- rules about what must not be, and tests of what is


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
    duties = reader.permissions(part.get("permissions"), what="permissions")
    if "permissions" in part and len(duties) != DUTIES:
        reader.report(part["permissions"], "apart names two permissions", '["OBJECT: write", "OTHER: execute"]')
    sides = [_side(reader, duty) for duty in duties]
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
        about = {"id": f"{APART}{id_}{of_several}", "source": reader.source(node)}
        rule = made(model.Apart, told, first=first, then=then, **about)
        yield from [rule] if rule else []


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
            hint = "one that is made of others by all, any or not"
            reader.report(node, f"a rule of `{name}` names one context", hint)
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


# --- levels (standard B2): of the whole system, a department, a task, a few objects


def excess(level: Level, patterns: Iterable[Pattern], kinds: Mapping[str, Kind]) -> Iterator[Wrong]:
    """What is too much for a role of `level`, and what to write instead."""
    for pattern in patterns:
        kind = kinds.get(pattern.system, Kind.OPENAPI)
        families = kind is not Kind.OPENAPI
        if level is not Level.SYSTEM and pattern.object == "*":
            meant = "sale.*" if families and level is not Level.PARTNER else "OBJECT"
            told = f"only a role of level system may hold every object, not one of level {level}"
            yield Wrong(told, f'"{meant}: {pattern.verb}"')
        elif level is not Level.SYSTEM and families and pattern.verb is not Verb.READ and _administers(pattern, kind):
            told = f"{pattern.object}: {pattern.verb} administers the ERP; only a role of level system may hold it"
            yield Wrong(told, "level: system, or name the objects that are meant")
        elif level is Level.PARTNER and pattern.object.endswith(".*"):
            yield Wrong("a role of level partner names each object", f"{pattern.object[:-1]}NAME")
        elif level is Level.PARTNER and families and pattern.verb is Verb.EXECUTE and not pattern.action:
            yield Wrong("a role of level partner names each action", f"{pattern.object}: execute ACTION")


def _administers(pattern: Pattern, kind: Kind) -> bool:
    rules = (Pattern(system=pattern.system, object=name, verb=pattern.verb) for name in KINDS[kind].administration)
    return any(pattern.meets(rule) for rule in rules)


def misfit(role: RoleRule, other: RoleRule, above: Above) -> Wrong | None:
    """Why `role` may not include `other`: it is of a higher level, or not of this branch of the company."""
    if RANK[other.level] > RANK[role.level]:
        told = f"a role of level {role.level} includes none of level {other.level}"
        return Wrong(told, "a role of its own level or of a lower one")
    mine, theirs = role.department, other.department
    if role.level is Level.SYSTEM or not mine or not theirs or mine in {theirs, *above.get(theirs, ())}:
        return None
    if theirs not in above.get(mine, ()):
        told = f"{other.name} is of {theirs}, which is no part of {mine}"
        return Wrong(told, "a role of its own department, or of one below or above it")
    if other.level is Level.DEPARTMENT:
        told = f"{other.name} leads {theirs}, of which {mine} is only a part"
        return Wrong(told, f"a role of {theirs} that does not lead it")
    return None
