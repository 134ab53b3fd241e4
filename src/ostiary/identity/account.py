"""A person's own account: where he is signed in, and by what he proves that it is he."""

from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from ostiary.audit.log import Change
from ostiary.identity import changes, session, sign_in
from ostiary.identity.asked import ACCOUNT
from ostiary.identity.principals import end_session
from ostiary.identity.request import Refused, parse, refuse_foreign
from ostiary.identity.server import Server


def show(server: Server, request: Request, _body: bytes) -> Response:
    """GET /account: signs in first."""
    with server.store.read() as connection:
        person = session.current(server, connection, request)
        if person:
            return changes.shown(server, request, connection, person)
    return sign_in.ask(server, request, ACCOUNT)


def act(server: Server, request: Request, body: bytes) -> Response:
    """POST /account: ends a session, goes on with what was begun, or asks for a new proof before anything else."""
    refuse_foreign(request)
    form = parse(body)
    name, named = form.get("act", ""), form.get("id", "")
    with server.store.read() as connection:
        signed_in = session.current(server, connection, request)
    if signed_in is None:  # a session by the password alone has ended with the first factor
        return sign_in.ask(server, request, ACCOUNT)
    if name in changes.BEGUN:
        return changes.carry_out(server, request, form, changes.BEGUN)
    with server.store.begin() as connection:
        person = changes.of_form(server, connection, request, form)
        change = Change(connection, person.principal, server.now())
        gone = end_session(change, principal=person.principal, sid=named, reason="signed out") if name == "end" else ()
    if name in changes.PROVED:
        told = {"act": name, "id": named, "csrf": form["csrf"]}
        return sign_in.ask(server, request, b"?".join((ACCOUNT, urlencode(told).encode())))
    if name != "end":
        raise Refused("invalid_request", "there is no such act")
    server.note(request, name, subject=person.principal)
    server.take_back(gone)
    return show(server, request, b"")
