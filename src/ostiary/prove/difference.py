"""What one plan lets people do that another does not: by role, permission and context, not by lines of text."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from ipaddress import ip_network

from msgspec import Struct

from ostiary.erp.operation import Verb
from ostiary.plan.formula import All, Always, Formula, Networks
from ostiary.plan.model import Apart, Grant, Limit, Plan, Role, WhenSilent


class Change(Struct, frozen=True, kw_only=True):
    """`where` is the line that makes the difference, in the plan that has it."""

    widens: bool
    text: str
    role: str = ""
    permission: str = ""
    context: str = ""
    where: str = ""


def diff(old: Plan | None, new: Plan) -> tuple[Change, ...]:
    """Every change in what anybody may do, what widens first; `old` None is the plan that denies everything."""
    found = [*_grants(old, new, widens=True), *_other(old, new)]
    if old is not None:
        found += [*_grants(new, old, widens=False)]
    return tuple(sorted(found, key=lambda change: (not change.widens, change.role, change.text)))


def implies(one: Formula, other: Formula) -> bool:
    """Whether `other` surely holds whenever `one` does; False where that can't be seen at a glance."""
    if isinstance(other, Always) or one == other:
        return True
    if isinstance(one, Networks) and isinstance(other, Networks):
        return all(any(_inside(a, b) for b in other.networks) for a in one.networks)
    if isinstance(other, All):
        return all(implies(one, part) for part in other.parts)
    return isinstance(one, All) and any(implies(part, other) for part in one.parts)


def _inside(one: str, other: str) -> bool:
    a, b = ip_network(one), ip_network(other)
    return a.version == b.version and a.subnet_of(b)  # type: ignore[arg-type]  # the same version


class _Held:
    """What each role holds, found by system and verb."""

    def __init__(self, plan: Plan) -> None:
        self.roles = {role.name: role for role in plan.roles}
        own: dict[str, list[Grant]] = defaultdict(list)
        for grant in plan.grants:
            own[grant.role].append(grant)
        self._by: dict[tuple[str, str, Verb], list[Grant]] = defaultdict(list)
        for role in plan.roles:
            for included in role.closure:
                for grant in own[included]:
                    self._by[role.name, grant.pattern.system, grant.pattern.verb].append(grant)

    def covers(self, role: str, grant: Grant) -> bool:
        near = self._by.get((role, grant.pattern.system, grant.pattern.verb), ())
        return any(
            grant.pattern.within(other.pattern) and implies(grant.context.formula, other.context.formula)
            for other in near
        )

    def all_of(self, role: Role) -> Iterator[Grant]:
        for (name, _, _), grants in self._by.items():
            if name == role.name:
                yield from grants


def _grants(old: Plan | None, new: Plan, *, widens: bool) -> Iterator[Change]:
    """What `new` lets a role do that `old` does not; a grant is told for the role that has it by its own change."""
    before, after = _Held(old) if old is not None else None, _Held(new)
    by_role: dict[str, list[Grant]] = defaultdict(list)
    for grant in new.grants:
        by_role[grant.role].append(grant)
    for role in after.roles.values():
        known = before.roles.get(role.name) if before else None
        for included in role.closure:
            inherited = included != role.name and known is not None and included in known.closure
            for grant in () if inherited else by_role[included]:
                if before is None or not before.covers(role.name, grant):
                    yield _change(role.name, grant, widens=widens)


def _change(role: str, grant: Grant, *, widens: bool) -> Change:
    verb = "may now" if widens else "may no longer"
    context = "" if isinstance(grant.context.formula, Always) else f" when {grant.context.name}"
    return Change(
        widens=widens,
        text=f"{role} {verb} {grant.pattern}{context} ({grant.source})",
        role=role,
        permission=str(grant.pattern),
        context=grant.context.name,
        where=str(grant.source),
    )


def _other(old: Plan | None, new: Plan) -> Iterator[Change]:
    """Rules that keep people out, and how much they may send."""
    if old is None:
        return
    yield from _apart(old.apart, new.apart, widens=True)
    yield from _apart(new.apart, old.apart, widens=False)
    before = {limit.name: limit for limit in (old.limits.anonymous, old.limits.default, *old.limits.roles)}
    for limit in (new.limits.anonymous, new.limits.default, *new.limits.roles):
        earlier = before.get(limit.name, old.limits.default)
        if _rate(earlier) != _rate(limit):
            widens = _rate(limit) > _rate(earlier)
            yield Change(widens=widens, text=f"limit {limit.name}: {_words(limit)} instead of {_words(earlier)}")
    if old.when_silent is not new.when_silent:
        widens = new.when_silent is WhenSilent.KEEP
        yield Change(widens=widens, text=f"when control is silent the gate will {new.when_silent}")


def _apart(old: Iterable[Apart], new: Iterable[Apart], *, widens: bool) -> Iterator[Change]:
    """The rules of `old` that `new` no longer has."""
    kept = {(rule.first, rule.then, rule.link, rule.within_days) for rule in new}
    for rule in old:
        if (rule.first, rule.then, rule.link, rule.within_days) not in kept:
            verb = "no longer" if widens else "now"
            yield Change(
                widens=widens, text=f"{rule.name!r} is {verb} kept apart ({rule.source})", where=str(rule.source)
            )


def _rate(limit: Limit) -> float:
    return limit.requests / limit.seconds


def _words(limit: Limit) -> str:
    return f"{limit.requests} requests in {limit.seconds} s"
