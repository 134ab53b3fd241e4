"""`ostiary policy who-can`, `what-can`, `report`: what the policy means, and for whom."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import click

from ostiary.cli.shape import MOMENT, Command, home, noted, show, table

COLUMNS: Final = ("role", "permission", "when", "line")


def _situation(command: Callable[..., None]) -> Callable[..., None]:
    """The options that say in what situation."""
    for option in (
        click.option("--outside", default="", metavar="CONTEXT", help="Only where this context does not hold."),
        click.option("--from", "source", default="", metavar="ADDRESS", help="Only from this address."),
        click.option("--at", type=MOMENT, help="Only at this time, with its zone or in local time."),
    ):
        command = option(command)
    return command


@click.command("who-can", cls=Command)
@click.argument("operation")
@_situation
def who_can(operation: str, **asked: Any) -> None:
    """Who may do OPERATION (erp/sale.sale:write) by the policy in force: roles, lines, contexts, and who holds them.

    Without an action (erp/account.payment:execute), or of a family (erp/sale.*:write), also who may do only a part of it.
    """
    from ostiary.control import questions

    rows = questions.who_can(home(), operation, **_aware(asked))
    _answer(rows, (*COLUMNS, "holders"), "Nobody can.", operation)


@click.command("what-can", cls=Command)
@click.argument("who")
@click.option("--beyond", default="", metavar="ROLE", help="Only what this role may not.")
@_situation
def what_can(who: str, **asked: Any) -> None:
    """What WHO (a role, user:anna, client:shop) may do by the policy in force."""
    from ostiary.control import questions

    rows = questions.what_can(home(), who, **_aware(asked))
    _answer(rows, COLUMNS, "Nothing.")


def _answer(rows: list[dict[str, Any]], columns: tuple[str, ...], empty: str, operation: str = "") -> None:
    from ostiary.control import questions

    show(rows, table(map(_row, rows), columns, empty=empty) + noted(questions.caveats(home(), operation)))


def _aware(asked: dict[str, Any]) -> dict[str, Any]:
    at: datetime | None = asked["at"]
    return {**asked, "at": at and at.astimezone()}


def _row(way: dict[str, Any]) -> dict[str, Any]:
    until = f", until {way['until']}" if way.get("until") else ""
    return {**way, "when": f"{way['words']}{until}", "line": f"{way['where']['file']}:{way['where']['line']}"}


@click.command("report", cls=Command)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="The folder to write to.")
def report(out: Path) -> None:
    """Writes who may do what, by role, object and principal, as pages and as tables (CSV), of this moment."""
    from ostiary.control.questions import caveats, write

    files = write(home(), out)
    show({"files": files}, "\n".join(files) + noted(caveats(home())))
