"""`ostiary break-glass`: a role for a time, in an emergency."""

from typing import Any

import click

from ostiary.cli.acts import with_acts
from ostiary.cli.admin import ask, look, waits
from ostiary.cli.shape import Group, home, show, show_table


@click.group("break-glass", cls=Group)
def break_glass() -> None:
    """One role more for a time, in an emergency: with a reason, and loud."""


with_acts(break_glass)


@break_glass.command("start")
@click.argument("principal")
@click.argument("role")
@click.option("--minutes", type=click.IntRange(min=1), default=60, show_default=True, help="How long; 240 at most.")
@click.option("--reason", required=True, help="Why; kept, and told in the alert.")
def start(principal: str, role: str, minutes: int, reason: str) -> None:
    """Gives it to user:NAME or client:NAME; its tokens are renewed, and none of the new ones outlives the role."""
    asked = ask(home(), "break-glass.start", principal=principal, role=role, minutes=minutes, reason=reason)
    show(asked, _begun(asked))


@break_glass.command("approve")
@click.argument("emergency")
def approve(emergency: str) -> None:
    """Says yes to what somebody else asked for; with the last yes needed it begins."""
    approved = ask(home(), "break-glass.approve", proposal=emergency)
    show(approved, _begun(approved))


@break_glass.command("list")
def list_emergencies() -> None:
    """Every one that there was, the newest first."""
    from ostiary.control.break_glass import list_emergencies as listed

    columns = ("id", "state", "principal", "role", "minutes", "when", "who", "approvals", "why")
    show_table(look(home(), "break-glass.list", listed), columns, empty="There was no emergency.")


def _begun(asked: dict[str, Any]) -> str:
    left = f"; it {waits(asked, asked['id'], 'break-glass approve')}" if asked["missing"] else ""
    return f"{asked['text']}{left}"
