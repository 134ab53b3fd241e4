"""Operations on alerts and measures."""

from typing import Any

from ostiary.control.board import Board
from ostiary.monitor import alerts, measures


def list_alerts(board: Board, _: str, *, everything: bool = False) -> list[dict[str, Any]]:
    with board.on.store.read() as connection:
        return alerts.list_alerts(connection, everything=everything)


def acknowledge(board: Board, actor: str, alert: str, note: str = "") -> dict[str, Any]:
    board.change(lambda connection: alerts.acknowledge(connection, actor=actor, now=board.now, alert=alert, note=note))
    return {}


def resolve(board: Board, actor: str, alert: str, note: str = "") -> dict[str, Any]:
    """The resolution is told outside too."""
    notice = board.change(
        lambda connection: alerts.resolve(connection, actor=actor, now=board.now, alert=alert, note=note)
    )
    board.watch.tell(notice)
    return {}


def list_measures(board: Board, _: str, *, everything: bool = False) -> list[dict[str, Any]]:
    with board.on.store.read() as connection:
        return measures.list_measures(connection, now=board.now, everything=everything)


def undo(board: Board, actor: str, measure: str) -> dict[str, Any]:
    """Ends a measure at the gate too."""
    board.change(lambda connection: measures.undo(connection, actor=actor, now=board.now, measure=measure))
    board.reconciler.signal()
    return {}
