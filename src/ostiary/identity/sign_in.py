"""The person's answer: who he is, and whether the client may; the same page for clients, devices, his own account."""

import base64
import hmac
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final
from urllib.parse import urlencode

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from ostiary.audit.log import Change
from ostiary.identity import account, clients, factors, providers, session, tokens, tries
from ostiary.identity.asked import ACCOUNT, AT_DEVICE, Asked, decide_device, read
from ostiary.identity.credentials import digest, new_secret
from ostiary.identity.page import HEADERS, page
from ostiary.identity.request import Refused, parse, query, refuse_foreign, site
from ostiary.identity.server import Server
from ostiary.identity.session import Person, set_cookie
from ostiary.plan.decide import HEADER, Reason
from ostiary.plan.model import MFA

ENDED_THERE: Final = "outside-ended"  # a provider, and what it called the session or whose they all were
ENDED_LIFE_S: Final = session.AWAY_S + 2 * session.HALF_LIFE_S  # as long as a sign-in by a provider may take
FORM_COOKIE: Final = "__Host-ostiary-form"
FORM_COOKIE_VALUE: Final = re.compile(r"[A-Za-z0-9_-]{43}")
CHANGED: Final = "what the client may ask for was changed meanwhile; start again where you came from"
NOT_A_LOGIN: Final = "\0device"  # nobody can be called so


def show(server: Server, request: Request, _body: bytes) -> Response:
    """GET /authorize."""
    return _ask(server, request, query(request))


def show_device(server: Server, request: Request, _body: bytes) -> Response:
    """GET /device: asks for the code on the device's screen, then what any client asks. Wrong codes count as tries."""
    text = query(request)
    if not text:
        return page(request, "device", action=f"{server.issuer}/device")
    refuse_foreign(request)
    place = tries.place_of(server.key, NOT_A_LOGIN, site(request))
    with server.store.begin() as connection:
        if wait_s := tries.count(connection, place, server.now_s()):
            stopped = _stopped(server, request, "locked", "too many codes from here; wait for five minutes")
            return _until(stopped, wait_s)
    answer = _ask(server, request, b"?".join((AT_DEVICE, text)))
    if answer.status_code == HTTPStatus.OK:
        with server.store.begin() as connection:
            tries.give_back(connection, place)
    return answer


def show_account(server: Server, request: Request, _body: bytes) -> Response:
    """GET /account: signs in first."""
    with server.store.read() as connection:
        person = session.current(server, connection, request)
        if person:
            return account.shown(server, request, connection, person)
    return _ask(server, request, ACCOUNT)


def act_at_account(server: Server, request: Request, body: bytes) -> Response:
    """POST /account: ends a session, goes on with what was begun, or asks for a new proof before anything else."""
    refuse_foreign(request)
    form = parse(body)
    name, named = form.get("act", ""), form.get("id", "")
    with server.store.read() as connection:
        signed_in = session.current(server, connection, request)
        if signed_in and name in account.BEGUN:
            account.of_form(server, connection, request, form)
    if signed_in is None:  # a session by the password alone has ended with the first factor
        return _ask(server, request, ACCOUNT)
    if name in account.BEGUN:
        return account.carry_out(server, request, account.ready(server, form, signed_in), account.BEGUN)
    with server.store.begin() as connection:
        person = account.of_form(server, connection, request, form)
        change = Change(connection, person.principal, server.now())
        gone = account.ENDS[name](change, person.principal, named, "signed out") if name in account.ENDS else ()
    if name in account.PROVED:
        told = {"act": name, "id": named, "csrf": form["csrf"]}
        return _ask(server, request, b"?".join((ACCOUNT, urlencode(told).encode())))
    if name not in account.ENDS:
        raise Refused("invalid_request", "there is no such act")
    server.note(request, name, subject=person.principal)
    server.take_back(gone)
    return show_account(server, request, b"")


def _ask(server: Server, request: Request, text: bytes) -> Response:
    """The page for what is asked in `text`, or an error to whoever may have it."""
    try:
        with server.store.read() as connection:
            asked = read(server, connection, text)
            person = _fit(server, asked, session.current(server, connection, request))
            agreed = person and _agreed(server, connection, asked, person)
    except Refused as refused:
        return _stopped(server, request, refused.error, refused.description, **refused.facts)
    why = {"why": asked.problem.description, **asked.problem.facts} if asked.problem else {}
    server.note(request, asked.problem.error if asked.problem else "shown", **{"client": asked.by, **why})
    if asked.problem:
        return _back(server, asked, error=asked.problem.error, error_description=asked.problem.description)
    if person and agreed:
        return _allowed(server, request, asked, person)
    if asked.silent:
        return _back(server, asked, error="consent_required" if person else "login_required")
    return _form(server, request, asked, person)


def _agreed(server: Server, connection: Connection, asked: Asked, person: Person) -> bool:
    """Whether he has allowed the same; a client whose place another can take on his machine asks again (RFC 8252 section 8.6)."""
    if asked.client is None or asked.problem or asked.anew or asked.user_code:  # a code may be another's (RFC 8628 5.4)
        return False
    known = not asked.client.public or asked.redirect.startswith("https:")
    return known and tokens.agreed(connection, server.now_s(), asked.values, person.principal)


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
        proof = session.proved(server, request, form, request.cookies.get(FORM_COOKIE, ""))
        return concluded(server, request, asked, proof)
    except Refused as refused:
        return _stopped(server, request, "refused", refused.description)


def shown(server: Server, request: Request, form: Mapping[str, str]) -> tuple[Asked, Person | None]:
    """What the form was made for, in this browser, and for whom; raises Refused."""
    try:
        text = base64.urlsafe_b64decode(form.get("request", ""))
    except ValueError:
        raise Refused("invalid_request", "the form cannot be read") from None
    csrf, _, terms = form.get("csrf", "").partition(".")
    with server.store.read() as connection:
        person = _meant(server, request, text, csrf, session.current(server, connection, request))
        asked = read(server, connection, text)
    if not hmac.compare_digest(_terms(server, asked).encode(), terms.encode()):
        raise Refused("invalid_request", CHANGED)
    return asked, person


def concluded(server: Server, request: Request, asked: Asked, proof: Person | session.Lacking) -> Response:
    """What was asked for, for who has proved who he is; else the form again."""
    if isinstance(proof, session.Lacking):
        server.note(request, client=asked.by, **proof.noted)
        again = _form(server, request, asked, None, problem=proof.problem, half=proof.half)
        return _until(again, proof.noted.get("locked_s"))
    if not asked.act and (not asked.mfa or MFA in proof.amr):
        return _allowed(server, request, asked, proof)
    with server.store.begin() as connection:
        tries.clear(connection, proof.tried)
        there = _still_signed_in_there(server, connection, proof)
    if not asked.act:
        return unmet(server, request, asked)
    if not there:
        return _stopped(server, request, "ended", "the session has ended; sign in again")
    return account.carry_out(server, request, asked.act, account.PROVED, proof.principal)


def _until(response: Response, locked_s: object) -> Response:
    """Says how long no try is looked at, if none is."""
    if locked_s:
        response.headers["retry-after"] = str(locked_s)
    return response


def _allowed(server: Server, request: Request, asked: Asked, person: Person) -> Response:
    try:
        given = _given(server, request, asked, person)
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
        session.give_cookies(server, response, person)
    return response


def _denied(server: Server, request: Request, asked: Asked) -> Response:
    server.note(request, "denied", client=asked.by)
    if not asked.user_code:
        return _back(server, asked, error="access_denied")
    with server.store.begin() as connection:
        decide_device(server, connection, asked.user_code)
    return page(request, "denied")


def unmet(server: Server, request: Request, asked: Asked) -> Response:
    server.note(request, "unmet", client=asked.by)
    return _back(server, asked, error="unmet_authentication_requirements")


def _stopped(server: Server, request: Request, outcome: str, why: str, **facts: str) -> Response:
    server.note(request, outcome, why=why, **facts)
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


def _terms(server: Server, asked: Asked) -> str:
    return digest(server.key, "terms", asked.terms)


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
        user_code=asked.user_code, asked=base64.urlsafe_b64encode(asked.text).decode(), again=bool(asked.act),
        options="" if person else factors.passkey_asked(server, cookie), script=f"{server.issuer}/passkey.js",
        csrf=f"{_csrf(server, cookie, asked.text, person)}.{_terms(server, asked)}",
    )  # fmt: skip
    set_cookie(shown, FORM_COOKIE, cookie)
    if problem not in {"", session.LATE}:
        shown.headers[HEADER] = str(Reason.CREDENTIAL_INVALID)
    return shown


def _given(server: Server, request: Request, asked: Asked, person: Person) -> str:
    """The code, or the grant of a device, and the new session; raises Refused where what it rests on went meanwhile."""
    ended = Refused("access_denied", "the session has ended")
    with server.store.begin() as connection:
        now_s = server.now_s()
        if not session.as_proved(connection, person) or not _still_signed_in_there(server, connection, person):
            raise ended
        if asked.client and not clients.as_read(connection, asked.client):
            raise ended
        if asked.pushed and server.drawer(connection, "pushed").use(asked.pushed) is None:
            raise ended
        if person.session:
            tries.clear(connection, person.tried)
            session.keep(server, connection, request, person)
        elif not session.in_force(connection, person, now_s):
            raise ended
        if asked.client is None:
            return ""
        sid = "" if asked.user_code else person.sid  # a device is not signed out with the browser
        signed_in = {"sid": sid, "authenticated_at_s": person.authenticated_at_s, "amr": " ".join(person.amr)}
        grant = tokens.begin_grant(connection, now_s, {**asked.values, "principal": person.principal, **signed_in})
        if asked.user_code:
            if not decide_device(server, connection, asked.user_code, grant):
                raise ended
            return grant
        opens = {"client": asked.client.principal, "redirect": asked.redirect, "challenge": asked.challenge}
        return tokens.code_for(server.drawer(connection, "code"), grant, **opens).reveal()


def mark_ended(server: Server, connection: Connection, provider: str, what: str) -> None:
    """That a session, or all of an account, ended at the provider: the code of one that began before may still be coming."""
    server.drawer(connection, ENDED_THERE).renew(f"{provider} {what}", ENDED_LIFE_S, at_s=server.now_s())


def _still_signed_in_there(server: Server, connection: Connection, person: Person) -> bool:
    """Of who came by a provider's word: that it counts as it did, and that he has not signed out there since."""
    if not person.provider:
        return True
    over = server.drawer(connection, ENDED_THERE)
    marks = [over.look(f"{person.provider} {what}") for what in (person.outside_sid, person.principal) if what]
    ended = any(one and person.provider_at_s <= one.facts["at_s"] for one in marks)
    return providers.trusted(connection, person.provider, person.provider_as) and not ended


def _back(server: Server, asked: Asked, **facts: str) -> Response:
    """To the client, with `iss` in every answer (RFC 9207); to his own account who was asked for that alone."""
    told = {**facts, **({"state": asked.state} if asked.state else {}), "iss": server.issuer}
    joined = "&" if "?" in asked.redirect else "?"
    place = f"{asked.redirect}{joined}{urlencode(told)}" if asked.client else f"{server.issuer}/account"
    return RedirectResponse(place, 303, headers=HEADERS)
