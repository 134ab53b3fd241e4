"""`ostiary client`, `ostiary user`, `ostiary token`: who calls, what they hold, and taking it back."""

import shlex
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from ostiary.cli.acts import with_acts
from ostiary.cli.admin import ask, done
from ostiary.cli.review import told_given
from ostiary.cli.shape import Group, home, noted, show, words
from ostiary.identity.registration import CHOICES, DAYS, DAYS_MAX

Wrapped = TypeVar("Wrapped", bound=Callable[..., Any])
ROLES = click.option("--role", "roles", multiple=True, help="A role of the policy; may be repeated.")
PERSON = click.option("--person", default="", help="The person behind it, where that is a user: `user:anna`.")
PASSWORD_FILE = click.option(
    "--password-file", type=click.File("r"), help="Read the password from this file, or - for standard input."
)


def _name(kind: str, called: str) -> Callable[[Wrapped], Wrapped]:
    """The argument that names a user or a client, with or without its prefix."""
    return click.argument(called, callback=lambda _, __, given: given.removeprefix(f"{kind}:"))


CLIENT_ID, LOGIN = _name("client", "client_id"), _name("user", "login")


@click.group(cls=Group)
def client() -> None:
    """The machines that call, and the applications people sign in with."""


def _proves(command: Wrapped) -> Wrapped:
    """How a client proves who it is, and what its tokens are bound to."""
    for option in reversed((
        click.option("--auth", type=click.Choice(CHOICES["auth"]), help="How it proves who it is; client_secret unless said."),
        click.option("--public", "auth", flag_value="none", help="It can keep no secret: PKCE alone."),
        click.option("--keys", "jwks", type=click.File("r"), help="Its public keys (JWKS), where it proves itself by one."),
        click.option("--exchange", multiple=True, help="A client whose tokens it may exchange for its own; may be repeated."),
        click.option("--profile", type=click.Choice(CHOICES["profile"]), help="How strict we are with it; oauth21 unless said."),
        click.option("--days", type=int, help=f"For how many days from now it lasts; {DAYS} unless said, {DAYS_MAX} at most."),
        click.option("--backchannel-logout-uri", help="Where it is told that a session has ended (https)."),
        click.option("--bound", type=click.Choice(CHOICES["bound"][1:]), help="Only who holds its key can use its tokens."),
    )):  # fmt: skip
        command = option(command)
    return command


@client.command("add")
@CLIENT_ID
@click.option("--name", default="", help="What it is called on the sign-in page and in lists.")
@ROLES
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    help="Its tokens are limited to this, e.g. `erp/party.party:read`; may be repeated. Without one, to what roles grant.",
)
@click.option("--redirect", "redirects", multiple=True, help="An exact redirect address, where users sign in with it.")
@_proves
@PERSON
def add_client(client_id: str, **parameters: Any) -> None:
    """Registers a client; its secret is shown once."""
    made = ask(home(), "client.add", client_id=client_id, **_lists(parameters))
    show(made, f"client_id: {client_id}\n{_given(made)}{noted(made['warnings'])}")


@client.command("change")
@CLIENT_ID
@click.option("--name", help="What it is called on the sign-in page and in lists.")
@click.option("--scope", "scopes", multiple=True, help="Exactly these from now on; '' for what roles grant.")
@click.option("--redirect", "redirects", multiple=True, help="Exactly these from now on; '' for none.")
@click.option("--person", help="Who answers for it from now on: `user:anna`.")
@_proves
def change_client(client_id: str, **parameters: Any) -> None:
    """Changes what is named; but for a new name, tokens already out are refused at once."""
    told = {name: value for name, value in _lists(parameters).items() if value != []}
    if not told:
        raise click.UsageError("say what to change")
    told |= {name: [] for name, value in told.items() if value == [""]}
    made = ask(home(), "client.change", client_id=client_id, **told)
    show(made, _facts({name: value for name, value in made.items() if name != "warnings"}) + noted(made["warnings"]))


@client.command("rotate")
@CLIENT_ID
def rotate_client(client_id: str) -> None:
    """Gives a second secret; the one before the last stops working."""
    made = ask(home(), "client.rotate", client_id=client_id)
    show(made, _given(made))


def _given(made: dict[str, Any]) -> str:
    """Its secret, and how it gets a token: without the secret in the line, that no history and no list keeps it."""
    if "client_secret" not in made:
        found = f"{made['issuer']}/.well-known/openid-configuration"
        return f"It is public: it has no secret. Where its users sign in, its application learns at {found}"
    curl = f"curl --http1.1 --cacert {shlex.quote(str(home().keys / 'ca.crt'))} -u {made['client_id']}"
    line = f"{curl} -d grant_type=client_credentials {made['issuer']}/token"
    return (
        f"client_secret: {made['client_secret']}\nIt is shown only now. For a token; it asks for the secret:\n  {line}"
    )


@client.command("certificate")
@CLIENT_ID
@click.option("--days", default=90, show_default=True, help="How long it is good for.")
def issue_certificate(client_id: str, days: int) -> None:
    """Prints a certificate for TLS, and its key, which is kept nowhere."""
    made = ask(home(), "client.certificate", client_id=client_id, days=days)
    show(made, (made["certificate"] + made["key"]).rstrip())


@click.group(cls=Group)
def user() -> None:
    """Those who sign in."""


@user.command("add")
@LOGIN
@click.option("--name", default="", help="The name in full.")
@ROLES
@PERSON
@PASSWORD_FILE
def add_user(login: str, password_file: Any, **parameters: Any) -> None:
    """Makes a user; asks for the password, or reads it from a file."""
    password = password_from(password_file, "Password")
    done("user.add", f"user:{login} was made.", login=login, password=password, **_lists(parameters))


@user.command("forget-factors")
@LOGIN
def forget_factors(login: str) -> None:
    """Lets one in by the password alone, whose app and recovery codes are lost; sessions and tokens end."""
    done("user.forget-factors", f"user:{login} signs in by the password alone.", login=login)


@user.command("password")
@LOGIN
@PASSWORD_FILE
def set_password(login: str, password_file: Any) -> None:
    """Sets a new password and ends the sessions.

    Whom wrong passwords had locked out may sign in at once.
    """
    password = password_from(password_file, "New password")
    done("user.password", f"user:{login} has a new password.", login=login, password=password)


def _shared(group: click.Group, kind: str) -> None:
    """The commands that users and clients both have."""
    named = _name(kind, "name")

    @group.command("show")
    @named
    def show_one(name: str) -> None:
        """All that is known of it, but for its secrets."""
        one = ask(home(), "principal.show", principal=f"{kind}:{name}")
        show(one, _facts(one))

    @group.command("remove")
    @named
    @click.option("--yes", is_flag=True, help="Do not ask.")
    def remove(name: str, *, yes: bool) -> None:
        """Takes all access away at once, and forgets it; the audit log does not."""
        known = ask(home(), "principal.show", principal=f"{kind}:{name}")
        if not yes:
            click.confirm(f"It can't be undone; `disable` can. Remove {known['id']}?", abort=True)
        done("principal.remove", f"{known['id']} is removed.", principal=known["id"])

    @group.command("roles")
    @named
    @click.argument("roles", nargs=-1)
    @click.option("--none", is_flag=True, help="Takes every role away.")
    @click.option("--reason", default="", help="Why; needed where others have to say yes.")
    def set_roles(name: str, roles: tuple[str, ...], reason: str, *, none: bool) -> None:
        """Sets the roles to exactly these; tokens already out are refused at once. Without any, tells them."""
        _set_or_tell(f"{kind}:{name}", list(roles), reason, none=none)

    @group.command("disable")
    @named
    def disable(name: str) -> None:
        """Takes all access away at once."""
        done("principal.disable", f"{kind}:{name} is disabled.", principal=f"{kind}:{name}")

    @group.command("enable")
    @named
    def enable(name: str) -> None:
        """Gives it back; also lets in whom wrong passwords keep out."""
        done("principal.enable", f"{kind}:{name} is enabled.", principal=f"{kind}:{name}")

    @group.command("account")
    @named
    @click.option("--system", required=True, help="The system's name in the policy.")
    @click.option("--login", help="The login there.")
    @click.option("--remove", is_flag=True, help="The calls arrive as nobody there from now on: they are refused.")
    @PASSWORD_FILE
    def set_account(name: str, system: str, login: str | None, password_file: Any, *, remove: bool) -> None:
        """Says as which ERP user the calls arrive there; the password is kept sealed."""
        if remove == bool(login):
            raise click.UsageError("name one: --login or --remove")
        if remove:
            told = f"{kind}:{name} has no account in {system} any more."
            done("account.remove", told, principal=f"{kind}:{name}", system=system)
            return
        password = password_from(password_file, f"Password of {login} in {system}")
        whose = {"principal": f"{kind}:{name}", "system": system, "login": login}
        done("account.set", f"{kind}:{name} acts as {login} in {system}.", **whose, password=password)


def _set_or_tell(principal: str, roles: list[str], reason: str, *, none: bool) -> None:
    if roles and none:
        raise click.UsageError("name roles, or --none: not both")
    if roles or none:
        given = ask(home(), "principal.roles", principal=principal, roles=roles, reason=reason)
        show(given, told_given({"principal": principal, "roles": roles, **given}))
        return
    held = ask(home(), "principal.show", principal=principal)["roles"]
    show({"principal": principal, "roles": held}, f"{principal} holds: {', '.join(held) or 'nothing'}.")


for _group in (client, user):
    with_acts(_group)
    _shared(_group, str(_group.name))


@click.group(cls=Group)
def token() -> None:
    """Tokens: they are taken back here, and refused at the gate at once."""


@token.command("revoke")
@click.option("--principal", default="", help="Every token of `user:anna` or `client:shop`.")
@click.option("--grant", default="", help="Every token of one sign-in (the `grant` of an event).")
@click.option("--reason", default="", help="Kept in the audit log.")
def revoke(principal: str, grant: str, reason: str) -> None:
    """Revokes by principal or sign-in; a token's holder revokes it at /identity/revoke."""
    if bool(principal) == bool(grant):
        raise click.UsageError("name one: --principal or --grant")
    told = f"every token of {principal or f'grant {grant}'} that was given until now is refused"
    done("token.revoke", told, principal=principal, grant=grant, reason=reason)


@token.command("rotate")
@click.option("--compromised", is_flag=True, help="The keys are in wrong hands: every token of theirs is refused.")
@click.option("--reason", default="", help="Kept in the audit log.")
def rotate_keys(*, compromised: bool, reason: str) -> None:
    """Signs tokens with new keys from now on."""
    new = ask(home(), "key.rotate", compromised=compromised, reason=reason)
    told = "every token that was given until now is refused" if compromised else "older tokens are good until they end"
    show(new, f"access tokens are signed with {new['signs']['access']} now; {told}")


def password_from(file: Any, prompt: str) -> str:
    """What the file holds, or what is typed at a terminal: twice, and not shown."""
    if file is not None:
        return str(file.read()).rstrip("\n")
    if not sys.stdin.isatty():
        raise click.UsageError("no terminal to ask for the password at: name --password-file FILE, or - to pipe it in")
    return str(click.prompt(prompt, hide_input=True, confirmation_prompt=True))


def _facts(one: dict[str, Any]) -> str:
    """A line for each fact."""
    width = max(10, *map(len, one))
    return "\n".join(f"{name:{width}} {words(value) or '-'}" for name, value in one.items())


def _lists(parameters: dict[str, Any]) -> dict[str, Any]:
    """What was said, as an operation takes it."""
    told = {name: value.read() if hasattr(value, "read") else value for name, value in parameters.items()}
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in told.items() if value is not None
    }
