"""A draft asked beside the policy in force: what it would decide otherwise, seen before it decides anything."""

from collections.abc import Mapping
from typing import Any

from ostiary.control import revisions
from ostiary.control.board import Board
from ostiary.control.documents import prove_document
from ostiary.control.holders import assigned


def begin(board: Board, actor: str, text: str, file: str, files: Mapping[str, str] = {}) -> dict[str, Any]:
    """From now on gate and guard ask this document too, and note what it says."""
    with board.turn:
        with board.on.store.read() as connection:
            held = assigned(connection)
        draft, _ = prove_document(text, file, board.on.home, files, held)
        plan = board.reconciler.plan
        board.change(lambda connection: revisions.record_shadow(connection, actor, board.now, plan, draft))
        board.reconciler.beside(draft)
    return {"draft": draft.revision}


def end(board: Board, actor: str) -> dict[str, Any]:
    with board.turn:
        plan = board.reconciler.plan
        board.change(lambda connection: revisions.record_shadow(connection, actor, board.now, plan, None))
        board.reconciler.beside(None)
    return {}
