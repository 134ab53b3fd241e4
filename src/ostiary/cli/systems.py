"""`ostiary system`: the protected ERPs, and the ERP user by whom the gate itself looks things up."""

from typing import Any

import click

from ostiary.cli.admin import ask
from ostiary.cli.principals import PASSWORD_FILE, password_from
from ostiary.cli.shape import Group, home, show


@click.group(cls=Group)
def system() -> None:
    """The protected ERPs."""


@system.command("account")
@click.argument("name")
@click.option("--login", required=True, help="An ERP user that reads business records and writes nothing.")
@PASSWORD_FILE
def set_account(name: str, login: str, password_file: Any) -> None:
    """Says by which ERP user the gate looks up who made a record; then learns what the ERP offers."""
    password = password_from(password_file, f"Password of {login} in {name}")
    _learned(ask(home(), "system.account", system=name, login=login, password=password), name)


@system.command("learn")
@click.argument("name")
def learn(name: str) -> None:
    """Asks the ERP again what it offers: after an update, or a new module."""
    _learned(ask(home(), "system.learn", system=name), name)


def _learned(told: dict[str, Any], name: str) -> None:
    show(told, f"{name} offers {told['objects']} objects and {told['methods']} methods; all else is denied.")
