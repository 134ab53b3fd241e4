"""What was put in force, and what waits for a second person: kept as it was shown, with who asked for it and who decided.

Revisions of the policy are recorded in the transaction of their audit entry. A proposal, of a policy or of a role, is decided
by others than who asked for it.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec.structs import replace
from sqlalchemy import Column, ColumnElement, Connection, Row, insert, select, update

from ostiary.audit.log import Change, entries, refuse_unfit
from ostiary.control.installation import Administrators, opened
from ostiary.foundation.clock import from_us, stamp, to_us
from ostiary.foundation.errors import CallerFault, OperatorFault, SystemFault
from ostiary.foundation.home import Home, write_atomically
from ostiary.foundation.ids import content_hash
from ostiary.plan.model import Plan, from_json, to_json
from ostiary.policy.document import Document, plain
from ostiary.policy.model import Approvals
from ostiary.prove.rules import few
from ostiary.store.database import Store
from ostiary.store.plans import keep_plan, put_in_force, read_plan, revision_in_force
from ostiary.store.tables import FAILED_MAX_CHARS, PROPOSAL, REVISION

APPLY: Final = "policy.apply"
ROLLED_BACK: Final = "policy.rolled-back"
SHADOW: Final = "policy.shadow"
SHADOW_END: Final = "policy.shadow-end"
NUMBER_MAX: Final = 2**31 - 1  # of a PostgreSQL integer
OPEN_MAX: Final = 100  # of a kind ...
OPEN_OF_ONE_MAX: Final = 20  # ... and of one person: nobody keeps the others from theirs
REASON_MAX_CHARS: Final = 900
LONG: Final = ("text", "files", "changes")  # of the content, what no line of the audit log has room for
_SHORT: Final = [column for column in REVISION.c if column.name not in {"text", "files", "plan", "proof"}]


class Kind(StrEnum):
    POLICY = "policy"
    ROLES = "roles"
    BREAK_GLASS = "break-glass"

    @property
    def listed(self) -> str:
        """The command that shows what waits."""
        return "review waiting" if self is Kind.ROLES else f"{self} list"

    def needs(self, asked: Approvals) -> int:
        """How many others must say yes: one, even if the policy asks for nobody any more; but in an emergency nobody."""
        if self is Kind.BREAK_GLASS:
            return asked.break_glass
        return max(1, asked.policy if self is Kind.POLICY else asked.giving)


class State(StrEnum):
    OPEN = "open"
    DONE = "done"
    REJECTED = "rejected"
    RENEWED = "renewed"  # as another one, since it would do something else by now
    BEGUN = "begun"  # a role for a time, until ...
    ENDED = "ended"


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """`content`: all that was shown; `approvals`: who else said yes."""

    id: str = ""
    kind: Kind
    actor: str
    reason: str
    at: datetime
    content: dict[str, Any]
    approvals: tuple[str, ...] = ()
    state: State = State.OPEN
    until_s: int = 0  # of a role for a time that has begun


class Act(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody puts a policy in force.

    `before` is the revision that it replaces, "" for none. `approvals`: who else said yes; `proof`: what was checked.
    """

    actor: str
    document: Document
    reason: str
    before: str = ""
    approvals: tuple[str, ...] = ()
    proof: dict[str, Any] = {}


def record(change: Change, act: Act, plan: Plan, *, changes: int = 0) -> int:
    """Keeps the revision whole, and who put it in force, when and why in the audit log; its number."""
    after: dict[str, Any] = {"revision": plan.revision, "file": act.document.file, "changes": changes}
    after |= {"approvals": act.approvals} if act.approvals else {}
    files = json.dumps(act.document.files, ensure_ascii=False)
    what = {"revision": plan.revision, "plan": to_json(plan).decode(), "proof": json.dumps(act.proof)}
    written = {"file": act.document.file, "text": act.document.text, "files": files}
    by = {"actor": act.actor, "reason": act.reason, "approvals": json.dumps(act.approvals), "at_us": to_us(change.now)}
    made = change.connection.execute(insert(REVISION).values(**what, **written, **by))
    _note(change, APPLY, act, plan, after)
    return made.inserted_primary_key[0] if made.inserted_primary_key else 0


def record_failure(change: Change, act: Act, plan: Plan, code: str, number: int) -> None:
    """Says that the revision of this number did not come into force; the one before still is."""
    meant = update(REVISION).where(REVISION.c.number == number)
    change.connection.execute(meant.values(failed=code[:FAILED_MAX_CHARS]))
    _note(change, ROLLED_BACK, act, plan, {"revision": plan.revision, "failed": code})


def record_shadow(change: Change, plan: Plan, draft: Plan | None) -> None:
    """Says that a draft is asked beside the plan in force from now on; None: no longer."""
    change.note(SHADOW if draft else SHADOW_END, plan.policy, after={"draft": draft.revision} if draft else {})


def _note(change: Change, action: str, act: Act, plan: Plan, after: dict[str, Any]) -> None:
    before = {"revision": act.before} if act.before else {}
    change.note(action, plan.policy, before=before, after=after, reason=act.reason)


def recovered(store: Store, home: Home) -> Plan:
    """The plan in force; where its file can't be read, it is written again as the store holds it."""
    revision = revision_in_force(home) or _applied_last(store)
    try:
        plan = read_plan(home, revision)
    except SystemFault:
        if (kept := plan_of(store, revision)) is None:
            raise
        keep_plan(home, plan := kept)
    if revision != revision_in_force(home):
        put_in_force(home, revision)
    return plan


def _applied_last(store: Store) -> str:
    """By the audit log, where a revision that did not come into force left the one before in force."""
    with store.read() as connection:
        acts = (next(entries(connection, action=action, limit=1), None) for action in (APPLY, ROLLED_BACK))
        last = max(filter(None, acts), key=lambda entry: entry["index"], default=None)
    return "" if last is None else last["before" if last["action"] == ROLLED_BACK else "after"]["revision"]


def plan_of(store: Store, revision: str) -> Plan | None:
    """The plan of a revision, however old."""
    found = _newest(store, revision, REVISION.c.plan)
    return None if found is None else from_json(found.plan.encode())


def texts_of(store: Store, revision: str) -> tuple[str, dict[str, str]] | None:
    """The document that a revision was last made of, and the texts that it includes."""
    found = _newest(store, revision, REVISION.c.text, REVISION.c.files)
    return None if found is None else (found.text, json.loads(found.files))


def _newest(store: Store, revision: str, *what: Column[Any]) -> Row[Any] | None:
    """Of the last one of this revision that came into force."""
    which = (REVISION.c.revision == revision, REVISION.c.failed.is_(None))
    with store.read() as connection:
        return connection.execute(select(*what).where(*which).order_by(REVISION.c.number.desc()).limit(1)).first()


def list_revisions(home: Home, limit: int = 20) -> list[dict[str, Any]]:
    """What was ever applied and what waits, the newest first; of equal revisions the last is the one in force."""
    in_force = revision_in_force(home)
    with opened(home) as on, on.store.read() as connection:
        rows = connection.execute(select(*_SHORT).order_by(REVISION.c.number.desc())).all()
        waiting = [_proposal(one) for one in reversed(found(connection, Kind.POLICY))]
    last = next((row.number for row in rows if row.revision == in_force and not row.failed), 0)
    states = {last: "in force", **{row.number: "rolled back" for row in rows if row.failed}}
    kept = [{**_revision(row), "state": states.get(row.number, "")} for row in rows[:limit]]
    return [*({**one, "state": "proposed"} for one in waiting), *kept]


def show_revision(home: Home, which: str = "") -> dict[str, Any]:
    """The document as it was, with all that is known of it; `which` is a number, a proposal's id, "" for what is in force."""
    which = which or next(str(one["number"]) for one in list_revisions(home, NUMBER_MAX) if one["state"] == "in force")
    with opened(home) as on:
        if which.isdecimal() and int(which[:20]) <= NUMBER_MAX:
            return kept(on.store, int(which))
        found = asked(on.store, Kind.POLICY, which)
    return {**_proposal(found), **{name: found.content[name] for name in ("text", "files", "changes")}}


def write_policy(folder: Path, name: str, text: str, files: Mapping[str, str]) -> list[str]:
    """Writes the policy under this name, and its files, into a new folder; raises where there is one, or a file leads astray."""
    if folder.exists():
        raise OperatorFault("folder-exists", f"{folder} exists already", hint="name a new folder")
    if astray := [one for one in files if one == name or not plain(one)]:
        told = f"a file of the policy would lie in another's place, or leads out of {folder}: {few(astray)}"
        hint = "`ostiary policy show --file NAME` shows it; trust it in nothing else"
        raise OperatorFault("file-astray", told, hint=hint)
    for path, one in {name: text, **files}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / path, one.encode())
    return [str(folder.resolve() / one) for one in (name, *files)]


def plan_kept(connection: Connection, number: int) -> Plan:
    """The plan of a revision by its number."""
    return from_json(_row(connection, number).plan.encode())


def kept(store: Store, number: int) -> dict[str, Any]:
    """One revision with its document and its proof."""
    row = store.ask(_row, number)
    return {**_revision(row), "text": row.text, "files": json.loads(row.files), "proof": json.loads(row.proof)}


def _row(connection: Connection, number: int) -> Row[Any]:
    row = connection.execute(select(REVISION).where(REVISION.c.number == min(number, NUMBER_MAX))).one_or_none()
    if row is None:
        raise CallerFault("no-revision", f"there is no revision number {number}", hint="see `ostiary policy list`")
    return row


def _revision(row: Row[Any]) -> dict[str, Any]:
    told = {"number": row.number, "revision": row.revision, "file": row.file, "who": row.actor}
    return {**told, "when": stamp(from_us(row.at_us)), "why": row.reason, "approvals": json.loads(row.approvals)}


def _proposal(found: Proposal) -> dict[str, Any]:
    told = {"number": found.id, "revision": found.content["revision"], "file": found.content["file"]}
    return {**told, **about(found)}


def refuse_reason(reason: str) -> None:
    """Raises where nobody could learn from it later why this was done."""
    if not 0 < len(reason.strip()) <= REASON_MAX_CHARS:
        told = f"it needs a reason of at most {REASON_MAX_CHARS} characters"
        raise OperatorFault("reason", told, hint='--reason "why, in a few words"')
    refuse_unfit(reason)


def propose(change: Change, asked: Proposal) -> Proposal:
    """Keeps it; its id is a hash of all of it. What is asked for a second time waits already."""
    content, opened = json.dumps(asked.content), (PROPOSAL.c.kind == asked.kind, PROPOSAL.c.state == State.OPEN)
    same = (PROPOSAL.c.actor == asked.actor, PROPOSAL.c.reason == asked.reason, PROPOSAL.c.content == content)
    for one in _found(change.connection, *opened, *same):
        return one
    waiting = list(change.connection.execute(select(PROPOSAL.c.actor).where(*opened)).scalars())
    if len(waiting) >= OPEN_MAX or waiting.count(asked.actor) >= OPEN_OF_ONE_MAX:
        told = f"{len(waiting)} proposals are waiting already, {waiting.count(asked.actor)} of them yours"
        raise CallerFault("too-many-proposals", told, hint="approve or reject some")
    made = replace(asked, id=content_hash(msgspec.json.encode(asked, order="deterministic")))
    row = {"id": made.id, "kind": made.kind, "actor": made.actor, "reason": made.reason, "at_us": to_us(made.at)}
    of = {"principal": made.content.get("principal", ""), "role": made.content.get("role", ""), "until_s": 0}
    change.connection.execute(insert(PROPOSAL).values(**row, **of, content=content, approvals="[]", state=State.OPEN))
    note_act(change, made, "propose", made.reason)
    return made


def found(connection: Connection, kind: Kind, *states: State) -> list[Proposal]:
    """Those in one of these states, the oldest first."""
    return _found(connection, PROPOSAL.c.kind == kind, PROPOSAL.c.state.in_(states or [State.OPEN]))


def _found(connection: Connection, *which: ColumnElement[bool]) -> list[Proposal]:
    chosen = select(PROPOSAL).where(*which).order_by(PROPOSAL.c.at_us)
    return [
        Proposal(
            id=row.id, kind=Kind(row.kind), actor=row.actor, reason=row.reason, at=from_us(row.at_us), until_s=row.until_s,
            content=json.loads(row.content), approvals=tuple(json.loads(row.approvals)), state=State(row.state),
        )
        for row in connection.execute(chosen)
    ]  # fmt: skip


def asked(store: Store, kind: Kind, identity: str, *states: State) -> Proposal:
    """The one with this id, in one of these states; without any, an open one."""
    which = (PROPOSAL.c.kind == kind, PROPOSAL.c.state.in_(states or [State.OPEN]), PROPOSAL.c.id == identity)
    if not (known := store.ask(_found, *which)):
        raise _no_proposal(kind, identity, *(states or [State.OPEN]))
    return known[0]


def _no_proposal(kind: Kind, identity: str, *states: State) -> CallerFault:
    told = f"there is no {kind} proposal {identity} that is {' or '.join(states)}"
    return CallerFault("no-proposal", told, hint=f"see `ostiary {kind.listed}`")


def missing(proposal: Proposal, needed: Approvals, who: Administrators) -> dict[str, Any]:
    """How many more have to say yes by what is `needed`, and who may.

    One more where a provider asks: whoever mapped its claim to the role would be alone in saying yes.
    """
    needs = proposal.kind.needs(needed) + proposal.actor.startswith("provider:")
    left = max(0, needs - len(who.approvers.intersection(proposal.approvals)))
    return {"missing": left, "approvers": sorted(who.approvers - {proposal.actor, *proposal.approvals}) if left else []}


def about(proposal: Proposal) -> dict[str, Any]:
    """Who asked for it, when and why, and who else said yes: as it is shown."""
    told = {"who": proposal.actor, "when": stamp(proposal.at), "why": proposal.reason}
    return {**told, "approvals": [*proposal.approvals]}


def approve(change: Change, proposal: Proposal, who: Administrators) -> Proposal:
    """With the actor among those who said yes: somebody else than who asked, each once, and only who is asked still."""
    refuse_own(change.actor, proposal, who)
    counting = [one for one in proposal.approvals if one in who.approvers and one != change.actor]
    after = replace(proposal, approvals=(*counting, change.actor))
    note_act(change, after, "approve", approvals=json.dumps(after.approvals))
    return after


def refuse_own(actor: str, proposal: Proposal, who: Administrators) -> None:
    """Raises where this one's yes would not count."""
    who.refuse_silent(actor)
    if actor == proposal.actor:
        told = f"{actor} asked for it: somebody else must approve it"
        raise OperatorFault("own-proposal", told, hint="ask a second person; `reject` takes it back")


def close(change: Change, proposal: Proposal, state: State, reason: str = "") -> None:
    """It waits no longer."""
    note_act(change, proposal, state, reason, state=state)


def note_act(change: Change, proposal: Proposal, act: str, reason: str = "", **values: Any) -> None:
    """What was done to it, with the `values` that its row has from now on; raises where another node has ended it meanwhile."""
    living = (PROPOSAL.c.id == proposal.id, PROPOSAL.c.state.in_([State.OPEN, State.BEGUN]))
    if values and not change.connection.execute(update(PROPOSAL).where(*living).values(**values)).rowcount:
        raise _no_proposal(proposal.kind, proposal.id, State.OPEN)
    shown = {name: value for name, value in proposal.content.items() if name not in LONG}
    shown |= {"until": until(proposal)} if proposal.until_s else {}
    what, after = shown.get("principal", proposal.id), {"proposal": proposal.id, **shown}
    change.note(f"{proposal.kind}.{act}", what, before={"by": proposal.actor}, after=after, reason=reason)


def in_words(emergency: Proposal) -> str:
    """Who holds what, and until when."""
    return f"{emergency.content['principal']} has role {emergency.content['role']} until {until(emergency)}"


def given(emergency: Proposal) -> str:
    """The same, with who gave it and why."""
    return f"{in_words(emergency)}, given by {emergency.actor}: {emergency.reason}"


def until(emergency: Proposal) -> str:
    return stamp(datetime.fromtimestamp(emergency.until_s, UTC))
