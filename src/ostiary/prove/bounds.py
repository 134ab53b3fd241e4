"""What differs in the rules that hold people back: `apart`, `never`, limits, the silence of control, approvals."""

from collections.abc import Collection, Iterator, Mapping
from typing import Final

from msgspec.structs import replace

from ostiary.erp.operation import Pattern
from ostiary.foundation.errors import counted
from ostiary.plan.formula import Formula
from ostiary.plan.model import Apart, Approvals, Control, Limit, Limits, Never, Plan, Response, Source
from ostiary.policy.model import Level, Statement
from ostiary.policy.words import FOREVER_S
from ostiary.prove.change import Change, at_line, few
from ostiary.prove.contexts import proving
from ostiary.prove.situation import NEVER, implies

EVERYBODY: Final = ("", "")
PROVED: Final = {True: "no longer proved", False: "proved from now on"}  # by whether it is gone
NOWHERE: Final = Source(file="", line=0, text="")


def changes(old: Plan, new: Plan) -> Iterator[Change]:
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


def _response(old: Response, new: Response) -> Iterator[Change]:
    if old.guesses != new.guesses:
        text = f"more than {new.guesses} failures a minute are guessing, instead of {old.guesses}"
        yield Change(widens=new.guesses > old.guesses, text=text)
    if old.block_s != new.block_s:
        text = f"who guesses is blocked for {new.block_s} s at first, instead of {old.block_s}"
        yield Change(widens=new.block_s < old.block_s, text=text)
    for network in sorted({*old.spared} ^ {*new.spared}):
        widens = network in new.spared
        yield Change(widens=widens, text=f"who guesses from {network} is {'never' if widens else 'now'} blocked")


def _approvals(old: Approvals, new: Approvals) -> Iterator[Change]:
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


def _as_strict(rule: Apart, other: Apart) -> bool:
    """Whatever `rule` keeps apart, `other` does; a rule without `within` has no order."""
    ways = [(other.first, other.then), *([] if other.dynamic else [(other.then, other.first)])]
    return (
        rule.dynamic is other.dynamic
        and rule.link == other.link
        and rule.within_days <= other.within_days
        and all(any(_as_wide(one, held) for held in rule.controls) for one in other.controls)
        and any(rule.first.within(first) and rule.then.within(then) for first, then in ways)
    )


def _as_wide(one: Control, other: Control) -> bool:
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


def _limits(old: Limits, new: Limits) -> Iterator[Change]:
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


def _named(limits: Limits) -> dict[str, Limit]:
    return {limit.name: limit for limit in (limits.anonymous, limits.default, *limits.roles)}


def _size(limit: Limit) -> tuple[float, int]:
    """How much over time, and how much at once."""
    return limit.requests / limit.seconds, limit.requests
