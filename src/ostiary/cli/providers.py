"""`ostiary provider`: the companies' own sign-ins whose word counts here; all of its commands are in acts.toml."""

import click

from ostiary.cli.acts import with_acts
from ostiary.cli.shape import Group


@click.group(cls=Group)
def provider() -> None:
    """OpenID Connect providers (Entra ID, Keycloak, Okta) by whose word people sign in."""


with_acts(provider)
