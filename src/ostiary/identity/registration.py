"""Clients as administrators register them: how each proves who it is, and what it may ask for."""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, NamedTuple

from msgspec import convert, to_builtins
from msgspec.json import decode, encode
from msgspec.structs import asdict, replace
from sqlalchemy import delete, insert, select, update

from ostiary.audit.log import Change
from ostiary.foundation.api_key import KEY_PREFIX, SECRET_PREFIX
from ostiary.foundation.clock import to_us
from ostiary.foundation.errors import CallerFault
from ostiary.foundation.jose import TokenRefused
from ostiary.foundation.proof import usable_jwks, with_key
from ostiary.foundation.secret import Secret
from ostiary.identity import names, roster
from ostiary.identity.clients import API_KEY, CERTIFICATE, DPOP, FAPI2, NONE, SECRET, Terms
from ostiary.identity.credentials import digest, new_secret, pepper
from ostiary.identity.principals import Keys, add, end
from ostiary.store.database import Sealer
from ostiary.store.tables import CLIENT, CLIENT_SECRET, PRINCIPAL

BY_DIGEST: Final = (SECRET, API_KEY)  # ways to prove oneself by what we keep a digest of
LIVE_SECRETS: Final = 2
DAYS, DAYS_MAX = 365, 1_095  # that a client lasts, unless said otherwise, and at most
DAY_S: Final = 86_400
BY_TLS: Final = frozenset({"tls_client_auth", "self_signed_tls_client_auth"})
KEYS_HINT: Final = "give its public keys with --keys FILE (a JWKS, RFC 7517)"
NO_USE_TO_KEYS: Final = ("bound", "redirects", "exchange", "backchannel_logout_uri")
OTHERWISE: Final[Mapping[str, str]] = {  # what is changed in place of a secret, or of keys
    "tls_client_auth": "`ostiary client certificate {}` gives it another certificate",
    NONE: "a public client proves itself by nothing; see `ostiary client show {}`",
}
BY_JWKS: Final = frozenset({"private_key_jwt", "self_signed_tls_client_auth"})


class Made(NamedTuple):
    """A new or renewed client; the secret is shown once."""

    id: str
    secret: Secret | None


def add_client(
    change: Change, *, sealer: Sealer, client_id: str, name: str = "", roles: Sequence[str] = (), person: str = "",
    days: int = DAYS, **told: Annotated[Any, Terms],
) -> Made:  # fmt: skip
    """Makes `client:<id>`; one that proves itself by a secret or an API key gets it."""
    terms, until_s = _fit(change, Terms(), told), _until(change, days)
    more = {**to_builtins(terms), "until": roster.end_of(until_s)}
    principal = add(change, "client", client_id, name, person, roles=roles, more=more)
    change.connection.execute(insert(CLIENT).values(principal=principal, until_s=until_s, **_row(terms)))
    return Made(principal, _add_secret(change, sealer, principal, terms.auth) if terms.auth in BY_DIGEST else None)


def change_client(
    change: Change, *, client_id: str, name: str = "", person: str = "", days: int | None = None,
    **told: Annotated[Any, Terms],
) -> Keys:  # fmt: skip
    """What is given is changed; but for name, person and a later end, what it was given before ends, and secrets that
    it has no use for.
    """
    principal = f"client:{client_id}"
    names.refuse_text(name=name)
    kept, before = _kept(change, principal), roster.one(change.connection, principal)
    terms = _fit(change, kept, told)
    row, ends = _row(terms), terms != kept
    whole = json.loads(row["facts"])
    if days is not None:
        row["until_s"] = _until(change, days)
        whole["until"] = roster.end_of(row["until_s"])
        ends = ends or whole["until"] < before["until"]
    change.connection.execute(update(CLIENT).where(CLIENT.c.principal == principal).values(row))
    if terms.auth != kept.auth:
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
    auth = _kept(change, principal).auth
    if auth not in BY_DIGEST:
        hint = OTHERWISE.get(auth, "`ostiary client change {} --keys FILE` gives it other keys").format(client_id)
        raise CallerFault("no-secret", f"{principal} has no secret", hint=hint)
    mine = select(CLIENT_SECRET.c.digest).where(CLIENT_SECRET.c.principal == principal)
    old = list(change.connection.scalars(mine.order_by(CLIENT_SECRET.c.made_at_us.desc())))
    change.connection.execute(delete(CLIENT_SECRET).where(CLIENT_SECRET.c.digest.in_(old[LIVE_SECRETS - 1 :])))
    secret = _add_secret(change, sealer, principal, auth)
    change.note("client.rotate", principal)
    return Made(principal, secret)


def note_certificate(change: Change, *, client_id: str, days: int, key: Any) -> None:
    """Records that the client was given a certificate for this key; where it proves itself so, the last two do."""
    principal = f"client:{client_id}"
    terms = _kept(change, principal)
    if terms.auth == "tls_client_auth":
        row = _row(replace(terms, jwks=with_key(terms.jwks, key, LIVE_SECRETS)))
        change.connection.execute(update(CLIENT).where(CLIENT.c.principal == principal).values(row))
    change.note("client.certificate", principal, after={"days": days})


def _until(change: Change, days: int) -> int:
    if not 0 < days <= DAYS_MAX:
        raise CallerFault("client-unfit", f"a client lasts for 1 to {DAYS_MAX} days, not {days}", hint="--days 365")
    return int(change.now.timestamp()) + days * DAY_S


def _kept(change: Change, principal: str) -> Terms:
    """What was said of the client, which nobody else changes meanwhile."""
    one_at_a_time = select(CLIENT.c.facts).where(CLIENT.c.principal == principal).with_for_update()
    facts = change.connection.scalar(one_at_a_time)
    return decode(facts, type=Terms) if facts else roster.missing(principal)


def _fit(change: Change, kept: Terms, told: Mapping[str, Any]) -> Terms:
    """As they are from now on; raises CallerFault for what does not go together."""
    terms = convert({**asdict(kept), **told}, Terms)
    names.refuse_redirects([*terms.redirects, *filter(None, [terms.backchannel_logout_uri])])
    if terms.backchannel_logout_uri.startswith("http:"):
        hint = "an https address: what it is told is for the client alone"
        raise CallerFault("client-unfit", "the backchannel_logout_uri is not https", hint=hint)
    names.refuse_scopes(terms.scopes)
    for name in told.get("exchange", ()):  # who is removed later stays named, and opens nothing
        names.refuse_name(name)
        roster.one(change.connection, f"client:{name}")
    if terms.auth == NONE and not terms.redirects:
        hint = "say with --redirect where people are sent back to, or leave out --public: it then gets a secret"
        raise CallerFault("redirect-missing", "a public client that nobody can sign in with has no use", hint=hint)
    if terms.auth == API_KEY and (what := next((one for one in NO_USE_TO_KEYS if getattr(terms, one)), "")):
        hint = f"leave out --{what.removesuffix('s').replace('_', '-')}, or let it prove itself by something else"
        raise CallerFault(
            "client-unfit", f"a client with an API key gets no tokens: {what} is of no use to it", hint=hint
        )
    if terms.auth in BY_JWKS:
        terms = replace(terms, jwks=_jwks(terms.jwks))
    if terms.profile == FAPI2:
        if terms.auth in {*BY_DIGEST, NONE}:
            hint = "--auth private_key_jwt, tls_client_auth or self_signed_tls_client_auth"
            raise CallerFault("client-unfit", "in the profile fapi2 a client proves itself by a key", hint=hint)
        terms = replace(terms, bound=terms.bound or (CERTIFICATE if terms.auth in BY_TLS else DPOP))
    return terms


def _jwks(text: str) -> str:
    if not text:
        raise CallerFault("keys-missing", "it proves itself by a key, and none is given", hint=KEYS_HINT)
    try:
        return usable_jwks(text)
    except TokenRefused as refused:
        raise CallerFault("keys-unfit", f"the client's keys can't be used: {refused}", hint=KEYS_HINT) from None


def _row(terms: Terms) -> dict[str, Any]:
    return {"facts": encode(terms).decode(), "backchannel_logout_uri": terms.backchannel_logout_uri}


def _add_secret(change: Change, sealer: Sealer, principal: str, auth: str) -> Secret:
    start = f"{KEY_PREFIX}{principal.partition(':')[2]}." if auth == API_KEY else SECRET_PREFIX
    secret = Secret(start + new_secret().reveal())
    stored = digest(pepper(change.connection, sealer), "client-secret", principal, secret.reveal())
    row = {"digest": stored, "principal": principal, "made_at_us": to_us(change.now)}
    change.connection.execute(insert(CLIENT_SECRET), row)
    return secret
