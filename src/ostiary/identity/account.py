"""A person's own account: where he is signed in, and by what he proves that it is he."""

import hmac
from collections.abc import Mapping
from typing import Any, Final

import segno
from sqlalchemy import Connection, select
from starlette.requests import Request
from starlette.responses import Response

from ostiary.audit.log import Change
from ostiary.foundation.clock import from_us
from ostiary.foundation.secret import Secret
from ostiary.identity import factors, session, sign_in
from ostiary.identity.asked import ACCOUNT
from ostiary.identity.credentials import digest, new_secret
from ostiary.identity.page import page
from ostiary.identity.principals import end_session
from ostiary.identity.request import Refused, parse, refuse_foreign
from ostiary.identity.server import Server
from ostiary.identity.session import SESSION_LIFE_S, Person
from ostiary.store.tables.identity import SESSION

RECENT_S: Final = 900  # whoever finds the browser open later may not change by what its owner signs in
KEPT_S: Final = 900


def show(server: Server, request: Request, _body: bytes) -> Response:
    """GET /account: signs in first."""
    with server.store.read() as connection:
        person = session.current(server, connection, request)
        if person:
            return _page(server, request, connection, person)
    return sign_in.ask(server, request, ACCOUNT)


def act(server: Server, request: Request, body: bytes) -> Response:
    """POST /account: one of ACTS, by who signed in a moment ago; to end a session is allowed at any time."""
    refuse_foreign(request)
    form = parse(body)
    with server.store.begin() as connection:
        person = session.current(server, connection, request)
        if person is None or not hmac.compare_digest(_csrf(server, person).encode(), form.get("csrf", "").encode()):
            raise Refused("invalid_request", "the form is not of this session; open the page again", status=403)
        name, change = form.get("act", ""), Change(connection, person.principal, server.now())
        if name == "end":
            gone = end_session(change, principal=person.principal, sid=form.get("id", ""), reason="signed out")
        elif name not in ACTS:
            raise Refused("invalid_request", "there is no such act")
        elif not _sure(server, person):
            return _page(server, request, connection, person, problem="again")
        else:
            more = ACTS[name](server, change, person, form)
            server.note(request, name, subject=person.principal)
            return _page(server, request, connection, person, **more)
    server.note(request, name, subject=person.principal)
    server.take_back(gone)
    return show(server, request, b"")


def _sure(server: Server, person: Person) -> bool:
    """Whether he has just proved it."""
    return server.now_s() - person.authenticated_at_s <= RECENT_S


def _app_new(server: Server, change: Change, person: Person, _: Mapping[str, str]) -> dict[str, Any]:
    secret = factors.new_secret()
    token = new_secret().reveal()
    kept = {"principal": person.principal, "secret": factors.sealed(server, person.principal, secret)}
    server.drawer(change.connection, "app").keep(token, KEPT_S, client="", **kept)
    return _shown(server, person, secret, token)


def _shown(server: Server, person: Person, secret: Secret, token: str) -> dict[str, Any]:
    address = factors.address(secret, person.principal.removeprefix("user:"), server.settings.host)
    return {"picture": segno.make(address, error="m").svg_data_uri(scale=4), "key": secret.reveal(), "id": token}


def _app_confirm(server: Server, change: Change, person: Person, form: Mapping[str, str]) -> dict[str, Any]:
    """The first app brings recovery codes with it."""
    drawer = server.drawer(change.connection, "app")
    kept = drawer.look(form.get("id", ""))
    if kept is None or kept.used or kept.facts["principal"] != person.principal:
        return {"problem": "again"}
    secret = factors.unsealed(server, person.principal, kept.facts["secret"])
    session.generation(change.connection, person.principal)  # one enrolment after the other
    first = not factors.asked_for(change.connection, person.principal)
    steps = factors.steps(server, secret, form.get("code", ""))
    if not steps:
        return {**_shown(server, person, secret, form["id"]), "problem": "wrong-code"}
    if drawer.use(form["id"]) is None:
        return {"problem": "again"}
    factors.add_app(server, change, person.principal, secret, steps[0])
    return {"codes": factors.new_recovery(server, change, person.principal)} if first else {}


def _recovery_new(server: Server, change: Change, person: Person, _: Mapping[str, str]) -> dict[str, Any]:
    if not factors.asked_for(change.connection, person.principal):
        return {}
    return {"codes": factors.new_recovery(server, change, person.principal)}


def _remove(_server: Server, change: Change, person: Person, form: Mapping[str, str]) -> dict[str, Any]:
    factors.remove(change, person.principal, form.get("id", "-"))
    return {}


ACTS: Final = {"app-new": _app_new, "app-confirm": _app_confirm, "recovery-new": _recovery_new, "remove": _remove}


def _page(server: Server, request: Request, connection: Connection, person: Person, **more: Any) -> Response:
    found = factors.listed(connection, person.principal)
    apps = [{**one, "since": _day(one["made_at_us"])} for one in found if one["kind"] == factors.TOTP]
    mine = select(SESSION.c.sid, SESSION.c.expires_at_s).where(
        SESSION.c.principal == person.principal, SESSION.c.expires_at_s > server.now_s()
    )
    sessions = [
        {"sid": row.sid, "since": _day((row.expires_at_s - SESSION_LIFE_S) * 1_000_000), "this": row.sid == person.sid}
        for row in connection.execute(mine.order_by(SESSION.c.expires_at_s))
    ]
    return page(
        request, "account", person=person.name, apps=apps, left=len(found) - len(apps), sessions=sessions,
        action=f"{server.issuer}/account", csrf=_csrf(server, person), **more,
    )  # fmt: skip


def _day(at_us: int) -> str:
    return f"{from_us(at_us):%Y-%m-%d %H:%M} UTC"


def _csrf(server: Server, person: Person) -> str:
    return digest(server.key, "account-form", person.sid)
