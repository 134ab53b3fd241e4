"""Compiles a policy: names become closures, lines become grants with ids, contexts become formulas."""

from collections.abc import Iterable, Mapping
from typing import Final

from ostiary.erp.operation import doing
from ostiary.erp.route import Route
from ostiary.plan import model as kind
from ostiary.plan.model import UNKNOWN, Context, Formula, Grant, Plan, Role, every, joined, seal
from ostiary.policy.model import ContextRule, Policy, RoleRule
from ostiary.policy.sections import reached

AS_THEY_ARE: Final = (
    "systems", "apart", "never", "always", "limits", "silent_s", "when_owner_leaves", "approvals", "response",
)  # fmt: skip


def compile_policy(policy: Policy, routes: Mapping[str, Iterable[Route]] = {}) -> Plan:
    """The plan of `policy`, sealed; `routes`: system -> what its OpenAPI document describes."""
    included = {role.name: role.includes for role in policy.roles}
    contexts = _contexts(policy.contexts)
    plan = Plan(
        policy=policy.name,
        roles=tuple(_role(role, included) for role in policy.roles),
        grants=tuple(grant for role in policy.roles for grant in _grants(role, contexts)),
        contexts=tuple(contexts.values()),
        routes=tuple(route for name in sorted(routes) for route in routes[name]),
        **{part: getattr(policy, part) for part in AS_THEY_ARE},
    )
    return seal(plan)


def _role(rule: RoleRule, included: dict[str, tuple[str, ...]]) -> Role:
    return Role(
        name=rule.name,
        level=rule.level,
        department=rule.department,
        closure=tuple(sorted({rule.name, *reached(rule.name, included)})),
        source=rule.source,
    )


def _grants(role: RoleRule, contexts: Mapping[str, Context]) -> Iterable[Grant]:
    """`clerk/2` is the role's second line of `may`; a line of several verbs adds the verb: `clerk/2.read`."""
    context = joined(contexts[name] for name in role.when)
    for number, may in enumerate(role.may, 1):
        for pattern in may.patterns:
            suffix = f".{doing(pattern.verb, pattern.action)}" if len(may.patterns) > 1 else ""
            yield Grant(
                id=f"{role.name}/{number}{suffix}",
                role=role.name,
                pattern=pattern,
                context=context,
                fields=may.fields,
                where=may.where,
                source=may.source,
            )


def _contexts(rules: Iterable[ContextRule]) -> dict[str, Context]:
    """Each by its name; what another one is made of is made of no others."""
    parts = {rule.name: tuple(_conditions(rule)) for rule in rules}
    return {one.name: Context(name=one.name, formula=every(_whole(one, parts)), source=one.source) for one in rules}


def _whole(rule: ContextRule, parts: Mapping[str, tuple[Formula, ...]]) -> Iterable[Formula]:
    yield from parts[rule.name]
    for name in rule.every:
        yield from parts[name]
    if rule.some:
        yield kind.AnyOf(parts=tuple(every(parts[name]) for name in rule.some))
    for name in rule.none:
        yield kind.Not(part=every(map(_or_unknown, parts[name])))


def _or_unknown(formula: Formula) -> Formula:
    """Where nobody knows the country, nobody knows either that it is another one."""
    return kind.Countries(countries=(*formula.countries, UNKNOWN)) if isinstance(formula, kind.Countries) else formula


def _conditions(rule: ContextRule) -> Iterable[Formula]:
    if rule.days:
        start, end = rule.hours
        yield kind.Hours(days=rule.days, start=start, end=end, zone=rule.zone, holidays=rule.holidays)
    others = (
        (rule.networks, kind.Networks(networks=rule.networks)),
        (rule.countries, kind.Countries(countries=rule.countries)),
        (rule.device, kind.Device()),
        (rule.assurance, kind.Mfa()),
        (rule.within, kind.Recent(seconds=rule.within)),
    )
    yield from (formula for asked_for, formula in others if asked_for)
