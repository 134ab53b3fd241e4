"""A service changes the token it was called with for one of its own, to act for the same person (RFC 8693)."""

from collections.abc import Mapping
from typing import Any, Final

from msgspec.structs import replace
from sqlalchemy import Connection
from starlette.requests import Request

from ostiary.foundation.jose import Claims
from ostiary.identity import clients, tokens
from ostiary.identity.clients import Client
from ostiary.identity.request import Refused
from ostiary.identity.server import Server

ACCESS_TOKEN: Final = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105  the name of a type
LIFE_S: Final = 300  # its first client may lose all it had: what was exchanged does not outlive that long
ACTORS_MAX: Final = 4


def exchange(  # noqa: PLR0917  what the request shows
    server: Server, connection: Connection, request: Request, client: Client, told: Mapping[str, str], bound: str
) -> tuple[dict[str, Any], Claims]:
    """A token that allows no more than the subject's, and for no longer; it says who acts for whom."""
    for name in ("subject_token_type", "requested_token_type"):
        if told.get(name, ACCESS_TOKEN) != ACCESS_TOKEN:
            raise Refused("invalid_request", f"the {name} is {ACCESS_TOKEN}")
    if "actor_token" in told:
        raise Refused("invalid_request", "the client that asks is the one that acts")
    subject = _subject(server, connection, client, told.get("subject_token", ""))
    scopes = _scopes(server, client, subject, told)
    signed_in: dict[str, Any] = {
        "sid": subject.session,
        "authenticated_at_s": subject.authenticated_at,
        "amr": " ".join(subject.amr),
    }
    grant = tokens.Given(subject.grant, subject.subject, client.principal, subject.audience, **signed_in)
    claims = tokens.claims_for(server, connection, grant, request, scopes=scopes, bound=bound)
    ends = min(claims.expires_at, subject.expires_at, claims.issued_at + LIFE_S)
    had = {"device": subject.device, "role_set": subject.role_set}
    claims = replace(claims, actor=_actor(client, subject), expires_at=ends, **had)
    answer = tokens.answer(server.signing(connection)["access"], claims)
    return {**answer, "issued_token_type": ACCESS_TOKEN}, claims


def _subject(server: Server, connection: Connection, client: Client, text: str) -> Claims:
    """The token of the person, which was given to a client whose tokens this one may exchange."""
    subject = tokens.read_access_token(server, connection, text)
    if subject is None or subject.bound or tokens.revoked(server, connection, subject):
        raise Refused("invalid_request", "the subject token is not valid, or is bound to a key")
    if client.public or subject.client not in {client.id, *client.exchange}:
        raise Refused("unauthorized_client", "this client may not exchange tokens of the one that it was given to")
    return subject


def _scopes(server: Server, client: Client, subject: Claims, told: Mapping[str, str]) -> frozenset[str]:
    if told.get("resource", told.get("audience", subject.audience)) != subject.audience:
        raise Refused("invalid_target", "the subject's token is for another system")
    had = subject.scopes - clients.OIDC_SCOPES
    wanted = frozenset(told.get("scope", "").split()) or had
    if not wanted or not all(clients.covered(scope, had) for scope in wanted):  # nothing would mean everything
        raise Refused("invalid_scope", "more than the subject had")
    return clients.narrow(client, " ".join(wanted), server.audience(subject.audience)[1])


def _actor(client: Client, subject: Claims) -> dict[str, Any]:
    """Who acts now, and below him who acted before (RFC 8693 section 4.1)."""
    before, depth = subject.actor, 0
    while before:
        before, depth = before.get("act"), depth + 1
    if depth >= ACTORS_MAX:
        raise Refused("invalid_request", "it was exchanged too often")
    return {"sub": client.principal, **({"act": subject.actor} if subject.actor else {})}
