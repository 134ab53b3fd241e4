"""The OpenID Connect providers whose word counts here, as administrators name them; which roles it brings, and to whom."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from secrets import token_hex
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct, to_builtins
from msgspec.structs import replace
from sqlalchemy import Connection, delete, insert, select, update

from ostiary.audit.log import Change
from ostiary.foundation.errors import CallerFault
from ostiary.foundation.ids import content_hash
from ostiary.foundation.secret import Secret
from ostiary.identity import principals
from ostiary.identity.principals import Keys, add, end, end_sessions
from ostiary.store.database import Sealer
from ostiary.store.tables import OUTSIDE, PROVIDER, SESSION

MAPS_MAX: Final = 1_000
LOCAL_MAX_CHARS: Final = 40
OTHERWISE_BYTES: Final = 4
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


_ROW: Final = select(PROVIDER.c.facts)


def listed(connection: Connection) -> list[dict[str, Any]]:
    return [to_builtins(one) for one in everyone(connection)]


def everyone(connection: Connection) -> list[Provider]:
    rows = connection.scalars(_ROW.order_by(PROVIDER.c.name))
    return [msgspec.json.decode(facts, type=Provider) for facts in rows]


def find(connection: Connection, name: str) -> Provider:
    for one in everyone(connection):
        if one.name == name:
            return one
    raise CallerFault("no-provider", f"there is no provider {name}", hint="see `ostiary provider list`")


def meant(one: Provider) -> str:
    """What a sign-in by it rests on, as a digest: all but its title and what roles it brings."""
    return content_hash(msgspec.json.encode(replace(one, title="-", maps=[])))


def trusted(connection: Connection, name: str, as_: str) -> bool:
    """Whether its word counts, as it was `meant`; it neither changes nor ends a sign-in before what rests on this is kept."""
    facts = connection.scalar(_ROW.where(PROVIDER.c.name == name).with_for_update(read=True))
    return facts is not None and meant(msgspec.json.decode(facts, type=Provider)) == as_


def held(connection: Connection, name: str) -> Provider:
    """The provider, on which nobody rests a sign-in, and which nobody changes, before this transaction ends."""
    facts = connection.scalar(_ROW.where(PROVIDER.c.name == name).with_for_update())
    return msgspec.json.decode(facts, type=Provider) if facts else find(connection, name)


def secret_of(connection: Connection, sealer: Sealer, name: str) -> str:
    sealed = connection.execute(select(PROVIDER.c.sealed_secret).where(PROVIDER.c.name == name)).scalar_one()
    return sealer.open(sealed, f"provider:{name}").reveal()


def fit(facts: Mapping[str, Any]) -> Provider:
    """What is told of a provider, as it is kept; raises CallerFault for what it can't be."""
    try:
        return msgspec.convert(facts, Provider)
    except msgspec.ValidationError as problem:
        issuer = f"the issuer {facts['issuer']!r} is no https address" if "$.issuer" in str(problem) else problem
        hint = "the issuer is its https address, just as its discovery document has it; see `provider add --help`"
        raise CallerFault("provider-unfit", f"this is no provider: {issuer}", hint=hint) from None


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
    said, before = {what: value for what, value in facts.items() if value}, held(change.connection, name)
    after = _replace(change, before, said) if said else before
    if secret:
        sealed = sealer.seal(Secret(secret), f"provider:{name}")
        change.connection.execute(update(PROVIDER).where(PROVIDER.c.name == name).values(sealed_secret=sealed))
        change.note("provider.secret", f"provider:{name}")
    same = meant(before) == meant(after)
    return () if same else end_sessions(change, "the provider changed", SESSION.c.provider == name)


def map_role(change: Change, *, name: str, claim: str, value: str, role: str, brings: bool = True) -> Keys:
    """Whether the claim brings the role, from everybody's next sign-in on."""
    one, before = (claim, value, role), held(change.connection, name)
    maps = before.maps
    if not brings and one not in maps:
        told = f"{value!r} in {claim} brings no role {role}"
        raise CallerFault("no-map", told, hint="see `ostiary provider list`")
    _replace(change, before, {"maps": [*(other for other in maps if other != one), *([one] if brings else [])]})
    return ()


unmap_role = partial(map_role, brings=False)


def remove_provider(change: Change, *, name: str) -> Keys:
    """Its word counts no more; whoever is signed in by it is so no longer. Accounts stay, but nobody is linked to them:
    one of that issuer who is trusted later signs nobody in by what was said of this one.
    """
    before = to_builtins(one := held(change.connection, name))
    change.connection.execute(delete(OUTSIDE).where(OUTSIDE.c.issuer == one.issuer))
    gone = end_sessions(change, "the provider is removed", SESSION.c.provider == name)
    change.connection.execute(delete(PROVIDER).where(PROVIDER.c.name == name))
    change.note("provider.remove", f"provider:{name}", before=before)
    return gone


def link(change: Change, *, name: str, subject: str, principal: str = "") -> Keys:
    """The account is that person's from now on; without one, nobody's. What was given to whoever had it ends."""
    one, place = find(change.connection, name), OUTSIDE.c
    before = account(change.connection, one.issuer, subject)
    if not (before or principal):
        raise CallerFault("no-link", f"{subject} of {name} is nobody here", hint="see `ostiary user list --json`")
    if not principal and one.accounts == "jit":
        hint = "`ostiary user disable` keeps the person out; `provider link` gives him another account"
        raise CallerFault(
            "makes-accounts", f"{name} makes an account for whoever has none: he would get a new one", hint=hint
        )
    change.connection.execute(delete(OUTSIDE).where(place.issuer == one.issuer, place.subject == subject))
    if principal:
        if not principal.startswith("user:"):
            raise CallerFault("no-person", f"{principal} does not sign in", hint="name a user: `ostiary user list`")
        principals.one(change.connection, principal)  # raises where there is none
        row = {"issuer": one.issuer, "subject": subject, "principal": principal}
        change.connection.execute(insert(OUTSIDE), row)
    told = {"before": {"principal": before["id"] if before else ""}, "after": {"principal": principal}}
    change.note("provider.link", f"provider:{name} {subject}", **told)
    return end(change, before["id"], "another's account") if before else ()


unlink = partial(link, principal="")


def account(connection: Connection, issuer: str, subject: str) -> dict[str, Any] | None:
    """The user who is this person of this issuer, as he is listed."""
    mine = select(OUTSIDE.c.principal).where(OUTSIDE.c.issuer == issuer, OUTSIDE.c.subject == subject)
    found = connection.execute(mine).scalar_one_or_none()
    return principals.one(connection, found) if found else None


def add_account(change: Change, *, provider: Provider, subject: str, login: str, name: str) -> str:
    """A new user without roles, whose login says where he is from, and is nobody's yet."""
    local = "".join(sign for sign in login.partition("@")[0] if sign.isascii() and (sign.isalnum() or sign in "._-"))
    more, title = {"provider": provider.name, "subject": subject}, "".join(filter(str.isprintable, name))[:200]
    local = local.lstrip("._-")[:LOCAL_MAX_CHARS] or "person"
    held(change.connection, provider.name)  # raises where it was removed meanwhile: nobody is linked to it again
    new = partial(add, change, "user", title=title, person="", roles=(), more=more)
    try:
        principal = new(f"{local}@{provider.name}")
    except CallerFault:  # somebody is called so: he is not asked for his account
        principal = new(f"{local}-{token_hex(OTHERWISE_BYTES)}@{provider.name}")
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


def _replace(change: Change, before: Provider, facts: Mapping[str, Any]) -> Provider:
    name, after = before.name, fit({**to_builtins(before), **facts})
    kept = update(PROVIDER).where(PROVIDER.c.name == name).values(facts=msgspec.json.encode(after).decode())
    change.connection.execute(kept)
    old, new = ({one: to_builtins(told)[one] for one in facts} for told in (before, after))
    change.note("provider.change", f"provider:{name}", before=old, after=new)
    return after
