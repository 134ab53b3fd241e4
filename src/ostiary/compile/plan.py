"""Compiles a policy: names become closures, lines become grants with ids, hours and networks become formulas."""

from collections.abc import Iterable, Mapping
from typing import Final

from ostiary.erp.openapi import Described
from ostiary.erp.operation import Pattern
from ostiary.plan.formula import All, Always, Formula, Hours, Networks
from ostiary.plan.model import (
    Apart,
    Context,
    Grant,
    HandOver,
    Kind,
    Level,
    Limit,
    Limits,
    Never,
    Parameter,
    Plan,
    Role,
    Route,
    Source,
    System,
    WhenSilent,
    seal,
)
from ostiary.policy.model import At, ContextRule, LimitRule, Policy, RoleRule, SystemRule

ANONYMOUS: Final = Limit(name="anonymous", requests=60, seconds=60)
DEFAULT: Final = Limit(name="default", requests=1000, seconds=3600)
BODY_BYTES: Final = 10 * 1024 * 1024  # standard E4
ALWAYS: Final = "always"


def compile_policy(policy: Policy, routes: Mapping[str, Iterable[Described]] = {}) -> Plan:
    """The plan of `policy`, sealed; `routes`: system -> what its OpenAPI document describes."""
    included = {role.name: role.includes for role in policy.roles}
    contexts = {context.name: context for context in policy.contexts}
    plan = Plan(
        policy=policy.name,
        systems=tuple(_system(policy.file, system) for system in policy.systems),
        roles=tuple(_role(policy.file, role, included) for role in policy.roles),
        grants=tuple(grant for role in policy.roles for grant in _grants(policy.file, role, contexts)),
        routes=tuple(_route(described) for name in sorted(routes) for described in routes[name]),
        apart=tuple(_apart(policy)),
        never=tuple(_never(policy)),
        limits=_limits(policy.limits),
        when_silent=WhenSilent(policy.when_silent),
    )
    return seal(plan)


def _source(file: str, at: At) -> Source:
    return Source(file=file, line=at.line, text=at.text)


def _system(file: str, rule: SystemRule) -> System:
    return System(
        name=rule.name,
        kind=Kind(rule.kind),
        host=rule.host,
        prefix=rule.prefix,
        upstream=rule.upstream,
        audience=rule.audience,
        database=rule.database,
        hand_over=HandOver(rule.hand_over),
        source=_source(file, rule.at),
    )


def _role(file: str, rule: RoleRule, included: Mapping[str, tuple[str, ...]]) -> Role:
    return Role(
        name=rule.name,
        level=Level(rule.level),
        department=rule.department,
        closure=tuple(sorted(_closure(rule.name, included))),
        source=_source(file, rule.at),
    )


def _closure(name: str, included: Mapping[str, tuple[str, ...]]) -> set[str]:
    found: set[str] = set()
    pending = [name]
    while pending:
        one = pending.pop()
        if one not in found:
            found.add(one)
            pending.extend(included[one])
    return found


def _grants(file: str, role: RoleRule, contexts: Mapping[str, ContextRule]) -> Iterable[Grant]:
    """`clerk/2` is the role's second line of `may`; a line of several verbs adds the verb: `clerk/2.read`."""
    context = _context([contexts[name] for name in role.when])
    for number, may in enumerate(role.may, 1):
        for pattern in may.patterns:
            suffix = f".{_doing(pattern)}" if len(may.patterns) > 1 else ""
            yield Grant(
                id=f"{role.name}/{number}{suffix}",
                role=role.name,
                pattern=pattern,
                context=context,
                source=_source(file, may.at),
            )


def _doing(pattern: Pattern) -> str:
    return pattern.verb + (f".{pattern.action}" if pattern.action else "")


def _context(rules: list[ContextRule]) -> Context:
    parts = [part for rule in rules for part in _conditions(rule)]
    formula: Formula = Always() if not parts else parts[0] if len(parts) == 1 else All(parts=tuple(parts))
    return Context(name=" + ".join(rule.name for rule in rules) or ALWAYS, formula=formula)


def _conditions(rule: ContextRule) -> Iterable[Formula]:
    if rule.days:
        yield Hours(days=rule.days, start=rule.start, end=rule.end, zone=rule.zone)
    if rule.networks:
        yield Networks(networks=rule.networks)


def _route(described: Described) -> Route:
    parameters = tuple(
        Parameter(name=one.name, place=one.place, required=one.required, schema=one.schema)
        for one in described.parameters
    )
    return Route(
        system=described.system,
        method=described.method,
        template=described.template,
        object=described.object,
        verb=described.verb,
        action=described.action,
        parameters=parameters,
        body_schema=described.body_schema,
        body_required=described.body_required,
        inspect=described.inspect,
    )


def _apart(policy: Policy) -> Iterable[Apart]:
    """A rule whose sides name several verbs is several rules, `apart/1`, `apart/1.2`, ... under one name."""
    for number, rule in enumerate(policy.apart, 1):
        pairs = [(first, then) for first in rule.first for then in rule.then]
        for part, (first, then) in enumerate(pairs, 1):
            yield Apart(
                id=f"apart/{number}" + (f".{part}" if len(pairs) > 1 else ""),
                name=rule.name,
                first=first,
                then=then,
                link=rule.link,
                within_days=rule.within_days,
                source=_source(policy.file, rule.at),
            )


def _never(policy: Policy) -> Iterable[Never]:
    for rule in policy.never:
        yield Never(
            name=rule.name,
            level=Level(rule.level) if rule.level else None,
            roles=rule.roles,
            patterns=rule.patterns,
            source=_source(policy.file, rule.at),
        )


def _limits(rules: tuple[LimitRule, ...]) -> Limits:
    named = {rule.name: rule for rule in rules}
    told = {
        name: Limit(name=name, requests=rule.requests, seconds=rule.seconds)
        for name, rule in named.items()
        if rule.requests
    }
    body = named["default"].body_bytes if "default" in named else 0
    return Limits(
        anonymous=told.pop("anonymous", ANONYMOUS),
        default=told.pop("default", DEFAULT),
        roles=tuple(told[name] for name in sorted(told)),
        body_bytes=body or BODY_BYTES,
    )
