"""The person's answer: who he is, and whether the client may; the same page for clients, devices, his own account."""

import base64
import hmac
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlencode

from sqlalchemy import Connection, bindparam, select
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from ostiary.foundation.secret import Secret, new_id
from ostiary.identity import clients, device, factors, grants, providers, session, tries
from ostiary.identity.asked import Asked, read
from ostiary.identity.credentials import derived, digest, new_secret, password_matches
from ostiary.identity.page import HEADERS, page
from ostiary.identity.request import Refused, parse, query, refuse_foreign, site
from ostiary.identity.server import Server
from ostiary.identity.session import SESSION_COOKIE, SESSION_LIFE_S, Person, set_cookie
from ostiary.plan.formula import MFA
from ostiary.plan.reason import HEADER, Reason
from ostiary.store.tables.directory import PRINCIPAL
from ostiary.store.tables.identity import PASSWORD

DEVICE_COOKIE: Final = "__Host-ostiary-device"
DEVICE_LIFE_S: Final = 365 * 24 * 3600
FORM_COOKIE: Final = "__Host-ostiary-form"
FORM_COOKIE_VALUE: Final = re.compile(r"[A-Za-z0-9_-]{43}")
NOT_A_LOGIN: Final = "\0device"  # nobody can be called so
HALF_LIFE_S: Final = 300  # between password and code
BY_PROVIDER: Final = ("provider", "outside_sid")


_WHO: Final = (
    select(PASSWORD.c.hash, PRINCIPAL.c.name, PRINCIPAL.c.generation)
    .join_from(PRINCIPAL, PASSWORD, PRINCIPAL.c.id == PASSWORD.c.principal, isouter=True)
    .where(PRINCIPAL.c.id == bindparam("principal"), PRINCIPAL.c.active)
)


def show(server: Server, request: Request, _body: bytes) -> Response:
    """GET /authorize."""
    return ask(server, request, query(request))


def show_device(server: Server, request: Request, _body: bytes) -> Response:
    """GET /device: asks for the code on the device's screen, then what any client asks. Wrong codes count as tries."""
    text = query(request)
    if not text:
        return page(request, "device", action=f"{server.issuer}/device")
    refuse_foreign(request)
    place = tries.place_of(server.key, NOT_A_LOGIN, site(request))
    with server.store.begin() as connection:
        if tries.count(connection, place, server.now_s()):
            return _stopped(server, request, "locked", "too many codes from here; wait for five minutes")
    answer = ask(server, request, text, device=True)
    if answer.status_code == HTTPStatus.OK:
        with server.store.begin() as connection:
            tries.give_back(connection, place)
    return answer


def ask(server: Server, request: Request, text: bytes, *, device: bool = False) -> Response:
    """The page for what is asked in `text`, or an error to whoever may have it."""
    try:
        with server.store.read() as connection:
            asked = read(server, connection, text, device=device)
            person = _fit(server, asked, session.current(server, connection, request))
    except Refused as refused:
        return _stopped(server, request, refused.error, refused.description)
    why = {"why": asked.problem.description} if asked.problem else {}
    server.note(request, asked.problem.error if asked.problem else "shown", client=asked.by, **why)
    if asked.problem:
        return _back(server, asked, error=asked.problem.error, error_description=asked.problem.description)
    if asked.silent:
        return _back(server, asked, error="consent_required" if person else "login_required")
    return _form(server, request, asked, person)


def answer(server: Server, request: Request, body: bytes) -> Response:
    """POST /sign-in: the person's answer; 303 after credentials (RFC 9700 section 4.12)."""
    try:
        form = parse(body)
        asked, person = shown(server, request, form)
    except Refused as refused:
        return _stopped(server, request, "refused", refused.description)
    if asked.problem:
        return _back(server, asked, error=asked.problem.error)
    if form.get("decision") != "allow":
        return _denied(server, request, asked)
    if person:
        fits = _fit(server, asked, person)
        return _allowed(server, request, asked, person) if fits else _form(server, request, asked, None)
    try:
        return _by_code(server, request, asked, form) if "half" in form else _by_password(server, request, asked, form)
    except Refused as refused:
        return _stopped(server, request, "refused", refused.description)


def shown(server: Server, request: Request, form: Mapping[str, str]) -> tuple[Asked, Person | None]:
    """What the form was made for, in this browser, and for whom; raises Refused."""
    try:
        text = base64.urlsafe_b64decode(form.get("request", ""))
    except ValueError:
        raise Refused("invalid_request", "the form cannot be read") from None
    with server.store.read() as connection:
        person = _meant(server, request, text, form.get("csrf", ""), session.current(server, connection, request))
        return read(server, connection, text, device=True), person


def _by_password(server: Server, request: Request, asked: Asked, form: Mapping[str, str]) -> Response:
    login = form.get("username", "")
    place = _place(server, request, login)
    proved = _proved(server, place, f"user:{login}", Secret(form.get("password", "")))
    if not isinstance(proved, Person):
        server.note(request, client=asked.by, **proved)
        return _form(server, request, asked, None, problem="not-accepted")
    return half_or_whole(server, request, asked, proved, place)


def half_or_whole(server: Server, request: Request, asked: Asked, person: Person, place: str = "") -> Response:
    """Half of the proof where the account has another factor, which was not shown yet, the whole where it has none."""
    half = ""
    with server.store.begin() as connection:
        tries.clear(connection, place)
        if MFA not in person.amr and factors.asked_for(connection, person.principal):
            half = new_secret().reveal()
            facts = {name: getattr(person, name) for name in ("principal", "generation", *BY_PROVIDER)}
            server.drawer(connection, "half").keep(half, HALF_LIFE_S, client="", **facts)
    if not half:
        met = MFA in person.amr or not asked.mfa
        return _allowed(server, request, asked, person) if met else unmet(server, request, asked)
    server.note(request, "half", client=asked.by, account=person.principal)
    return _form(server, request, asked, None, half=half)


def _by_code(server: Server, request: Request, asked: Asked, form: Mapping[str, str]) -> Response:
    """The other half; the password's is good for one right code, and codes are tried as often as passwords."""
    half = form["half"]
    with server.store.begin() as connection:
        drawer = server.drawer(connection, "half")
        kept = drawer.look(half)
        if kept is None or kept.used:
            raise Refused("invalid_request", "this sign-in has lapsed; start again where you came from")
        principal = kept.facts["principal"]
        login = principal.removeprefix("user:")
        place = tries.place_of(server.key, login, "code, known browser" if _known(server, request, login) else "code")
        locked_s = tries.count(connection, place, server.now_s())
        amr = () if locked_s else factors.proves(server, connection, principal, form.get("code", ""))
        made = person(server, connection, principal, amr) if amr else None
        if made and (made.generation != kept.facts["generation"] or drawer.use(half) is None):
            made = None
        if made:
            tries.clear(connection, place)
    if made:
        by = {name: kept.facts[name] for name in BY_PROVIDER}
        return _allowed(server, request, asked, made._replace(**by))
    server.note(request, "locked" if locked_s else "wrong", client=asked.by, account=principal)
    return _form(server, request, asked, None, half=half, problem="wrong-code")


def _allowed(server: Server, request: Request, asked: Asked, person: Person) -> Response:
    try:
        given = _given(server, asked, person)
    except Refused:
        server.note(request, "ended", client=asked.by, subject=person.principal)
        return page(request, "stopped", status=400, problem="the session has ended; sign in again")
    server.note(request, "allowed", client=asked.by, subject=person.principal)
    if asked.user_code:
        response: Response = page(request, "done")
    elif asked.client is None:
        response = RedirectResponse(f"{server.issuer}/account", 303, headers=HEADERS)
    else:
        response = _back(server, asked, code=given)
    if person.session:
        set_cookie(response, SESSION_COOKIE, person.session, SESSION_LIFE_S)
        set_cookie(response, DEVICE_COOKIE, _device(server, person.principal.removeprefix("user:")), DEVICE_LIFE_S)
    return response


def _denied(server: Server, request: Request, asked: Asked) -> Response:
    server.note(request, "denied", client=asked.by)
    if not asked.user_code:
        return _back(server, asked, error="access_denied")
    with server.store.begin() as connection:
        device.decide(server, connection, asked.user_code)
    return page(request, "denied")


def unmet(server: Server, request: Request, asked: Asked) -> Response:
    server.note(request, "unmet", client=asked.by)
    return _back(server, asked, error="unmet_authentication_requirements")


def _stopped(server: Server, request: Request, outcome: str, why: str) -> Response:
    server.note(request, outcome, why=why)
    return page(request, "stopped", status=400, problem=why)


def _fit(server: Server, asked: Asked, person: Person | None) -> Person | None:
    """Whose session may answer (OpenID Connect Core section 3.1.2.1); a `max_age` of 0 is `prompt=login`."""
    if person is None or asked.fresh or asked.age_max_s == 0 or (asked.mfa and MFA not in person.amr):
        return None
    age_s = server.now_s() - person.authenticated_at_s
    return person if asked.age_max_s is None or age_s <= asked.age_max_s else None


def _meant(server: Server, request: Request, text: bytes, shown: str, session: Person | None) -> Person | None:
    """Whom the form was made for: nobody yet, or this session's person.

    Raises Refused where it was for another browser, another request (RFC 9700 section 4.7), or another person.
    """
    for person in (None, session):
        expected = _csrf(server, request.cookies.get(FORM_COOKIE, ""), text, person)
        if hmac.compare_digest(expected.encode(), shown.encode()):
            return person
    raise Refused("invalid_request", "the form is not from this browser; go back and try again")


def _csrf(server: Server, cookie: str, text: bytes, person: Person | None) -> str:
    return digest(server.key, "form", cookie, text.decode("latin-1"), person.sid if person else "")


def _form(  # noqa: PLR0917  what the page shows
    server: Server, request: Request, asked: Asked, person: Person | None, problem: str = "", half: str = ""
) -> Response:
    cookie = request.cookies.get(FORM_COOKIE, "")
    if not FORM_COOKIE_VALUE.fullmatch(cookie):
        cookie = new_secret().reveal()
    with server.store.read() as connection:
        outside = [] if person or half else providers.everyone(connection)
    everything, scopes = clients.in_words(asked.values.get("scopes", "").split())
    shown = page(
        request, "sign-in", client=asked.client.name if asked.client else "", everything=everything, scopes=scopes,
        problem=problem, action=f"{server.issuer}/sign-in", person=person.name if person else "", half=half, outside=outside,
        user_code=asked.user_code, asked=base64.urlsafe_b64encode(asked.text).decode(),
        csrf=_csrf(server, cookie, asked.text, person),
    )  # fmt: skip
    set_cookie(shown, FORM_COOKIE, cookie)
    if problem:
        shown.headers[HEADER] = str(Reason.CREDENTIAL_INVALID)
    return shown


def _given(server: Server, asked: Asked, person: Person) -> str:
    """The code, or the grant of a device, and the new session; raises Refused where what it rests on went meanwhile."""
    ended = Refused("access_denied", "the session has ended")
    with server.store.begin() as connection:
        now_s = server.now_s()
        if session.generation(connection, person.principal) != person.generation:
            raise ended
        if asked.pushed and server.drawer(connection, "pushed").use(asked.pushed) is None:
            raise ended
        if person.session:
            session.keep(connection, server, person)
        elif not session.in_force(connection, person, now_s):
            raise ended
        if asked.client is None:
            return ""
        signed_in = {"sid": person.sid, "authenticated_at_s": person.authenticated_at_s, "amr": " ".join(person.amr)}
        grant = grants.begin(connection, now_s, {**asked.values, "principal": person.principal, **signed_in})
        if asked.user_code:
            if not device.decide(server, connection, asked.user_code, grant):
                raise ended
            return grant
        opens = {"client": asked.client.principal, "redirect": asked.redirect, "challenge": asked.challenge}
        return grants.code_for(server.drawer(connection, "code"), grant, **opens).reveal()


def _back(server: Server, asked: Asked, **facts: str) -> Response:
    """To the client, with `iss` in every answer (RFC 9207); to his own account who was asked for that alone."""
    told = {**facts, **({"state": asked.state} if asked.state else {}), "iss": server.issuer}
    joined = "&" if "?" in asked.redirect else "?"
    place = f"{asked.redirect}{joined}{urlencode(told)}" if asked.client else f"{server.issuer}/account"
    return RedirectResponse(place, 303, headers=HEADERS)


def _place(server: Server, request: Request, login: str) -> str:
    """What tries are counted by: the account, and the address, or that this browser has signed it in before.

    So nobody's wrong tries keep him out of his own browser, though they come from the same office.
    """
    return tries.place_of(server.key, login, "known browser" if _known(server, request, login) else site(request))


def _known(server: Server, request: Request, login: str) -> bool:
    return hmac.compare_digest(_device(server, login).encode(), request.cookies.get(DEVICE_COOKIE, "").encode())


def _device(server: Server, login: str) -> str:
    return derived(server.key, "device", login).reveal()


def _proved(server: Server, place: str, principal: str, password: Secret) -> Person | dict[str, str]:
    """The person, or what to note of the try: the account where there is one.

    An unknown name is not kept: it may be a password, typed into the wrong field.
    """
    now_s = server.now_s()
    with server.store.begin() as connection:
        locked_s = tries.count(connection, place, now_s)
        row = connection.execute(_WHO, {"principal": principal}).one_or_none()
    account = {"account": principal} if row else {}
    if locked_s:
        return {"outcome": "locked", "locked_s": str(locked_s), **account}
    if not password_matches(row.hash if row else None, password) or row is None:
        return {"outcome": "wrong", **account}
    return _made(principal, row, now_s, ("pwd",))


def person(server: Server, connection: Connection, principal: str, amr: tuple[str, ...]) -> Person | None:
    """The active one with this id, as he signs in now; None where there is none."""
    row = connection.execute(_WHO, {"principal": principal}).one_or_none()
    return _made(principal, row, server.now_s(), amr) if row else None


def _made(principal: str, row: Any, now_s: int, amr: tuple[str, ...]) -> Person:
    return Person(principal, row.name, new_id("sid"), now_s, row.generation, amr, new_secret().reveal())
