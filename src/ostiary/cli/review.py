"""`ostiary review`: whether everybody still needs the roles that he holds."""

from collections.abc import Mapping
from typing import Any

import click

from ostiary.cli.admin import ask, look
from ostiary.cli.shape import Group, at_home, home, show, table
from ostiary.foundation.errors import counted

WHOSE = click.argument("principal")
ROLE = click.argument("role")
WHY = click.option("--reason", required=True, help="Why; kept with it.")


@click.group(cls=Group)
def review() -> None:
    """Who holds which role, whether it was used, and whether somebody looked at it in the last quarter."""


@review.command("list")
@click.option("--due", is_flag=True, help="Only what nobody has looked at for a quarter.")
def list_items(*, due: bool) -> None:
    """Every role that somebody holds, what was not looked at for longest first."""
    from ostiary.control.review import items

    rows = look(home(), "review.list", items, due=due)
    show(rows, table(rows, ("principal", "role", "used", "last", "looked", "by", "due"), empty="Nothing."))


@review.command("waiting")
def list_waiting() -> None:
    """Roles that somebody asked for, and that others have to say yes to."""
    rows = ask(home(), "roles.list")
    columns = ("id", "principal", "before", "roles", "who", "when", "approvals", "missing", "why")
    show(rows, table(rows, columns, empty="Nothing waits."))


@review.command("approve")
@click.argument("asked")
def approve(asked: str) -> None:
    """Says yes to roles that somebody else asked for; with the last yes needed they are given."""
    done = ask(home(), "roles.approve", proposal=asked)
    show(done, told_given(done))


@review.command("reject")
@click.argument("asked")
@click.option("--reason", default="", help="Kept in the audit log.")
def reject(asked: str, reason: str) -> None:
    """Says no to roles that somebody asked for, or takes one's own wish back."""
    show(ask(home(), "roles.reject", proposal=asked, reason=reason), f"{asked} is rejected.")


def told_given(done: Mapping[str, Any]) -> str:
    """What somebody holds from now on, or on whom that waits."""
    roles = ", ".join(done["roles"]) or "nothing"
    if missing := done["missing"]:
        waits = f"it waits for {counted(missing, 'approval')}: `ostiary review approve {done['id']}`"
        return f"{done['principal']} is to hold: {roles}; {at_home(waits)}"
    return f"{done['principal']} now holds: {roles}."


@review.command("keep")
@WHOSE
@ROLE
@WHY
def keep(principal: str, role: str, reason: str) -> None:
    """PRINCIPAL keeps ROLE: recorded with how often it was used."""
    show(ask(home(), "review.keep", principal=principal, role=role, reason=reason), f"{principal} keeps {role}.")


@review.command("remove")
@WHOSE
@ROLE
@WHY
def remove(principal: str, role: str, reason: str) -> None:
    """PRINCIPAL loses ROLE at once: recorded with how often it was used."""
    done = ask(home(), "review.remove", principal=principal, role=role, reason=reason)
    show(done, f"{principal} has no longer {role}; its tokens are refused.")
