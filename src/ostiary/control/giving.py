"""Who is given which roles for good; where the policy asks for it, when others have said yes."""

from collections.abc import Sequence
from typing import Any

from ostiary.audit.log import Change
from ostiary.control import holders, proposals
from ostiary.control.board import Board
from ostiary.control.proposals import Kind, Proposal, State
from ostiary.foundation.errors import OperatorFault, counted
from ostiary.identity import principals, roster
from ostiary.identity.principals import Keys


def set_roles(board: Board, actor: str, principal: str, roles: list[str], reason: str = "") -> dict[str, Any]:
    """Exactly these roles; tokens already out are refused (standard B7). One more may wait for the yes of others."""
    with board.turn:
        with board.on.store.read() as connection:
            before = roster.one(connection, principal)["roles"]
        if board.reconciler.plan.approvals.giving and not set(roles) <= set(before):
            gains = sorted({*roles} - {*before})
            content = {"principal": principal, "gains": gains, "roles": sorted({*roles}), "before": before}
            content["base"] = board.reconciler.plan.revision
            return _propose(board, Proposal(kind=Kind.ROLES, actor=actor, reason=reason, at=board.now, content=content))
        board.change_directory(actor, lambda change: _give(board, change, principal, roles, reason))
    return {"missing": 0}


def approve(board: Board, actor: str, proposal: str) -> dict[str, Any]:
    """Says yes to exactly what was shown; with the last yes needed the roles are given."""
    with board.turn:
        asked = proposals.asked(board.on.store, Kind.ROLES, proposal)

        def agree(change: Change) -> Proposal:
            _refuse_stale(board, change, asked)
            return proposals.approve(change, asked, board.administrators)

        return _go_on(board, actor, board.change(actor, agree))


def waiting(board: Board, _: str) -> list[dict[str, Any]]:
    """What others have to say yes to, the oldest first."""
    with board.on.store.read() as connection:
        return [{**_told(one), **board.missing(one)} for one in proposals.found(connection, Kind.ROLES)]


def refuse_alone(board: Board, roles: Sequence[str]) -> None:
    """Raises where whoever is new may not come with these roles: others have to say yes to them."""
    if roles and (needed := board.reconciler.plan.approvals.giving):
        told = f"the policy in force asks for {counted(needed, 'approval')} of a role"
        hint = "add it without; `ostiary user roles`, `client roles` then asks"
        raise OperatorFault("approval-needed", told, hint=hint)


def _propose(board: Board, asked: Proposal) -> dict[str, Any]:
    proposals.refuse_reason(asked.reason)

    def act(change: Change) -> Proposal:
        holders.allow(change, board.reconciler.plan, asked.content["principal"], asked.content["roles"])
        return proposals.propose(change, asked)

    return _go_on(board, asked.actor, board.change(asked.actor, act))


def _go_on(board: Board, actor: str, asked: Proposal) -> dict[str, Any]:
    """Gives the roles once nobody's yes is missing."""
    told = {**_told(asked), **board.missing(asked)}
    if told["missing"]:
        return told

    def act(change: Change) -> Keys:
        proposals.close(change, asked, State.DONE, asked.reason)
        _refuse_stale(board, change, asked)
        return _give(board, change, asked.content["principal"], asked.content["roles"], asked.reason)

    board.change_directory(actor, act)
    return told


def _refuse_stale(board: Board, change: Change, asked: Proposal) -> None:
    before = roster.one(change.connection, asked.content["principal"])["roles"]
    if (before, board.reconciler.plan.revision) != (asked.content["before"], asked.content["base"]):
        told = "the roles, or the policy, are others now than when this was asked for"
        raise OperatorFault("proposal-stale", told, hint="reject it, and ask again")


def _give(board: Board, change: Change, principal: str, roles: Sequence[str], reason: str) -> Keys:
    holders.allow(change, board.reconciler.plan, principal, roles)
    return principals.set_roles(change, principal=principal, roles=roles, reason=reason)


def _told(one: Proposal) -> dict[str, Any]:
    return {"id": one.id, **one.content, **proposals.about(one)}
