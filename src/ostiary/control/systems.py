"""The protected systems: as whom the guard asks them, and what they offer."""

from typing import Any

from ostiary.control.board import Board
from ostiary.foundation.errors import OperatorFault
from ostiary.foundation.secret import Secret
from ostiary.identity import principals
from ostiary.plan.model import Kind


def set_account(board: Board, actor: str, system: str, login: str, password: str) -> dict[str, Any]:
    """The ERP user by whom the guard itself reads links, origins and the catalogue.

    What there is, is learnt by it first: one that does not work replaces nothing.
    """
    _tryton(board, system)
    secret = Secret(password)
    learnt = board.reconciler.learn(system, login, secret)
    account: dict[str, Any] = {"system": system, "login": login, "password": secret, "uid": learnt["uid"]}
    board.change_directory(actor, lambda change: principals.set_reader(change, sealer=board.on.sealer, **account))
    return learnt


def learn(board: Board, _: str, system: str) -> dict[str, Any]:
    """Has the guard ask the ERP what it offers; what it does not offer is denied."""
    _tryton(board, system)
    return board.reconciler.learn(system)


def _tryton(board: Board, name: str) -> None:
    kinds = {system.name: system.kind for system in board.reconciler.plan.systems}
    if kinds.get(name) is Kind.OPENAPI:
        told, hint = f"{name} offers what its OpenAPI document says", "change that file, then `ostiary policy apply`"
        raise OperatorFault("no-system", told, hint=hint)
    if name not in kinds:
        raise OperatorFault("no-system", f"there is no system {name!r}", hint=f"one of: {', '.join(sorted(kinds))}")
