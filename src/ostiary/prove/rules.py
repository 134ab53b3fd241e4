"""`never`, `apart` and the embedded tests: checked by listing all that roles hold, whatever the context.

Ignoring contexts is stricter than a proof: two duties held at different hours count as held both.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_address

from msgspec import Struct

from ostiary.erp.operation import Pattern, covering_scopes
from ostiary.plan.decide import Facts, closure, decide
from ostiary.plan.model import Apart, Grant, Never, Plan
from ostiary.plan.records import Records
from ostiary.policy.model import Example, Expected, Policy


class Finding(Struct, frozen=True, kw_only=True):
    """Something that must not be. `where` names the policy's lines, `file:line`."""

    message: str
    hint: str
    where: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.message}\n    see: {', '.join(self.where)}\n    what to do: {self.hint}"


def check(plan: Plan, assigned: Mapping[str, frozenset[str]] = {}) -> tuple[Finding, ...]:
    """Every violation of `never` and static `apart`, by a role alone or by a principal (`assigned`: id -> roles)."""
    found = [finding for rule in plan.never for finding in _never(plan, rule)]
    roles = [(f"role {role.name}", frozenset(role.closure)) for role in plan.roles]
    holders = roles + [(principal, closure(plan, held)) for principal, held in sorted(assigned.items())]
    statics = [rule for rule in plan.apart if not rule.dynamic]
    found += [finding for rule in statics for finding in _apart(plan, rule, holders)]
    return tuple(found)


def broad(plan: Plan) -> Iterator[str]:
    """Grants wider than a business needs as a rule (standard B5): reported, not refused."""
    for grant in plan.grants:
        if grant.pattern.object == "*":
            yield f"{grant.source}: role {grant.role} may {grant.pattern.verb} every object of {grant.pattern.system}"


def failures(plan: Plan, policy: Policy) -> tuple[Finding, ...]:
    """The tests in the policy that do not hold."""
    return tuple(finding for test in policy.tests if (finding := _failure(plan, test)))


def _meeting(plan: Plan, pattern: Pattern) -> dict[str, list[Grant]]:
    """By role: its own grants by which something in `pattern` may be done."""
    found: dict[str, list[Grant]] = defaultdict(list)
    for grant in plan.grants:
        if grant.pattern.meets(pattern):
            found[grant.role].append(grant)
    return found


def _never(plan: Plan, rule: Never) -> Iterator[Finding]:
    meeting = [_meeting(plan, pattern) for pattern in rule.patterns]
    for role in plan.roles:
        if role.name not in rule.roles and role.level is not rule.level:
            continue
        grants = [grant for by_role in meeting for name in role.closure for grant in by_role.get(name, ())]
        for grant in dict.fromkeys(grants):
            yield Finding(
                message=f"never {rule.name!r}: role {role.name} may {grant.pattern}",
                hint=f"take {grant.pattern} from role {grant.role}, or change the rule",
                where=(str(grant.source), str(rule.source)),
            )


def _apart(plan: Plan, rule: Apart, holders: Iterable[tuple[str, frozenset[str]]]) -> Iterator[Finding]:
    first, then = _meeting(plan, rule.first), _meeting(plan, rule.then)
    for name, held in holders:
        one, other = sorted(held & first.keys()), sorted(held & then.keys())
        if one and other:
            where = (first[one[0]][0].source, then[other[0]][0].source, rule.source)
            yield Finding(
                message=f"apart {rule.name!r}: {name} holds both {rule.first} and {rule.then}",
                hint="give them to two persons; or say `link` and `within`, so that only the same record is kept apart",
                where=tuple(map(str, where)),
            )


def _told(test: Example) -> Records:
    """What the test says of its record, as if the ERP had said it."""
    place = (test.does.object, "1")
    return Records(
        stored=frozenset((test.does.object, name) for name, _ in test.record), held={place: dict(test.record)}
    )


def _failure(plan: Plan, test: Example) -> Finding | None:
    facts = Facts(
        system=test.does.system,
        at=test.when,
        source=ip_address(test.address),
        roles=frozenset(test.who),
        scopes=frozenset(covering_scopes(test.does)),
        operations=(test.does,),
        records=_told(test),
    )
    decision = decide(plan, facts)
    if decision.allowed is (test.expect is Expected.ALLOW):
        return None
    rule = f" by {decision.rule}" if decision.rule != "-" else ""
    got = f"{'allowed' if decision.allowed else f'refused ({decision.reason})'}{rule}"
    return Finding(
        message=f"test: {', '.join(test.who)} doing {test.does.permission} at {test.when.isoformat()} was {got}",
        hint="change the roles, or the test's `expect`",
        where=(str(test.source),),
    )
