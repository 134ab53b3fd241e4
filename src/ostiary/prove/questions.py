"""The questions that are asked of a policy: who can do it, what can he do, which lines do nothing, which were not used."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from ostiary.erp.operation import Operation, covering_scopes, operation_named
from ostiary.plan.decide import closure
from ostiary.plan.formula import Formula
from ostiary.plan.model import Grant, Plan, Source
from ostiary.prove.change import few
from ostiary.prove.contexts import where
from ostiary.prove.difference import covering
from ostiary.prove.explanation import words
from ostiary.prove.request import Request, known, request, requests
from ostiary.prove.rules import Finding
from ostiary.prove.situation import NEVER, Situation, either

Uses = Mapping[tuple[str, frozenset[str]], int]  # permission and roles assigned -> how often it was allowed
KEEP: Final = "take it away, unless it is for what is rare: the end of a quarter, of a year"


class Way(Struct, frozen=True, kw_only=True):
    """`role` may do it by the grant `rule`, its own or one of a role that it includes, while `context` holds."""

    role: str
    rule: str
    permission: str
    context: str
    words: str  # the context, and of which fields and records, as people say it
    where: Source
    request: Request | None  # None where only the ERP knows which records pass


class Asked(Struct, frozen=True, kw_only=True):
    """In what situations: where `outside` does not hold; `fixed` are the facts that must be as they are `near`."""

    outside: Formula = NEVER
    near: Situation = Situation()
    fixed: frozenset[str] = frozenset()


ANYWHERE: Final = Asked()


def who_can(plan: Plan, operation: Operation, asked: Asked = ANYWHERE) -> Iterator[Way]:
    """Every role by which the operation, or one of what it holds (a verb's actions, `sale.*`), is allowed, and every line."""
    near, by_role = _about(plan, operation), defaultdict(list)
    for grant in near.grants:
        if grant.pattern.meets(operation.pattern):
            by_role[grant.role].append(grant)
    for role in plan.roles:
        granted = (grant for name in role.closure for grant in by_role.get(name, ()))
        yield from _ways(near, role.name, granted, asked, operation)


def _about(plan: Plan, operation: Operation) -> Plan:
    """As far as the plan speaks of the operation's object: found in one pass, where one question is worth no index."""
    names = {scope.partition("/")[2].rpartition(":")[0] for scope in covering_scopes(operation)}
    inside = operation.pattern.holds_object  # more than one, of a family
    grants = [grant for grant in plan.grants if grant.pattern.object in names or inside(grant.pattern.object)]
    routes = [route for route in plan.routes if inside(route.object)]
    return replace(plan, grants=tuple(grants), routes=tuple(routes))


def what_can(plan: Plan, roles: Iterable[str], asked: Asked = ANYWHERE, beyond: str = "") -> Iterator[Way]:
    """All that these roles allow; only what the role `beyond` does not."""
    for role in roles:
        for grant in (grant for grant in plan.grants if grant.role in plan.closures[role]):
            covered = [one.context.formula for one in covering(plan, beyond, grant)]
            yield from _ways(plan, role, [grant], replace(asked, outside=either((asked.outside, *covered))))


def _ways(
    plan: Plan, role: str, granted: Iterable[Grant], asked: Asked, operation: Operation | None = None
) -> Iterator[Way]:
    for grant in granted:
        there = where(plan, grant, asked.outside, asked.near, asked.fixed)
        if there:
            pattern = grant.pattern.both(operation.pattern) if operation else grant.pattern
            yield Way(
                role=role,
                rule=grant.id,
                permission=str(grant.pattern),
                context=grant.context.name,
                words=words(grant.context.formula) + (f", for {grant.terms}" if grant.terms else ""),
                where=grant.source,
                request=request(plan, [role], pattern, there),
            )


def idle(plan: Plan, near: Situation | None = None) -> Iterator[Finding]:
    """Lines that change nothing: all that are told could be taken away together, and nobody could do less."""
    gone: set[str] = set()
    described = {system.name for system in plan.systems if not system.guarded}
    for grant in reversed(plan.grants):
        others = [one for one in covering(plan, grant.role, grant) if one.id not in gone | {grant.id}]
        there = where(plan, grant, near=near)
        if there is None:
            why = f"never does: {grant.context.name} holds at no time and place"
        elif grant.pattern.system in described and not plan.known[str(grant.pattern)]:
            why = f"may do nothing there: {grant.pattern.system} has no such operation"
        elif where(plan, grant, either(one.context.formula for one in others)) is None:
            why = f"may do so anyhow, by {', '.join(str(one.source) for one in others)}"
        else:
            continue
        gone.add(grant.id)
        yield Finding(
            message=f"role {grant.role} may {grant.pattern}, and {why}",
            hint="take the line away, or mend it",
            where=(grant.source, *(one.source for one in others)),
            requests=known(next(requests(plan, (grant.role,), grant.pattern, there or near or Situation()))),
        )


def unused(
    plan: Plan, uses: Uses, days: int, near: Situation | None = None, before: Plan | None = None
) -> Iterator[Finding]:
    """Grants of more than was done in these days; what was done is the least privilege that it needed.

    Of those alone that are in the plan `before` as well: nobody could have used what is new.
    """
    old = {(one.role, one.pattern) for one in (before or plan).grants}
    done: dict[str, Counter[str]] = defaultdict(Counter)
    for (permission, roles), count in uses.items():
        if operation := operation_named(permission):
            for grant in plan.granting(covering_scopes(operation), closure(plan, roles)):
                done[grant.id][permission] += count
    for grant in plan.grants:
        used = sorted(done[grant.id])
        there = where(plan, grant, near=near)
        if there and used != [str(grant.pattern)] and (grant.role, grant.pattern) in old:
            yield Finding(
                message=f"role {grant.role} may {grant.pattern}; in {days} days it "
                + (f"did only {few(used)}" if used else "did nothing of it"),
                hint=f"grant just what was done: {few(used)}" if used else KEEP,
                where=(grant.source,),
                requests=known(request(plan, [grant.role], grant.pattern, there)),
            )
