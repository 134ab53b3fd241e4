"""Operations on alerts and measures."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from ostiary.control.board import Board
from ostiary.event import record
from ostiary.monitor import alerts


def show_alert(board: Board, _: str, alert: str) -> dict[str, Any]:
    """One alert, with the measures it led to and the events it names, each as a line."""
    with board.on.store.read() as connection:
        told = alerts.one_alert(connection, alert)
        living = alerts.list_measures(connection, now=board.now)
    events = [_line(board.on.home.access_log, decision) for decision in told["evidence"].get("decisions", ())]
    return {**told, "events": events, "measures": [one for one in living if one["alert"] == alert]}


def _line(log: Path, decision: str) -> str:
    with suppress(record.TooMuch):
        if event := record.find_decision(log, decision):
            return record.told(event)
    return f"{decision}, whose event is not in the newest files"


def acknowledge(board: Board, actor: str, alert: str, note: str = "") -> dict[str, Any]:
    board.change(actor, lambda change: alerts.acknowledge(change, alert, note))
    return {}


def resolve(board: Board, actor: str, alert: str, note: str = "") -> dict[str, Any]:
    """The resolution is told outside too."""
    board.watch.tell(board.change(actor, lambda change: alerts.resolve(change, alert, note)))
    return {}


def undo(board: Board, actor: str, measure: str) -> dict[str, Any]:
    """Ends a measure at the gate too."""
    board.change(actor, lambda change: alerts.undo(change, measure))
    board.reconciler.signal()
    return {}
