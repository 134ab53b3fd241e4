"""Access reviews (standard B6): who holds which role, whether it was used, who looked at it last; the audit log keeps it."""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from msgspec import Struct, to_builtins
from sqlalchemy import Connection, select

from ostiary.audit.log import Change, Entry
from ostiary.control.board import Board
from ostiary.control.installation import Installation, opened
from ostiary.control.proposals import refuse_reason
from ostiary.control.recorded import Used
from ostiary.erp.operation import covering_scopes, operation_named
from ostiary.event.record import stamp
from ostiary.foundation.clock import EPOCH
from ostiary.foundation.errors import CallerFault
from ostiary.foundation.home import Home
from ostiary.identity import principals, roster
from ostiary.identity.principals import Keys
from ostiary.plan.model import Plan
from ostiary.store.directory import role_sets
from ostiary.store.plans import plan_in_force
from ostiary.store.tables.audit import AUDIT_LEAF

EVERY: Final = timedelta(days=92)
KEEP: Final = "review.keep"
REMOVE: Final = "review.remove"
GIVING: Final = ("client.add", "user.add", "principal.roles")
Held = tuple[str, str]  # principal and role


class Item(Struct, frozen=True, kw_only=True):
    """`used`: how often in the last quarter, and when last; `looked`: when it was given, or kept at a review, by whom."""

    principal: str
    role: str
    used: int
    last: str
    looked: str
    by: str
    due: bool


def items(home: Home, *, due: bool = False) -> list[dict[str, Any]]:
    """Every role that somebody holds; what was not looked at for longest first."""
    with opened(home) as on, on.store.read() as connection:
        found = _items(on, connection, plan_in_force(home))
    return [to_builtins(one) for one in found if one.due or not due]


def overdue(connection: Connection, now: datetime) -> list[Held]:
    """What nobody has looked at for a quarter."""
    looked = _looked(connection)
    return [one for one in _held(connection) if looked.get(one, (EPOCH, ""))[0] < now - EVERY]


def keep(board: Board, actor: str, principal: str, role: str, reason: str) -> dict[str, Any]:
    """Somebody has looked: it stays, for this reason."""
    board.change(actor, lambda change: _record(board, change, KEEP, (principal, role), reason))
    return {}


def remove(board: Board, actor: str, principal: str, role: str, reason: str) -> dict[str, Any]:
    """Somebody has looked: it goes, and with it the tokens that are out."""

    def act(change: Change) -> Keys:
        _record(board, change, REMOVE, (principal, role), reason)
        left = [one for one in roster.one(change.connection, principal)["roles"] if one != role]
        return principals.set_roles(change, principal=principal, roles=left)

    with board.turn:
        board.change_directory(actor, act)
    return {}


def _record(board: Board, change: Change, action: str, held: Held, reason: str) -> None:
    """With what was known of its use."""
    refuse_reason(reason)
    found = _items(board.on, change.connection, board.reconciler.plan)
    item = next((one for one in found if (one.principal, one.role) == held), None)
    if item is None:
        why = f"{held[0]} does not hold the role {held[1]}"
        raise CallerFault("not-held", why, hint="see `ostiary review list`")
    change.note(action, held[0], after={"role": held[1], "used": item.used, "last": item.last}, reason=reason)


def _items(on: Installation, connection: Connection, plan: Plan) -> list[Item]:
    since = on.clock.now() - EVERY
    uses, last = _uses(on, connection, plan, since)
    looked = _looked(connection)
    found = [(*looked.get(held, (EPOCH, "")), held) for held in _held(connection)]
    return [
        Item(
            principal=held[0],
            role=held[1],
            used=uses[held],
            last=stamp(last[held]) if held in last else "",
            looked=stamp(at) if by else "",
            by=by,
            due=at < since,
        )
        for at, by, held in sorted(found)
    ]


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


def _uses(
    on: Installation, connection: Connection, plan: Plan, since: datetime
) -> tuple[Counter[Held], dict[Held, datetime]]:
    """How often somebody did what a role of his allows, and when last; of more events than one search may read, the newest."""
    roles, uses, last = role_sets(connection), Counter[Held](), dict[Held, datetime]()
    giving: dict[Held, bool] = {}
    for use in Used(on.home, since):
        for role in roles.get(use.role_set, ()):
            if _gives(plan, role, use.permission, giving):
                held = use.principal, role
                uses[held] += 1
                last[held] = max(use.at, last.get(held, use.at))
    return uses, last


def _gives(plan: Plan, role: str, permission: str, known: dict[Held, bool]) -> bool:
    if (role, permission) not in known:
        does, held = operation_named(permission), plan.closures.get(role, frozenset())
        known[role, permission] = does is not None and bool(plan.granting(covering_scopes(does), held))
    return known[role, permission]
