"""Operations on what happened: decisions explained, events, the audit log, backups."""

import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import to_builtins

from ostiary.audit.head import verify
from ostiary.audit.log import entries
from ostiary.control.board import Board
from ostiary.control.installation import open_installation
from ostiary.control.revisions import plan_of
from ostiary.erp.operation import operation_named
from ostiary.event import record, search
from ostiary.event.record import NONE, Event
from ostiary.foundation.errors import CallerFault
from ostiary.foundation.home import Home
from ostiary.plan.model import Kind
from ostiary.plan.reason import Reason
from ostiary.prove.explanation import Asked, Explanation
from ostiary.prove.explanation import explain as explained
from ostiary.store import backup
from ostiary.store.directory import role_sets

WRITTEN_WITHIN: Final = timedelta(seconds=2)  # Envoy writes its log at least every second
RECENT: Final = timedelta(minutes=1)  # what began before was written long ago
LOOK_EVERY_S: Final = 0.05
LIMIT_MAX: Final = 1_000


def explain(board: Board, _: str, decision: str) -> dict[str, Any]:
    """Why a request was decided so, by the plan that was in force then, and what would have allowed it."""
    event = _found(board, decision)
    guard = search.guard_line(board.on.home.guard_log, decision)
    plan = plan_of(board.on.store, event.revision)
    if plan is None or event.reason not in set(Reason):
        told = Explanation(reason=event.reason, sentence=record.told(event))
    else:
        told = explained(plan, _asked(board, event))
        told = _not_learned(board, event, told) if event.reason == Reason.UNKNOWN_OPERATION else told
    detail = str(guard["detail"]) if guard and guard.get("detail") else ""
    return {
        "decision": decision,
        "text": _text(event, told, detail),
        "explanation": to_builtins(told),
        "event": record.shape(event),
        "guard": guard or {},
    }


def _not_learned(board: Board, event: Event, told: Explanation) -> Explanation:
    """Of a system that nobody asked yet what it offers, everything is unknown."""
    kinds = {system.name: system.kind for system in board.reconciler.plan.systems}
    if kinds.get(event.system) is not Kind.TRYTON or board.on.home.catalogue(event.system).exists():
        return told
    step = f"`ostiary system account {event.system} --login LOGIN`: the gate then learns what {event.system} offers"
    return msgspec.structs.replace(told, would_allow=(step,))


def _found(board: Board, decision: str) -> Event:
    """The event of a decision; one that was made a moment ago may still be on its way to the log."""
    began, log = search.decided_at(decision), board.on.home.access_log
    recent = began is not None and board.now - began < RECENT
    until = board.now + (WRITTEN_WITHIN if recent else timedelta())
    try:
        while (found := search.find_decision(log, decision)) is None and board.now < until:
            time.sleep(LOOK_EVERY_S)
    except search.TooMuch:
        found = None
    if found is None:
        raise CallerFault(
            "no-decision",
            f"no event has the decision id {decision!r}",
            hint="copy it from the refusal's `ostiary-decision` header; `ostiary event list` shows the latest",
        )
    return found


def _asked(board: Board, event: Event) -> Asked:
    with board.on.store.read() as connection:
        roles = role_sets(connection).get(event.role_set, frozenset())
    return Asked(
        reason=Reason(event.reason),
        rule=event.rule,
        operation=operation_named(event.operation),
        roles=roles,
        at=event.at,
        source=None if event.source == NONE else ip_address(event.source),
        subject="" if event.subject == NONE else event.subject,
    )


def _text(event: Event, told: Explanation, detail: str) -> str:
    who = event.subject if event.subject != NONE else "somebody"
    lines = [f"{record.stamp(event.at)}  {who} from {event.source}: {event.method} {event.path}", told.sentence]
    lines += [f"because: {detail}"] if detail else []
    lines += _listed("the policy says:", told.lines)
    lines += _listed("it would have been allowed by:", told.would_allow) if event.reason != Reason.ALLOWED else []
    return "\n".join([*lines, f"decision {event.decision}, revision {event.revision}"])


def _listed(title: str, lines: Sequence[str]) -> list[str]:
    return [title, *(f"  {line}" for line in lines)] if lines else []


def list_events(  # noqa: PLR0917  the parameters of the command
    board: Board,
    _: str,
    principal: str = "",
    reason: str = "",
    operation: str = "",
    since: str = "",
    limit: int = 20,
) -> list[dict[str, Any]]:
    """Requests, the newest first."""
    wanted = search.Filter(principal=principal, reason=reason, operation=operation, since=_moment(since))
    found: list[dict[str, Any]] = []
    try:
        found.extend(map(record.shape, search.find(board.on.home.access_log, wanted, limit=_bounded(limit))))
    except search.TooMuch:
        if not found:
            told = f"among the newest events, {search.READ_MAX_BYTES >> 20} MiB of them, there is none like that"
            hint = f"older ones stand in {board.on.home.events}, one JSON line each"
            raise CallerFault("too-much-to-read", told, hint=hint) from None
    return found


def _bounded(limit: int) -> int:
    return min(max(limit, 1), LIMIT_MAX)


def _moment(text: str) -> datetime | None:
    try:
        at = datetime.fromisoformat(text) if text else None
    except ValueError as problem:
        raise CallerFault("moment", f"{text!r} is no moment", hint="2026-03-03T10:00+01:00") from problem
    return at.astimezone() if at else None


def list_entries(board: Board, _: str, action: str = "", limit: int = 20) -> list[dict[str, Any]]:
    """Administrative acts, the newest first."""
    with board.on.store.read() as connection:
        return list(entries(connection, action=action, limit=_bounded(limit)))


def verify_audit(home: Home) -> dict[str, Any]:
    """Recomputes the log and holds it against its signed head; needs nothing that runs."""
    on = open_installation(home)
    try:
        tree = verify(on.store, home)
    finally:
        on.store.close()
    text = f"the audit log holds: {tree.size} entries, root {tree.root.hex()}"
    return {"size": tree.size, "root": tree.root.hex(), "text": text}


def back_up(home: Home, out: Path) -> dict[str, Any]:
    on = open_installation(home)
    try:
        backup.backup(home, on.store, out)
    finally:
        on.store.close()
    return {"file": str(out), "bytes": out.stat().st_size}


def restore_from(home: Home, file: Path, store_url: str = "") -> dict[str, Any]:
    """Into an empty home and store; what was restored is verified before it is called done."""
    store = backup.restore(file, home, store_url)
    try:
        tree = verify(store, home)
    finally:
        store.close()
    return {"home": str(home.root), "entries": tree.size}
