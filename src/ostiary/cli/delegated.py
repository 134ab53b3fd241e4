"""`ostiary registration`, `ostiary provisioning`: what an administrator leaves to others, and how far."""

from typing import Any

import click

from ostiary.cli.acts import with_acts
from ostiary.cli.admin import ask, done
from ostiary.cli.shape import Group, home, show


@click.group(cls=Group)
def registration() -> None:
    """Clients that register themselves (RFC 7591), as far as you let them; nobody does until you open one."""


with_acts(registration)


@registration.command("open")
@click.argument("name")
@click.option("--scope", "scopes", multiple=True, required=True, help="What they may ask for at most; may be repeated.")
@click.option("--uses", default=1, show_default=True, help="How many tokens: each lets one client register.")
@click.option("--days", default=7, show_default=True, help="For how long they may.")
@click.option(
    "--profile", type=click.Choice(["oauth21", "fapi2"]), default="oauth21", help="How strict we are with them."
)
@click.option("--client-days", default=365, show_default=True, help="How long each client lasts.")
def open_registration(name: str, scopes: tuple[str, ...], **limits: Any) -> None:
    """Prints initial access tokens, which are kept nowhere: whoever has one registers one client."""
    made = ask(home(), "registration.open", name=name, scopes=list(scopes), **limits)
    tokens = "\n".join(made["tokens"])
    show(made, f"{tokens}\nShown only now, each for one client, which registers at {made['endpoint']}")


@click.group(cls=Group)
def provisioning() -> None:
    """A company's directory (Entra ID, Okta) that makes and disables users here, by SCIM 2.0."""


with_acts(provisioning)


@provisioning.command("allow")
@click.argument("client_id", metavar="CLIENT")
@click.option("--role", "roles", multiple=True, help="A role that it may give, or ROLE=GROUP as it is called there.")
@click.option("--takes-over", multiple=True, help="A user that it keeps from now on: LOGIN, or LOGIN=USERNAME.")
def allow(client_id: str, roles: tuple[str, ...], takes_over: tuple[str, ...]) -> None:
    """Lets a client keep users, and give exactly these roles; others' users it does not see."""
    given = {"client_id": client_id.removeprefix("client:"), "roles": list(roles), "takes_over": list(takes_over)}
    done("provisioning.allow", f"{given['client_id']} provisions at /identity/scim/v2.", **given)
