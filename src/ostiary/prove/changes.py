"""What differs beside the grants: contexts, the rules that hold people back, who holds roles, where requests go and as whom."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from ostiary.erp.operation import Pattern
from ostiary.foundation.errors import counted
from ostiary.plan import model
from ostiary.plan.formula import Formula
from ostiary.plan.model import Context, Never, Plan, Role, Route, Source, System, joined
from ostiary.policy.model import Level, Statement
from ostiary.policy.words import FOREVER_S
from ostiary.prove.rules import Request, few, proving
from ostiary.prove.situation import NEVER, counterexample, implies

EVERYBODY: Final = ("", "")
PROVED: Final = {True: "no longer proved", False: "proved from now on"}  # by whether it is gone
NOWHERE: Final = Source(file="", line=0, text="")
ROUTES_TOLD_MAX: Final = 20
PARTS: Final = (
    "kind", "host", "prefix", "upstream", "database", "audience", "hand_over", "sends", "token_from", "token_scope",
)  # fmt: skip


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


def at_line(source: Source | None, text: str, *, widens: bool, before: str = "", **more: Any) -> Change:
    """What this line makes another, or what made it so `before`, told with it."""
    return Change(widens=widens, text=f"{text} ({before}{source})", where=str(source), **more)


def beside(old: Plan, new: Plan, holders: Mapping[str, Sequence[str]]) -> Iterator[Change]:
    """All that differs but what roles grant."""
    yield from _contexts(old, new)
    yield from _surroundings(old, new, holders)
    yield from _bounds(old, new)


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


# --- what holds people back: `apart`, `never`, limits, the silence of control, approvals


def _bounds(old: Plan, new: Plan) -> Iterator[Change]:
    for one, other, widens in ((old, new, True), (new, old, False)):
        yield from _apart(one, other, widens=widens)
        yield from _never(one, other, widens=widens)
        yield from _always(one, other, gone=widens)
    yield from _limits(old.limits, new.limits)
    if old.silent_s != new.silent_s:
        kept = f"keep for {new.silent_s} s" if new.silent_s < FOREVER_S else "keep"
        text = f"when control is silent the gate will {kept if new.silent_s else 'close'}"
        yield Change(widens=new.silent_s > old.silent_s, text=text)
    if old.when_owner_leaves is not new.when_owner_leaves:
        told = f"when the person behind a client is disabled the client will {new.when_owner_leaves}"
        yield Change(widens=new.when_owner_leaves == "stay", text=told)
    yield from _approvals(old.approvals, new.approvals)
    yield from _response(old.response, new.response)


def _response(old: model.Response, new: model.Response) -> Iterator[Change]:
    if old.guesses != new.guesses:
        text = f"more than {new.guesses} failures a minute are guessing, instead of {old.guesses}"
        yield Change(widens=new.guesses > old.guesses, text=text)
    if old.block_s != new.block_s:
        text = f"who guesses is blocked for {new.block_s} s at first, instead of {old.block_s}"
        yield Change(widens=new.block_s < old.block_s, text=text)
    for network in sorted({*old.spared} ^ {*new.spared}):
        widens = network in new.spared
        yield Change(widens=widens, text=f"who guesses from {network} is {'never' if widens else 'now'} blocked")


def _approvals(old: model.Approvals, new: model.Approvals) -> Iterator[Change]:
    for what, was, now in (
        ("a change of the policy", old.policy, new.policy),
        ("a role in an emergency", old.break_glass, new.break_glass),
        ("a role for good", old.giving, new.giving),
    ):
        if was != now:
            yield Change(widens=now < was, text=f"{what} needs {counted(now, 'approval')} instead of {was}")


def _apart(old: Plan, new: Plan, *, widens: bool) -> Iterator[Change]:
    """The rules of `old` that no rule of `new` holds as well."""
    names = {rule.name for rule in new.apart}
    for rule in old.apart:
        if not any(_as_strict(rule, other) for other in new.apart):
            degree = ("less" if widens else "more") if rule.name in names else ""
            how = (
                f"is kept apart {degree} than before" if degree else f"is {'no longer' if widens else 'now'} kept apart"
            )
            yield at_line(rule.source, f"{rule.name!r} {how}: {rule.first} and {rule.then}", widens=widens)


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


def _never(old: Plan, new: Plan, *, widens: bool) -> Iterator[Change]:
    """The rules of `old` of which some part is in no rule of `new`."""
    moved, there = _moved(old, new), _moved(new, old)
    kept = [part for rule in new.never for part in _parts(new, rule, there)]
    for rule in old.never:
        with proving(old, f"{rule.source}: never {rule.name!r}"):
            lost = {one[0] for one in _parts(old, rule, moved) if not any(_covers(one, other) for other in kept)}
        if lost:
            alone = lost <= {("role", name) for name in _by_level(rule, moved)}
            yield _proved("never", rule, [name for _, name in lost] if alone else (), gone=widens, widens=widens)


def _proved(kind: str, rule: Statement, roles: Collection[str], *, gone: bool, widens: bool) -> Change:
    """`roles`: those of which alone it is so, by a level that they have no longer."""
    of = f" of role {few(sorted(roles))}" if roles else " as it was" if gone else ""
    return at_line(rule.source, f"{kind} {rule.name!r} is {PROVED[gone]}{of}", widens=widens)


def _moved(plan: Plan, other: Plan) -> dict[str, Level]:
    """The roles that have another level in the other plan, with the one they have here."""
    there = {role.name: role.level for role in other.roles}
    return {role.name: role.level for role in plan.roles if there.get(role.name, role.level) is not role.level}


def _by_level(rule: Statement, moved: Mapping[str, Level]) -> list[str]:
    """Those of which it speaks only as long as they have this level."""
    return [name for name, level in moved.items() if level is rule.level and name not in rule.roles]


Part = tuple[tuple[str, str], Pattern, Formula]  # of whom, what, and the context outside which


def _parts(plan: Plan, rule: Never, moved: Mapping[str, Level]) -> Iterator[Part]:
    whom = [("level", str(rule.level))] if rule.level else []
    whom += [("role", role) for role in (*rule.roles, *_by_level(rule, moved))]
    beside = next((one.formula for one in plan.contexts if one.name == rule.context), NEVER)
    yield from ((one, pattern, beside) for one in whom or [EVERYBODY] for pattern in rule.patterns)


def _covers(one: Part, other: Part) -> bool:
    """Whatever `one` forbids, `other` does."""
    return other[0] in {one[0], EVERYBODY} and one[1].within(other[1]) and implies(other[2], one[2])


def _always(old: Plan, new: Plan, *, gone: bool) -> Iterator[Change]:
    """The rules of `old` that `new` has not. None lets anybody do more; of one that is gone others may do less."""
    kept, moved = {replace(rule, source=NOWHERE) for rule in new.always}, _moved(old, new)
    for rule in old.always:
        left = _by_level(rule, moved)
        if (lost := replace(rule, source=NOWHERE) not in kept) or left:
            yield _proved("always", rule, () if lost else left, gone=gone, widens=False)


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
    if old.body_bytes != new.body_bytes:
        widens = new.body_bytes > old.body_bytes
        yield Change(widens=widens, text=f"bodies up to {new.body} instead of {old.body}")


def _named(limits: model.Limits) -> dict[str, model.Limit]:
    return {limit.name: limit for limit in (limits.anonymous, limits.default, *limits.roles)}


def _size(limit: model.Limit) -> tuple[float, int]:
    """How much over time, and how much at once."""
    return limit.requests / limit.seconds, limit.requests


# --- who holds roles that come or go, where requests go, as whom, and which operations a URL is


def _surroundings(old: Plan, new: Plan, holders: Mapping[str, Sequence[str]]) -> Iterator[Change]:
    """Systems and their operations; those of a system that is new as a whole are told with it."""
    yield from _held(old, new, holders)
    before = {system.name: system for system in old.systems}
    after = {system.name: system for system in new.systems}
    for name in sorted(before.keys() | after.keys()):
        yield from _system(before.get(name), after.get(name))
        if name in after:
            yield from _observed(before.get(name), after[name])
        if name in before and name in after:
            yield from _operations(_routes(old, name), _routes(new, name))


def _held(old: Plan, new: Plan, holders: Mapping[str, Sequence[str]]) -> Iterator[Change]:
    """Roles that come or go while somebody holds them: what is held stays held, whatever the policy knows."""
    before, after = {role.name: role for role in old.roles}, {role.name: role for role in new.roles}
    for name in sorted((before.keys() ^ after.keys()) & holders.keys()):
        role = after.get(name) or before[name]
        held = f"held by {few(holders[name])}"
        text = f"role {name} is there, and already {held}" if name in after else f"role {name} is gone, still {held}"
        yield at_line(role.source, text, widens=name in after, role=name)
    for name in sorted(before.keys() & after.keys()):
        yield from _role(before[name], after[name], old.never)


def _role(old: Role, new: Role, never: Sequence[Never]) -> Iterator[Change]:
    """Neither lets anybody do more by itself; a level is what statements speak of."""
    for part in ("level", "department"):
        was, now = getattr(old, part), getattr(new, part)
        if was != now:
            freed = any(one.speaks_of(old.name, old.level) and not one.speaks_of(old.name, new.level) for one in never)
            told = f"role {new.name} has the {part} {now or 'none'} instead of {was or 'none'}"
            yield at_line(new.source, told, widens=part == "level" and freed, role=new.name)


def _system(old: System | None, new: System | None) -> Iterator[Change]:
    if old is None and new is not None:
        text = f"{new.host}{new.prefix} leads to the system {new.name} at {new.upstream}"
        yield at_line(new.source, text, widens=True)
    elif new is None and old is not None:
        yield Change(widens=False, text=f"the system {old.name} is not reached any more", where=str(old.source))
    elif old is not None and new is not None:
        for part in PARTS:
            was, now = getattr(old, part), getattr(new, part)
            if was != now:
                said = f"{part.replace('_', '-')} {_said(now)} instead of {_said(was)}"
                yield at_line(new.source, f"the system {new.name} has {said}", widens=True)


def _said(value: str | tuple[str, ...]) -> str:
    return ", ".join([value] if isinstance(value, str) else value) or "none"


def _observed(old: System | None, new: System) -> Iterator[Change]:
    was, until = old.observe_until if old else None, new.observe_until
    if until is None and was:
        told = "only what the policy grants passes"
        yield at_line(new.source, f"the system {new.name} is observed no longer: {told}", widens=False)
    elif until and until != was:
        told = f"until {until:%Y-%m-%d %H:%M} UTC whoever the ERP itself lets in may do all there"
        yield at_line(new.source, f"the system {new.name} is observed: {told}", widens=was is None or was < until)


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
