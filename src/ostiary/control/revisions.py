"""Revisions of the policy: recorded with their author in the transaction of their audit entry, and found again."""

from typing import Any

from sqlalchemy import insert, select

from ostiary.audit.head import sign_head
from ostiary.audit.log import Entry, append
from ostiary.control.installation import Installation
from ostiary.plan.model import Plan, from_json, to_json
from ostiary.store.tables.control import REVISION


def record(
    on: Installation, actor: str, plan: Plan, text: str, file: str, reason: str, before: str = "", changes: int = 0
) -> None:
    """Who put which revision in force, when and why: kept whole, and in the audit log."""
    entry = Entry(
        at=on.clock.now(),
        actor=actor,
        action="policy.apply",
        object=plan.policy,
        before={"revision": before} if before else {},
        after={"revision": plan.revision, "file": file, "changes": changes},
        reason=reason,
    )
    row: dict[str, Any] = {
        "revision": plan.revision,
        "file": file,
        "text": text,
        "plan": to_json(plan).decode(),
        "actor": actor,
        "reason": reason,
        "at_us": on.now_us(),
    }
    with on.store.begin() as connection:
        connection.execute(insert(REVISION).values(**row))
        append(connection, entry)
    sign_head(on.store, on.home, on.clock.now())


def plan_of(on: Installation, revision: str) -> Plan | None:
    """The plan of a revision, however old."""
    with on.store.read() as connection:
        chosen = select(REVISION.c.plan).where(REVISION.c.revision == revision).limit(1)
        found = connection.execute(chosen).scalar_one_or_none()
    return None if found is None else from_json(found.encode())
