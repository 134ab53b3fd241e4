"""A draft asked beside the policy in force: what it would decide otherwise, seen before it decides anything."""

from datetime import UTC
from typing import Any

from msgspec import to_builtins

from ostiary.control import revisions
from ostiary.control.board import Board
from ostiary.control.documents import prove_document
from ostiary.control.holders import assigned, holders_of
from ostiary.event import search
from ostiary.event.record import NONE, Event
from ostiary.foundation.errors import OperatorFault
from ostiary.foundation.home import Home
from ostiary.plan.model import Plan
from ostiary.plan.reason import UNCLEAR, Reason
from ostiary.policy.document import Document
from ostiary.prove.difference import diff
from ostiary.prove.replay import Tally
from ostiary.store.database import AROUND
from ostiary.store.plans import draft_since


def begin(board: Board, actor: str, document: Document) -> dict[str, Any]:
    """From now on gate and guard ask this document too, and note what it says.

    `unseen`: what else it changes, such as a system's place: of that no decision tells.
    """
    with board.on.store.read() as connection:
        held, holders = assigned(connection), holders_of(connection)
    draft, _ = prove_document(document, board.on.home, board.on.settings, held)
    board.reconciler.refuse_unreadable(draft)
    with board.turn:
        plan = board.reconciler.plan
        _beside(board, actor, draft)
    return {"draft": draft.revision, "unseen": [one.text for one in diff(plan, draft, holders) if not one.permission]}


def end(board: Board, actor: str) -> dict[str, Any]:
    with board.turn:
        _beside(board, actor, None)
    return {}


def _beside(board: Board, actor: str, draft: Plan | None) -> None:
    """Where it can't be brought, the log says what is asked all the same."""
    plan, before = board.reconciler.plan, board.reconciler.draft
    board.change(actor, lambda change: revisions.record_shadow(change, plan, draft))
    try:
        board.reconciler.beside(draft)
    except AROUND:
        board.change(actor, lambda change: revisions.record_shadow(change, plan, before))
        raise


def seen(home: Home) -> dict[str, Any]:
    """What the draft would have decided otherwise, since it was begun."""
    if (since := draft_since(home)) is None:
        raise OperatorFault("no-draft", "no draft is asked now", hint="begin with `ostiary policy shadow FILE`")
    tally = Tally()
    for event in search.events(home.access_log, since):
        if event.draft == NONE or not tally.decided(event.reason):
            continue
        now = _now(event)
        if now == UNCLEAR or (now == Reason.ALLOWED) is not (event.reason == Reason.ALLOWED):
            tally.differs((event.subject, event.operation, event.reason, now), event.decision, event.at)
    return {"since": since.astimezone(UTC).isoformat(timespec="seconds"), **to_builtins(tally.all())}


def _now(event: Event) -> str:
    """The draft's word; nobody knows it where the ERP would have to be asked, or nobody looked inside."""
    reason = event.draft.partition(":")[0]
    unseen = reason == Reason.ALLOWED and event.operation == NONE
    return UNCLEAR if reason == Reason.RECORD or unseen else reason
