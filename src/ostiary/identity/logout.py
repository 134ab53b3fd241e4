"""Signing out at the wish of a client (OpenID Connect RP-Initiated Logout 1.0)."""

from urllib.parse import urlencode

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from ostiary.audit.log import Change
from ostiary.foundation.jose import Hint, TokenRefused, verify_hint
from ostiary.identity import clients, keys, session, sign_in
from ostiary.identity.page import HEADERS
from ostiary.identity.principals import end_session
from ostiary.identity.request import Refused, parse, query
from ostiary.identity.server import Server


def end(server: Server, request: Request, body: bytes) -> Response:
    """Ends the session that the ID token names; without one the person is asked, at his account.

    Whoever has the token may end that session, and no other: no other web page can end one blindly.
    """
    given = parse(body or query(request))
    with server.store.begin() as connection:
        hint = _hint(server, connection, given.get("id_token_hint", ""))
        person = session.current(server, connection, request)
        gone: tuple[str, ...] = ()
        if hint and given.get("client_id", hint.client) != hint.client:  # section 2
            raise Refused("invalid_request", "the id_token_hint is another client's")
        if hint:
            change = Change(connection, hint.subject, server.now())
            gone = end_session(change, hint.subject, hint.session, "its client signed it out")
        back = _back(connection, given, hint.client if hint else "")
    server.note(request, "ended" if gone else "shown", client=hint.client if hint else "-")
    server.take_back(gone)
    if person and (hint is None or hint.session != person.sid):
        return sign_in.show_account(server, request, b"")
    return RedirectResponse(back or f"{server.issuer}/account", 303, headers=HEADERS)


def _hint(server: Server, connection: Connection, text: str) -> Hint | None:
    """What the ID token says: it may have expired, but we have signed it."""
    if not text:
        return None
    try:
        return verify_hint(text, keys.published(connection), issuer=server.issuer)
    except TokenRefused as refused:
        told = "the id_token_hint is no ID token of ours that names a session; a device revokes its tokens"
        raise Refused("invalid_request", told) from refused


def _back(connection: Connection, given: dict[str, str], client_id: str) -> str:
    """Where the person goes then, if it is registered for the client that the hint is for."""
    place, client = given.get("post_logout_redirect_uri", ""), clients.find(connection, client_id)
    if not place or client is None or not clients.redirect_known(client, place):
        return ""
    joined = "&" if "?" in place else "?"
    return place + (f"{joined}{urlencode({'state': given['state']})}" if "state" in given else "")
