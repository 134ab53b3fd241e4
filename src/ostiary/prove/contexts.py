"""What differs in the contexts themselves: told once, with an example, not at every grant that names one.

And where a grant holds: who asks for too much at once is told what of the policy it was.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from msgspec.structs import replace

from ostiary.foundation.errors import OperatorFault
from ostiary.plan.formula import Formula, atoms
from ostiary.plan.model import Context, Grant, Plan, joined
from ostiary.prove.change import Change, at_line, few
from ostiary.prove.situation import NEVER, Situation, TooMany, counterexample, implies

FEWER: Final = "let fewer of them ask for hours, networks, countries and `within` together, or for the same ones"


@contextmanager
def proving(plan: Plan, what: str) -> Iterator[None]:
    """Names what is proved, and the contexts that it turns on, where these are too many."""
    try:
        yield
    except TooMany as problem:
        asked = frozenset(atoms(problem.args[0]))
        named = [f"{one.name} ({one.source})" for one in plan.contexts if not asked.isdisjoint(atoms(one.formula))]
        told = f"{what}: this turns on too many contexts to prove, on {few(named)}"
        raise OperatorFault("contexts-too-many", told, hint=FEWER) from problem


def where(
    plan: Plan,
    grant: Grant,
    outside: Formula = NEVER,
    near: Situation | None = None,
    fixed: frozenset[str] = frozenset(),
) -> Situation | None:
    """Where the grant holds and `outside` does not; as `counterexample`."""
    with proving(plan, f"{grant.source}: role {grant.role} may {grant.pattern}"):
        return counterexample(grant.context.formula, outside, near, fixed)


def impossible(plan: Plan) -> Iterator[str]:
    """Each context that lines of `may` name, alone or with others, and that never holds, at the first such line."""
    first: dict[Context, Grant] = {}
    for grant in plan.grants:
        first.setdefault(grant.context, grant)
    for context, grant in first.items():
        if where(plan, grant) is None:
            told = f"nothing is granted when {context.name}: that is at no time and place"
            yield f"{grant.source}:{grant.source.column}: {told}"


def as_before(old: Plan, new: Plan) -> Plan:
    """`new`, with the contexts that `old` knows as `old` has them."""
    known = {one.name: one for one in (*new.contexts, *old.contexts)}
    changed = {one.name for one in new.contexts if known[one.name].formula != one.formula}
    return replace(
        new,
        grants=tuple(
            grant
            if changed.isdisjoint(grant.context.names)
            else replace(grant, context=joined(known[name] for name in grant.context.names))
            for grant in new.grants
        ),
    )


def changes(old: Plan, new: Plan) -> Iterator[Change]:
    """The contexts of both that hold at other times or places now, where a role asks for them."""
    before, roles = {one.name: one for one in old.contexts}, _roles(new)
    for context in new.contexts:
        if context.name in before and context.name in roles:
            with proving(new, f"{context.source}: what is changed in context {context.name}"):
                yield from _change(before[context.name], context, roles[context.name])


def _roles(plan: Plan) -> Mapping[str, Sequence[str]]:
    """Context -> the roles with a grant under it, those that include them too."""
    own: dict[str, set[str]] = defaultdict(set)
    for grant in plan.grants:
        for name in grant.context.names:
            own[name].add(grant.role)
    return {name: [role.name for role in plan.roles if not held.isdisjoint(role.closure)] for name, held in own.items()}


def _change(old: Context, new: Context, roles: Sequence[str]) -> Iterator[Change]:
    wider, narrower = not implies(new.formula, old.formula), not implies(old.formula, new.formula)
    if not (wider or narrower):
        return
    degree = " and ".join(word for word, is_ in (("wider", wider), ("narrower", narrower)) if is_)
    told = [f"context {new.name} is {degree} for {few(roles)}"]
    if wider and (now := counterexample(new.formula, old.formula)):
        told.append(f"it holds now {now}")
    if narrower and (gone := counterexample(old.formula, new.formula)):
        told.append(f"it no longer holds {gone}")
    yield at_line(new.source, "; ".join(told), widens=wider, context=new.name)
