"""Revisions and what waits to become one, as they are shown: from the store alone, nothing has to run."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from msgspec import to_builtins
from sqlalchemy import Connection, Row, select

from ostiary.control import proposals
from ostiary.control.holders import holders_of
from ostiary.control.installation import opened
from ostiary.control.proposals import Kind, Proposal
from ostiary.event.record import stamp
from ostiary.foundation.clock import from_us
from ostiary.foundation.errors import CallerFault, OperatorFault
from ostiary.foundation.files import write_atomically
from ostiary.foundation.home import Home
from ostiary.plan.model import Plan, from_json
from ostiary.prove.difference import diff
from ostiary.store.database import Store
from ostiary.store.plans import revision_in_force
from ostiary.store.tables.control import REVISION

NUMBER_MAX: Final = 2**31 - 1  # of a PostgreSQL integer
_SHORT: Final = [column for column in REVISION.c if column.name not in {"text", "files", "plan", "proof"}]


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


def write_policy(folder: Path, texts: Mapping[str, str]) -> list[str]:
    """Writes the texts into a new folder, each under its name; raises where there is one, or a name leads out of it."""
    paths = {(folder / name).resolve(): text for name, text in texts.items()}
    if folder.exists() or not all(path.is_relative_to(folder.resolve()) for path in paths):
        told = f"{folder} exists already, or a file of the policy leads out of it"
        raise OperatorFault("folder-exists", told, hint="name a new folder")
    for path, text in paths.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text.encode())
    return list(map(str, paths))


def compare(home: Home, first: int, second: int) -> list[dict[str, Any]]:
    """What the second revision lets people do that the first did not, and the other way round."""
    with opened(home) as on, on.store.read() as connection:
        old, new = (plan_kept(connection, number) for number in (first, second))
        return [to_builtins(change) for change in diff(old, new, holders_of(connection))]


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
