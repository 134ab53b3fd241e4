"""What a person changes about how he proves that it is he: it begins with a new proof, and ends what was given before.

Whoever finds his browser open changes nothing, and whoever got in by less does not stay.
"""

import hmac
from collections.abc import Callable, Mapping
from typing import Any, Final

import segno
from sqlalchemy import Connection, func, select, update
from starlette.requests import Request
from starlette.responses import Response

from ostiary.audit.log import Change
from ostiary.foundation.clock import from_us
from ostiary.foundation.errors import CallerFault
from ostiary.foundation.secret import Secret
from ostiary.identity import factors, passwords, principals, session
from ostiary.identity.credentials import digest, new_secret
from ostiary.identity.page import page
from ostiary.identity.request import Refused
from ostiary.identity.server import Server
from ostiary.identity.session import SESSION_LIFE_S, Person
from ostiary.identity.tokens import GRANT_LIFE_S
from ostiary.plan.model import MFA
from ostiary.store.tables import GRANT, PRINCIPAL, SESSION

KEPT_S: Final = 900  # between the proof and the end of an enrolment
NAME_MAX_CHARS: Final = 60
More = dict[str, Any]  # what the page shows beside the account; with `told` something has changed
Act = Callable[[Server, Change, Person, Mapping[str, str]], More]


def carry_out(
    server: Server, request: Request, form: Mapping[str, str], acts: Mapping[str, Act], principal: str = ""
) -> Response:
    """One of PROVED for `principal`, who has just proved that it is he; or one of BEGUN, which such a one has led to."""
    name = form.get("act", "")
    with server.store.begin() as connection:
        whose = of_form(server, connection, request, form).principal
        session.hold(connection, whose)  # one change after the other
        person = of_form(server, connection, request, form)  # a session that has ended makes none
        if principal not in {"", person.principal} or name not in acts:
            raise Refused("invalid_request", "somebody else is signed in at this browser", status=403)
        change = Change(connection, person.principal, server.now())
        more = acts[name](server, change, person, form)
        gone = principals.end_others(change, principal=person.principal, sid=person.sid) if "told" in more else ()
        answer = shown(server, request, connection, person, **more)
    server.note(request, more.get("problem", name), act=name, subject=person.principal)
    server.take_back(gone)
    return answer


def ready(server: Server, form: Mapping[str, str], person: Person) -> Mapping[str, str]:
    """The form, with a new password's hash, or why it is `unfit`: slow, so it is made before the store is held."""
    if form.get("act") != "password-confirm":
        return form
    text, stolen = form.get("password", ""), passwords.stolen_list(server.home, server.settings)
    if text != form.get("again", ""):
        return {**form, "unfit": "not-same"}
    try:
        hashed = passwords.hash_password(Secret(text), login=_login(person), breached=stolen)
    except CallerFault as problem:
        return {**form, "unfit": problem.code}
    return {**form, "unfit": "", "hash": hashed}


def _login(person: Person) -> str:
    return person.principal.removeprefix("user:")


def of_form(server: Server, connection: Connection, request: Request, form: Mapping[str, str]) -> Person:
    """Whose session the form was made in, if it is this browser's; raises Refused."""
    person = session.current(server, connection, request)
    if person is None or not hmac.compare_digest(_csrf(server, person).encode(), form.get("csrf", "").encode()):
        raise Refused("invalid_request", "the form is not of this session; open the page again", status=403)
    return person


def _app_new(server: Server, change: Change, person: Person, _: Mapping[str, str]) -> More:
    secret = factors.new_secret()
    token = _begin(server, change, person, "app", secret=factors.sealed(server, person.principal, secret))
    return _app(server, person, secret, token) if token else ENOUGH


def _app(server: Server, person: Person, secret: Secret, token: str) -> More:
    address = factors.address(secret, _login(person), server.settings.host)
    return {"picture": segno.make(address, error="m").svg_data_uri(scale=4), "key": secret.reveal(), "id": token}


def _app_confirm(server: Server, change: Change, person: Person, form: Mapping[str, str]) -> More:
    kept = _begun(server, change, person, "app", form)
    if kept is None:
        return LAPSED
    secret = factors.unsealed(server, person.principal, kept["secret"])
    steps = factors.steps(server, secret, form.get("code", ""))
    if not steps:
        return {**_app(server, person, secret, form["id"]), "named_so": _name(form), "problem": "wrong-code"}
    server.drawer(change.connection, "app").use(form["id"])
    facts: dict[str, Any] = {"name": _name(form), "counter": steps[0]}
    factors.add(server, change, person.principal, factors.TOTP, secret, **facts)
    return _added(server, change, person)


def _passkey_new(server: Server, change: Change, person: Person, _: Mapping[str, str]) -> More:
    challenge = _begin(server, change, person, "passkey-new")
    if not challenge:
        return ENOUGH
    options = factors.passkey_asked_new(server, change.connection, person.principal, challenge)
    return {"options": options, "id": challenge}


def _passkey_confirm(server: Server, change: Change, person: Person, form: Mapping[str, str]) -> More:
    drawer = server.drawer(change.connection, "passkey-new")
    if _begun(server, change, person, "passkey-new", form) is None or drawer.use(form["id"]) is None:
        return LAPSED
    if not factors.add_passkey(server, change, person.principal, form["id"], form.get("passkey", ""), _name(form)):
        return {"problem": "wrong-passkey"}
    return _added(server, change, person)


def _recovery_new(server: Server, change: Change, person: Person, _: Mapping[str, str]) -> More:
    if not factors.asked_for(change.connection, person.principal):
        return {}
    return {**CHANGED, "codes": factors.new_recovery(server, change, person.principal)}


def _remove(_server: Server, change: Change, person: Person, form: Mapping[str, str]) -> More:
    return CHANGED if factors.remove(change, person.principal, form.get("id", "-")) else {}


def _password_new(server: Server, change: Change, person: Person, _: Mapping[str, str]) -> More:
    """For who has a password here; whom a provider signs in has his there."""
    if not session.has_password(change.connection, person.principal):
        return {}
    return {"password": _keep(server, change, person, "password")}


def _password_confirm(server: Server, change: Change, person: Person, form: Mapping[str, str]) -> More:
    if _begun(server, change, person, "password", form) is None:
        return LAPSED
    if form["unfit"]:
        return {"password": form["id"], "problem": form["unfit"]}
    server.drawer(change.connection, "password").use(form["id"])
    principals.keep_password(change, key=server.key, login=_login(person), hashed=form["hash"])
    return CHANGED


CHANGED: Final[More] = {"told": "changed"}
LAPSED: Final[More] = {"problem": "lapsed"}
ENOUGH: Final[More] = {"problem": "enough"}
PROVED: Final[Mapping[str, Act]] = {
    "app-new": _app_new, "passkey-new": _passkey_new, "recovery-new": _recovery_new, "remove": _remove,
    "password-new": _password_new,
}  # fmt: skip
# What needs no new proof: it takes away.
ENDS: Final = {"end": principals.end_session, "forget": principals.end_application}
BEGUN: Final[Mapping[str, Act]] = {
    "app-confirm": _app_confirm, "passkey-confirm": _passkey_confirm, "password-confirm": _password_confirm,
}  # fmt: skip


def _begin(server: Server, change: Change, person: Person, kind: str, **facts: str) -> str:
    """The one-time thing that an enrolment goes on with, in this session alone; "" where he has enough."""
    if factors.count(change.connection, person.principal) >= factors.FACTORS_MAX:
        return ""
    return _keep(server, change, person, kind, **facts)


def _keep(server: Server, change: Change, person: Person, kind: str, **facts: str) -> str:
    token = new_secret().reveal()
    server.drawer(change.connection, kind).keep(token, KEPT_S, client="", sid=person.sid, **facts)
    return token


def _begun(server: Server, change: Change, person: Person, kind: str, form: Mapping[str, str]) -> dict[str, Any] | None:
    kept = server.drawer(change.connection, kind).look(form.get("id", ""))
    return kept.facts if kept and not kept.used and kept.facts["sid"] == person.sid else None


def _added(server: Server, change: Change, person: Person) -> More:
    """Recovery codes come along where there are none. He has just shown both: the session goes on as one by both."""
    this = (SESSION.c.principal == person.principal, SESSION.c.sid == person.sid)
    both = {"amr": " ".join(dict.fromkeys((*person.amr, MFA)))}
    change.connection.execute(update(SESSION).where(*this).values(both))
    codes = any(one["kind"] == factors.RECOVERY for one in factors.listed(change.connection, person.principal))
    return CHANGED if codes else {**CHANGED, "codes": factors.new_recovery(server, change, person.principal)}


def _name(form: Mapping[str, str]) -> str:
    return "".join(letter for letter in form.get("name", "")[:NAME_MAX_CHARS] if letter.isprintable()).strip()


def shown(server: Server, request: Request, connection: Connection, person: Person, **more: Any) -> Response:
    """The page."""
    found = factors.listed(connection, person.principal)
    mine = [
        {**one, "since": _day(one["made_at_us"]), "used": _day(one["used_at_us"]) if one["used_at_us"] else ""}
        for one in found if one["kind"] != factors.RECOVERY
    ]  # fmt: skip
    own = select(SESSION.c.sid, SESSION.c.expires_at_s, SESSION.c.place, SESSION.c.agent).where(
        SESSION.c.principal == person.principal, SESSION.c.expires_at_s > server.now_s()
    )
    sessions = [
        {
            "sid": row.sid, "since": _day((row.expires_at_s - SESSION_LIFE_S) * 1_000_000), "place": row.place,
            "agent": row.agent, "this": row.sid == person.sid,
        }
        for row in connection.execute(own.order_by(SESSION.c.expires_at_s))
    ]  # fmt: skip
    last = func.max(GRANT.c.expires_at_s).label("last")
    given = select(GRANT.c.client, PRINCIPAL.c.name, last).join(PRINCIPAL, PRINCIPAL.c.id == GRANT.c.client)
    living = (GRANT.c.principal == person.principal, ~GRANT.c.revoked, GRANT.c.expires_at_s > server.now_s())
    applications = [
        {"client": row.client, "name": row.name, "last": _day((row.last - GRANT_LIFE_S) * 1_000_000)}
        for row in connection.execute(given.where(*living).group_by(GRANT.c.client, PRINCIPAL.c.name))
    ]
    return page(
        request, "account", applications=applications, person=person.name, login=_login(person),
        own=session.has_password(connection, person.principal), factors=mine, left=len(found) - len(mine), sessions=sessions,
        action=f"{server.issuer}/account", csrf=_csrf(server, person), script=f"{server.issuer}/passkey.js", **more,
    )  # fmt: skip


def _day(at_us: int) -> str:
    return f"{from_us(at_us):%Y-%m-%d %H:%M} UTC"


def _csrf(server: Server, person: Person) -> str:
    return digest(server.key, "account-form", person.sid)
