"""What differs around the grants: who holds roles that come or go, where requests go, as whom, and which operations a URL is."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from ostiary.plan.model import Never, Plan, Role, Route, System
from ostiary.prove.change import Change, at_line, few

ROUTES_TOLD_MAX: Final = 20
PARTS: Final = (
    "kind", "host", "prefix", "upstream", "database", "audience", "hand_over", "sends", "token_from", "token_scope",
)  # fmt: skip


def changes(old: Plan, new: Plan, holders: Mapping[str, Sequence[str]]) -> Iterator[Change]:
    """Systems and their operations; those of a system that is new as a whole are told with it."""
    yield from _roles(old, new, holders)
    before = {system.name: system for system in old.systems}
    after = {system.name: system for system in new.systems}
    for name in sorted(before.keys() | after.keys()):
        yield from _system(before.get(name), after.get(name))
        if name in after:
            yield from _observed(before.get(name), after[name])
        if name in before and name in after:
            yield from _operations(_routes(old, name), _routes(new, name))


def _roles(old: Plan, new: Plan, holders: Mapping[str, Sequence[str]]) -> Iterator[Change]:
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
