"""`ostiary review`: whether everybody still needs the roles that he holds."""

from collections.abc import Mapping
from typing import Any

import click

from ostiary.cli.acts import with_acts
from ostiary.cli.admin import ask, look, waits
from ostiary.cli.shape import Group, home, noted, show, table
from ostiary.foundation.errors import counted, harmless


@click.group(cls=Group)
def review() -> None:
    """Who holds which role, whether it was used, and whether somebody looked at it in the last quarter."""


with_acts(review)


@review.command("list")
@click.option("--due", is_flag=True, help="Only what nobody has looked at for a quarter.")
def list_items(*, due: bool) -> None:
    """Every role that somebody holds, what was not looked at for longest first."""
    from ostiary.control.recorded import PART
    from ostiary.control.review import items

    rows = look(home(), "review.list", items, due=due)
    told = table(rows, ("principal", "role", "used", "last", "looked", "by", "due"), empty="Nothing.")
    partly = dict.fromkeys(row["principal"] for row in rows if not row["whole"])
    show(rows, told + noted([f"of {', '.join(partly)}: {PART}"] if partly else ()))


@review.command("waiting")
def list_waiting() -> None:
    """Roles that somebody asked for, and that others have to say yes to."""
    rows = ask(home(), "roles.list")
    show(rows, "\n".join(map(_asked, rows)) or "Nothing waits.")


def _asked(one: Mapping[str, Any]) -> str:
    """In full, however much it is: somebody is to say yes to it."""
    gains, before = (", ".join(one[name]) or "nothing" for name in ("gains", "before"))
    lines = (
        f"{one['id']}  {one['principal']} is to gain {gains}",
        f"and then to hold {', '.join(one['roles'])}, instead of {before}",
        f"asked by {one['who']} at {one['when']}: {one['why']}",
        f"approved by {', '.join(one['approvals']) or 'nobody'}; {counted(one['missing'], 'approval')} to come",
    )
    return "\n    ".join(map(harmless, lines))


@review.command("approve")
@click.argument("asked")
def approve(asked: str) -> None:
    """Says yes to roles that somebody else asked for; with the last yes needed they are given."""
    given = ask(home(), "roles.approve", proposal=asked)
    show(given, told_given(given))


def told_given(given: Mapping[str, Any]) -> str:
    """What somebody holds from now on, or on whom that waits."""
    roles = ", ".join(given["roles"]) or "nothing"
    if given["missing"]:
        return f"{given['principal']} is to hold: {roles}; it {waits(given, given['id'], 'review approve')}"
    return f"{given['principal']} now holds: {roles}."
