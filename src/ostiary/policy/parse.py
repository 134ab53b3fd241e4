"""From text to a typed policy, or to every problem of the text at once."""

from collections.abc import Sequence
from functools import partial
from typing import Final

from msgspec import Struct

from ostiary.erp.operation import Pattern
from ostiary.policy import words
from ostiary.policy.model import (
    ApartRule,
    ContextRule,
    Example,
    LimitRule,
    May,
    NeverRule,
    Policy,
    RoleRule,
    SystemRule,
)
from ostiary.policy.node import Mapping, Node, Scalar, read
from ostiary.policy.problem import Problem
from ostiary.policy.reader import Reader

SECTIONS: Final = (
    "systems", "departments", "contexts", "roles", "apart", "never", "limits", "when-silent", "tests",
)  # fmt: skip
LEVELS: Final = ("system", "department", "user", "partner")
KINDS: Final = ("tryton", "openapi")
HAND_OVERS: Final = ("none", "static", "session")
RESERVED_LIMITS: Final = ("anonymous", "default")
LOOPBACK: Final = "127.0.0.1"


class Parsed(Struct, frozen=True, kw_only=True):
    """`policy` is None where a problem keeps it from meaning anything for certain."""

    policy: Policy | None
    problems: tuple[Problem, ...]


def parse(text: str, file: str) -> Parsed:
    """The policy in `text`; `file` is how problems and lines name it."""
    root, problems = read(text, file)
    if root is None:
        return Parsed(policy=None, problems=tuple(problems))
    reader = Reader(file, text)
    policy = _policy(reader, root)
    found = tuple(sorted(reader.problems, key=lambda problem: (problem.line, problem.column)))
    return Parsed(policy=None if found else policy, problems=found)


def _policy(reader: Reader, root: Node) -> Policy:
    part = reader.mapping(root, SECTIONS, ["policy"], what="the policy")
    systems = reader.named(part.get("systems"), partial(_system, reader), what="systems")
    names = [system.name for system in systems]
    contexts = reader.named(part.get("contexts"), partial(_context, reader), what="contexts")
    departments = _departments(reader, part.get("departments"))
    known = Known(
        systems=names,
        departments=departments,
        contexts=[context.name for context in contexts],
        roles=_keys(part.get("roles")),
    )
    roles = _roles(reader, part.get("roles"), known)
    held = [role.name for role in roles]
    _places_differ(reader, part.get("systems"), systems)
    return Policy(
        file=reader.file,
        name=reader.text(part.get("policy"), what="policy"),
        systems=systems,
        departments=departments,
        contexts=contexts,
        roles=roles,
        apart=tuple(
            rule for item in reader.items(part.get("apart"), what="apart") if (rule := _apart(reader, item, names))
        ),
        never=tuple(_never(reader, item, names, held) for item in reader.items(part.get("never"), what="never")),
        limits=reader.named(part.get("limits"), partial(_limit, reader, held), what="limits"),
        when_silent=reader.word(part.get("when-silent"), ("close", "keep"), what="when-silent", default="close"),
        tests=tuple(
            test for item in reader.items(part.get("tests"), what="tests") if (test := _test(reader, item, names, held))
        ),
    )


def _system(reader: Reader, name: str, key: Scalar, node: Node) -> SystemRule | None:
    optional = ("database", "spec", "hand-over", "audience")
    part = reader.mapping(node, optional, ["kind", "at", "upstream"], what=f"system {name}")
    kind = reader.word(part.get("kind"), KINDS, what="kind", default="tryton")
    place = reader.understood(part["at"], words.place, what="at") if "at" in part else None
    upstream = reader.understood(part["upstream"], words.upstream, what="upstream") if "upstream" in part else None
    needed = "database" if kind == "tryton" else "spec"
    if needed not in part:
        reader.report(node, f"a system of kind {kind} needs the key {needed!r}", f"{needed}: ...")
    if place is None or upstream is None:
        return None
    host, prefix = place
    if kind == "tryton" and prefix:
        reader.report(part["at"], "Tryton answers at its own paths, without a prefix", host)
    return SystemRule(
        name=name,
        kind=kind,
        host=host,
        prefix=prefix,
        upstream=upstream,
        audience=reader.text(part.get("audience"), what="audience", default=f"https://{host}{prefix}"),
        database=reader.text(part.get("database"), what="database"),
        spec=reader.text(part.get("spec"), what="spec"),
        hand_over=reader.word(
            part.get("hand-over"), HAND_OVERS, what="hand-over", default="session" if kind == "tryton" else "none"
        ),
        at=reader.at(key),
    )


def _keys(node: Node | None) -> list[str]:
    return list(node.entries) if isinstance(node, Mapping) else []


def _places_differ(reader: Reader, node: Node | None, systems: Sequence[SystemRule]) -> None:
    """One place is one system; so is one audience, or a token for one would open the other."""
    keys = node.entries if isinstance(node, Mapping) else {}
    for number, system in enumerate(systems):
        for other in systems[:number]:
            if (system.host, system.prefix) == (other.host, other.prefix):
                reader.report(
                    keys[system.name][0], f"{system.name} and {other.name} are at the same place", "at: another"
                )
            elif system.audience == other.audience:
                reader.report(
                    keys[system.name][0], f"{system.name} and {other.name} have one audience", "audience: ..."
                )


def _departments(reader: Reader, node: Node | None) -> tuple[str, ...]:
    """A tree by `of`; its order is that of the document."""
    found = reader.named(node, partial(_department, reader), what="departments")
    names = [name for name, _, _ in found]
    for _, parent, key in found:
        if parent:
            reader.known([(parent, key)], names, what="department")
    parents = {name: parent for name, parent, _ in found}
    for name, _, key in found:
        if _circular(name, parents):
            reader.report(key, f"department {name} is part of itself", "remove one `of`")
    return tuple(names)


def _department(reader: Reader, name: str, key: Scalar, node: Node) -> tuple[str, str, Node]:
    part = reader.mapping(node, ["of"], what=f"department {name}")
    return name, reader.text(part.get("of"), what="of"), part.get("of", key)


def _circular(name: str, parents: dict[str, str]) -> bool:
    at, steps = parents.get(name, ""), 0
    while at and at != name and steps <= len(parents):
        at, steps = parents.get(at, ""), steps + 1
    return at == name


def _context(reader: Reader, name: str, key: Scalar, node: Node) -> ContextRule | None:
    part = reader.mapping(node, ["days", "hours", "zone", "networks"], what=f"context {name}")
    if not part:
        reader.report(key, f"context {name} says nothing", '{days: mon-fri, hours: "08:00-18:00", zone: Europe/Berlin}')
        return None
    timed = part.keys() & {"days", "hours", "zone"}
    if timed and not part.keys() >= {"hours", "zone"}:
        reader.report(node, "hours need a zone, and days need both", 'hours: "08:00-18:00", zone: Europe/Berlin')
        return None
    days = reader.understood(part["days"], words.days, what="days") if "days" in part else tuple(range(7))
    hours = reader.understood(part["hours"], words.hours, what="hours") if timed else (0, 0)
    zone = reader.understood(part["zone"], words.zone, what="zone") if timed else ""
    told = [reader.understood(item, words.network, what="network") for item in reader.items(part.get("networks"), what="networks")]  # fmt: skip
    if "networks" in part and not told:
        reader.report(part["networks"], "no network is named", "networks: [203.0.113.0/24]")
    if days is None or hours is None or zone is None or None in told:
        return None
    networks = tuple(network for network in told if network)
    return ContextRule(
        name=name,
        days=days if timed else (),
        start=hours[0],
        end=hours[1],
        zone=zone,
        networks=networks,
        at=reader.at(key),
    )


class Known(Struct, frozen=True, kw_only=True):
    """The names that a role may refer to."""

    systems: Sequence[str]
    departments: Sequence[str]
    contexts: Sequence[str]
    roles: Sequence[str]


def _roles(reader: Reader, node: Node | None, known: Known) -> tuple[RoleRule, ...]:
    roles = reader.named(node, partial(_role, reader, known), what="roles")
    includes = {role.name: role.includes for role in roles}
    for role in roles:
        if role.name in _reached(role.name, includes):
            key = node.entries[role.name][0] if isinstance(node, Mapping) else Scalar("", role.at.line, 1)
            reader.report(key, f"role {role.name} includes itself", "remove one of the includes")
    return roles


def _reached(name: str, includes: dict[str, tuple[str, ...]]) -> set[str]:
    found: set[str] = set()
    pending = list(includes.get(name, ()))
    while pending:
        one = pending.pop()
        if one not in found:
            found.add(one)
            pending.extend(includes.get(one, ()))
    return found


def _role(reader: Reader, known: Known, name: str, key: Scalar, node: Node) -> RoleRule:
    part = reader.mapping(node, ["of", "includes", "may", "when"], ["level"], what=f"role {name}")
    level = reader.word(part.get("level"), LEVELS, what="level", default="partner")
    department = reader.text(part.get("of"), what="of")
    if department:
        reader.known([(department, part["of"])], known.departments, what="department")
    elif level in {"department", "user"} and "level" in part:
        reader.report(key, f"a role of level {level} belongs to a department", "of: DEPARTMENT")
    may = [
        May(patterns=found, at=reader.at(item))
        for item in reader.items(part.get("may"), what="may")
        if (found := reader.understood(item, partial(words.patterns, systems=known.systems), what="may"))
        and _level_allows(reader, item, level, found)
    ]
    return RoleRule(
        name=name,
        level=level,
        department=department,
        includes=reader.known(reader.texts(part.get("includes"), what="includes"), known.roles, what="role"),
        may=tuple(may),
        when=reader.known(reader.texts(part.get("when"), what="when"), known.contexts, what="context"),
        at=reader.at(key),
    )


def _level_allows(reader: Reader, node: Node, level: str, patterns: Sequence[Pattern]) -> bool:
    """What a level may at most hold (standard B2): everything is for system, families of records not for partners."""
    for pattern in patterns:
        if pattern.object == "*" and level != "system":
            reader.report(
                node, f"only a role of level system may hold every object, not one of level {level}", "sale.*"
            )
            return False
        if level == "partner" and pattern.object.endswith(".*"):
            reader.report(node, "a role of level partner names each object", pattern.object[:-1] + "NAME")
            return False
    return True


def _apart(reader: Reader, node: Node, systems: Sequence[str]) -> ApartRule | None:
    part = reader.mapping(node, ["link", "within"], ["name", "permissions"], what="an apart rule")
    sides = reader.items(part.get("permissions"), what="permissions")
    if len(sides) != 2:  # noqa: PLR2004  two duties
        reader.report(
            node, "apart names two permissions", 'permissions: ["party.party: write", "account.payment: execute"]'
        )
        return None
    first, then = (
        reader.understood(side, partial(words.patterns, systems=systems), what="permissions") for side in sides
    )
    within = reader.understood(part["within"], words.within, what="within") if "within" in part else 0
    if "link" in part and "within" not in part:
        reader.report(node, "a link needs a time", "within: 30 days")
    if not first or not then or within is None:
        return None
    return ApartRule(
        name=reader.text(part.get("name"), what="name"),
        first=first,
        then=then,
        link=reader.text(part.get("link"), what="link"),
        within_days=within,
        at=reader.at(node),
    )


def _never(reader: Reader, node: Node, systems: Sequence[str], roles: Sequence[str]) -> NeverRule:
    part = reader.mapping(node, ["level", "roles"], ["name", "may"], what="a never rule")
    found = [
        patterns
        for item in reader.items(part.get("may"), what="may")
        if (patterns := reader.understood(item, partial(words.patterns, systems=systems), what="may"))
    ]
    if not {"level", "roles"} & part.keys():
        reader.report(node, "never says of whom", "level: partner")
    return NeverRule(
        name=reader.text(part.get("name"), what="name"),
        level=reader.word(part.get("level"), LEVELS, what="level", default=""),
        roles=reader.known(reader.texts(part.get("roles"), what="roles"), roles, what="role"),
        patterns=tuple(pattern for patterns in found for pattern in patterns),
        at=reader.at(node),
    )


def _limit(reader: Reader, roles: Sequence[str], name: str, key: Scalar, node: Node) -> LimitRule:
    reader.known([(name, key)], [*roles, *RESERVED_LIMITS], what="role")
    allowed = ["requests", "body"] if name == "default" else ["requests"]
    part = reader.mapping(node, allowed, what=f"limit {name}")
    requests, seconds = (
        reader.understood(part["requests"], words.rate, what="requests") if "requests" in part else None
    ) or (0, 0)
    body = (reader.understood(part["body"], words.size, what="body") if "body" in part else None) or 0
    return LimitRule(name=name, requests=requests, seconds=seconds, body_bytes=body, at=reader.at(key))


def _test(reader: Reader, node: Node, systems: Sequence[str], roles: Sequence[str]) -> Example | None:
    part = reader.mapping(node, ["from"], ["who", "does", "at", "expect"], what="a test")
    if not part.keys() >= {"who", "does", "at", "expect"}:
        return None
    does = reader.understood(part["does"], partial(words.operation, systems=systems), what="does")
    when = reader.understood(part["at"], words.moment, what="at")
    source = reader.understood(part["from"], words.address, what="from") if "from" in part else LOOPBACK
    if does is None or when is None or source is None:
        return None
    return Example(
        who=reader.known(reader.texts(part["who"], what="who"), roles, what="role"),
        does=does,
        when=when,
        source=source,
        allowed=reader.word(part["expect"], ("allow", "deny"), what="expect", default="deny") == "allow",
        at=reader.at(node),
    )
