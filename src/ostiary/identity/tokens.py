"""Makes access and ID tokens, and takes them back."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Row, and_, bindparam, select
from starlette.requests import Request

from ostiary.foundation import jose
from ostiary.foundation.ids import role_set_id
from ostiary.foundation.secret import new_id
from ostiary.identity.request import Refused, fingerprint
from ostiary.identity.server import Server
from ostiary.plan.model import MFA
from ostiary.store.directory import access_keys, emergency_set, registered
from ostiary.store.tables import ASSIGNMENT, CLIENT, PRINCIPAL, PROPOSAL, REVOCATION

SLACK_S: Final = (
    2  # the gate refuses a token from the second after the one in which it ends, by a clock one second behind
)
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


class Given(NamedTuple):
    """What nothing is kept of: a client's own, or what it exchanged; as a person's grant."""

    id: str
    principal: str
    client: str
    audience: str
    sid: str = ""
    authenticated_at_s: int | None = None
    amr: str = ""


def acr_of(amr: Sequence[str]) -> str:
    """How sure we are who it is: "mfa" by more than one factor (RFC 8176), "pwd" by a password; "" for a machine."""
    return MFA if "mfa" in amr else "pwd" if amr else ""


def claims_for(
    server: Server, connection: Connection, grant: Given | Row[Any], request: Request, *, scopes: frozenset[str],
    bound: str = "",
) -> jose.Claims:  # fmt: skip
    """The claims as the directory stands in this transaction; subject and client must be active.

    The device is claimed where the certificate that the connection shows is a registered one's.
    A token of an emergency ends with it, and one of a client with that: the gate needs nobody to tell it so.
    """
    subject, client, at = grant.principal, grant.client, server.now_s()
    rows = connection.execute(_HELD, {"subject": subject, "client": client, "now_s": at}).all()
    generations = {row.id: row.generation for row in rows}
    if not generations.keys() >= {subject, client}:
        raise Refused("invalid_grant", "the principal is not active")
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
        issuer=server.issuer, audience=grant.audience, subject=subject, client=client.partition(":")[2], jti=new_id("at"),
        grant=grant.id, session=grant.sid, generation=f"{subject}#{generations[subject]}",
        client_generation="" if client == subject else f"{client}#{generations[client]}", role_set=role_set, scopes=scopes,
        issued_at=at, expires_at=ends, authenticated_at=grant.authenticated_at_s or None, amr=amr,
        acr=acr_of(amr), bound=bound, device=device if device and registered(connection, device, subject) else "",
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
        told["name"] = name
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


def revoked(server: Server, connection: Connection, claims: jose.Claims) -> bool:
    mine = (REVOCATION.c.key.in_(jose.revocation_keys(claims)), REVOCATION.c.expires_at_s > server.now_s())
    return connection.execute(select(REVOCATION.c.key).where(*mine)).first() is not None


def read_access_token(
    server: Server, connection: Connection, text: str, audiences: Iterable[str] = ()
) -> jose.Claims | None:
    """The claims of a token of ours for one of these; for any where none is named."""
    jwks, now = access_keys(connection), server.now()
    for audience in audiences or (*server.systems(), server.settings.scim):
        with suppress(jose.TokenRefused):
            return jose.verify_access_token(text, jwks, issuer=server.issuer, audience=audience, now=now)
    return None
