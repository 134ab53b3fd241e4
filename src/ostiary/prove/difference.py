"""What one plan lets people do that another does not: by role, permission and context, not by lines of text."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal

from msgspec.structs import replace

from ostiary.erp.operation import Condition
from ostiary.plan.formula import Always, Formula, Not
from ostiary.plan.model import Grant, Plan
from ostiary.prove import bounds, contexts, surroundings
from ostiary.prove.change import Change, at_line
from ostiary.prove.request import request
from ostiary.prove.situation import Situation, counterexample, either


def diff(old: Plan | None, new: Plan, holders: Mapping[str, Sequence[str]] = {}) -> tuple[Change, ...]:
    """Every change in what anybody may do, what widens first; `old` None is the plan that denies everything.

    `holders`: role -> the principals that hold it. A changed context is told once, not at each grant that names it.
    """
    before = old or replace(new, systems=(), roles=(), grants=(), routes=())
    like = contexts.as_before(before, new)
    found = [
        *_grants(before, like, (before, new), widens=True),
        *_grants(like, before, (new, before), widens=False),
        *_computed(before, new),
        *contexts.changes(before, new),
        *surroundings.changes(before, new, holders),
        *bounds.changes(before, new),
    ]
    return tuple(sorted(found, key=lambda change: (not change.widens, change.role, change.text)))


def covering(plan: Plan, role: str, grant: Grant) -> list[Grant]:
    """The grants of this role of all that `grant` grants, in whatever context."""
    return [one for one in plan.near(role, grant) if _within(grant, one)]


def beyond(plan: Plan, role: str, grant: Grant) -> Situation | None:
    """Where the role may not do what the grant grants; None where it may whenever the grant does."""
    return contexts.where(plan, grant, either(one.context.formula for one in covering(plan, role, grant)))


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
            if where := beyond(old, role.name, grant):
                left = [] if widens else old.near(role.name, grant)
                yield at_line(
                    left[0].source if left else grant.source,
                    _told(role.name, grant, left, widens=widens),
                    widens=widens,
                    before="" if widens or left else "before: ",
                    role=role.name,
                    permission=str(grant.pattern),
                    context=grant.context.name,
                    request=request(real[1], [role.name], grant.pattern, where, unlike=real[0]),
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
            with contexts.proving(old, f"{role.source}: what whoever holds {role.name} may write in {system}"):
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
