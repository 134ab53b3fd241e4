"""Makes access and ID tokens, and takes them back."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, select

from ostiary.foundation.ids import role_set_id
from ostiary.foundation.jose import (
    TOKEN_MAX_BYTES,
    Claims,
    SigningKey,
    TokenRefused,
    sign_access_token,
    verify_access_token,
)
from ostiary.foundation.secret import new_id
from ostiary.identity.request import Refused
from ostiary.store.directory import access_keys
from ostiary.store.tables.directory import ASSIGNMENT, PRINCIPAL


def claims_for(
    connection: Connection, *, issuer: str, audience: str, subject: str, client: str, grant: str, session: str,
    scopes: frozenset[str], now: datetime, life_s: int, authenticated_at: int | None, amr: tuple[str, ...],
) -> Claims:  # fmt: skip
    """The claims as the directory stands in this transaction; subject and client must be active."""
    subject_row, client_row = _active(connection, subject), _active(connection, client)
    roles = connection.execute(select(ASSIGNMENT.c.role).where(ASSIGNMENT.c.principal == subject)).scalars()
    at = int(now.timestamp())
    return Claims(
        issuer=issuer, audience=audience, subject=subject, client=client.partition(":")[2], jti=new_id("at"),
        grant=grant, session=session, generation=f"{subject}#{subject_row.generation}",
        client_generation=f"{client}#{client_row.generation}", role_set=role_set_id(roles), scopes=scopes,
        issued_at=at, expires_at=at + life_s, authenticated_at=authenticated_at, acr="pwd" if amr else "", amr=amr,
    )  # fmt: skip


def answer(access_key: SigningKey, claims: Claims) -> dict[str, Any]:
    """RFC 6749 section 5.1; a token that the gate would not read for its length is not given out."""
    text = sign_access_token(access_key, claims)
    if len(text) > TOKEN_MAX_BYTES:
        raise Refused("invalid_scope", "so many scopes make the token too long; ask for fewer, or for patterns")
    return {
        "access_token": text,
        "token_type": "Bearer",
        "expires_in": claims.expires_at - claims.issued_at,
        "scope": " ".join(sorted(claims.scopes)),
    }


def id_token(key: SigningKey, claims: Claims, *, name: str, nonce: str) -> str:
    """OpenID Connect Core section 2, signed with the ID tokens' own key."""
    told: dict[str, Any] = {
        "iss": claims.issuer, "sub": claims.subject, "aud": claims.client, "exp": claims.expires_at,
        "iat": claims.issued_at, "auth_time": claims.authenticated_at, "acr": claims.acr, "amr": list(claims.amr),
        "sid": claims.session,
    }  # fmt: skip
    if nonce:
        told["nonce"] = nonce
    if "profile" in claims.scopes:
        told["name"] = name
    return key.sign(told, type_="JWT")


def read_access_token(
    connection: Connection, text: str, *, issuer: str, audiences: list[str], now: datetime
) -> Claims | None:
    """The claims of a token of ours for any of our systems."""
    jwks = access_keys(connection)
    for audience in audiences:
        try:
            return verify_access_token(text, jwks, issuer=issuer, audience=audience, now=now)
        except TokenRefused:
            continue
    return None


def _active(connection: Connection, principal: str) -> Row[Any]:
    row = connection.execute(
        select(PRINCIPAL.c.generation).where(PRINCIPAL.c.id == principal, PRINCIPAL.c.active)
    ).one_or_none()
    if row is None:
        raise Refused("invalid_grant", "the principal is not active")
    return row
