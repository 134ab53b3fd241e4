"""`ostiary device`: the devices that contexts of the policy ask for."""

import click

from ostiary.cli.acts import with_acts
from ostiary.cli.admin import ask
from ostiary.cli.shape import Group, home, show


@click.group(cls=Group)
def device() -> None:
    """The devices that contexts of the policy ask for."""


with_acts(device)


@device.command("add")
@click.argument("name")
@click.option("--for", "principal", default="", help="Only this one's calls: `user:anna`. Without it, everybody's.")
@click.option("--days", default=90, show_default=True, help="How long its certificate is good for.")
def add(name: str, principal: str, days: int) -> None:
    """Registers a device; prints its certificate, and its key, which is kept nowhere."""
    made = ask(home(), "device.add", name=name, principal=principal, days=days)
    show(made, (made["certificate"] + made["key"]).rstrip())
