"""Clients as administrators register them: how each proves who it is, and what it may ask for."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import delete, insert, select, update

from ostiary.audit.log import Change
from ostiary.foundation.clock import to_us
from ostiary.foundation.errors import CallerFault
from ostiary.foundation.jose import KEY_PREFIX, TokenRefused
from ostiary.foundation.proof import usable_jwks, with_key
from ostiary.foundation.secret import Secret
from ostiary.identity import names, roster
from ostiary.identity.clients import API_KEY, CERTIFICATE, DPOP, FAPI2, NONE, WAYS
from ostiary.identity.credentials import digest, new_secret, pepper
from ostiary.identity.principals import Keys, add, end
from ostiary.store.database import Sealer
from ostiary.store.tables import CLIENT, CLIENT_LISTS, CLIENT_SECRET, PRINCIPAL

SECRET: Final = "client_secret"  # noqa: S105  the way, and no secret
KEPT: Final = (SECRET, API_KEY)  # ways to prove oneself by what we keep a digest of
LIVE_SECRETS: Final = 2
PREFIX: Final = "ostiary_secret_"  # by which scanners find one where none should be
DAYS, DAYS_MAX = 365, 1_095  # that a client lasts, unless said otherwise, and at most
DAY_S: Final = 86_400
BY_TLS: Final = frozenset({"tls_client_auth", "self_signed_tls_client_auth"})
KEYS_HINT: Final = "give its public keys with --keys FILE (a JWKS, RFC 7517)"
BY_JWKS: Final = frozenset({"private_key_jwt", "self_signed_tls_client_auth"})
CHOICES: Final[Mapping[str, Sequence[str]]] = {
    "auth": (*WAYS, API_KEY), "profile": ("oauth21", FAPI2), "bound": ("", DPOP, CERTIFICATE),
}  # fmt: skip


class Made(NamedTuple):
    """A new or renewed client; the secret is shown once."""

    id: str
    secret: Secret | None


def add_client(
    change: Change, *, sealer: Sealer, client_id: str, name: str = "", roles: Sequence[str] = (), person: str = "",
    scopes: Sequence[str] = (), redirects: Sequence[str] = (), auth: str = SECRET, profile: str = "oauth21",
    bound: str = "", jwks: str = "", exchange: Sequence[str] = (), days: int = DAYS,
    backchannel_logout_uri: str = "",
) -> Made:  # fmt: skip
    """Makes `client:<id>`; one that authenticates by a secret gets it."""
    told: dict[str, Any] = {"auth": auth, "profile": profile, "bound": bound, "jwks": jwks}
    told["backchannel_logout_uri"] = backchannel_logout_uri
    told |= {"scopes": scopes, "redirects": redirects, "exchange": exchange}
    facts, until_s = _fit(told), _until(change, days)
    _refuse_strangers(change, exchange)
    more = {**facts, "until": roster.end_of(until_s)}
    principal = add(change, "client", client_id, name, person, roles=roles, more=more)
    change.connection.execute(insert(CLIENT).values(principal=principal, until_s=until_s, **_row(facts)))
    return Made(principal, _add_secret(change, sealer, principal, facts["auth"]) if facts["auth"] in KEPT else None)


def change_client(
    change: Change, *, client_id: str, name: str | None = None, scopes: Sequence[str] | None = None,
    redirects: Sequence[str] | None = None, auth: str | None = None, profile: str | None = None,
    bound: str | None = None, jwks: str | None = None, exchange: Sequence[str] | None = None, days: int | None = None,
    person: str | None = None, backchannel_logout_uri: str | None = None,
) -> Keys:  # fmt: skip
    """What is given is changed; but for name, person and a later end, what it was given before ends, and secrets that
    it has no use for.
    """
    principal = f"client:{client_id}"
    before = roster.one(change.connection, principal)
    names.refuse_text(name=name or "")
    told: dict[str, Any] = {"auth": auth, "profile": profile, "bound": bound, "jwks": jwks}
    told["backchannel_logout_uri"] = backchannel_logout_uri
    told |= {"scopes": scopes, "redirects": redirects, "exchange": exchange}
    whole = _fit({what: before[what] if value is None else value for what, value in told.items()})
    _refuse_strangers(change, exchange or ())
    row = {what: value for what, value in whole.items() if value != before[what]}
    if days is not None:
        whole["until"] = roster.end_of(until_s := _until(change, days))
        change.connection.execute(update(CLIENT).where(CLIENT.c.principal == principal).values(until_s=until_s))
    ends = row or whole.get("until", before["until"]) < before["until"]
    if row:
        change.connection.execute(update(CLIENT).where(CLIENT.c.principal == principal).values(_row(row)))
    if "auth" in row:
        change.connection.execute(delete(CLIENT_SECRET).where(CLIENT_SECRET.c.principal == principal))
    named = {"name": name, "person": person}
    titled = {what: value for what, value in named.items() if value and value != before[what]}
    if titled:
        change.connection.execute(update(PRINCIPAL).where(PRINCIPAL.c.id == principal).values(titled))
    after = {what: value for what, value in {**titled, **whole}.items() if value != before[what]}
    change.note("client.change", principal, before={what: before[what] for what in after}, after=after)
    return end(change, principal, "client changed") if ends else ()


def rotate_secret(change: Change, *, sealer: Sealer, client_id: str) -> Made:
    """A second secret; of more than two the oldest goes."""
    principal = f"client:{client_id}"
    one_at_a_time = select(CLIENT.c.auth).where(CLIENT.c.principal == principal).with_for_update()
    auth = change.connection.execute(one_at_a_time).scalar_one_or_none()
    if auth not in KEPT:
        raise CallerFault("no-such-client", f"{principal} has no secret", hint="see `ostiary client list`")
    mine = select(CLIENT_SECRET.c.digest).where(CLIENT_SECRET.c.principal == principal)
    old = list(change.connection.scalars(mine.order_by(CLIENT_SECRET.c.made_at_us.desc())))
    change.connection.execute(delete(CLIENT_SECRET).where(CLIENT_SECRET.c.digest.in_(old[LIVE_SECRETS - 1 :])))
    secret = _add_secret(change, sealer, principal, auth)
    change.note("client.rotate", principal)
    return Made(principal, secret)


def note_certificate(change: Change, *, client_id: str, days: int, key: Any) -> None:
    """Records that the client was given a certificate for this key; where it proves itself so, the last two do."""
    principal = f"client:{client_id}"
    one = roster.one(change.connection, principal)
    if one["auth"] == "tls_client_auth":
        jwks = with_key(one["jwks"], key, LIVE_SECRETS)
        change.connection.execute(update(CLIENT).where(CLIENT.c.principal == principal).values(jwks=jwks))
    change.note("client.certificate", principal, after={"days": days})


def _until(change: Change, days: int) -> int:
    if not 0 < days <= DAYS_MAX:
        raise CallerFault("client-unfit", f"a client lasts for 1 to {DAYS_MAX} days, not {days}", hint="--days 365")
    return int(change.now.timestamp()) + days * DAY_S


def _fit(told: Mapping[str, Any]) -> dict[str, Any]:
    """What is told of a client, as it is kept; raises CallerFault for what does not go together."""
    for what, known in CHOICES.items():
        if told[what] not in known:
            raise CallerFault(
                "client-unfit", f"{told[what]!r} is no {what}", hint=f"one of {', '.join(filter(None, known))}"
            )
    names.refuse_redirects([*told["redirects"], *filter(None, [told["backchannel_logout_uri"]])])
    if told["backchannel_logout_uri"].startswith("http:"):
        hint = "an https address: what it is told is for the client alone"
        raise CallerFault("client-unfit", "the backchannel_logout_uri is not https", hint=hint)
    names.refuse_scopes(told["scopes"])
    for name in told["exchange"]:
        names.refuse_name(name)
    fitted = {**told, **{name: list(told[name]) for name in CLIENT_LISTS}}
    if told["auth"] == NONE and not told["redirects"]:
        hint = "say with --redirect where people are sent back to, or leave out --public: it then gets a secret"
        raise CallerFault("redirect-missing", "a public client that nobody can sign in with has no use", hint=hint)
    if told["auth"] == API_KEY and told["bound"]:
        hint = "leave out --bound, or let it prove itself by something else"
        raise CallerFault("client-unfit", "an API key is good for whoever has it: nothing binds it", hint=hint)
    if told["auth"] in BY_JWKS:
        fitted["jwks"] = _jwks(told["jwks"])
    if told["profile"] == FAPI2:
        if told["auth"] in {*KEPT, NONE}:
            hint = "--auth private_key_jwt, tls_client_auth or self_signed_tls_client_auth"
            raise CallerFault("client-unfit", "in the profile fapi2 a client proves itself by a key", hint=hint)
        fitted["bound"] = told["bound"] or (CERTIFICATE if told["auth"] in BY_TLS else DPOP)
    return fitted


def _refuse_strangers(change: Change, exchange: Sequence[str]) -> None:
    """Whose tokens a client is to exchange is there when it is said; who is removed stays named, and opens nothing."""
    for name in exchange:
        roster.one(change.connection, f"client:{name}")


def _jwks(text: str) -> str:
    if not text:
        raise CallerFault("keys-missing", "it proves itself by a key, and none is given", hint=KEYS_HINT)
    try:
        return usable_jwks(text)
    except TokenRefused as refused:
        raise CallerFault("keys-unfit", f"the client's keys can't be used: {refused}", hint=KEYS_HINT) from None


def _row(told: Mapping[str, Any]) -> dict[str, Any]:
    """What is told of a client as its row holds it; no redirect and no scope has a blank in it."""
    return {what: CLIENT_LISTS[what].join(value) if what in CLIENT_LISTS else value for what, value in told.items()}


def _add_secret(change: Change, sealer: Sealer, principal: str, auth: str) -> Secret:
    start = f"{KEY_PREFIX}{principal.partition(':')[2]}." if auth == API_KEY else PREFIX
    secret = Secret(start + new_secret().reveal())
    stored = digest(pepper(change.connection, sealer), "client-secret", principal, secret.reveal())
    row = {"digest": stored, "principal": principal, "made_at_us": to_us(change.now)}
    change.connection.execute(insert(CLIENT_SECRET), row)
    return secret
