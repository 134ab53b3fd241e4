"""`ostiary client`, `user`, `review`, `break-glass`, `token`: who calls, what they hold or are to hold, and taking it back."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import click

from ostiary.cli.terminal import ask, at_home, done, home, noted, show, table, typed, waits, words
from ostiary.foundation.api_key import KEY_PREFIX
from ostiary.foundation.errors import counted, harmless


def registered(made: dict[str, Any], *, client_id: str, **said: Any) -> str:
    """A new client."""
    return at_home(f"client_id: {client_id}\n{given(made, **said)}{noted(made['warnings'])}")


def given(
    made: dict[str, Any], auth: str = "", roles: Sequence[str] = (), redirects: Sequence[str] = (), **_: Any
) -> str:
    """Its secret, and how it gets a token: without the secret in the line, that no history and no list keeps it."""
    found = f"Where its users sign in, its application learns at {made['issuer']}/.well-known/openid-configuration"
    if "client_secret" not in made:
        told = "It is public: it has no secret" if auth == "none" else f"It has no secret: it proves itself by {auth}"
        if auth == "none" and not redirects:
            return f"{told}. It shows a code, which people enter at {made['issuer']}/device"
        return f"{told}. {found}" if redirects else f"{told}. It gets its tokens at {made['issuer']}/token"
    if made["client_secret"].startswith(KEY_PREFIX):
        header = "Authorization: Bearer <the key>"
        return f"API key: {made['client_secret']}\nIt is shown only now, and is sent with every request:\n  {header}"
    if redirects and not roles:
        return f"client_secret: {made['client_secret']}\nIt is shown only now. {found}"
    curl = f"curl --http1.1 --cacert {shlex.quote(str(home().keys / 'ca.crt'))} -u {made['client_id']}"
    line = f"{curl} -d grant_type=client_credentials {made['issuer']}/token"
    return (
        f"client_secret: {made['client_secret']}\nIt is shown only now. For a token; it asks for the secret:\n  {line}"
    )


def change_client(client_id: str, **said: Any) -> None:
    """Of a list that nobody named, nothing is changed; one that was named as '' is empty from now on."""
    told = {name: [] if value == [""] else value for name, value in said.items() if value != []}
    if not told:
        raise click.UsageError("say what to change")
    made = ask(home(), "client.change", client_id=client_id, **told)
    show(made, facts({name: value for name, value in made.items() if name != "warnings"}) + noted(made["warnings"]))


def switched(made: dict[str, Any], principal: str, **_: Any) -> str:
    """Also which clients of the person are disabled, and how each is enabled."""
    told = [f"{principal} is {'enabled' if made['active'] else 'disabled'}."]
    told += [f"{one} is disabled: `ostiary client enable {one[7:]}`" for one in made["disabled_clients"]]
    return at_home("\n".join(told))


def provisions(made: dict[str, Any], client_id: str, **_: Any) -> str:
    """Where, and which roles it may give from now on, or no more."""
    return f"{client_id} provisions at /identity/scim/v2.\n{facts(made)}"


def trusted(rows: Sequence[Mapping[str, Any]], **_: Any) -> str:
    """Every provider, and which claim of it brings which role."""
    told = [{**row, "maps": [f"{claim}={value}: {role}" for claim, value, role in row["maps"]]} for row in rows]
    return table(told, ("name", "issuer", "client_id", "accounts", "mfa", "maps"), empty="No provider yet.")


def opened(made: dict[str, Any], **_: Any) -> str:
    """The initial access tokens by which clients register themselves."""
    tokens = "\n".join(made["tokens"])
    return f"{tokens}\nShown only now, each for one client, which registers at {made['endpoint']}"


def facts(one: dict[str, Any], **_: Any) -> str:
    """A line for each fact."""
    width = max(10, *map(len, one))
    return "\n".join(f"{name:{width}} {words(value) or '-'}" for name, value in one.items())


def remove(principal: str, *, yes: bool) -> None:
    """Asks before it is done, unless told not to."""
    known = ask(home(), "principal.show", principal=principal)
    if not yes:
        click.confirm(f"It can't be undone; `disable` can. Remove {known['id']}?", abort=True)
    done("principal.remove", f"{known['id']} is removed.", principal=known["id"])


def set_or_tell_roles(principal: str, roles: list[str], reason: str, *, none: bool) -> None:
    """Sets those that were named; where none was, tells them."""
    if roles and none:
        raise click.UsageError("name roles, or --none: not both")
    if roles or none:
        made = ask(home(), "principal.roles", principal=principal, roles=roles, reason=reason)
        show(made, holds({"principal": principal, "roles": roles, **made}))
        return
    held = ask(home(), "principal.show", principal=principal)["roles"]
    show({"principal": principal, "roles": held}, f"{principal} holds: {', '.join(held) or 'nothing'}.")


def held(rows: Sequence[Mapping[str, Any]], **_: Any) -> str:
    """Every role that somebody holds, and whether it was used."""
    from ostiary.control.evidence import PART

    told = table(rows, ("principal", "role", "used", "last", "looked", "by", "due"), empty="Nothing.")
    partly = dict.fromkeys(row["principal"] for row in rows if not row["whole"])
    return told + noted([f"of {', '.join(partly)}: {PART}"] if partly else ())


def waiting(rows: Sequence[Mapping[str, Any]]) -> str:
    """Roles that somebody asked for."""
    return "\n".join(map(_awaited, rows)) or "Nothing waits."


def _awaited(one: Mapping[str, Any]) -> str:
    """In full, however much it is: somebody is to say yes to it."""
    gains, before = (", ".join(one[name]) or "nothing" for name in ("gains", "before"))
    lines = (
        f"{one['id']}  {one['principal']} is to gain {gains}",
        f"and then to hold {', '.join(one['roles'])}, instead of {before}",
        f"asked by {one['who']} at {one['when']}: {one['why']}",
        f"approved by {', '.join(one['approvals']) or 'nobody'}; {counted(one['missing'], 'approval')} to come",
    )
    return "\n    ".join(map(harmless, lines))


def holds(made: Mapping[str, Any], **_: Any) -> str:
    """What somebody holds from now on, or on whom that waits."""
    roles = ", ".join(made["roles"]) or "nothing"
    if made["missing"]:
        return f"{made['principal']} is to hold: {roles}; it {waits(made, made['id'], 'review approve')}"
    return f"{made['principal']} now holds: {roles}."


def begun(asked: Mapping[str, Any], **_: Any) -> str:
    """An emergency, or on whom it waits."""
    left = f"; it {waits(asked, asked['id'], 'break-glass approve')}" if asked["missing"] else ""
    return f"{asked['text']}{left}"


def set_account(principal: str, system: str, *, remove: bool, login: str = "", password: str | None = None) -> None:
    """As which ERP user the calls arrive there; or as none any more."""
    whose = {"principal": principal, "system": system}
    if remove == bool(login):
        raise click.UsageError("name one: --login or --remove")
    if remove:
        done("account.remove", f"{principal} has no account in {system} any more.", **whose)
        return
    password = typed(f"Password of {login} in {system}") if password is None else password
    done("account.set", f"{principal} acts as {login} in {system}.", **whose, login=login, password=password)


def revoke(principal: str, grant: str, reason: str) -> None:
    """By principal or sign-in."""
    if bool(principal) == bool(grant):
        raise click.UsageError("name one: --principal or --grant")
    told = f"every token of {principal or f'grant {grant}'} that was given until now is refused"
    done("token.revoke", told, principal=principal, grant=grant, reason=reason)


def signed_anew(new: dict[str, Any], *, compromised: bool, **_: Any) -> str:
    """The new key, and what becomes of what the old ones signed."""
    told = "every token that was given until now is refused" if compromised else "older tokens are good until they end"
    return f"access tokens are signed with {new['signs']['access']} now; {told}"
