"""The questions that are asked of a policy: who can do it, what can he do, what would a change do, which lines do nothing."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from ostiary.erp.operation import Condition, Operation, covering_scopes, operation_named
from ostiary.plan.decide import closure
from ostiary.plan.model import Always, Formula, Grant, Not, Plan, Source
from ostiary.prove.changes import Change, as_before, at_line, beside
from ostiary.prove.decisions import words
from ostiary.prove.rules import Finding, Request, few, known, proving, request, requests, where
from ostiary.prove.situation import NEVER, Situation, counterexample, either

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


# --- what one plan lets people do that another does not: by role, permission and context, not by lines of text


def diff(old: Plan | None, new: Plan, holders: Mapping[str, Sequence[str]] = {}) -> tuple[Change, ...]:
    """Every change in what anybody may do, what widens first; `old` None is the plan that denies everything.

    `holders`: role -> the principals that hold it. A changed context is told once, not at each grant that names it.
    """
    before = old or replace(new, systems=(), roles=(), grants=(), routes=())
    like = as_before(before, new)
    found = [
        *_grants(before, like, (before, new), widens=True),
        *_grants(like, before, (new, before), widens=False),
        *_computed(before, new),
        *beside(before, new, holders),
    ]
    return tuple(sorted(found, key=lambda change: (not change.widens, change.role, change.text)))


def covering(plan: Plan, role: str, grant: Grant) -> list[Grant]:
    """The grants of this role of all that `grant` grants, in whatever context."""
    return [one for one in plan.near(role, grant) if _within(grant, one)]


def beyond(plan: Plan, role: str, grant: Grant) -> Situation | None:
    """Where the role may not do what the grant grants; None where it may whenever the grant does."""
    return where(plan, grant, either(one.context.formula for one in covering(plan, role, grant)))


def _within(one: Grant, other: Grant) -> bool:
    """Whether all fields and records of `one` are surely among those of `other`."""
    fields = not other.fields or (one.fields and set(one.fields) <= set(other.fields))
    return bool(fields) and all(any(_bounds(mine, theirs) for mine in one.where) for theirs in other.where)


def _bounds(one: Condition, other: Condition) -> bool:
    if (one.field, one.compare) != (other.field, other.compare):
        return False
    if one.compare in {"own", "in"}:
        return set(one.values) <= set(other.values)
    (near,), (far,) = (map(Decimal, condition.values) for condition in (one, other))
    return near <= far if one.compare in {"<", "<="} else near >= far


def _grants(old: Plan, new: Plan, real: tuple[Plan, Plan], *, widens: bool) -> Iterator[Change]:
    """What `new` lets a role do that `old` does not; a grant is told for the role that has it by its own change.

    `real`: the two with the contexts that each has, where an example must hold.
    """
    own: dict[str, list[Grant]] = defaultdict(list)
    for grant in new.grants:
        own[grant.role].append(grant)
    for role in new.roles:
        inherited = old.closures.get(role.name, frozenset()) - {role.name}
        for grant in (grant for name in role.closure if name not in inherited for grant in own[name]):
            if there := beyond(old, role.name, grant):
                left = [] if widens else old.near(role.name, grant)
                yield at_line(
                    left[0].source if left else grant.source,
                    _told(role.name, grant, left, widens=widens),
                    widens=widens,
                    before="" if widens or left else "before: ",
                    role=role.name,
                    permission=str(grant.pattern),
                    context=grant.context.name,
                    request=request(real[1], [role.name], grant.pattern, there, unlike=real[0]),
                )


def _told(role: str, grant: Grant, left: Sequence[Grant], *, widens: bool) -> str:
    """`left`: what still grants it, but not always when it was."""
    if left:
        return f"{role} may {grant.pattern} now only {' or '.join(dict.fromkeys(map(_under, left)))}"
    limited = grant.terms or not isinstance(grant.context.formula, Always)
    return f"{role} may {'now' if widens else 'no longer'} {grant.pattern}{f' {_under(grant)}' if limited else ''}"


def _computed(old: Plan, new: Plan) -> Iterator[Change]:
    """Lines that go, and with them what held their holders: fields that an ERP computes pass for who has no such line.

    By whatever role they write there: no other restriction of one role is one of what another grants.
    """
    for system in (one.name for one in new.systems if one.guarded):
        written = any(not one.terms for one in new.writing_of(new.closures, system))
        for role in old.roles if written else ():
            (lines, before), (_, after) = (_bounding(plan, role.name, system) for plan in (old, new))
            with proving(old, f"{role.source}: what whoever holds {role.name} may write in {system}"):
                freer = lines and counterexample(before, after)
            if freer:
                told = f"whoever holds {role.name} and writes in {system} may now write all that it computes"
                yield at_line(lines[0].source, told, widens=True, role=role.name)


def _bounding(plan: Plan, role: str, system: str) -> tuple[list[Grant], Formula]:
    """The role's lines of fewer fields or records of what it writes, and where one of them counts (`plan.decide`)."""
    own = plan.writing_of(sorted(plan.closures.get(role, ())), system)
    lines = [one for one in own if one.terms]
    whole = [
        either(each.context.formula for each in own if not each.terms and one.pattern.within(each.pattern))
        for one in lines
    ]
    return lines, either(Not(part=one) for one in whole)


def _under(grant: Grant) -> str:
    """`when office for the fields name`: how far it goes; always, where nothing bounds it."""
    when = [] if grant.terms and isinstance(grant.context.formula, Always) else [f"when {grant.context.name}"]
    return " ".join([*when, *([f"for {grant.terms}"] if grant.terms else [])])
