"""What an administrator can do, by name. Applying a policy is the whole product in one function: start reading here."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from functools import partial, wraps
from inspect import signature
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Final

from msgspec import Struct, convert, to_builtins
from msgspec.structs import replace

from ostiary.audit.log import Change, refuse_unfit
from ostiary.control import health, revisions
from ostiary.control.board import Board
from ostiary.control.commands import operations
from ostiary.control.documents import prove_document
from ostiary.control.questions import assigned, holders_of
from ostiary.control.reconcile import Translated
from ostiary.control.revisions import Kind, Proposal, State
from ostiary.event import record
from ostiary.foundation.errors import OperatorFault, counted
from ostiary.monitor import alerts
from ostiary.plan.model import Plan
from ostiary.policy import words
from ostiary.policy.document import Document
from ostiary.prove.changes import diff
from ostiary.store.database import AROUND
from ostiary.store.plans import draft_since

SHORT: Final = {"m": "minutes", "h": "hours", "d": "days"}


class Applied(Struct, frozen=True, kw_only=True):
    """The revision, what it replaces and changes; `proposal`: where it waits, for so many `missing` `approvers`."""

    revision: str
    before: str
    changes: list[dict[str, Any]]
    warnings: list[str]
    proposal: str = ""
    missing: int = 0
    approvers: list[str] = []


def apply_policy(board: Board, actor: str, document: Document, reason: str = "", *, dry_run: bool = False) -> Applied:
    """Puts the policy in force at gate and guard, or changes nothing and says every problem at once.

    Its caller has read it, and all that belongs to it: control reads no file.
    """
    refuse_unfit(reason)
    act = revisions.Act(actor=actor, document=document, reason=reason)
    with nullcontext() if dry_run else board.turn:
        return _change(board, act, dry_run=dry_run)


def _change(board: Board, act: revisions.Act, *, dry_run: bool = False) -> Applied:
    if not Path(file := act.document.file).is_absolute():
        raise OperatorFault("file-relative", f"{file} is no absolute path", hint="name the policy's file in full")
    with board.on.store.read() as connection:
        held, holders = assigned(connection), holders_of(connection)
    plan, proof = prove_document(act.document, board.on.home, board.on.settings, held)  # parse, check, compile, prove
    before = board.reconciler.plan
    changes = diff(before, plan, holders)  # what it widens and narrows, by meaning
    translated = board.reconciler.translated(plan)  # read by Envoy itself
    if not dry_run:
        _refuse_alone(board, act, plan)
        proved = {**to_builtins(proof), "widens": sum(one.widens for one in changes), "changes": len(changes)}
        _roll_out(board, replace(act, before=before.revision, proof=proved), translated, len(changes))
    told, warnings = [to_builtins(change) for change in changes], list(proof.warnings)
    return Applied(revision=plan.revision, before=before.revision, changes=told, warnings=warnings)


def _refuse_alone(board: Board, act: revisions.Act, plan: Plan) -> None:
    """The policy in force says how many others must say yes; what is in force already may be applied again."""
    before = board.reconciler.plan
    known = revisions.texts_of(board.on.store, before.revision)
    same = plan.revision == before.revision and (act.document.text, dict(act.document.files)) == known
    if len(act.approvals) < before.approvals.policy and not same:
        told = f"the policy in force asks for {counted(before.approvals.policy, 'approval')} of a change"
        raise OperatorFault("approval-needed", told, hint="`ostiary policy propose`; somebody else then approves it")


def propose_policy(board: Board, actor: str, document: Document, reason: str) -> Applied:
    """As `apply_policy`, but it comes into force only when others have approved just this text."""
    revisions.refuse_reason(reason)
    with board.turn:
        return _propose(board, revisions.Act(actor=actor, document=document, reason=reason))


def restore_policy(board: Board, actor: str, number: int, reason: str) -> Applied:
    """Applies the document of an earlier revision, or proposes it where others must approve a change."""
    revisions.refuse_reason(reason)
    kept = revisions.kept(board.on.store, number)
    why = f"restores revision {number}: {reason}"
    act = revisions.Act(actor=actor, document=convert(kept, Document), reason=why)
    with board.turn:
        return _propose(board, act) if board.reconciler.plan.approvals.policy else _told(board, _change(board, act))


def _propose(board: Board, act: revisions.Act) -> Applied:
    tried = _change(board, act, dry_run=True)
    if not (board.reconciler.plan.approvals.policy or board.administrators.named - {act.actor}):
        told = "the policy in force asks for nobody's approval, and settings.toml names nobody else to ask"
        raise OperatorFault("approval-not-needed", told, hint="`ostiary policy apply`")
    asked = _asked(board, act, tried)
    made = board.change(act.actor, revisions.propose, asked)
    return replace(tried, proposal=made.id, **board.missing(made))


def _asked(board: Board, act: revisions.Act, tried: Applied) -> Proposal:
    shown = {"base": tried.before, "revision": tried.revision, "changes": tried.changes}
    content = {**shown, **to_builtins(act.document)}
    return Proposal(kind=Kind.POLICY, actor=act.actor, reason=act.reason, at=board.now, content=content)


def approve_policy(board: Board, actor: str, proposal: str) -> Applied:
    """Says yes to exactly what was shown; the last one who has to puts it in force."""
    with board.turn:
        asked = revisions.asked(board.on.store, Kind.POLICY, proposal)
        act = revisions.Act(actor=asked.actor, document=convert(asked.content, Document), reason=asked.reason)
        revisions.refuse_own(actor, asked, board.administrators)
        tried = _change(board, act, dry_run=True)
        if (tried.before, tried.revision) != (asked.content["base"], asked.content["revision"]):
            raise _anew(board, actor, asked, _asked(board, act, tried))
        asked = board.change(actor, revisions.approve, asked, board.administrators)
        if (left := board.missing(asked))["missing"]:
            return replace(tried, proposal=proposal, **left)
        done = _change(board, replace(act, approvals=asked.approvals))
        board.change(actor, revisions.close, asked, State.DONE)
        return _told(board, done)


def _told(board: Board, done: Applied) -> Applied:
    """Also that the file beside the installation is not what came into force."""
    name = board.on.home.policy.name
    drift = health.looked(name, partial(health.drift, board.on, board.reconciler.plan))["text"]
    undone = [drift, f"to put {name} in force as it is would undo this"]
    return replace(done, warnings=[*done.warnings, *(undone if drift else [])])


def _anew(board: Board, actor: str, asked: Proposal, again: Proposal) -> OperatorFault:
    """What was shown is not what it would do now: it is proposed again for its author, with no approval yet."""

    def act(change: Change) -> Proposal:
        revisions.close(change, asked, State.RENEWED)
        return revisions.propose(change, again)

    made = board.change(actor, act)
    told = f"the policy in force has changed since: it is proposed anew as {made.id}"
    hint = f"look at it with `ostiary policy show {made.id}`, then approve that"
    return OperatorFault("proposal-stale", told, hint=hint)


def _roll_out(board: Board, act: revisions.Act, to: Translated, changes: int) -> None:
    """Recorded before it is in force: nothing is ever in force that the audit log does not know."""
    number = board.change(act.actor, revisions.record, act, to.plan, changes=changes)
    try:
        was_draft = board.reconciler.apply(to)
    except Exception as problem:
        code = getattr(problem, "code", type(problem).__name__)
        with suppress(*AROUND):  # `status` holds the log against what is in force
            board.change(act.actor, revisions.record_failure, act, to.plan, code, number)
        raise
    if was_draft:
        board.change(act.actor, revisions.record_shadow, to.plan, None)


def begin_shadow(board: Board, actor: str, document: Document) -> dict[str, Any]:
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


def end_shadow(board: Board, actor: str) -> None:
    with board.turn:
        if board.reconciler.draft is None and draft_since(board.on.home) is None:  # one that can't be read ends too
            raise OperatorFault("no-shadow", "no draft is asked", hint="`ostiary policy shadow FILE` has one asked")
        _beside(board, actor, None)


def _beside(board: Board, actor: str, draft: Plan | None) -> None:
    """Where it can't be brought, the log says what is asked all the same."""
    plan, before = board.reconciler.plan, board.reconciler.draft
    board.change(actor, revisions.record_shadow, plan, draft)
    try:
        board.reconciler.beside(draft)
    except AROUND:
        board.change(actor, revisions.record_shadow, plan, before)
        raise


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


def block(board: Board, actor: str, network: str, length: str, reason: str) -> dict[str, Any]:
    """An administrator's own measure: neither the ERP nor the identity server hears of the network until it ends."""
    revisions.refuse_reason(reason)
    whole = length[:-1] + SHORT.get(length[-1:], length[-1:])
    try:
        network, seconds = words.network(network), words.age(whole)
    except words.Wrong as wrong:
        told = wrong.message.replace(repr(whole), repr(length))
        raise OperatorFault("block-invalid", told, hint=f"write it like {wrong.hint}") from wrong
    never = board.watch.never
    made = board.change(actor, alerts.block, network=network, seconds=seconds, reason=reason, never=never)
    board.reconciler.signal()
    return made


def undo_measure(board: Board, actor: str, measure: str) -> dict[str, Any]:
    """Ends a measure at the gate too; warns of others by which addresses of its network stay blocked."""
    left = board.change(actor, alerts.undo, measure)
    board.reconciler.signal()
    return {"warnings": left}


def reject(kind: Kind, board: Board, actor: str, proposal: str, reason: str = "") -> None:
    """Takes a proposal out of the way; also takes back one's own."""
    with board.turn:
        asked = revisions.asked(board.on.store, kind, proposal)
        board.change(actor, revisions.close, asked, State.REJECTED, reason)


reject_policy, reject_roles = partial(reject, Kind.POLICY), partial(reject, Kind.ROLES)


def given(act: Callable[..., Any]) -> "Operation":
    """As the API calls it: what `act` works on, and how, is said by the name of its first parameter."""
    shape = signature(act, follow_wrapped=False)
    takes = shape.parameters

    @wraps(act)
    def operation(board: Board, actor: str, **asked: Any) -> Any:
        lent = {"sealer": board.on.sealer, "now": board.now}
        asked |= {name: lent[name] for name in lent.keys() & takes.keys()}
        match next(iter(takes)):
            case "home":  # for an administrator to whom the folder is closed
                return act(board.on.home, **asked)
            case "connection":
                return board.on.store.ask(act, **asked)
            case "change":  # of the directory where it says what it revokes; nothing is told but that it is done
                (board.change if shape.return_annotation is None else board.change_directory)(actor, act, **asked)
                return None
        return act(board, actor, **asked)

    return operation


Operation = Callable[..., Any]  # (board, actor, **parameters) -> JSON-able
OPERATIONS: Final[Mapping[str, Operation]] = {name: given(resolve_name(f"ostiary.{by}")) for name, by in operations()}
