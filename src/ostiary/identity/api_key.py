"""API keys: the gate shows one here with every request, and goes on with a token of its client in its place."""

from http import HTTPStatus
from typing import Final

from msgspec.structs import replace
from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from ostiary.foundation.api_key import KEY_PREFIX, WRONG
from ostiary.foundation.jose import Claims
from ostiary.foundation.secret import new_id
from ostiary.identity import clients, tokens
from ostiary.identity.clients import Client
from ostiary.identity.request import Refused, Shown
from ostiary.identity.server import Server

SERVES_S: Final = 30  # one token, for the requests of so many seconds: a signature less for each, at the gate too
KEPT_MAX: Final = 10_000
CLASS_HEADER: Final = "x-gw-class"  # begins with the system that the request goes to


def show(server: Server, request: Request, _body: bytes) -> Response:
    """In `authorization` a token of the key's client, good for all that it may do at the system it calls."""
    with server.store.read() as connection:
        client = _client(server, connection, request)
        try:
            outcome, claims, token = _token(server, connection, request, client)
        except Refused as refused:
            raise _refused(refused, HTTPStatus.SERVICE_UNAVAILABLE, client=client.id) from None
    server.note(request, outcome, client=client.id, subject=claims.subject, grant=claims.grant, jti=claims.jti)
    return Response(headers={"authorization": f"Bearer {token}"})


def _client(server: Server, connection: Connection, request: Request) -> Client:
    text = request.headers.get("authorization", "").partition(" ")[2]
    told = Shown(text.removeprefix(KEY_PREFIX).rpartition(".")[0], text)
    try:
        return clients.prove(server, connection, request, told, clients.AT_THE_GATE)
    except Refused as refused:
        raise _refused(refused, WRONG) from None


def _token(server: Server, connection: Connection, request: Request, client: Client) -> tuple[str, Claims, str]:
    """A token with its claims, `issued` now or `served` again: one made a moment ago is good for what is still so."""
    clients.refuse_grant(client, "client_credentials")
    system, audience = _asked(server, request)
    grant = tokens.Given(new_id("gr"), client.principal, client.principal, audience)
    claims = tokens.claims_for(server, connection, grant, request, scopes=clients.allowed(client, system))
    key = server.signing(connection)["access"]
    alike = (key.kid, replace(claims, jti="", grant="", issued_at=0, expires_at=0))
    kept, token = server.keyed.get(alike, (None, ""))
    if kept and claims.issued_at < min(kept.issued_at + SERVES_S, kept.expires_at - tokens.SLACK_S):
        return "served", kept, token
    if len(server.keyed) >= KEPT_MAX:
        server.keyed.clear()
    token = tokens.answer(key, claims)["access_token"]
    server.keyed[alike] = (claims, token)
    return "issued", claims, token


def _asked(server: Server, request: Request) -> tuple[str, str]:
    """The system that the request goes to, and its audience; of no system any: the gate wants a token before it says so."""
    system = request.headers.get(CLASS_HEADER, "").partition(":")[0]
    audiences = {name: audience for audience, name in server.systems().items()}
    return system, audiences.get(system) or next(iter(audiences.values()), "-")


def _refused(refused: Refused, status: int, **facts: str) -> Refused:
    return Refused(refused.error, refused.description, status=status, guessed=refused.guessed, **refused.facts, **facts)
