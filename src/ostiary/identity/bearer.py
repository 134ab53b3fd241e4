"""The access token that a request shows to the authorization server itself."""

from collections.abc import Iterable
from contextlib import suppress

from sqlalchemy import Connection
from starlette.requests import Request

from ostiary.foundation.jose import Claims
from ostiary.identity import clients, tokens
from ostiary.identity.request import Refused
from ostiary.identity.server import Server
from ostiary.plan.decide import Reason


def shown(server: Server, connection: Connection, request: Request, audiences: Iterable[str]) -> Claims:
    """What it says, where it is good here and who shows it holds what it is bound to; raises Refused by a Reason."""
    text = request.headers.get("authorization", "").partition(" ")[2]
    if not text:
        raise unfit(Reason.TOKEN_MISSING)
    claims = tokens.read_access_token(server, connection, text, audiences)
    if claims is None:
        raise unfit(Reason.TOKEN_INVALID)
    if tokens.revoked(server, connection, claims):
        raise unfit(Reason.TOKEN_REVOKED)
    with suppress(Refused):
        if clients.holds(server, connection, request, text, claims.bound):
            return claims
    raise unfit(Reason.TOKEN_UNBOUND)


def unfit(reason: Reason) -> Refused:
    return Refused(str(reason), reason.words, status=reason.status)
