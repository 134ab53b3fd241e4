"""Authorization code flow: the request is checked in the order of RFC 6749 section 4.1.2.1, then a person answers."""

import base64
import hmac
import re
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

from sqlalchemy import Connection, bindparam, insert, select
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from ostiary.foundation.secret import Secret, new_id
from ostiary.identity import clients, grants, tries
from ostiary.identity.clients import FAPI2, Client
from ostiary.identity.credentials import derived, digest, new_secret, password_matches
from ostiary.identity.page import HEADERS, page
from ostiary.identity.request import QUERY_MAX_BYTES, Refused, parse, query, site
from ostiary.identity.server import Server
from ostiary.plan.reason import HEADER, Reason
from ostiary.store.tables.directory import PRINCIPAL
from ostiary.store.tables.identity import PASSWORD, SESSION

ACR: Final = "pwd"  # the one way to sign in
PUSHED: Final = "urn:ietf:params:oauth:request_uri:"  # how the name of a pushed request begins (RFC 9126)
THUMBPRINT: Final = re.compile(r"[A-Za-z0-9_-]{43}")
AGE: Final = re.compile(r"[0-9]{1,9}", re.ASCII)
CHALLENGE: Final = re.compile(r"[A-Za-z0-9_-]{43}")
SESSION_LIFE_S: Final = 8 * 3600
SESSION_COOKIE: Final = "__Host-ostiary-session"
DEVICE_COOKIE: Final = "__Host-ostiary-device"
DEVICE_LIFE_S: Final = 365 * 24 * 3600
FORM_COOKIE: Final = "__Host-ostiary-form"
FORM_COOKIE_VALUE: Final = re.compile(r"[A-Za-z0-9_-]{43}")
PROMPTS: Final = frozenset({"none", "login", "consent", "select_account"})
FRESH: Final = frozenset({"login", "select_account"})
NOT_ACCEPTED: Final = "That user name and password are not accepted. After five tries, wait for five minutes."


_SESSION: Final = (
    select(SESSION, PRINCIPAL.c.name, PRINCIPAL.c.generation)
    .join(PRINCIPAL, PRINCIPAL.c.id == SESSION.c.principal)
    .where(SESSION.c.digest == bindparam("shown"), SESSION.c.expires_at_s > bindparam("now_s"), PRINCIPAL.c.active)
)
_PASSWORD: Final = (
    select(PASSWORD.c.hash, PRINCIPAL.c.name, PRINCIPAL.c.generation)
    .join(PRINCIPAL, PRINCIPAL.c.id == PASSWORD.c.principal)
    .where(PASSWORD.c.principal == bindparam("principal"), PRINCIPAL.c.active)
)


class Asked(NamedTuple):
    """A request whose client and redirect are known good; `problem` goes back to the client."""

    text: bytes
    client: Client
    redirect: str
    state: str
    problem: Refused | None
    values: dict[str, Any]
    challenge: str
    silent: bool  # prompt=none: no page
    fresh: bool  # the person shows the password again
    age_max_s: int | None  # or at least where the last time is longer ago than this
    pushed: str = ""  # the name of the pushed request that it is


class Person(NamedTuple):
    """Who answers; `session` is what the browser keeps from now on, "" where it has it already."""

    principal: str
    name: str
    sid: str
    authenticated_at_s: int
    generation: int
    session: str = ""


def show(server: Server, request: Request, _body: bytes) -> Response:
    """GET /authorize: the page, or an error to whoever may have it."""
    try:
        with server.store.read() as connection:
            asked = read(server, connection, query(request))
            person = _young(server, asked, _session(server, connection, request))
    except Refused as refused:
        return _stopped(server, request, refused.error, refused.description)
    why = {"why": asked.problem.description} if asked.problem else {}
    outcome = asked.problem.error if asked.problem else "shown"
    server.note(request, outcome, client=asked.client.id, **why)
    if asked.problem:
        return _back(server, asked, error=asked.problem.error, error_description=asked.problem.description)
    if asked.silent:
        return _back(server, asked, error="consent_required" if person else "login_required")
    return _form(server, request, asked, person)


def answer(server: Server, request: Request, body: bytes) -> Response:  # noqa: PLR0911  one for each outcome
    """POST /sign-in: the person's answer; 303 after credentials (RFC 9700 section 4.12)."""
    try:
        form = parse(body)
        text = base64.urlsafe_b64decode(form.get("request", ""))
        with server.store.read() as connection:
            person = _meant(server, request, text, form.get("csrf", ""), _session(server, connection, request))
            asked = read(server, connection, text)
    except (Refused, ValueError) as refused:
        told = refused.description if isinstance(refused, Refused) else "the form cannot be read"
        return _stopped(server, request, "refused", told)
    if asked.problem:
        return _back(server, asked, error=asked.problem.error)
    if form.get("decision") != "allow":
        server.note(request, "denied", client=asked.client.id)
        return _back(server, asked, error="access_denied")
    if person and not _young(server, asked, person):
        return _form(server, request, asked, None)
    login = form.get("username", "")
    place = _place(server, request, login)
    proved = person or _proved(server, place, f"user:{login}", Secret(form.get("password", "")))
    if not isinstance(proved, Person):
        server.note(request, client=asked.client.id, **proved)
        return _form(server, request, asked, None, problem=NOT_ACCEPTED)
    person = proved
    code = _given(server, asked, person, place)
    if code is None:
        server.note(request, "ended", client=asked.client.id, subject=person.principal)
        return page("This sign-in cannot go on", status=400, problem="the session has ended; sign in again")
    server.note(request, "allowed", client=asked.client.id, subject=person.principal)
    return _sent_back_with(server, asked, person, code)


def _stopped(server: Server, request: Request, outcome: str, why: str) -> Response:
    server.note(request, outcome, why=why)
    return page("This sign-in cannot go on", status=400, problem=why)


def read(server: Server, connection: Connection, text: bytes) -> Asked:
    """The request in `text`, or the pushed one that it names; raises Refused only while nobody may be redirected to."""
    given = parse(text, max_bytes=QUERY_MAX_BYTES)
    client = clients.find(connection, given.get("client_id", ""))
    pushed = given.get("request_uri", "")
    if client and pushed.startswith(PUSHED):
        given = _pushed(server, connection, client, pushed)
    redirect = given.get("redirect_uri", "")
    if client is None or not clients.redirect_known(client, redirect):
        raise Refused("invalid_request", "the client or its redirect address is not registered")
    problem, values = None, {}
    try:
        _refuse_unpushed(client, pushed)
        values = _checked(server, client, given)
    except Refused as refused:
        problem = refused
    prompts = set(given.get("prompt", "").split())
    return Asked(
        text, client, redirect, given.get("state", ""), problem, values, given.get("code_challenge", ""),
        silent="none" in prompts, fresh=bool(prompts & FRESH), pushed=pushed,
        age_max_s=int(given["max_age"]) if problem is None and "max_age" in given else None,
    )  # fmt: skip


def _refuse_unpushed(client: Client, pushed: str) -> None:
    if client.profile == FAPI2 and not pushed:
        raise Refused("invalid_request", "this client pushes its requests first")


def _pushed(server: Server, connection: Connection, client: Client, uri: str) -> dict[str, str]:
    kept = server.drawer(connection, "pushed").look(uri)
    if kept is None or kept.used or kept.client != client.principal:
        raise Refused("invalid_request", "this request was used or has lapsed; start again where you came from")
    return dict(kept.facts["asked"])


def checked(server: Server, client: Client, given: dict[str, str]) -> None:
    """Raises Refused for what an authorization request of this client may not ask for."""
    if not clients.redirect_known(client, given.get("redirect_uri", "")):
        raise Refused("invalid_request", "the redirect address is not registered")
    _checked(server, client, given)


def _young(server: Server, asked: Asked, person: Person | None) -> Person | None:
    """Whose session may answer (OpenID Connect Core section 3.1.2.1); a `max_age` of 0 is `prompt=login`."""
    if person is None or asked.fresh or asked.age_max_s == 0:
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


def _checked(server: Server, client: Client, given: dict[str, str]) -> dict[str, Any]:
    if given.get("response_type") != "code":
        raise Refused("unsupported_response_type", "only response_type=code is known")
    if {"request", "request_uri"} & set(given):
        raise Refused("request_not_supported", "request objects are not supported")
    if given.get("response_mode", "query") != "query":
        raise Refused("invalid_request", "only response_mode=query is known")
    prompts = set(given.get("prompt", "").split())
    if prompts - PROMPTS or ("none" in prompts and len(prompts) > 1):
        raise Refused("invalid_request", "the prompt is not known")
    if not AGE.fullmatch(given.get("max_age", "0")):
        raise Refused("invalid_request", "max_age is a number of seconds")
    if "acr_values" in given and ACR not in given["acr_values"].split():  # RFC 9470 section 5
        raise Refused("unmet_authentication_requirements", "people sign in with a password here")
    # RFC 7636 section 4.4.1; plain, and a missing method, which means plain, are refused
    if given.get("code_challenge_method") != "S256" or not CHALLENGE.fullmatch(given.get("code_challenge", "")):
        raise Refused("invalid_request", "PKCE with S256 is required")
    if "dpop_jkt" in given and not THUMBPRINT.fullmatch(given["dpop_jkt"]):
        raise Refused("invalid_request", "dpop_jkt is the thumbprint of a key")
    audience, system = server.audience(given.get("resource", ""))
    scopes = clients.narrow(client, given.get("scope", ""), system)
    told = {"client": client.principal, "audience": audience, "scopes": " ".join(sorted(scopes))}
    bound = f"jkt:{given['dpop_jkt']}" if "dpop_jkt" in given else ""
    return {**told, "nonce": given.get("nonce", ""), "bound": bound}


def _form(server: Server, request: Request, asked: Asked, person: Person | None, problem: str = "") -> Response:
    cookie = request.cookies.get(FORM_COOKIE, "")
    if not FORM_COOKIE_VALUE.fullmatch(cookie):
        cookie = new_secret().reveal()
    everything, scopes = clients.in_words(asked.values["scopes"].split())
    shown = page(
        "Sign in", client=asked.client.name, everything=everything, scopes=scopes, problem=problem,
        action=f"{server.issuer}/sign-in", person=person.name if person else "",
        request=base64.urlsafe_b64encode(asked.text).decode(), csrf=_csrf(server, cookie, asked.text, person),
    )  # fmt: skip
    _set(shown, FORM_COOKIE, cookie)
    if problem:
        shown.headers[HEADER] = str(Reason.CREDENTIAL_INVALID)
    return shown


def _given(server: Server, asked: Asked, person: Person, place: str) -> Secret | None:
    """The code, where nothing that it rests on went meanwhile; the new session with it."""
    with server.store.begin() as connection:
        now_s = server.now_s()
        if _generation(connection, person.principal) != person.generation:
            return None
        if asked.pushed and server.drawer(connection, "pushed").use(asked.pushed) is None:
            return None
        if person.session:
            tries.clear(connection, place)
            _keep(connection, server, person)
        elif not _in_force(connection, person, now_s):
            return None
        values = {
            **asked.values, "principal": person.principal, "sid": person.sid,
            "authenticated_at_s": person.authenticated_at_s, "amr": "pwd",
        }  # fmt: skip
        return grants.begin(server.drawer(connection, "code"), values, asked.redirect, asked.challenge)


def _keep(connection: Connection, server: Server, person: Person) -> None:
    row = {"digest": digest(server.key, "session", person.session), "sid": person.sid, "principal": person.principal}
    since_s = person.authenticated_at_s
    connection.execute(
        insert(SESSION), {**row, "authenticated_at_s": since_s, "expires_at_s": since_s + SESSION_LIFE_S}
    )


def _sent_back_with(server: Server, asked: Asked, person: Person, code: Secret) -> Response:
    response = _back(server, asked, code=code.reveal())
    if person.session:
        _set(response, SESSION_COOKIE, person.session, SESSION_LIFE_S)
        _set(response, DEVICE_COOKIE, _device(server, person.principal.removeprefix("user:")), DEVICE_LIFE_S)
    return response


def _set(response: Response, cookie: str, value: str, life_s: int | None = None) -> None:
    response.set_cookie(cookie, value, path="/", secure=True, httponly=True, samesite="lax", max_age=life_s)


def _back(server: Server, asked: Asked, **facts: str) -> Response:
    """To the client, with `iss` in every answer (RFC 9207)."""
    told = {**facts, **({"state": asked.state} if asked.state else {}), "iss": server.issuer}
    joined = "&" if "?" in asked.redirect else "?"
    return RedirectResponse(f"{asked.redirect}{joined}{urlencode(told)}", 303, headers=HEADERS)


def _session(server: Server, connection: Connection, request: Request) -> Person | None:
    cookie = request.cookies.get(SESSION_COOKIE, "")
    facts = {"shown": digest(server.key, "session", cookie), "now_s": server.now_s()}
    row = connection.execute(_SESSION, facts).one_or_none() if cookie else None
    return Person(row.principal, row.name, row.sid, row.authenticated_at_s, row.generation) if row else None


def _place(server: Server, request: Request, login: str) -> str:
    """What tries are counted by: the account, and the address, or that this browser has signed it in before.

    So nobody's wrong tries keep him out of his own browser, though they come from the same office.
    """
    known = hmac.compare_digest(_device(server, login).encode(), request.cookies.get(DEVICE_COOKIE, "").encode())
    return tries.place_of(server.key, login, "known browser" if known else site(request))


def _device(server: Server, login: str) -> str:
    return derived(server.key, "device", login).reveal()


def _proved(server: Server, place: str, principal: str, password: Secret) -> Person | dict[str, str]:
    """The person, or what to note of the try: the account where there is one.

    An unknown name is not kept: it may be a password, typed into the wrong field.
    """
    now_s = server.now_s()
    with server.store.begin() as connection:
        locked_s = tries.count(connection, place, now_s)
        row = connection.execute(_PASSWORD, {"principal": principal}).one_or_none()
    account = {"account": principal} if row else {}
    if locked_s:
        return {"outcome": "locked", "locked_s": str(locked_s), **account}
    if not password_matches(row.hash if row else None, password) or row is None:
        return {"outcome": "wrong", **account}
    return Person(principal, row.name, new_id("sid"), now_s, row.generation, new_secret().reveal())


def _generation(connection: Connection, principal: str) -> int | None:
    """Of an active principal, which nobody changes until this transaction ends."""
    chosen = select(PRINCIPAL.c.generation).where(PRINCIPAL.c.id == principal, PRINCIPAL.c.active).with_for_update()
    return connection.execute(chosen).scalar_one_or_none()


def _in_force(connection: Connection, person: Person, now_s: int) -> bool:
    chosen = select(SESSION.c.sid).where(SESSION.c.sid == person.sid, SESSION.c.expires_at_s > now_s)
    return connection.execute(chosen).first() is not None
