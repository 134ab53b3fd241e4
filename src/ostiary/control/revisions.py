"""Revisions of the policy: recorded with their author in the transaction of their audit entry, and found again."""

import json
from typing import Any, Final

from msgspec import Struct
from sqlalchemy import Column, Row, insert, select, update

from ostiary.audit.log import Change, entries
from ostiary.foundation.clock import to_us
from ostiary.foundation.errors import SystemFault
from ostiary.foundation.home import Home
from ostiary.plan.model import Plan, from_json, to_json
from ostiary.policy.document import Document
from ostiary.store.database import Store
from ostiary.store.plans import keep_plan, put_in_force, read_plan, revision_in_force
from ostiary.store.tables.control import FAILED_MAX_CHARS, REVISION

APPLY: Final = "policy.apply"
ROLLED_BACK: Final = "policy.rolled-back"
SHADOW: Final = "policy.shadow"
SHADOW_END: Final = "policy.shadow-end"


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
    made = change.connection.execute(
        insert(REVISION).values(
            revision=plan.revision,
            file=act.document.file,
            text=act.document.text,
            files=json.dumps(act.document.files, ensure_ascii=False),
            plan=to_json(plan).decode(),
            actor=act.actor,
            reason=act.reason,
            at_us=to_us(change.now),
            approvals=json.dumps(act.approvals),
            proof=json.dumps(act.proof),
        )
    )
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


def refuse_foreign(store: Store, home: Home) -> None:
    """A store that was emptied, or is another one: an installation that has a policy in force has it recorded."""
    with store.read() as connection:
        known = connection.execute(select(REVISION.c.number).limit(1)).first()
    if known is None and revision_in_force(home):
        raise unrecorded()


def unrecorded() -> SystemFault:
    return SystemFault(
        "policy-unrecorded",
        "the store knows of no policy: it was emptied, or is not the one this installation was made with",
        hint="mend `store` in settings.toml, or restore the last backup with `ostiary restore`; `ostiary backup` and "
        "`restore --store URL` move to another database",
    )


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
