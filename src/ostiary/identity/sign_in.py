"""Authorization code flow: the request is checked in the order of RFC 6749 section 4.1.2.1, then a person answers."""

import base64
import hmac
import re
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

from sqlalchemy import Connection, delete, insert, select
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from ostiary.foundation.secret import Secret, new_id
from ostiary.identity import grants
from ostiary.identity.credentials import digest, new_secret, password_matches
from ostiary.identity.page import HEADERS, page
from ostiary.identity.request import QUERY_MAX_BYTES, Refused, parse, query, site
from ostiary.identity.server import Server
from ostiary.store.database import insert_into
from ostiary.store.tables.directory import PRINCIPAL
from ostiary.store.tables.identity import PASSWORD, SESSION, THROTTLE

CHALLENGE: Final = re.compile(r"[A-Za-z0-9_-]{43}")
SESSION_LIFE_S: Final = 8 * 3600
SESSION_COOKIE: Final = "__Host-ostiary-session"
FORM_COOKIE: Final = "__Host-ostiary-form"
FORM_COOKIE_VALUE: Final = re.compile(r"[A-Za-z0-9_-]{43}")
PROMPTS: Final = frozenset({"none", "login", "consent", "select_account"})
FRESH: Final = frozenset({"login", "select_account"})
FAILURES_MAX: Final = 5
THROTTLE_S: Final = 300
NOT_ACCEPTED: Final = "That user name and password are not accepted. After five tries, wait for five minutes."


class Asked(NamedTuple):
    """A request whose client and redirect are known good; `problem` goes back to the client."""

    text: bytes
    client: grants.Client
    redirect: str
    state: str
    problem: Refused | None
    values: dict[str, Any]
    challenge: str
    silent: bool  # prompt=none: no page
    fresh: bool  # the person shows the password again


class Person(NamedTuple):
    principal: str
    name: str
    sid: str
    authenticated_at_s: int


def show(server: Server, request: Request) -> Response:
    """GET /authorize: the page, or an error to whoever may have it."""
    try:
        with server.store.read() as connection:
            asked = read(server, connection, query(request))
            person = None if asked.fresh else _session(server, connection, request)
    except Refused as refused:
        server.note("authorize", request, refused.error)
        return page("This sign-in cannot go on", status=400, problem=refused.description)
    server.note("authorize", request, asked.problem.error if asked.problem else "shown", client=asked.client.id)
    if asked.problem:
        return _back(server, asked, error=asked.problem.error, error_description=asked.problem.description)
    if asked.silent:
        return _back(server, asked, error="consent_required" if person else "login_required")
    return _form(server, request, asked, person)


def answer(server: Server, request: Request, body: bytes) -> Response:
    """POST /sign-in: the person's answer; 303 after credentials (RFC 9700 section 4.12)."""
    try:
        form = parse(body)
        text = base64.urlsafe_b64decode(form.get("request", ""))
        _refuse_foreign(server, request, text, form.get("csrf", ""))
        with server.store.read() as connection:
            asked = read(server, connection, text)
            person = None if asked.fresh else _session(server, connection, request)
    except (Refused, ValueError) as refused:
        server.note("sign-in", request, "refused")
        told = refused.description if isinstance(refused, Refused) else "the form cannot be read"
        return page("This sign-in cannot go on", status=400, problem=told)
    if asked.problem:
        return _back(server, asked, error=asked.problem.error)
    if form.get("decision") != "allow":
        server.note("sign-in", request, "denied", client=asked.client.id)
        return _back(server, asked, error="access_denied")
    cookie = ""
    if person is None:
        person, cookie = _sign_in(server, request, form.get("username", ""), Secret(form.get("password", "")))
    if person is None:
        server.note("sign-in", request, "wrong", client=asked.client.id)
        return _form(server, request, asked, None, problem=NOT_ACCEPTED)
    server.note("sign-in", request, "allowed", client=asked.client.id, subject=person.principal)
    return _given(server, asked, person, cookie)


def read(server: Server, connection: Connection, text: bytes) -> Asked:
    """The request in `text`; raises Refused only while nobody may be redirected to."""
    given = parse(text, max_bytes=QUERY_MAX_BYTES)
    client = grants.find_client(connection, given.get("client_id", ""))
    redirect = given.get("redirect_uri", "")
    if client is None or not grants.redirect_known(client, redirect):
        raise Refused("invalid_request", "the client or its redirect address is not registered")
    problem, values = None, {}
    try:
        values = _checked(server, client, given)
    except Refused as refused:
        problem = refused
    prompts = set(given.get("prompt", "").split())
    return Asked(
        text, client, redirect, given.get("state", ""), problem, values, given.get("code_challenge", ""),
        silent="none" in prompts, fresh=bool(prompts & FRESH) or "max_age" in given,
    )  # fmt: skip


def _refuse_foreign(server: Server, request: Request, text: bytes, shown: str) -> None:
    """The form was made for this browser and this request, or it is refused (RFC 9700 section 4.7)."""
    cookie = request.cookies.get(FORM_COOKIE, "")
    if not cookie or not hmac.compare_digest(_csrf(server, cookie, text).encode(), shown.encode()):
        raise Refused("invalid_request", "the form is not from this browser; go back and try again")


def _csrf(server: Server, cookie: str, text: bytes) -> str:
    return digest(server.key, "form", cookie, text.decode("latin-1"))


def _checked(server: Server, client: grants.Client, given: dict[str, str]) -> dict[str, Any]:
    if given.get("response_type") != "code":
        raise Refused("unsupported_response_type", "only response_type=code is known")
    if {"request", "request_uri"} & set(given):
        raise Refused("request_not_supported", "request objects are not supported")
    if given.get("response_mode", "query") != "query":
        raise Refused("invalid_request", "only response_mode=query is known")
    prompts = set(given.get("prompt", "").split())
    if prompts - PROMPTS or ("none" in prompts and len(prompts) > 1):
        raise Refused("invalid_request", "the prompt is not known")
    # RFC 7636 section 4.4.1; plain, and a missing method, which means plain, are refused
    if given.get("code_challenge_method") != "S256" or not CHALLENGE.fullmatch(given.get("code_challenge", "")):
        raise Refused("invalid_request", "PKCE with S256 is required")
    audience, system = server.audience(given.get("resource", ""))
    scopes = grants.narrow(client, given.get("scope", ""), system)
    told = {"client": client.principal, "audience": audience, "scopes": " ".join(sorted(scopes))}
    return {**told, "nonce": given.get("nonce", "")}


def _form(server: Server, request: Request, asked: Asked, person: Person | None, problem: str = "") -> Response:
    cookie = request.cookies.get(FORM_COOKIE, "")
    if not FORM_COOKIE_VALUE.fullmatch(cookie):
        cookie = new_secret().reveal()
    shown = page(
        "Sign in", client=asked.client.name, scopes=asked.values["scopes"].split(), problem=problem,
        action=f"{server.issuer}/sign-in", person=person.name if person else "",
        request=base64.urlsafe_b64encode(asked.text).decode(), csrf=_csrf(server, cookie, asked.text),
    )  # fmt: skip
    shown.set_cookie(FORM_COOKIE, cookie, path="/", secure=True, httponly=True, samesite="lax")
    return shown


def _given(server: Server, asked: Asked, person: Person, cookie: str) -> Response:
    values = {
        **asked.values, "principal": person.principal, "sid": person.sid, "authenticated_at_s": person.authenticated_at_s,
    }  # fmt: skip
    with server.store.begin() as connection:
        if _generation(connection, person.principal) is None or not _in_force(connection, person, server.now_s()):
            return page("This sign-in cannot go on", status=400, problem="the session has ended; sign in again")
        code = grants.begin(connection, server.key, server.now_s(), values, asked.redirect, asked.challenge)
    response = _back(server, asked, code=code.reveal())
    if cookie:
        response.set_cookie(
            SESSION_COOKIE, cookie, path="/", secure=True, httponly=True, samesite="lax", max_age=SESSION_LIFE_S
        )
    return response


def _back(server: Server, asked: Asked, **facts: str) -> Response:
    """To the client, with `iss` in every answer (RFC 9207)."""
    told = {**facts, **({"state": asked.state} if asked.state else {}), "iss": server.issuer}
    joined = "&" if "?" in asked.redirect else "?"
    return RedirectResponse(f"{asked.redirect}{joined}{urlencode(told)}", 303, headers=HEADERS)


def _session(server: Server, connection: Connection, request: Request) -> Person | None:
    shown = digest(server.key, "session", request.cookies.get(SESSION_COOKIE, ""))
    row = connection.execute(
        select(SESSION, PRINCIPAL.c.name).join(PRINCIPAL, PRINCIPAL.c.id == SESSION.c.principal)
        .where(SESSION.c.digest == shown, SESSION.c.expires_at_s > server.now_s(), PRINCIPAL.c.active)
    ).one_or_none()  # fmt: skip
    return Person(row.principal, row.name, row.sid, row.authenticated_at_s) if row else None


def _sign_in(server: Server, request: Request, login: str, password: Secret) -> tuple[Person | None, str]:
    """Five tries for one account from one address in five minutes; other addresses are not locked out."""
    now_s, principal = server.now_s(), f"user:{login}"
    place = digest(server.key, "throttle", principal, site(request))
    with server.store.begin() as connection:
        if _count(connection, place, now_s) > FAILURES_MAX:
            return None, ""
    with server.store.read() as connection:
        row = connection.execute(
            select(PASSWORD.c.hash, PRINCIPAL.c.name, PRINCIPAL.c.generation).join(PRINCIPAL, PRINCIPAL.c.id == PASSWORD.c.principal)
            .where(PASSWORD.c.principal == principal, PRINCIPAL.c.active)
        ).one_or_none()  # fmt: skip
    if not password_matches(row.hash if row else None, password) or row is None:
        return None, ""
    person, cookie = Person(principal, row.name, new_id("sid"), now_s), new_secret().reveal()
    with server.store.begin() as connection:
        if _generation(connection, principal) != row.generation:  # the password, or the person, went meanwhile
            return None, ""
        connection.execute(delete(THROTTLE).where(THROTTLE.c.key == place))
        connection.execute(
            insert(SESSION).values(
                digest=digest(server.key, "session", cookie), sid=person.sid, principal=principal,
                authenticated_at_s=now_s, expires_at_s=now_s + SESSION_LIFE_S,
            )
        )  # fmt: skip
    return person, cookie


def _generation(connection: Connection, principal: str) -> int | None:
    """Of an active principal, which nobody changes until this transaction ends."""
    chosen = select(PRINCIPAL.c.generation).where(PRINCIPAL.c.id == principal, PRINCIPAL.c.active).with_for_update()
    return connection.execute(chosen).scalar_one_or_none()


def _in_force(connection: Connection, person: Person, now_s: int) -> bool:
    chosen = select(SESSION.c.sid).where(SESSION.c.sid == person.sid, SESSION.c.expires_at_s > now_s)
    return connection.execute(chosen).first() is not None


def _count(connection: Connection, place: str, now_s: int) -> int:
    """Counts the try before it is made, so that parallel ones count too."""
    connection.execute(delete(THROTTLE).where(THROTTLE.c.expires_at_s <= now_s))
    counted = insert_into(connection, THROTTLE).values(key=place, failures=1, expires_at_s=now_s + THROTTLE_S)
    counted = counted.on_conflict_do_update(index_elements=["key"], set_={"failures": THROTTLE.c.failures + 1})
    return int(connection.execute(counted.returning(THROTTLE.c.failures)).scalar_one())
