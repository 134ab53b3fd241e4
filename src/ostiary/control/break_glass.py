"""A role for a time, in an emergency: with a reason, loud, and over by itself.

A token that carries it has a role set of its own and lives no longer; none is issued afterwards. So at its end nothing
has to act, neither control nor anybody. Duties kept apart stay apart in an emergency too.
"""

from datetime import timedelta
from typing import Any, Final

from msgspec.structs import replace

from ostiary.audit.log import Change
from ostiary.control import holders, proposals
from ostiary.control.board import Board
from ostiary.control.installation import opened
from ostiary.control.proposals import Kind, Proposal, State
from ostiary.foundation.errors import OperatorFault
from ostiary.foundation.home import Home
from ostiary.identity import roster
from ostiary.identity.principals import Keys, next_generation
from ostiary.monitor import alerts
from ostiary.monitor.alerts import OURSELVES, Notice
from ostiary.monitor.catalogue import Finding
from ostiary.plan.decide import closure
from ostiary.store.database import upsert
from ostiary.store.directory import emergency_set
from ostiary.store.tables.directory import ROLE_SET

MINUTES_MAX: Final = 240
ASKED_MAX: Final = timedelta(hours=1)  # an emergency that nobody approves for so long is none


def start(board: Board, actor: str, principal: str, role: str, minutes: int, reason: str) -> dict[str, Any]:  # noqa: PLR0917
    """Gives the role at once, or asks a second person where the policy says so."""
    proposals.refuse_reason(reason)
    if not 0 < minutes <= MINUTES_MAX:
        raise OperatorFault("minutes", f"{minutes} is no time from 1 to {MINUTES_MAX} minutes", hint="--minutes 30")
    content = {"principal": principal, "role": role, "minutes": minutes}
    asked = Proposal(kind=Kind.BREAK_GLASS, actor=actor, reason=reason, at=board.now, content=content)

    def act(change: Change) -> Proposal:
        _may_hold(change, board, asked)
        return proposals.propose(change, asked)

    with board.turn:
        return _go_on(board, actor, board.change(actor, act))


def approve(board: Board, actor: str, proposal: str) -> dict[str, Any]:
    """The second person's yes; with the last one needed it begins."""
    with board.turn:
        asked = proposals.asked(board.on.store, Kind.BREAK_GLASS, proposal)
        if board.now - asked.at > ASKED_MAX:
            raise OperatorFault("proposal-old", "it was asked for too long ago", hint="`break-glass start` again")
        who = board.administrators
        return _go_on(board, actor, board.change(actor, lambda change: proposals.approve(change, asked, who)))


def end(board: Board, actor: str, proposal: str) -> dict[str, Any]:
    """Takes it back before its time, or before it began; tokens that carry it are refused."""
    with board.turn:
        _end(board, actor, proposals.asked(board.on.store, Kind.BREAK_GLASS, proposal, State.OPEN, State.BEGUN))
    return {}


def settle(board: Board) -> None:
    """Records and tells what is over by itself."""
    with board.turn:
        with board.on.store.read() as connection:
            known = proposals.found(connection, Kind.BREAK_GLASS, State.OPEN, State.BEGUN)
        for one in known:
            over = one.until_s <= board.now.timestamp() if one.state == State.BEGUN else board.now - one.at > ASKED_MAX
            if over:
                _end(board, OURSELVES, one)


def list_emergencies(home: Home) -> list[dict[str, Any]]:
    """Every one that there was, the newest first."""
    with opened(home) as on, on.store.read() as connection:
        return [_told(one) for one in reversed(proposals.found(connection, Kind.BREAK_GLASS, *State))]


def _go_on(board: Board, actor: str, asked: Proposal) -> dict[str, Any]:
    """Begins when it has the approvals that the policy in force asks for."""
    left = board.missing(asked)
    if left["missing"]:
        return {**_told(asked), **left}
    until_s = int(board.now.timestamp()) + asked.content["minutes"] * 60
    begun, told = replace(asked, state=State.BEGUN, until_s=until_s), list[Notice | None]()

    def act(change: Change) -> Keys:
        roles = _may_hold(change, board, asked)
        keys = next_generation(change, asked.content["principal"], Kind.BREAK_GLASS)
        name, held = emergency_set(roles, asked.content["role"], asked.id)
        upsert(change.connection, ROLE_SET, {"id": name}, {"roles": ",".join(sorted(held))})
        proposals.record(change, begun, "begin", asked.reason, state=State.BEGUN, until_s=until_s)
        told.append(alerts.fire(change.connection, _finding(board, begun))[1])
        return keys

    try:
        board.change_directory(actor, act)
    finally:
        board.watch.tell(*filter(None, told))
    return {**_told(begun), "missing": 0}


def _may_hold(change: Change, board: Board, asked: Proposal) -> list[str]:
    """The roles that the principal holds already; raises where it may not have this one more."""
    principal, role = asked.content["principal"], asked.content["role"]
    known, plan = roster.one(change.connection, principal), board.reconciler.plan
    roles: list[str] = known["roles"]
    others = proposals.found(change.connection, Kind.BREAK_GLASS, State.BEGUN)
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
    holders.allow(change, plan, principal, [*kept, role])
    return roles


def _end(board: Board, actor: str, one: Proposal) -> None:
    """Earlier than by itself, it is taken back from the tokens that are out."""
    principal, told = one.content["principal"], list[Notice]()

    def act(change: Change) -> Keys:
        early = one.state == State.BEGUN and one.until_s > board.now.timestamp()
        keys = next_generation(change, principal, Kind.BREAK_GLASS) if early else ()
        proposals.record(change, one, "end", one.reason, state=State.ENDED)
        if one.state == State.BEGUN:  # another one of the same principal may last
            told.extend(alerts.over(change.connection, _finding(board, one)))
        return keys

    try:
        board.change_directory(actor, act)
    finally:
        board.watch.tell(*told)


def _finding(board: Board, one: Proposal) -> Finding:
    evidence = {**one.content, "by": one.actor, "reason": one.reason, "proposal": one.id}
    return Finding(rule="break-glass", key=one.content["principal"], at=board.now, evidence=evidence)


def _told(one: Proposal) -> dict[str, Any]:
    text = proposals.in_words(one) if one.until_s else f"{one.content['principal']} is to have {one.content['role']}"
    return {"id": one.id, "state": one.state, **one.content, **proposals.about(one), "text": text}
