"""`ostiary explain`, `event`, `audit`, `backup`, `restore`: what happened, why, and that the record holds."""

from pathlib import Path

import click

from ostiary.cli.admin import ask
from ostiary.cli.shape import Command, Group, home, show, table


@click.command(cls=Command)
@click.argument("decision")
def explain(decision: str) -> None:
    """Why the request with this decision id was decided so, and what would have changed it."""
    told = ask(home(), "explain", decision=decision)
    show(told, told["text"])


@click.group(cls=Group)
def event() -> None:
    """What happened."""


@event.command("list")
@click.option("--principal", default="", help="Of this caller: `client:shop`.")
@click.option("--reason", default="", help="Decided for this reason: `role`, `context`, `allowed`, ...")
@click.option("--limit", default=20, show_default=True, help="At most so many, the newest first.")
def list_events(principal: str, reason: str, limit: int) -> None:
    """Requests, the newest first."""
    rows = ask(home(), "event.list", principal=principal, reason=reason, limit=limit)
    columns = ("at", "status", "reason", "subject", "operation", "rule", "decision")
    show(rows, table(rows, columns, empty="Nothing happened yet."))


@click.group(cls=Group)
def audit() -> None:
    """Who changed what, and that nobody rewrote it."""


@audit.command("list")
@click.option("--limit", default=20, show_default=True)
@click.option("--action", default="", help="Only this action: `policy.apply`.")
def list_entries(limit: int, action: str) -> None:
    """Administrative acts, the newest first."""
    rows = ask(home(), "audit.list", limit=limit, action=action)
    show(rows, table(rows, ("index", "at", "actor", "action", "object", "reason"), empty="Nothing was changed yet."))


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
    show(told, f"{told['file']}: {told['bytes']} bytes. It holds the keys: keep it as safe as them.")


@click.command(cls=Command)
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--store", default="", help="A SQLAlchemy URL of an empty database; without it, SQLite in --home.")
def restore(file: Path, store: str) -> None:
    """Makes the installation of a backup in an empty --home."""
    from ostiary.control.evidence import restore_from

    told = restore_from(home(), file.absolute(), store)
    show(told, f"restored into {home().root}; start it with `ostiary up`.")
