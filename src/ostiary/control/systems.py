"""The protected systems: as whom callers arrive there, as whom the guard asks them, and what they offer."""

from typing import Any

from ostiary.control.board import Board
from ostiary.control.handed import fit
from ostiary.foundation.errors import OperatorFault
from ostiary.foundation.secret import Secret
from ostiary.identity import principals, roster
from ostiary.plan.model import HandOver, Kind, System


def set_account(board: Board, actor: str, principal: str, system: str, login: str, password: str) -> dict[str, Any]:  # noqa: PLR0917
    """Says as which ERP user the principal's calls arrive at `system`; an ERP that can be asked lets it in first."""
    secret, there = Secret(password), _system(board, system)
    asked = there.kind is Kind.TRYTON or there.hand_over is HandOver.OAUTH
    if not fit(there, login, password):
        told = "the login or key holds what no header may: control characters, or letters beyond ASCII"
        raise OperatorFault("key-unfit", told, hint="give it as the ERP shows it, in one line")
    with board.on.store.read() as connection:
        roster.one(connection, principal)
    uid = _erp_user(board, principal, system, login, secret) if asked else ""
    account: dict[str, Any] = {"principal": principal, "system": system, "login": login, "password": secret, "uid": uid}
    board.change_directory(actor, lambda change: principals.set_erp_account(change, sealer=board.on.sealer, **account))
    return {}


def _erp_user(board: Board, principal: str, system: str, login: str, password: Secret) -> str:
    try:
        return board.reconciler.erp_user(system, login, password)
    except OperatorFault as problem:
        kind, _, name = principal.partition(":")
        again = f"ostiary {kind} account {name} --system {system} --login {login}"
        raise OperatorFault(problem.code, problem.message, hint=f"as {system} knows that user: {again}") from problem


def set_reader(board: Board, actor: str, system: str, login: str, password: str) -> dict[str, Any]:
    """The ERP user by whom the guard itself reads links, origins and the catalogue.

    What there is, is learnt by it first: one that does not work replaces nothing.
    """
    _refuse_described(board, system)
    secret = Secret(password)
    learnt = board.reconciler.learn(system, login, secret)
    account: dict[str, Any] = {"system": system, "login": login, "password": secret, "uid": learnt["uid"]}
    board.change_directory(actor, lambda change: principals.set_reader(change, sealer=board.on.sealer, **account))
    return learnt


def learn(board: Board, _: str, system: str) -> dict[str, Any]:
    """Has the guard ask the ERP what it offers; what it does not offer is denied."""
    _refuse_described(board, system)
    return board.reconciler.learn(system)


def _refuse_described(board: Board, name: str) -> None:
    if _system(board, name).kind is Kind.OPENAPI:
        told, hint = f"{name} offers what its OpenAPI document says", "change that file, then `ostiary policy apply`"
        raise OperatorFault("no-system", told, hint=hint)


def _system(board: Board, name: str) -> System:
    known = {system.name: system for system in board.reconciler.plan.systems}
    if name not in known:
        raise OperatorFault("no-system", f"there is no system {name!r}", hint=f"one of: {', '.join(sorted(known))}")
    return known[name]
