"""The plans of a home, one file for each revision, and the name of the one in force: read and written here alone."""

import os
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from ostiary.foundation.errors import SystemFault, plainly
from ostiary.foundation.home import Home, write_atomically
from ostiary.plan.model import Plan, from_json, to_json

CURRENT: Final = "current"
DRAFT: Final = "draft"


def revision_in_force(home: Home) -> str:
    """The name of the plan in force; "" where there is none yet."""
    return _named(home, CURRENT)


def draft(home: Home) -> Plan | None:
    """The plan that is asked beside the one in force; None where there is none, or where it can't be read: it decides nothing."""
    with suppress(SystemFault):
        return read_plan(home, _named(home, DRAFT))
    return None


def draft_since(home: Home) -> datetime | None:
    """When the draft was put beside the plan in force."""
    with suppress(FileNotFoundError):
        return datetime.fromtimestamp((home.plans / DRAFT).stat().st_mtime, UTC)
    return None


def put_beside(home: Home, plan: Plan | None, since: datetime | None = None) -> None:
    """Makes `plan` the draft, from now or since then; None ends it."""
    if plan is None:
        (home.plans / DRAFT).unlink(missing_ok=True)
    else:
        keep_plan(home, plan)
        write_atomically(home.plans / DRAFT, plan.revision.encode())
        if since:
            os.utime(home.plans / DRAFT, (since.timestamp(), since.timestamp()))


def _named(home: Home, name: str) -> str:
    with suppress(FileNotFoundError):
        return (home.plans / name).read_text("ascii").strip()
    return ""


def plan_in_force(home: Home) -> Plan:
    """The plan that gate and guard enforce; raises SystemFault where none can be read."""
    return read_plan(home, revision_in_force(home))


def read_plan(home: Home, revision: str) -> Plan:
    try:
        return from_json((home.plans / f"{revision}.json").read_bytes())
    except (OSError, ValueError) as problem:
        told = f"the plan of revision {revision or '(none)'} can't be read: {plainly(problem)}"
        hint = "the next `ostiary up` writes it again as the store holds it; where that fails, restore a backup"
        raise SystemFault("no-plan", told, hint=hint) from problem


def keep_plan(home: Home, plan: Plan) -> None:
    write_atomically(home.plans / f"{plan.revision}.json", to_json(plan), durable=True)


def put_in_force(home: Home, revision: str) -> None:
    write_atomically(home.plans / CURRENT, revision.encode(), durable=True)
