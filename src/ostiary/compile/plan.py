"""Compiles a policy: names become closures, lines become grants with ids, hours and networks become formulas."""

from collections.abc import Iterable, Mapping
from typing import Final

from ostiary.erp.operation import Pattern
from ostiary.erp.route import Route
from ostiary.plan.formula import All, Always, Formula, Hours, Networks
from ostiary.plan.model import Context, Grant, Plan, Role, seal
from ostiary.policy.model import ContextRule, Policy, RoleRule

ALWAYS: Final = "always"


def compile_policy(policy: Policy, routes: Mapping[str, Iterable[Route]] = {}) -> Plan:
    """The plan of `policy`, sealed; `routes`: system -> what its OpenAPI document describes."""
    included = {role.name: role.includes for role in policy.roles}
    contexts = {context.name: context for context in policy.contexts}
    plan = Plan(
        policy=policy.name,
        systems=policy.systems,
        roles=tuple(_role(role, included) for role in policy.roles),
        grants=tuple(grant for role in policy.roles for grant in _grants(role, contexts)),
        routes=tuple(route for name in sorted(routes) for route in routes[name]),
        apart=policy.apart,
        never=policy.never,
        limits=policy.limits,
        when_silent=policy.when_silent,
    )
    return seal(plan)


def _role(rule: RoleRule, included: Mapping[str, tuple[str, ...]]) -> Role:
    return Role(
        name=rule.name,
        level=rule.level,
        department=rule.department,
        closure=tuple(sorted(_closure(rule.name, included))),
        source=rule.source,
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


def _grants(role: RoleRule, contexts: Mapping[str, ContextRule]) -> Iterable[Grant]:
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
                source=may.source,
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
