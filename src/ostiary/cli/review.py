"""`ostiary review`: whether everybody still needs the roles that he holds."""

import click

from ostiary.cli.admin import ask
from ostiary.cli.shape import Group, home, show, table

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

    rows = items(home(), due=due)
    show(rows, table(rows, ("principal", "role", "used", "last", "looked", "by", "due"), empty="Nothing."))


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
