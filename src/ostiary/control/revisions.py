"""Revisions of the policy: recorded with their author in the transaction of their audit entry, found again, and shown."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from msgspec import Struct, convert, to_builtins
from sqlalchemy import Column, Connection, Row, insert, select, update

from ostiary.audit.log import Change, entries
from ostiary.control import proposals
from ostiary.control.documents import read_document
from ostiary.control.holders import holders_of
from ostiary.control.installation import opened
from ostiary.control.proposals import Kind, Proposal
from ostiary.event.record import stamp
from ostiary.foundation.clock import from_us, to_us
from ostiary.foundation.errors import CallerFault, OperatorFault, SystemFault
from ostiary.foundation.files import write_atomically
from ostiary.foundation.home import Home
from ostiary.plan.model import Plan, from_json, to_json
from ostiary.policy.document import Document, plain
from ostiary.prove.questions import diff
from ostiary.prove.rules import few
from ostiary.store.database import Store
from ostiary.store.plans import keep_plan, put_in_force, read_plan, revision_in_force
from ostiary.store.tables.control import FAILED_MAX_CHARS, REVISION

APPLY: Final = "policy.apply"
ROLLED_BACK: Final = "policy.rolled-back"
SHADOW: Final = "policy.shadow"
SHADOW_END: Final = "policy.shadow-end"
NUMBER_MAX: Final = 2**31 - 1  # of a PostgreSQL integer
_SHORT: Final = [column for column in REVISION.c if column.name not in {"text", "files", "plan", "proof"}]


class Act(Struct, frozen=True, kw_only=True):
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
    change.connection.execute(
        update(REVISION).where(REVISION.c.number == number).values(failed=code[:FAILED_MAX_CHARS])
    )
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
        waiting = [_proposal(one) for one in reversed(proposals.found(connection, Kind.POLICY))]
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
        found = proposals.asked(on.store, Kind.POLICY, which)
    return {**_proposal(found), **{name: found.content[name] for name in ("text", "files", "changes")}}


def write_policy(folder: Path, name: str, text: str, files: Mapping[str, str]) -> list[str]:
    """Writes the policy under this name, and its files, into a new folder; raises where there is one, or a file leads astray."""
    if folder.exists():
        raise OperatorFault("folder-exists", f"{folder} exists already", hint="name a new folder")
    if astray := [one for one in files if one == name or not plain(one)]:
        told = f"a file of the policy would lie in another's place, or leads out of {folder}: {few(astray)}"
        raise OperatorFault(
            "file-astray", told, hint="`ostiary policy show --file NAME` shows it; trust it in nothing else"
        )
    for path, one in {name: text, **files}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / path, one.encode())
    return [str(folder.resolve() / one) for one in (name, *files)]


def compare(home: Home, first: str, second: str) -> list[dict[str, Any]]:
    """What the second lets people do that the first did not, and the other way round."""
    with opened(home) as on, on.store.read() as connection:
        old, new = (_plan_named(on.store, connection, which) for which in (first, second))
        return [to_builtins(change) for change in diff(old, new, holders_of(connection))]


def _plan_named(store: Store, connection: Connection, which: str) -> Plan:
    """Of a revision, by its number or itself, or of a proposal, by its id."""
    if which.isdecimal():
        return plan_kept(connection, int(which[:20]))
    if (plan := plan_of(store, which)) is not None:
        return plan
    asked = proposals.asked(store, Kind.POLICY, which)
    return read_document(convert(asked.content, Document))[1]


def plan_kept(connection: Connection, number: int) -> Plan:
    """The plan of a revision by its number."""
    return from_json(_row(connection, number).plan.encode())


def kept(store: Store, number: int) -> dict[str, Any]:
    """One revision with its document and its proof."""
    with store.read() as connection:
        row = _row(connection, number)
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
    return {**told, **proposals.about(found)}
