"""The OpenID Connect providers whose word counts here, as administrators name them; which roles it brings, and to whom."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct, to_builtins
from sqlalchemy import Connection, delete, insert, select, update

from ostiary.audit.log import Change
from ostiary.foundation.errors import CallerFault
from ostiary.foundation.secret import Secret
from ostiary.identity import roster
from ostiary.identity.principals import Keys, add, end, end_sessions
from ostiary.store.database import Sealer
from ostiary.store.tables import OUTSIDE, PROVIDER, SESSION

MAPS_MAX: Final = 1_000
LOCAL_MAX_CHARS: Final = 40
DIGEST_CHARS: Final = 8
Text = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"\A[^\x00-\x1f]*\Z")]


class Provider(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`maps`: claim, value and the role that it brings; without any, the roles are those given here."""

    name: Annotated[str, Meta(pattern=r"\A[a-z][a-z0-9-]{0,29}\Z")]  # it stands in addresses and in logins
    issuer: Annotated[str, Meta(pattern=r"\Ahttps://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._~/-]*)?\Z", max_length=500)]
    client_id: Text
    title: Text = "your company's sign-in"
    accounts: Literal["jit", "existing"] = "existing"  # whether whom it names gets one at the first sign-in
    mfa: Literal["no", "trusted"] = "no"  # whether its word counts that it was more than one factor
    acrs: Text = "-"  # values of `acr` by which it says so, beside `mfa` in `amr`; parted by spaces
    scopes: Text = "openid profile"
    maps: Annotated[list[tuple[Text, Text, str]], Meta(max_length=MAPS_MAX)] = []


def listed(connection: Connection) -> list[dict[str, Any]]:
    return [to_builtins(one) for one in everyone(connection)]


def everyone(connection: Connection) -> list[Provider]:
    rows = connection.scalars(select(PROVIDER.c.facts).order_by(PROVIDER.c.name))
    return [msgspec.json.decode(facts, type=Provider) for facts in rows]


def find(connection: Connection, name: str) -> Provider:
    for one in everyone(connection):
        if one.name == name:
            return one
    raise CallerFault("no-provider", f"there is no provider {name}", hint="see `ostiary provider list`")


def trusted(connection: Connection, name: str, *, alone: bool = False) -> bool:
    """Whether its word counts still; neither it nor a sign-in by it ends before what rests on this is kept.

    `alone`: nobody else rests on it meanwhile.
    """
    known = select(PROVIDER.c.name).where(PROVIDER.c.name == name).with_for_update(read=not alone)
    return connection.execute(known).first() is not None


def secret_of(connection: Connection, sealer: Sealer, name: str) -> str:
    sealed = connection.execute(select(PROVIDER.c.sealed_secret).where(PROVIDER.c.name == name)).scalar_one()
    return sealer.open(sealed, f"provider:{name}").reveal()


def fit(facts: Mapping[str, Any]) -> Provider:
    """What is told of a provider, as it is kept; raises CallerFault for what it can't be."""
    try:
        return msgspec.convert(facts, Provider)
    except msgspec.ValidationError as problem:
        hint = "the issuer is its https address, just as its discovery document has it; see `provider add --help`"
        raise CallerFault("provider-unfit", f"this is no provider: {problem}", hint=hint) from None


def add_provider(change: Change, *, sealer: Sealer, one: Provider, secret: Secret) -> None:
    others = everyone(change.connection)
    if any(one.name == other.name or one.issuer == other.issuer for other in others):
        told = f"{one.name} exists already, or another provider of this issuer"
        raise CallerFault("exists", told, hint="see `ostiary provider list`")
    row = {"name": one.name, "sealed_secret": sealer.seal(secret, f"provider:{one.name}")}
    change.connection.execute(insert(PROVIDER).values(**row, facts=msgspec.json.encode(one).decode()))
    change.note("provider.add", f"provider:{one.name}", after=to_builtins(one))


def change_provider(
    change: Change, *, sealer: Sealer, name: str, client_id: str = "", secret: str = "", title: str = "",
    accounts: str = "", mfa: str = "", acrs: str = "", scopes: str = "",
) -> Keys:  # fmt: skip
    """What is given is changed; name and issuer stay: by these its people are known. Who is signed in by what it was
    before is so no longer, but for another title or secret.
    """
    facts = {"client_id": client_id, "title": title, "accounts": accounts, "mfa": mfa, "acrs": acrs, "scopes": scopes}
    _replace(change, name, {what: value for what, value in facts.items() if value})
    if secret:
        sealed = sealer.seal(Secret(secret), f"provider:{name}")
        change.connection.execute(update(PROVIDER).where(PROVIDER.c.name == name).values(sealed_secret=sealed))
        change.note("provider.secret", f"provider:{name}")
    del facts["title"]
    return end_sessions(change, "the provider changed", SESSION.c.provider == name) if any(facts.values()) else ()


def map_role(change: Change, *, name: str, claim: str, value: str, role: str, brings: bool = True) -> Keys:
    """Whether the claim brings the role, from everybody's next sign-in on."""
    one, maps = (claim, value, role), find(change.connection, name).maps
    if not brings and one not in maps:
        told = f"{value!r} in {claim} brings no role {role}"
        raise CallerFault("no-map", told, hint="see `ostiary provider list`")
    _replace(change, name, {"maps": [*(other for other in maps if other != one), *([one] if brings else [])]})
    return ()


def remove_provider(change: Change, *, name: str) -> Keys:
    """Its word counts no more; whoever is signed in by it is so no longer. Accounts stay, and whose they are."""
    before = to_builtins(find(change.connection, name))
    gone = end_sessions(change, "the provider is removed", SESSION.c.provider == name)
    change.connection.execute(delete(PROVIDER).where(PROVIDER.c.name == name))
    change.note("provider.remove", f"provider:{name}", before=before)
    return gone


def link(change: Change, *, name: str, subject: str, principal: str = "") -> Keys:
    """The account is that person's from now on; without one, nobody's. What was given to whoever had it ends."""
    one, place = find(change.connection, name), OUTSIDE.c
    before = account(change.connection, one.issuer, subject)
    change.connection.execute(delete(OUTSIDE).where(place.issuer == one.issuer, place.subject == subject))
    if principal:
        if not principal.startswith("user:"):
            raise CallerFault("no-person", f"{principal} does not sign in", hint="name a user: `ostiary user list`")
        roster.one(change.connection, principal)  # raises where there is none
        row = {"issuer": one.issuer, "subject": subject, "principal": principal}
        change.connection.execute(insert(OUTSIDE), row)
    told = {"before": {"principal": before["id"] if before else ""}, "after": {"principal": principal}}
    change.note("provider.link", f"provider:{name} {subject}", **told)
    return end(change, before["id"], "another's account") if before else ()


def account(connection: Connection, issuer: str, subject: str) -> dict[str, Any] | None:
    """The user who is this person of this issuer, as he is listed."""
    mine = select(OUTSIDE.c.principal).where(OUTSIDE.c.issuer == issuer, OUTSIDE.c.subject == subject)
    found = connection.execute(mine).scalar_one_or_none()
    return roster.one(connection, found) if found else None


def add_account(change: Change, *, provider: Provider, subject: str, login: str, name: str, digest: str) -> str:
    """A new user without roles, whose login says where he is from, and is nobody's yet."""
    local = "".join(sign for sign in login.partition("@")[0] if sign.isascii() and (sign.isalnum() or sign in "._-"))
    more, title = {"provider": provider.name, "subject": subject}, "".join(filter(str.isprintable, name))[:200]
    local = local.lstrip("._-")[:LOCAL_MAX_CHARS] or "person"
    try:
        principal = add(change, "user", f"{local}@{provider.name}", title, "", roles=(), more=more)
    except CallerFault:  # somebody is called so: he is not asked for his account
        principal = add(
            change, "user", f"{local}-{digest[:DIGEST_CHARS]}@{provider.name}", title, "", roles=(), more=more
        )
    row = {"issuer": provider.issuer, "subject": subject, "principal": principal}
    change.connection.execute(insert(OUTSIDE), row)
    return principal


def mapped(provider: Provider, told: Mapping[str, Any]) -> list[str] | None:
    """The roles that these claims bring; None where no claim brings any, so that they are given here."""
    roles = {role for claim, value, role in provider.maps if value in _values(told, claim)}
    return sorted(roles) if provider.maps else None


def _values(told: Any, path: str) -> Sequence[str]:
    """What stands under a claim of that name, or under its parts, one in the other (`realm_access.roles`)."""
    found = next(_under(told, path), ())
    return [found] if isinstance(found, str) else found if isinstance(found, list) else []


def _under(told: Any, path: str) -> Iterator[Any]:
    if not isinstance(told, Mapping):
        return
    if path in told:
        yield told[path]
    for at, sign in enumerate(path):
        if sign == "." and path[:at] in told:
            yield from _under(told[path[:at]], path[at + 1 :])


def _replace(change: Change, name: str, facts: Mapping[str, Any]) -> None:
    before = find(change.connection, name)
    after = fit({**to_builtins(before), **facts})
    kept = update(PROVIDER).where(PROVIDER.c.name == name).values(facts=msgspec.json.encode(after).decode())
    change.connection.execute(kept)
    old, new = ({one: to_builtins(told)[one] for one in facts} for told in (before, after))
    change.note("provider.change", f"provider:{name}", before=old, after=new)
