"""Revisions of the policy: recorded with their author in the transaction of their audit entry, and found again."""

from datetime import datetime
from typing import Any, Final

from msgspec import Struct
from sqlalchemy import Column, Connection, insert, select

from ostiary.audit.log import Entry, append
from ostiary.foundation.clock import to_us
from ostiary.plan.model import Plan, from_json, to_json
from ostiary.store.database import Store
from ostiary.store.tables.control import REVISION

APPLY: Final = "policy.apply"
ROLLED_BACK: Final = "policy.rolled-back"


class Act(Struct, frozen=True, kw_only=True):
    """Somebody puts a policy in force. `before` is the revision that it replaces, "" for none."""

    actor: str
    file: str
    text: str
    reason: str
    before: str = ""


def record(connection: Connection, act: Act, plan: Plan, at: datetime, *, changes: int = 0) -> None:
    """Keeps the revision whole, and who put it in force, when and why in the audit log."""
    after = {"revision": plan.revision, "file": act.file, "changes": changes}
    connection.execute(
        insert(REVISION).values(
            revision=plan.revision,
            file=act.file,
            text=act.text,
            plan=to_json(plan).decode(),
            actor=act.actor,
            reason=act.reason,
            at_us=to_us(at),
        )
    )
    append(connection, _entry(act, plan, at, action=APPLY, after=after))


def record_failure(connection: Connection, act: Act, plan: Plan, at: datetime, code: str) -> None:
    """Says that the revision did not come into force; the one before still is."""
    after: dict[str, Any] = {"revision": plan.revision, "failed": code}
    append(connection, _entry(act, plan, at, action=ROLLED_BACK, after=after))


def _entry(act: Act, plan: Plan, at: datetime, *, action: str, after: dict[str, Any]) -> Entry:
    before = {"revision": act.before} if act.before else {}
    return Entry(
        at=at, actor=act.actor, action=action, object=plan.policy, before=before, after=after, reason=act.reason
    )


def plan_of(store: Store, revision: str) -> Plan | None:
    """The plan of a revision, however old."""
    found = _newest(store, revision, REVISION.c.plan)
    return None if found is None else from_json(found.encode())


def text_of(store: Store, revision: str) -> str | None:
    """The document that a revision was last made of."""
    return _newest(store, revision, REVISION.c.text)


def _newest(store: Store, revision: str, what: Column[Any]) -> str | None:
    chosen = select(what).where(REVISION.c.revision == revision).order_by(REVISION.c.number.desc()).limit(1)
    with store.read() as connection:
        return connection.execute(chosen).scalar_one_or_none()
