"""What one plan lets people do that another does not, and what else differs: contexts, the rules that hold people back, who
holds roles, where requests go and as whom.

How a change of what the policy says as a whole is told stands in changes.toml.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from operator import attrgetter
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from ostiary.erp.operation import Condition, Pattern
from ostiary.foundation.data import beside
from ostiary.plan.model import Always, Context, Formula, Grant, Never, Not, Plan, Role, Route, Source, System, joined
from ostiary.policy import model
from ostiary.policy.model import Level, Statement
from ostiary.prove.rules import Among, Request, few, proving, request, where
from ostiary.prove.situation import NEVER, Situation, counterexample, either, implies

SETTINGS: Final = beside(__file__)["settings"]
EVERYBODY: Final = ""
PROVED: Final = {True: "no longer proved", False: "proved from now on"}  # by whether it is gone
ROUTES_TOLD_MAX: Final = 20
# Of a system; the others are told in their own way, or as the operations that a document opens.
PARTS: Final = [one for one in System.__struct_fields__ if one not in {"name", "spec", "observe_until", "source"}]


class Change(Struct, frozen=True, kw_only=True):
    """`widens`: somebody could do more, or a request goes another way: look at it before it is made.

    `where` is the line that makes the difference, in the plan that has it; `request` is allowed by the wider plan alone.
    """

    widens: bool
    text: str
    role: str = ""
    permission: str = ""
    context: str = ""
    where: str = ""
    request: Request | None = None


def diff(old: Plan | None, new: Plan, holders: Mapping[str, Sequence[str]] = {}) -> tuple[Change, ...]:
    """Every change in what anybody may do, what widens first; `old` None is the plan that denies everything.

    `holders`: role -> the principals that hold it. A changed context is told once, not at each grant that names it.
    """
    before = old or replace(new, systems=(), roles=(), grants=(), routes=())
    like = _as_before(before, new)
    found = [
        *_grants(before, like, (before, new), widens=True),
        *_grants(like, before, (new, before), widens=False),
        *_computed(before, new),
        *_contexts(before, new),
        *_surroundings(before, new, holders),
        *_bounds(before, new),
    ]
    return tuple(sorted(found, key=lambda change: (not change.widens, change.role, change.text)))


def _at_line(source: Source | None, text: str, *, widens: bool, before: str = "", **more: Any) -> Change:
    """What this line makes another, or what made it so `before`, told with it."""
    return Change(widens=widens, text=f"{text} ({before}{source})", where=str(source), **more)


# --- grants: by role, permission and context, not by lines of text


def covering(plan: Plan, role: str, grant: Grant) -> list[Grant]:
    """The grants of this role of all that `grant` grants, in whatever context."""
    return [one for one in plan.near(role, grant) if _within(grant, one)]


def _beyond(plan: Plan, role: str, grant: Grant) -> Situation | None:
    """Where the role may not do what the grant grants; None where it may whenever the grant does."""
    return where(plan, grant, Among(outside=either(one.context.formula for one in covering(plan, role, grant))))


def _within(one: Grant, other: Grant) -> bool:
    """Whether all fields and records of `one` are surely among those of `other`."""
    fields = not other.fields or (one.fields and set(one.fields) <= set(other.fields))
    return bool(fields) and all(any(_bounded(mine, theirs) for mine in one.where) for theirs in other.where)


def _bounded(one: Condition, other: Condition) -> bool:
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
            if there := _beyond(old, role.name, grant):
                left = [] if widens else old.near(role.name, grant)
                yield _at_line(
                    left[0].source if left else grant.source,
                    _granted(role.name, grant, left, widens=widens),
                    widens=widens,
                    before="" if widens or left else "before: ",
                    role=role.name,
                    permission=str(grant.pattern),
                    context=grant.context.name,
                    request=request(real[1], [role.name], grant.pattern, there, unlike=real[0]),
                )


def _granted(role: str, grant: Grant, left: Sequence[Grant], *, widens: bool) -> str:
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
                yield _at_line(lines[0].source, told, widens=True, role=role.name)


def _bounding(plan: Plan, role: str, system: str) -> tuple[list[Grant], Formula]:
    """The role's lines of fewer fields or records of what it writes, and where one of them counts (`plan.decide`)."""
    own = plan.writing_of(sorted(plan.closures.get(role, ())), system)
    lines = [one for one in own if one.terms]
    all_of_it = [one for one in own if not one.terms]
    whole = [either(one.context.formula for one in all_of_it if line.pattern.within(one.pattern)) for line in lines]
    return lines, either(Not(part=one) for one in whole)


def _under(grant: Grant) -> str:
    """`when office for the fields name`: how far it goes; always, where nothing bounds it."""
    when = [] if grant.terms and isinstance(grant.context.formula, Always) else [f"when {grant.context.name}"]
    return " ".join([*when, *([f"for {grant.terms}"] if grant.terms else [])])


def _as_before(old: Plan, new: Plan) -> Plan:
    """`new`, with the contexts that `old` knows as `old` has them."""
    known = {one.name: one for one in (*new.contexts, *old.contexts)}
    changed = {one.name for one in new.contexts if known[one.name].formula != one.formula}

    def as_before(grant: Grant) -> Grant:
        if changed.isdisjoint(grant.context.names):
            return grant
        return replace(grant, context=joined(known[name] for name in grant.context.names))

    return replace(new, grants=tuple(map(as_before, new.grants)))


# --- contexts: told once, with an example, not at every grant that names one


def _contexts(old: Plan, new: Plan) -> Iterator[Change]:
    """The contexts of both that hold at other times or places now, where a role asks for them."""
    before, roles = {one.name: one for one in old.contexts}, _asking(new)
    for context in new.contexts:
        if context.name in before and context.name in roles:
            with proving(new, f"{context.source}: what is changed in context {context.name}"):
                yield from _context(before[context.name], context, roles[context.name])


def _asking(plan: Plan) -> Mapping[str, Sequence[str]]:
    """Context -> the roles with a grant under it, those that include them too."""
    own: dict[str, set[str]] = defaultdict(set)
    for grant in plan.grants:
        for name in grant.context.names:
            own[name].add(grant.role)
    return {name: [role.name for role in plan.roles if not held.isdisjoint(role.closure)] for name, held in own.items()}


def _context(old: Context, new: Context, roles: Sequence[str]) -> Iterator[Change]:
    now, gone = counterexample(new.formula, old.formula), counterexample(old.formula, new.formula)
    ways = [one for one in (("wider", "it holds now", now), ("narrower", "it no longer holds", gone)) if one[2]]
    if ways:
        degree = " and ".join(word for word, _, _ in ways)
        examples = (f"{how} {there}" for _, how, there in ways)
        told = "; ".join((f"context {new.name} is {degree} for {few(roles)}", *examples))
        yield _at_line(new.source, told, widens=now is not None, context=new.name)


# --- what holds people back: `apart`, `never`, `always`, and what the policy says as a whole


def _bounds(old: Plan, new: Plan) -> Iterator[Change]:
    for one, other, gone in ((old, new, True), (new, old, False)):
        yield from _apart(one, other, gone=gone)
        yield from _statements("never", one, other, gone=gone)
        yield from _statements("always", one, other, gone=gone)
    yield from _settings(old, new)
    yield from _limits(old.limits, new.limits)


def _settings(old: Plan, new: Plan) -> Iterator[Change]:
    for one in SETTINGS:
        was, now = map(attrgetter(one["what"]), (old, new))
        if was != now:
            yield Change(widens=(now > was) is one["more_widens"], text=one["text"].format(old=old, new=new))
    for network in sorted({*old.response.spared} ^ {*new.response.spared}):
        widens = network in new.response.spared
        yield Change(widens=widens, text=f"who guesses from {network} is {'never' if widens else 'now'} blocked")


def _apart(old: Plan, new: Plan, *, gone: bool) -> Iterator[Change]:
    """The rules of `old` that no rule of `new` holds as well."""
    changed, alone = ("less than before", "no longer") if gone else ("more than before", "now")
    names = {rule.name for rule in new.apart}
    for rule in old.apart:
        if not any(_as_strict(rule, other) for other in new.apart):
            how = f"kept apart {changed}" if rule.name in names else f"{alone} kept apart"
            yield _at_line(rule.source, f"{rule.name!r} is {how}: {rule.first} and {rule.then}", widens=gone)


def _as_strict(rule: model.Apart, other: model.Apart) -> bool:
    """Whatever `rule` keeps apart, `other` does; a rule without `within` has no order."""
    ways = [(other.first, other.then), *([] if other.dynamic else [(other.then, other.first)])]
    return (
        rule.dynamic is other.dynamic
        and rule.link == other.link
        and rule.within_days <= other.within_days
        and all(any(_as_wide(one, held) for held in rule.controls) for one in other.controls)
        and any(rule.first.within(first) and rule.then.within(then) for first, then in ways)
    )


def _as_wide(one: model.Control, other: model.Control) -> bool:
    """Whomever `one` lets do both, `other` does."""
    return set(one.roles) <= set(other.roles) and one.until <= other.until


def _statements(kind: str, old: Plan, new: Plan, *, gone: bool) -> Iterator[Change]:
    """The statements of `old` of which some part is in none of `new`; without an `always` nobody can do more."""
    moved, there = _moved(old, new), _moved(new, old)
    kept = [part for rule in getattr(new, kind) for part in _parts(new, rule, there)]
    for rule in getattr(old, kind):
        with proving(old, f"{rule.source}: {kind} {rule.name!r}"):
            lost = {one[0] for one in _parts(old, rule, moved) if not any(_covers(one, other) for other in kept)}
        if lost:
            of = f" of role {few(sorted(lost))}" if lost <= moved.keys() else " as it was" if gone else ""
            yield _at_line(rule.source, f"{kind} {rule.name!r} is {PROVED[gone]}{of}", widens=gone and kind == "never")


def _moved(plan: Plan, other: Plan) -> dict[str, Level]:
    """The roles that have another level in the other plan, with the one they have here."""
    there = {role.name: role.level for role in other.roles}
    return {role.name: role.level for role in plan.roles if there.get(role.name, role.level) is not role.level}


Part = tuple[str, Pattern, Formula]  # of whom, what, and when


def _parts(plan: Plan, rule: Statement, moved: Mapping[str, Level]) -> Iterator[Part]:
    """By each role and level that it names, and by each role of which it speaks as long as that has its level."""
    named = [*rule.roles, *([f"level {rule.level}"] if rule.level else [])] or [EVERYBODY]
    whom = {*named, *(name for name, level in moved.items() if rule.speaks_of(name, level))}
    beside = isinstance(rule, Never)
    context = next((one.formula for one in plan.contexts if one.name == rule.context), NEVER if beside else Always())
    when = Not(part=context) if beside else context
    yield from ((one, pattern, when) for one in whom for pattern in rule.patterns)


def _covers(one: Part, other: Part) -> bool:
    """Whatever `one` says, `other` does."""
    return other[0] in {one[0], EVERYBODY} and one[1].within(other[1]) and implies(one[2], other[2])


def _limits(old: model.Limits, new: model.Limits) -> Iterator[Change]:
    """A role without a limit of its own has the default; who holds several roles, the most generous that is named."""
    before, after = _named(old), _named(new)
    for name in sorted(before.keys() | after.keys()):
        was, now = before.get(name, old.default), after.get(name, new.default)
        smaller = [one for one in old.roles if name not in before and _size(one)[0] < _size(now)[0]]
        if _size(was) != _size(now) or smaller:
            widens = any(a > b for a, b in zip(_size(now), _size(was), strict=True)) or bool(smaller)
            beside = [f", for who holds {one.name} too of {one}" for one in sorted(smaller, key=_size)[:1]]
            yield Change(widens=widens, text=f"limit {name}: {now} instead of {was}{''.join(beside)}")


def _named(limits: model.Limits) -> dict[str, model.Limit]:
    return {limit.name: limit for limit in (limits.anonymous, limits.identity, limits.default, *limits.roles)}


def _size(limit: model.Limit) -> tuple[float, int]:
    """How much over time, and how much at once."""
    return limit.requests / limit.seconds, limit.requests


# --- who holds roles that come or go, where requests go, as whom, and which operations a URL is


def _surroundings(old: Plan, new: Plan, holders: Mapping[str, Sequence[str]]) -> Iterator[Change]:
    """Systems and their operations; those of a system that is new as a whole are told with it."""
    yield from _held(old, new, holders)
    before, after = ({system.name: system for system in plan.systems} for plan in (old, new))
    for name in before.keys() - after.keys():
        yield Change(widens=False, text=f"the system {name} is not reached any more", where=str(before[name].source))
    for name, system in after.items():
        if name in before:
            yield from _system(before[name], system)
            yield from _operations(_routes(old, name), _routes(new, name))
        else:
            text = f"{system.host}{system.prefix} leads to the system {name} at {system.upstream}"
            yield _at_line(system.source, text, widens=True)
        yield from _observed(before.get(name), system)


def _held(old: Plan, new: Plan, holders: Mapping[str, Sequence[str]]) -> Iterator[Change]:
    """Roles that come or go while somebody holds them: what is held stays held, whatever the policy knows."""
    before, after = {role.name: role for role in old.roles}, {role.name: role for role in new.roles}
    for name in sorted((before.keys() ^ after.keys()) & holders.keys()):
        role = after.get(name) or before[name]
        held = f"held by {few(holders[name])}"
        text = f"role {name} is there, and already {held}" if name in after else f"role {name} is gone, still {held}"
        yield _at_line(role.source, text, widens=name in after, role=name)
    for name in sorted(before.keys() & after.keys()):
        yield from _role(before[name], after[name], old.never)


def _role(old: Role, new: Role, never: Sequence[Never]) -> Iterator[Change]:
    """Neither lets anybody do more by itself; a level is what statements speak of."""
    for part in ("level", "department"):
        was, now = getattr(old, part), getattr(new, part)
        if was != now:
            freed = any(one.speaks_of(old.name, old.level) and not one.speaks_of(old.name, new.level) for one in never)
            told = f"role {new.name} has the {part} {now or 'none'} instead of {was or 'none'}"
            yield _at_line(new.source, told, widens=part == "level" and freed, role=new.name)


def _system(old: System, new: System) -> Iterator[Change]:
    for part in PARTS:
        was, now = getattr(old, part), getattr(new, part)
        if was != now:
            said = f"{part.replace('_', '-')} {_said(now)} instead of {_said(was)}"
            yield _at_line(new.source, f"the system {new.name} has {said}", widens=True)


def _said(value: str | tuple[str, ...]) -> str:
    return ", ".join([value] if isinstance(value, str) else value) or "none"


def _observed(old: System | None, new: System) -> Iterator[Change]:
    was, until = old.observe_until if old else None, new.observe_until
    if until is None and was:
        told = "only what the policy grants passes"
        yield _at_line(new.source, f"the system {new.name} is observed no longer: {told}", widens=False)
    elif until and until != was:
        told = f"until {until:%Y-%m-%d %H:%M} UTC whoever the ERP itself lets in may do all there"
        yield _at_line(new.source, f"the system {new.name} is observed: {told}", widens=was is None or was < until)


def _routes(plan: Plan, system: str) -> dict[str, Route]:
    return {f"{route.method} {route.template}": route for route in plan.routes if route.system == system}


def _operations(old: dict[str, Route], new: dict[str, Route]) -> Iterator[Change]:
    opened = [f"{name} is opened: {new[name].permission}" for name in new if name not in old]
    closed = [f"{name} is closed: {old[name].permission}" for name in old if name not in new]
    changed = [_altered(name, old[name], new[name]) for name in new if name in old and old[name] != new[name]]
    yield from _told(opened, "operations are opened", widens=True)
    yield from _told(closed, "operations are closed", widens=False)
    yield from _told(changed, "operations are changed", widens=True)


def _told(found: list[str], words: str, *, widens: bool) -> Iterator[Change]:
    """Each one, or how many there are where nobody would read them all."""
    if len(found) > ROUTES_TOLD_MAX:
        found = [f"{len(found)} {words}, among them: {found[0]}"]
    yield from (Change(widens=widens, text=text) for text in found)


def _altered(name: str, old: Route, new: Route) -> str:
    if old.permission != new.permission:
        return f"{name} is {new.permission} instead of {old.permission}"
    return f"what may be sent with {name} is described otherwise: {new.permission}"
