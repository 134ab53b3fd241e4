"""Who is given which roles, for good or for a time in an emergency, once others have said yes; and whether they are needed.

Access reviews (standard B6) show who holds which role, whether it was used, and who looked at it last; the audit log keeps it.

A token that carries a role for a time has a role set of its own and lives no longer; none is issued afterwards. So at its
end nothing has to act, neither control nor anybody. Duties kept apart stay apart in an emergency too.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache, partial
from typing import Any, Final

import msgspec
from msgspec.structs import replace
from sqlalchemy import Connection, select

from ostiary.audit.log import Change, Entry
from ostiary.control import revisions
from ostiary.control.board import Board
from ostiary.control.evidence import Used
from ostiary.control.installation import Installation, opened
from ostiary.control.questions import HELD
from ostiary.control.revisions import Kind, Proposal, State
from ostiary.erp.operation import Operation, covering_scopes
from ostiary.foundation.clock import EPOCH, stamp
from ostiary.foundation.errors import CallerFault, OperatorFault, counted
from ostiary.foundation.home import Home
from ostiary.identity import principals
from ostiary.identity.principals import Keys, next_generation
from ostiary.monitor import alerts
from ostiary.monitor.rules import Finding
from ostiary.plan.decide import Recorded, closure, narrowed
from ostiary.plan.model import Plan
from ostiary.prove.rules import both
from ostiary.store.database import upsert
from ostiary.store.directory import emergency_set, person_of, role_sets
from ostiary.store.plans import plan_in_force
from ostiary.store.tables import AUDIT_LEAF, PRINCIPAL, ROLE_SET

MINUTES_MAX: Final = 240
ASKED_MAX: Final = timedelta(hours=1)  # an emergency that nobody approves for so long is none
REVIEW_EVERY: Final = timedelta(days=92)
KEEP: Final = "review.keep"
REMOVE: Final = "review.remove"
GIVING: Final = ("client.add", "user.add", "principal.roles")
Held = tuple[str, str]  # principal and role
Item = dict[str, Any]  # what is known of one that is held


def set_roles(board: Board, actor: str, principal: str, roles: list[str], reason: str = "") -> dict[str, Any]:
    """Exactly these roles; tokens already out are refused (standard B7). One more may wait for the yes of others."""
    with board.turn:
        before = board.on.store.ask(principals.one, principal)["roles"]
        if board.reconciler.plan.approvals.giving and not set(roles) <= set(before):
            gains = sorted({*roles} - {*before})
            content = {"principal": principal, "gains": gains, "roles": sorted({*roles}), "before": before}
            content["base"] = board.reconciler.plan.revision
            return _propose(board, Proposal(kind=Kind.ROLES, actor=actor, reason=reason, at=board.now, content=content))
        board.change_directory(actor, _give, board.reconciler.plan, principal, roles, reason)
    return {"missing": 0}


def allow_new(board: Board, change: Change, principal: str, roles: Sequence[str], person: str = "") -> None:
    """Raises where whoever is new may not come with these roles: as `allow`, or others have to say yes to them."""
    if roles and (needed := board.reconciler.plan.approvals.giving):
        told = f"the policy in force asks for {counted(needed, 'approval')} of a role"
        hint = "add it without; `ostiary user roles`, `client roles` then asks"
        raise OperatorFault("approval-needed", told, hint=hint)
    allow(change, board.reconciler.plan, principal, roles, person=person)


def allow(change: Change, plan: Plan, principal: str, roles: Iterable[str], person: str = "") -> None:
    """Raises where `principal` may not hold just these roles: unknown to the policy, or duties kept apart."""
    wanted = frozenset(roles)
    refuse_unknown(plan, wanted)
    if person and change.connection.execute(select(PRINCIPAL.c.id).where(PRINCIPAL.c.id == person)).first() is None:
        raise OperatorFault("no-person", f"there is no {person}", hint="name a user: `ostiary user list`")
    human = person or person_of(change.connection, principal)
    others = select(HELD.c.role).where(HELD.c.person == human, HELD.c.id != principal)
    held = wanted.union(change.connection.scalars(others))
    if found := list(both(narrowed(plan, held), {human: held}, on=change.now.date())):
        lines = "\n".join(f"  {one}" for one in found)
        told = f"{human} would hold what is kept apart:\n{lines}"
        raise OperatorFault("roles-apart", told, hint="nothing was changed")


def refuse_unknown(plan: Plan, roles: Iterable[str]) -> None:
    """Raises for a role that this policy has not."""
    known = {role.name for role in plan.roles}
    if missing := sorted({*roles} - known):
        hint = f"one of: {', '.join(sorted(known)) or 'none yet'}; or apply a policy that has it first"
        raise OperatorFault("no-role", f"the policy in force has no role {', '.join(missing)}", hint=hint)


def start(board: Board, actor: str, principal: str, role: str, minutes: int, reason: str) -> dict[str, Any]:  # noqa: PLR0917
    """Gives the role for a time at once, or asks a second person where the policy says so."""
    if not 0 < minutes <= MINUTES_MAX:
        raise OperatorFault("minutes", f"{minutes} is no time from 1 to {MINUTES_MAX} minutes", hint="--minutes 30")
    content = {"principal": principal, "role": role, "minutes": minutes}
    with board.turn:
        asked = Proposal(kind=Kind.BREAK_GLASS, actor=actor, reason=reason, at=board.now, content=content)
        return _propose(board, asked)


def _propose(board: Board, asked: Proposal) -> dict[str, Any]:
    revisions.refuse_reason(asked.reason)

    def act(change: Change) -> Proposal:
        if asked.kind is Kind.BREAK_GLASS:
            _may_hold(change, board, asked)
        else:
            allow(change, board.reconciler.plan, asked.content["principal"], asked.content["roles"])
        return revisions.propose(change, asked)

    return _go_on(board, asked.actor, board.change(asked.actor, act))


def approve(kind: Kind, board: Board, actor: str, proposal: str) -> dict[str, Any]:
    """Says yes to exactly what was shown; with the last yes needed the roles are given."""
    with board.turn:
        asked = revisions.asked(board.on.store, kind, proposal)

        def agree(change: Change) -> Proposal:
            _refuse_stale(board, change, asked)
            return revisions.approve(change, asked, board.administrators)

        return _go_on(board, actor, board.change(actor, agree))


approve_roles, approve_emergency = partial(approve, Kind.ROLES), partial(approve, Kind.BREAK_GLASS)


def _refuse_stale(board: Board, change: Change, asked: Proposal) -> None:
    if asked.kind is Kind.BREAK_GLASS:
        if board.now - asked.at > ASKED_MAX:
            raise OperatorFault("proposal-old", "it was asked for too long ago", hint="`break-glass start` again")
        return
    before = principals.one(change.connection, asked.content["principal"])["roles"]
    if (before, board.reconciler.plan.revision) != (asked.content["before"], asked.content["base"]):
        told = "the roles, or the policy, are others now than when this was asked for"
        raise OperatorFault("proposal-stale", told, hint="reject it, and ask again")


def _go_on(board: Board, actor: str, asked: Proposal) -> dict[str, Any]:
    """Gives the roles once nobody's yes is missing by the policy in force."""
    told = {**_told(asked), **board.missing(asked)}
    if told["missing"]:
        return told
    if asked.kind is Kind.BREAK_GLASS:
        begun = replace(asked, state=State.BEGUN, until_s=int(board.now.timestamp()) + asked.content["minutes"] * 60)
        board.change_directory(actor, _begin, board, begun)
        return {**_told(begun), "missing": 0}
    board.change_directory(actor, _give_asked, board, asked)
    return told


def _give_asked(change: Change, board: Board, asked: Proposal) -> Keys:
    revisions.close(change, asked, State.DONE, asked.reason)
    _refuse_stale(board, change, asked)
    return _give(change, board.reconciler.plan, asked.content["principal"], asked.content["roles"], asked.reason)


def _give(change: Change, plan: Plan, principal: str, roles: Sequence[str], reason: str) -> Keys:
    allow(change, plan, principal, roles)
    return principals.set_roles(change, principal=principal, roles=roles, reason=reason)


def _begin(change: Change, board: Board, one: Proposal) -> Keys:
    roles = _may_hold(change, board, one)
    keys = next_generation(change, one.content["principal"], Kind.BREAK_GLASS)
    name, held = emergency_set(roles, one.content["role"], one.id)
    upsert(change.connection, ROLE_SET, {"id": name}, {"roles": ",".join(sorted(held))})
    revisions.note_act(change, one, "begin", one.reason, state=State.BEGUN, until_s=one.until_s)
    alerts.fire(change.connection, _finding(board, one))
    return keys


def _may_hold(change: Change, board: Board, asked: Proposal) -> list[str]:
    """The roles that the principal holds already; raises where it may not have this one more."""
    principal, role = asked.content["principal"], asked.content["role"]
    known, plan = principals.one(change.connection, principal), board.reconciler.plan
    roles: list[str] = known["roles"]
    others = revisions.found(change.connection, Kind.BREAK_GLASS, State.BEGUN)
    begun = any(one.content["principal"] == principal for one in others)
    useless = {
        f"holds {role} already": role in closure(plan, roles),
        "has another role for a time": begun,
        "is disabled": not known["active"],
        "can't sign in": principal.startswith("system:"),
    }
    if why := [text for text, so in useless.items() if so]:
        hint = "see `ostiary break-glass list`, `user list`, `client list`"
        raise OperatorFault("emergency-useless", f"{principal} {' and '.join(why)}", hint=hint)
    kept = plan.closures.keys() & roles  # what the policy has no more, he keeps
    allow(change, plan, principal, [*kept, role])
    return roles


def waiting(board: Board, _: str) -> list[dict[str, Any]]:
    """What others have to say yes to, the oldest first."""
    return [{**_told(one), **board.missing(one)} for one in board.on.store.ask(revisions.found, Kind.ROLES)]


def emergencies(home: Home) -> list[dict[str, Any]]:
    """Every one that there was, the newest first."""
    with opened(home) as on, on.store.read() as connection:
        return [_told(one) for one in reversed(revisions.found(connection, Kind.BREAK_GLASS, *State))]


def end(board: Board, actor: str, proposal: str) -> None:
    """Takes a role for a time back before its time, or before it began; tokens that carry it are refused."""
    with board.turn:
        one = revisions.asked(board.on.store, Kind.BREAK_GLASS, proposal, State.OPEN, State.BEGUN)
        board.change_directory(actor, _end, board, one)


def settle(board: Board) -> None:
    """Records and tells what is over by itself."""
    with board.turn:
        for one in board.on.store.ask(revisions.found, Kind.BREAK_GLASS, State.OPEN, State.BEGUN):
            over = one.until_s <= board.now.timestamp() if one.state == State.BEGUN else board.now - one.at > ASKED_MAX
            if over:
                board.change_directory(alerts.OURSELVES, _end, board, one)


def _end(change: Change, board: Board, one: Proposal) -> Keys:
    """Earlier than by itself, it is taken back from the tokens that are out."""
    early = one.state == State.BEGUN and one.until_s > board.now.timestamp()
    keys = next_generation(change, one.content["principal"], Kind.BREAK_GLASS) if early else ()
    revisions.note_act(change, one, "end", one.reason, state=State.ENDED)
    if one.state == State.BEGUN:  # another one of the same principal may last
        alerts.over(change.connection, _finding(board, one))
    return keys


def _finding(board: Board, one: Proposal) -> Finding:
    evidence = {**one.content, "by": one.actor, "reason": one.reason, "proposal": one.id}
    return Finding(rule="break-glass", key=one.content["principal"], at=board.now, evidence=evidence)


def _told(one: Proposal) -> dict[str, Any]:
    """As it is shown; of an emergency also where it stands, and that in words."""
    told = {"id": one.id, **one.content, **revisions.about(one)}
    if one.kind is Kind.ROLES:
        return told
    text = revisions.in_words(one) if one.until_s else f"{one.content['principal']} is to have {one.content['role']}"
    return {**told, "state": one.state, "text": text}


def reviews(home: Home, *, due: bool = False) -> list[dict[str, Any]]:
    """Every role that somebody holds; what was not looked at for longest first."""
    with opened(home) as on:
        return [one for one in _items(on, plan_in_force(home)) if one["due"] or not due]


def overdue(connection: Connection, now: datetime) -> list[Held]:
    """What nobody has looked at for a quarter."""
    looked = _looked(connection)
    return [one for one in _held(connection) if looked.get(one, (EPOCH, ""))[0] < now - REVIEW_EVERY]


def keep_role(board: Board, actor: str, principal: str, role: str, reason: str) -> None:
    """Somebody has looked: it stays, for this reason."""
    item = _item(board, (principal, role), reason)
    board.change(actor, _record, KEEP, (principal, role), item, reason)


def remove_role(board: Board, actor: str, principal: str, role: str, reason: str) -> None:
    """Somebody has looked: it goes, and with it the tokens that are out."""
    item = _item(board, (principal, role), reason)

    def act(change: Change) -> Keys:
        left = _record(change, REMOVE, (principal, role), item, reason)
        return principals.set_roles(change, principal=principal, roles=left)

    with board.turn:
        board.change_directory(actor, act)


def _item(board: Board, held: Held, reason: str) -> Item | None:
    """Looked up before anything is locked, for it may read logs for a while; None where it is not held."""
    revisions.refuse_reason(reason)
    return next(_items(board.on, board.reconciler.plan, held), None)


def _record(change: Change, action: str, held: Held, item: Item | None, reason: str) -> list[str]:
    """With what was known of its use; returns the principal's other roles. Raises where it is held no longer."""
    principal, role = held
    roles = principals.one(change.connection, principal)["roles"]
    if item is None or role not in roles:
        raise CallerFault("not-held", f"{principal} does not hold the role {role}", hint="see `ostiary review list`")
    known = {"role": role, **{name: item[name] for name in ("used", "last", "whole")}}
    change.note(action, principal, after=known, reason=reason)
    return [one for one in roles if one != role]


def _items(on: Installation, plan: Plan, only: Held | None = None) -> Iterator[Item]:
    """`used`: how often in the last quarter, and when `last`; `whole`: that is all of this principal's, as far as is recorded.

    `looked`: when it was given, or kept at a review, and `by` whom.
    """
    since = on.clock.now() - REVIEW_EVERY
    with on.store.read() as connection:
        held = [one for one in _held(connection) if only in (None, one)]
        looked, found = _looked(connection), Used(on.home, since, role_sets(connection))
    uses = _uses(found, plan, held) if held else {}
    for at, by, one in sorted((*looked.get(one, (EPOCH, "")), one) for one in held):
        times, last = uses[one]
        yield {
            "principal": one[0], "role": one[1], "used": times, "last": stamp(last) if times else "",
            "whole": found.whole_of(one[0]), "looked": stamp(at) if by else "", "by": by, "due": at < since,
        }  # fmt: skip


def _held(connection: Connection) -> list[Held]:
    everybody = (*principals.users(connection), *principals.clients(connection))
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
    uses, allows = dict.fromkeys(held, (0, EPOCH)), cache(partial(_allows, plan))
    for one in found:
        for by in ((one.principal, role) for role in one.facts.roles):
            if by in uses and (more := sum(allows(by[1], did) for did in one.facts.operations)):
                times, last = uses[by]
                uses[by] = times + more, max(last, one.facts.here.at)
    return uses


def _allows(plan: Plan, role: str, did: Operation) -> bool:
    return bool(plan.granting(covering_scopes(did), plan.closures.get(role, frozenset())))
