"""Access reviews (standard B6): who holds which role, whether it was used, who looked at it last; the audit log keeps it."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import cache, partial
from typing import Any, Final

import msgspec
from msgspec import Struct, to_builtins
from sqlalchemy import Connection, select

from ostiary.audit.log import Change, Entry
from ostiary.control.board import Board
from ostiary.control.installation import Installation, opened
from ostiary.control.proposals import refuse_reason
from ostiary.control.recorded import Used
from ostiary.erp.operation import Operation, covering_scopes
from ostiary.event.record import stamp
from ostiary.foundation.clock import EPOCH
from ostiary.foundation.errors import CallerFault
from ostiary.foundation.home import Home
from ostiary.identity import principals, roster
from ostiary.identity.principals import Keys
from ostiary.plan.model import Plan
from ostiary.prove.decisions import Recorded
from ostiary.store.directory import role_sets
from ostiary.store.plans import plan_in_force
from ostiary.store.tables.audit import AUDIT_LEAF

EVERY: Final = timedelta(days=92)
KEEP: Final = "review.keep"
REMOVE: Final = "review.remove"
GIVING: Final = ("client.add", "user.add", "principal.roles")
Held = tuple[str, str]  # principal and role


class Item(Struct, frozen=True, kw_only=True):
    """`used`: how often in the last quarter, and when last; `whole`: that is all of this principal's, as far as the records go.

    `looked`: when it was given, or kept at a review, by whom.
    """

    principal: str
    role: str
    used: int
    last: str
    whole: bool
    looked: str
    by: str
    due: bool


def items(home: Home, *, due: bool = False) -> list[dict[str, Any]]:
    """Every role that somebody holds; what was not looked at for longest first."""
    with opened(home) as on:
        return [to_builtins(one) for one in _items(on, plan_in_force(home)) if one.due or not due]


def overdue(connection: Connection, now: datetime) -> list[Held]:
    """What nobody has looked at for a quarter."""
    looked = _looked(connection)
    return [one for one in _held(connection) if looked.get(one, (EPOCH, ""))[0] < now - EVERY]


def keep(board: Board, actor: str, principal: str, role: str, reason: str) -> dict[str, Any]:
    """Somebody has looked: it stays, for this reason."""
    item = _item(board, (principal, role), reason)
    board.change(actor, lambda change: _record(change, KEEP, (principal, role), item, reason))
    return {}


def remove(board: Board, actor: str, principal: str, role: str, reason: str) -> dict[str, Any]:
    """Somebody has looked: it goes, and with it the tokens that are out."""
    item = _item(board, (principal, role), reason)

    def act(change: Change) -> Keys:
        left = _record(change, REMOVE, (principal, role), item, reason)
        return principals.set_roles(change, principal=principal, roles=left)

    with board.turn:
        board.change_directory(actor, act)
    return {}


def _item(board: Board, held: Held, reason: str) -> Item | None:
    """Looked up before anything is locked, for it may read logs for a while; None where it is not held."""
    refuse_reason(reason)
    return next(_items(board.on, board.reconciler.plan, held), None)


def _record(change: Change, action: str, held: Held, item: Item | None, reason: str) -> list[str]:
    """With what was known of its use; returns the principal's other roles. Raises where it is held no longer."""
    principal, role = held
    roles = roster.one(change.connection, principal)["roles"]
    if item is None or role not in roles:
        raise CallerFault("not-held", f"{principal} does not hold the role {role}", hint="see `ostiary review list`")
    known = {"role": role, "used": item.used, "last": item.last, "whole": item.whole}
    change.note(action, principal, after=known, reason=reason)
    return [one for one in roles if one != role]


def _items(on: Installation, plan: Plan, only: Held | None = None) -> Iterator[Item]:
    since = on.clock.now() - EVERY
    with on.store.read() as connection:
        held = [one for one in _held(connection) if only in (None, one)]
        looked, found = _looked(connection), Used(on.home, since, role_sets(connection))
    uses = _uses(found, plan, held) if held else {}
    for at, by, one in sorted((*looked.get(one, (EPOCH, "")), one) for one in held):
        times, last = uses[one]
        yield Item(
            principal=one[0], role=one[1], used=times, last=stamp(last) if times else "",
            whole=found.whole_of(one[0]), looked=stamp(at) if by else "", by=by, due=at < since,
        )  # fmt: skip


def _held(connection: Connection) -> list[Held]:
    everybody = (*roster.users(connection), *roster.clients(connection))
    return [(one["id"], role) for one in everybody for role in one["roles"]]


def _looked(connection: Connection) -> Mapping[Held, tuple[datetime, str]]:
    """When a role was given or kept last, and by whom."""
    found: dict[Held, tuple[datetime, str]] = {}
    chosen = select(AUDIT_LEAF.c.entry).where(AUDIT_LEAF.c.action.in_((*GIVING, KEEP))).order_by(AUDIT_LEAF.c.number)
    for text in connection.scalars(chosen):
        entry = msgspec.json.decode(text, type=Entry)
        new = set(entry.after.get("roles", [entry.after.get("role")])).difference(entry.before.get("roles", ()))
        found |= {(entry.object, role): (entry.at, entry.actor) for role in new}
    return found


def _uses(found: Iterable[Recorded], plan: Plan, held: Collection[Held]) -> Mapping[Held, tuple[int, datetime]]:
    """How often somebody did what a role of his allows, and when last."""
    uses, gives = dict.fromkeys(held, (0, EPOCH)), cache(partial(_gives, plan))
    for one in found:
        for by in ((one.principal, role) for role in one.facts.roles or ()):
            if by in uses and (more := sum(gives(by[1], did) for did in one.facts.operations)):
                times, last = uses[by]
                uses[by] = times + more, max(last, one.facts.here.at)
    return uses


def _gives(plan: Plan, role: str, did: Operation) -> bool:
    return bool(plan.granting(covering_scopes(did), plan.closures.get(role, frozenset())))
