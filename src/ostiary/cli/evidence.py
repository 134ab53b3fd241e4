"""`ostiary explain`, `event`, `audit`, `backup`, `restore`: what happened, why, and that the record holds.

What is asked of files alone needs no running installation.
"""

from datetime import datetime
from pathlib import Path
from typing import Any

import click

from ostiary.cli.admin import look
from ostiary.cli.shape import LIMIT, MOMENT, Command, Group, at_home, home, noted, pasteable, show, show_table, table


@click.command(cls=Command)
@click.argument("decision")
def explain(decision: str) -> None:
    """Why the request with this decision id was decided so, and what would have changed it."""
    from ostiary.control import evidence

    told = look(home(), "explain", evidence.explain, decision=decision)
    show(told, at_home(told["text"]))


@click.group(cls=Group)
def event() -> None:
    """What happened."""


@event.command("list")
@click.option("--principal", default="", help="Of this caller: `client:shop`, or `shop` where only one is called so.")
@click.option("--reason", default="", help="Decided for this reason: `role`, `context`, `allowed`, ...")
@click.option("--operation", default="", help="Whose operation begins so: `erp/account.move`.")
@click.option("--since", type=MOMENT, help="Not before this: as an event shows it, or in local time.")
@click.option("--break-glass", is_flag=True, help="Done with a role that somebody has for a time, in an emergency.")
@LIMIT
def list_events(limit: int, since: datetime | None, **wanted: Any) -> None:
    """Requests, the newest first."""
    from ostiary.control import evidence
    from ostiary.event.search import Filter

    asked = Filter(since=since and since.astimezone(), **wanted)
    rows = evidence.list_events(home(), asked, limit=limit)
    columns = ("at", "status", "reason", "who", "what", "rule", "decision")
    empty = "Nothing happened yet." if asked == Filter() else "No request matches."
    show(rows, table(map(_line, rows), columns, empty=empty))


@event.command("usage")
@click.option("--days", type=click.IntRange(4, 366), default=30, show_default=True, help="Of use to look at.")
def usage(days: int) -> None:
    """What each caller does as a rule, and what of the last day is unlike it: first seen, or far more than ever."""
    from ostiary.control.evidence import usage
    from ostiary.control.recorded import PART

    told = usage(home(), days)
    strange = table(told["unusual"], ("principal", "what", "value", "times", "decision"), empty="nothing")
    columns = ("principal", "days", "calls", "busiest", "last", "operations", "networks")
    usual = table(told["usual"], columns, empty="Nothing was allowed yet.")
    left = "" if told["whole"] else f"\nnote: {PART}"
    show(told, f"Unusual in the last day:\n{strange}\n\nAs a rule, before it:\n{usual}{left}")


def _line(row: dict[str, Any]) -> dict[str, Any]:
    """Of a caller and an operation that are not known, what is: the address, the method and the path."""
    who = row["source"] if row["subject"] == "-" else row["subject"]
    who += " (break-glass)" if row["break_glass"] else ""
    what = f"{row['method']} {row['path']}" if row["operation"] == "-" else row["operation"]
    return {**row, "who": who, "what": what}


@click.group(cls=Group)
def audit() -> None:
    """Who changed what, and that nobody rewrote it."""


@audit.command("list")
@LIMIT
@click.option("--action", default="", help="Only this action: `policy.apply`.")
def list_entries(limit: int, action: str) -> None:
    """Administrative acts, the newest first."""
    from ostiary.control import evidence

    rows = look(home(), "audit.list", evidence.list_entries, action=action, limit=limit)
    empty = "No entry matches." if action else "Nothing was changed yet."
    show_table(rows, ("index", "at", "actor", "action", "object", "reason"), empty=empty)


@audit.command("verify")
def verify() -> None:
    """Recomputes the whole log and holds it against the signed head; needs no running installation."""
    from ostiary.control.evidence import verify_audit

    told = verify_audit(home())
    show(told, told["text"])


@click.command(cls=Command)
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
def backup(out: Path) -> None:
    """Writes one file (0600) with database, keys, policy and audit head. It holds keys: keep it safe."""
    from ostiary.control.evidence import back_up

    told = back_up(home(), out.absolute())
    kept = f"{told['file']}: {told['bytes']} bytes. It holds the keys: keep it as safe as them."
    show(told, kept + noted(told["warnings"]))


@click.command(cls=Command)
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--store", default="", help="A SQLAlchemy URL of an empty database; without it, SQLite in --home.")
def restore(file: Path, store: str) -> None:
    """Makes the installation of a backup in an empty --home; events are not in it."""
    from ostiary.control.evidence import restore_from

    told = restore_from(home(), file.absolute(), store)
    up, rotate = (pasteable(command, home().root) for command in ("up", "token rotate --compromised"))
    lines = (
        f"restored into {home().root}, without the events: they stay in the events folder of the other one.",
        "What was taken back after the backup is valid again: tokens, secrets, passwords, roles. Next:",
        f"  {up}",
        "  # refuses every token that is out",
        f"  {rotate}",
    )
    show(told, "\n".join(lines))
