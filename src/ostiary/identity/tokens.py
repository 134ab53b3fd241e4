"""What was given to whom: grants, opened by codes and refresh tokens, each consumed by one statement; and tokens made of them."""

import hmac
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Row, and_, bindparam, delete, insert, select, update
from starlette.requests import Request

from ostiary.foundation import jose
from ostiary.foundation.ids import role_set_id
from ostiary.foundation.proof import USE_NONCE, hashed
from ostiary.foundation.secret import Secret, new_id
from ostiary.identity import clients
from ostiary.identity.clients import FAPI2, Client
from ostiary.identity.credentials import Drawer, derived, digest, new_secret
from ostiary.identity.request import Refused, fingerprint
from ostiary.identity.server import Server
from ostiary.plan.decide import Reason
from ostiary.plan.model import MFA
from ostiary.store.database import METADATA, Store
from ostiary.store.directory import access_keys, emergency_set, registered
from ostiary.store.tables import ASSIGNMENT, CLIENT, GRANT, PRINCIPAL, PROPOSAL, REFRESH, REVOCATION, SESSION

CODE_LIFE_S: Final = 60
GRANT_LIFE_S: Final = 30 * 24 * 3600  # absolute (standard A1)
RETRY_S: Final = 10  # the answer to a refresh may get lost once
# Whatever has an end: grants when nothing points at them.
EXPIRED: Final = [table for table in reversed(METADATA.sorted_tables) if "expires_at_s" in table.c]
PURGED_MAX: Final = 1_000  # rows of one transaction
PURGE_PAUSE_S: Final = 0.01
# Statements of every request are made once: to put one together takes as long as to carry it out (measured).
_GRANT: Final = (
    select(GRANT, PRINCIPAL.c.name)
    .join(PRINCIPAL, PRINCIPAL.c.id == GRANT.c.principal)
    .where(GRANT.c.id == bindparam("id"))
)
_REFRESH_HERE: Final = (REFRESH.c.digest == bindparam("shown"), REFRESH.c.expires_at_s > bindparam("now_s"))
_SUPERSEDE: Final = (
    update(REFRESH).where(*_REFRESH_HERE, REFRESH.c.superseded_at_s == 0).values(superseded_at_s=bindparam("now_s"))
    .returning(REFRESH.c.grant)
)  # fmt: skip
_SUPERSEDED: Final = select(REFRESH.c.grant).where(*_REFRESH_HERE)
SLACK_S: Final = 2  # the gate refuses a token after the second in which it ends, by a clock one second behind
ID_CLAIMS: Final = ("iss", "sub", "exp", "iat", "auth_time", "acr", "amr", "sid")
TOLD_CLAIMS: Final = ("iss", "aud", "sub", "client_id", "jti", "exp", "iat", "scope", "acr", "auth_time", "cnf")
# Who is active, in which generation, and what the subject holds; in an emergency one role more, for a time.
_SUBJECT: Final = PRINCIPAL.c.id == bindparam("subject")
_EMERGENCY: Final = and_(PROPOSAL.c.principal == PRINCIPAL.c.id, _SUBJECT, PROPOSAL.c.until_s > bindparam("now_s"))
_HELD: Final = (
    select(PRINCIPAL.c.id, PRINCIPAL.c.generation, ASSIGNMENT.c.role, PROPOSAL.c.until_s)
    .add_columns(PROPOSAL.c.id.label("emergency"), PROPOSAL.c.role.label("more"))
    .outerjoin(ASSIGNMENT, and_(ASSIGNMENT.c.principal == PRINCIPAL.c.id, _SUBJECT))
    .outerjoin(PROPOSAL, _EMERGENCY)
    .add_columns(CLIENT.c.until_s.label("ends_s"))
    .outerjoin(CLIENT, CLIENT.c.principal == PRINCIPAL.c.id)
    .where(PRINCIPAL.c.id.in_([bindparam("subject"), bindparam("client")]), PRINCIPAL.c.active)
)


class Replayed(Exception):
    """A one-time thing came twice: the caller revokes `grant` in a transaction that stays."""

    def __init__(self, grant: str) -> None:
        super().__init__(grant)
        self.grant = grant


def begin_grant(connection: Connection, now_s: int, values: Mapping[str, Any]) -> str:
    """The id of a new grant: its `values` without id and end."""
    grant = new_id("gr")
    row = {"id": grant, "expires_at_s": now_s + GRANT_LIFE_S, "revoked": False, **values}
    connection.execute(insert(GRANT), row)
    return grant


def agreed(connection: Connection, now_s: int, asked: Mapping[str, Any], principal: str) -> bool:
    """Whether a grant of exactly that lives: who gave it is not asked again."""
    same = [GRANT.c[name] == asked[name] for name in ("client", "audience", "scopes")]
    living = (GRANT.c.principal == principal, ~GRANT.c.revoked, GRANT.c.expires_at_s > now_s)
    return connection.execute(select(GRANT.c.id).where(*same, *living).limit(1)).first() is not None


def code_for(codes: Drawer, grant: str, *, client: str, redirect: str, challenge: str) -> Secret:
    """The code that opens the grant."""
    code = new_secret()
    codes.keep(code.reveal(), CODE_LIFE_S, client=client, grant=grant, redirect=redirect, challenge=challenge)
    return code


def redeem(
    codes: Drawer, client: Client, *, code: str, redirect: str, verifier: str, bound: str
) -> tuple[Row[Any], Secret]:
    """The grant behind `code`, once, and its first refresh token; raises Replayed when its own client shows it again."""
    kept = codes.use(code)
    wrong = Refused("invalid_grant", "the code is not valid", guessed=bool(code))
    if (seen := kept or codes.look(code)) is None:
        raise wrong
    # a verifier without a challenge tells that somebody took the challenge away (RFC 9700 section 2.1.1)
    same = hmac.compare_digest(hashed(verifier) if verifier else "", seen.facts["challenge"])
    if seen.client != client.principal or seen.facts["redirect"] != redirect or not same:
        raise wrong  # the transaction rolls back: nobody else can use the code up, or end what it gave
    if kept is None:
        raise Replayed(seen.grant)
    return opened(codes, client, kept.grant, bound)


def opened(codes: Drawer, client: Client, grant_id: str, bound: str) -> tuple[Row[Any], Secret]:
    """The grant, and its first refresh token: a public client's is bound as the access token is (RFC 9449 section 5)."""
    grant = _alive(_grant(codes.connection, grant_id), codes.now_s)
    if grant.bound and grant.bound != bound:
        raise Refused("invalid_grant", "the code is bound to another key")
    if client.public and bound:
        codes.connection.execute(update(GRANT).where(GRANT.c.id == grant.id).values(bound=bound))
    return grant, _add_refresh(codes.connection, codes.key, grant, new_secret())


def refresh(  # noqa: PLR0917  what the request shows
    connection: Connection, key: bytes, now_s: int, client: Client, token: str, bound: str
) -> tuple[Row[Any], Secret]:
    """The grant behind a refresh token, which is superseded, and its successor.

    The answer may get lost once: whoever asks again within seconds gets the same successor, so that a thief who does
    shares it with its owner and is found out at the next turn. Raises Replayed on reuse (RFC 9700 section 4.14.2).
    In the profile fapi2 it stays the same: there the client proves who it is (FAPI 2.0 section 5.3.2.1).
    """
    here, turns = {"shown": digest(key, "refresh", token), "now_s": now_s}, client.profile != FAPI2
    took = connection.execute(_SUPERSEDE, here).scalar_one_or_none() if turns else None
    found = took or connection.execute(_SUPERSEDED, here).scalar_one_or_none()
    grant = _grant(connection, found) if found else None
    if grant is None or grant.client != client.principal or (client.public and grant.bound != bound):
        # what was taken is given back as the transaction rolls back: another client cannot use the token up
        raise Refused("invalid_grant", "the refresh token is not valid", guessed=bool(token))
    _alive(grant, now_s)
    if not turns:
        return grant, Secret(token)
    successor = derived(key, "refresh-successor", token)
    if took:
        return grant, _add_refresh(connection, key, grant, successor)
    if _retried(connection, here) and _unused(connection, key, successor):
        return grant, successor
    raise Replayed(grant.id)


def _retried(connection: Connection, here: Mapping[str, Any]) -> bool:
    """Whether this is the first to ask again, soon enough."""
    lost = (REFRESH.c.retried.is_(False), REFRESH.c.superseded_at_s >= here["now_s"] - RETRY_S)
    again = update(REFRESH).where(*_REFRESH_HERE, *lost).values(retried=True).returning(REFRESH.c.grant)
    return connection.execute(again, here).first() is not None


def _unused(connection: Connection, key: bytes, token: Secret) -> bool:
    shown = digest(key, "refresh", token.reveal())
    used = select(REFRESH.c.superseded_at_s).where(REFRESH.c.digest == shown)
    return connection.execute(used).scalar_one_or_none() == 0


def _add_refresh(connection: Connection, key: bytes, grant: Row[Any], token: Secret) -> Secret:
    new = {"digest": digest(key, "refresh", token.reveal()), "grant": grant.id, "expires_at_s": grant.expires_at_s}
    connection.execute(insert(REFRESH), {**new, "superseded_at_s": 0, "retried": False})
    return token


def _grant(connection: Connection, grant: str) -> Row[Any]:
    return connection.execute(_GRANT, {"id": grant}).one()


def _alive(grant: Row[Any], now_s: int) -> Row[Any]:
    if grant.revoked or grant.expires_at_s <= now_s:
        raise Refused("invalid_grant", "the grant has ended")
    return grant


def of_refresh(connection: Connection, key: bytes, client: Client, token: str) -> Row[Any] | None:
    """The client's own grant behind a refresh token, with when the token was superseded."""
    return connection.execute(
        select(GRANT, REFRESH.c.superseded_at_s).join(REFRESH, REFRESH.c.grant == GRANT.c.id)
        .where(REFRESH.c.digest == digest(key, "refresh", token), GRANT.c.client == client.principal)
    ).one_or_none()  # fmt: skip


def purge(store: Store, now_s: int) -> None:
    """Forgets what has expired, a little in each transaction, so that nobody waits for long, however much it is."""
    for table in EXPIRED:
        (key,) = table.primary_key
        kept_s = GRANT_LIFE_S if table is SESSION else 0  # what was given in it can end with it as long
        some = select(key).where(table.c.expires_at_s <= now_s - kept_s).limit(PURGED_MAX)
        gone = PURGED_MAX
        while gone == PURGED_MAX:
            with store.begin() as connection:
                gone = connection.execute(delete(table).where(key.in_(some))).rowcount
            time.sleep(PURGE_PAUSE_S)  # a lock goes to who asks next: others come first


class Given(NamedTuple):
    """What nothing is kept of: a client's own, or what it exchanged; as a person's grant."""

    id: str
    principal: str
    audience: str
    sid: str = ""
    authenticated_at_s: int | None = None
    amr: str = ""


def claims_for(
    server: Server, connection: Connection, client: Client, grant: Given | Row[Any], request: Request, *,
    scopes: frozenset[str], bound: str = "",
) -> jose.Claims:  # fmt: skip
    """The claims as the directory stands in this transaction; the subject must be active, the client as it was read.

    How sure we are who it is: "mfa" by more than one factor (RFC 8176), "pwd" by a password; "" for a machine.
    The device is claimed where the certificate that the connection shows is a registered one's.
    A token of an emergency ends with it, and one of a client with that: the gate needs nobody to tell it so.
    """
    subject, acts, at = grant.principal, client.principal, server.now_s()
    rows = connection.execute(_HELD, {"subject": subject, "client": acts, "now_s": at}).all()
    generations = {row.id: row.generation for row in rows}
    if subject not in generations or generations.get(acts) != client.generation:
        raise Refused("invalid_grant", "the principal is not active, or the client was changed meanwhile")
    roles = {row.role for row in rows if row.role}
    role_set = role_set_id(roles)
    ends = min([at + server.life_s, *(row.ends_s - SLACK_S for row in rows if row.ends_s)])
    if ends <= at:
        raise Refused("invalid_grant", "the client has ended")
    for row in rows:
        if row.emergency:
            role_set, ends = emergency_set(roles, row.more, row.emergency)[0], min(ends, row.until_s)
    amr, device = tuple(grant.amr.split()), fingerprint(request)
    return jose.Claims(
        issuer=server.issuer, audience=grant.audience, subject=subject, client=client.id, jti=new_id("at"),
        grant=grant.id, session=grant.sid, generation=f"{subject}#{generations[subject]}",
        client_generation="" if acts == subject else f"{acts}#{client.generation}", role_set=role_set, scopes=scopes,
        issued_at=at, expires_at=ends, authenticated_at=grant.authenticated_at_s or None, amr=amr,
        acr=MFA if MFA in amr else "pwd" if amr else "", bound=bound, device=device if device and registered(connection, device, subject) else "",
    )  # fmt: skip


def answer(access_key: jose.SigningKey, claims: jose.Claims) -> dict[str, Any]:
    """RFC 6749 section 5.1; a token that the gate would not read for its length is not given out."""
    text = jose.sign_access_token(access_key, claims)
    if len(text) > jose.TOKEN_MAX_BYTES:
        raise Refused("invalid_scope", "so many scopes make the token too long; ask for fewer, or for patterns")
    ends_s, scope = claims.expires_at - claims.issued_at, " ".join(sorted(claims.scopes))
    return {"access_token": text, "token_type": _type(claims), "expires_in": ends_s, "scope": scope}


def id_token(key: jose.SigningKey, claims: jose.Claims, *, name: str, nonce: str) -> str:
    """OpenID Connect Core section 2, signed with the ID tokens' own key."""
    told = _named(claims, ID_CLAIMS) | {"aud": claims.client}
    if nonce:
        told["nonce"] = nonce
    if "profile" in claims.scopes:
        told |= {"name": name, "preferred_username": claims.subject.removeprefix("user:")}
    return key.sign(told, type_=jose.ID_TOKEN)


def told_of(claims: jose.Claims) -> dict[str, Any]:
    """What introspection says of a good token (RFC 7662 section 2.2)."""
    return _named(claims, TOLD_CLAIMS) | {"token_type": _type(claims)}


def _named(claims: jose.Claims, names: Sequence[str]) -> dict[str, Any]:
    """Those of the access token's claims, as it says them itself."""
    told = jose.signed(claims)
    return {name: told[name] for name in names if name in told}


def _type(claims: jose.Claims) -> str:
    return "DPoP" if claims.bound.startswith("jkt:") else "Bearer"


def bearer(server: Server, connection: Connection, request: Request, audiences: Iterable[str]) -> jose.Claims:
    """The access token that a request shows to us: what it says, where it is good here and who shows it holds what it is bound to; raises Refused by a Reason."""
    text = request.headers.get("authorization", "").partition(" ")[2]
    if not text:
        raise unfit(Reason.TOKEN_MISSING)
    claims = read_access_token(server, connection, text, audiences)
    if claims is None:
        raise unfit(Reason.TOKEN_INVALID)
    if revoked(server, connection, claims):
        raise unfit(Reason.TOKEN_REVOKED)
    try:
        if clients.holds(server, connection, request, text, claims.bound):
            return claims
    except Refused as refused:
        if refused.error == USE_NONCE:
            raise
    raise unfit(Reason.TOKEN_UNBOUND)


def unfit(reason: Reason) -> Refused:
    return Refused(str(reason), reason.words, status=reason.status)


def read_access_token(
    server: Server, connection: Connection, text: str, audiences: Iterable[str] = ()
) -> jose.Claims | None:
    """The claims of a token of ours for one of these; for any where none is named."""
    jwks, now = access_keys(connection), server.now()
    for audience in audiences or (*server.systems(), server.settings.scim):
        with suppress(jose.TokenRefused):
            return jose.verify_access_token(text, jwks, issuer=server.issuer, audience=audience, now=now)
    return None


def revoked(server: Server, connection: Connection, claims: jose.Claims) -> bool:
    mine = (REVOCATION.c.key.in_(jose.revocation_keys(claims)), REVOCATION.c.expires_at_s > server.now_s())
    return connection.execute(select(REVOCATION.c.key).where(*mine)).first() is not None
