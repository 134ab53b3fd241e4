"""The protected systems and our own processes: how they are, and what a system offers."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ostiary.audit.head import check
from ostiary.control import health
from ostiary.control.board import Board
from ostiary.envoy.clusters import cluster_name
from ostiary.foundation.errors import OperatorFault, SystemFault
from ostiary.foundation.secret import Secret
from ostiary.identity import principals
from ostiary.plan.model import Kind, System
from ostiary.tls import authority


def status(board: Board, _: str) -> dict[str, Any]:
    """One line for each part; `ok` when all of them are."""
    parts = [_part(name, look) for name, look in _parts(board)]
    return {"ok": all(part["ok"] for part in parts), "parts": parts}


def _parts(board: Board) -> Iterator[tuple[str, Callable[[], str]]]:
    home = board.on.home
    yield "gate", lambda: health.gate_in_force(board.gate, board.reconciler.plan, board.on.settings.origin)
    yield "guard", lambda: health.guard_in_force(board.reconciler.guard_state(), board.reconciler.plan)
    yield "identity", lambda: health.answers(home, "identity")
    yield "policy", lambda: health.policy(board.on.store, home, board.reconciler.plan)
    yield "waits", lambda: health.waiting(board.on.store)
    yield "reviews", lambda: health.reviewed(board.on.store, board.now)
    yield "controls", lambda: health.lasting(board.reconciler.plan, board.now.date())
    yield "certificate", lambda: authority.standing(home, board.now)
    yield "disk", lambda: health.room(home.root)
    yield "audit log", lambda: f"{check(board.on.store, home).size} entries"
    yield "watch", lambda: health.quiet(board.on.store)
    troubles = health.troubles(home)
    for system in board.reconciler.plan.systems:
        yield f"system {system.name}", lambda system=system: _system(board, system, troubles)  # type: ignore[misc]  # bound at once


def _part(name: str, look: Callable[[], str]) -> dict[str, Any]:
    found = health.looked(name, look)
    hint = f" ({found['hint']})" if found["hint"] else ""
    return {"name": name, "ok": found["ok"], "text": f"{found['text']}{hint}"}


def _system(board: Board, system: System, troubles: Mapping[str, str]) -> str:
    if not board.gate.healthy(cluster_name(system)):
        told = f"the gate does not reach {system.upstream}"
        raise SystemFault("erp-unreachable", told, hint="start the ERP, or mend `upstream` in the policy")
    return health.known(board.on, system, troubles)


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
