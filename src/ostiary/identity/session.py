"""Who is signed in at a browser, how, and since when: by the password and what else his account asks for, or by a passkey.

A browser that he has signed in with is known for him: whoever guesses from elsewhere does not keep him out of it. It has a
cookie of its own, another one after every sign-in, so that a copy is good until the next one at most; what ends the session
that it came with ends it too.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from sqlalchemy import Boolean, Connection, bindparam, delete, insert, select
from starlette.requests import Request
from starlette.responses import Response
from webauthn.helpers.structs import AuthenticationCredential

from ostiary.foundation.secret import Secret, new_id
from ostiary.identity import factors, names, tries
from ostiary.identity.credentials import Kept, derived, digest, new_secret
from ostiary.identity.passwords import password_matches
from ostiary.identity.request import Refused, site, source
from ostiary.identity.server import Server
from ostiary.plan.model import MFA
from ostiary.store.tables import KNOWN_BROWSER, PASSWORD, PRINCIPAL, SESSION

SESSION_LIFE_S: Final = 8 * 3600
AGENT_MAX_CHARS: Final = 120
SESSION_COOKIE: Final = "__Host-ostiary-session"
_SESSION: Final = (
    select(SESSION, PRINCIPAL.c.name, PRINCIPAL.c.generation)
    .join(PRINCIPAL, PRINCIPAL.c.id == SESSION.c.principal)
    .where(SESSION.c.digest == bindparam("shown"), SESSION.c.expires_at_s > bindparam("now_s"), PRINCIPAL.c.active)
)
_HOLD: Final = select(PRINCIPAL.c.id).where(PRINCIPAL.c.id == bindparam("whose"), PRINCIPAL.c.active).with_for_update()
_AS_PROVED: Final = _HOLD.where(
    PRINCIPAL.c.generation == bindparam("generation"), bindparam("sure", type_=Boolean) | ~factors.ASKED_FOR
)
AWAY_S: Final = 600  # a person may take so long at a provider
HALF_LIFE_S: Final = 300  # between password and code
NO_LOGIN: Final = "-passkey"  # nobody can be called so: what tries of passkeys that nobody has are counted by
LATE: Final = "late"
BY_PROVIDER: Final = ("provider", "provider_as", "provider_at_s", "outside_sid")
_WHO: Final = (
    select(
        PASSWORD.c.hash, PRINCIPAL.c.name, PRINCIPAL.c.generation, PRINCIPAL.c.active, factors.ASKED_FOR.label("more")
    )
    .join_from(PRINCIPAL, PASSWORD, PRINCIPAL.c.id == PASSWORD.c.principal, isouter=True)
    .where(PRINCIPAL.c.id == bindparam("principal"))
)
BROWSER_COOKIE: Final = "__Host-ostiary-device"
BROWSER_LIFE_S: Final = 365 * 24 * 3600
_THIS: Final = KNOWN_BROWSER.c.digest == bindparam("shown")
_ITS: Final = (KNOWN_BROWSER.c.principal == bindparam("whose"), KNOWN_BROWSER.c.expires_at_s > bindparam("now_s"))
_KNOWN: Final = select(KNOWN_BROWSER.c.sid).where(_THIS, *_ITS)
_FORGET: Final = delete(KNOWN_BROWSER).where(_THIS)


class Person(NamedTuple):
    """Who answers; `session` is what the browser keeps from now on, "" where it has it already."""

    principal: str
    name: str
    sid: str
    authenticated_at_s: int  # 0 where his provider does not say
    generation: int
    amr: tuple[str, ...]  # how he signed in (RFC 8176)
    session: str = ""
    provider: str = ""  # by whose word, as it was meant then, since when, and what that calls the session
    provider_as: str = ""
    provider_at_s: int = 0
    outside_sid: str = ""
    tried: str = ""  # what the try that was right was counted by


class Lacking(NamedTuple):
    """What is noted, the name of the text for the person, and that the password was right, where it was."""

    noted: Mapping[str, str]
    problem: str = ""
    half: str = ""


def proved(server: Server, request: Request, form: Mapping[str, str], browser: str) -> Person | Lacking:
    """What the form proves, each way with its own tries; raises Refused where there is nothing to try any more."""
    if "passkey" in form:
        return _by_passkey(server, request, form, factors.read_passkey(form["passkey"]), browser)
    return _by_code(server, request, form) if "half" in form else _by_password(server, request, form)


def _by_password(server: Server, request: Request, form: Mapping[str, str]) -> Person | Lacking:
    """An unknown name is not kept: it may be a password, typed into the wrong field."""
    login, password = form.get("username", ""), Secret(form.get("password", ""))
    principal = f"user:{login}"
    with server.store.begin() as connection:
        place, locked_s = _try(server, connection, request, login, "password")
        known = connection.execute(_WHO, {"principal": principal}).one_or_none()
    row, why = (known, {}) if known and known.active else (None, {"why": names.SHUT} if known else {})
    if locked_s or not password_matches(row.hash if row else None, password) or row is None:
        return Lacking(_noted(principal if known else "", locked_s, outcome="wrong", **why), "not-accepted")
    whole = _made(server, principal, row, ("pwd",))._replace(tried=place)
    return _half_of(server, whole) if row.more else whole


def half_or_whole(server: Server, person: Person) -> Person | Lacking:
    """Half of the proof where the account has another factor, which was not shown yet, the whole where it has none."""
    with server.store.read() as connection:
        whole = MFA in person.amr or not factors.asked_for(connection, person.principal)
    return person if whole else _half_of(server, person)


def _half_of(server: Server, person: Person) -> Lacking:
    """What is kept of the first half of a proof until the other one comes."""
    with server.store.begin() as connection:
        tries.clear(connection, person.tried)
        half = new_secret().reveal()
        facts = {name: getattr(person, name) for name in ("principal", "generation", "amr", *BY_PROVIDER)}
        server.drawer(connection, "half").keep(half, HALF_LIFE_S, client="", **facts)
    return Lacking({"outcome": "half", "account": person.principal}, half=half)


def _by_code(server: Server, request: Request, form: Mapping[str, str]) -> Person | Lacking:
    """The other half; the password's is good for one right code, and codes are tried as often as passwords."""
    half = form["half"]
    with server.store.begin() as connection:
        drawer = server.drawer(connection, "half")
        kept = drawer.look(half)
        if kept is None or kept.used:
            raise Refused("invalid_request", "this sign-in has lapsed; start again where you came from")
        principal = kept.facts["principal"]
        place, locked_s = _try(server, connection, request, principal.removeprefix("user:"), "code")
        made = None if locked_s else person(server, connection, principal, ())
        if made and made.generation == kept.facts["generation"]:  # else the code is not used up
            amr = factors.proves(server, connection, principal, form.get("code", ""))
            if amr and drawer.use(half):
                tries.clear(connection, place)
                return made._replace(**_both(kept, amr))
    noted = _noted(principal, locked_s, outcome="wrong", why="a code that is wrong or was used")
    return Lacking(noted, "wrong-code", half)


def _by_passkey(
    server: Server, request: Request, form: Mapping[str, str], shown: AuthenticationCredential, browser: str
) -> Person | Lacking:
    """Without a user name; a page that was open for too long is asked again and counts as no try.

    Who has no password here comes by his provider's word each time: a passkey is the other half of that alone.
    """
    with server.store.begin() as connection:
        if not factors.passkey_in_time(server, connection, shown, browser):
            return Lacking({"outcome": LATE}, LATE)
        row = factors.find_passkey(server, connection, shown)
        principal = row.principal if row else ""
        place, locked_s = _try(server, connection, request, principal.removeprefix("user:") or NO_LOGIN, "passkey")
        used = factors.Used((), why="a passkey that nobody has")
        if row and not locked_s:
            used = factors.use_passkey(server, connection, row, shown)
        made = person(server, connection, principal, used.amr) if used.amr else None
        if made and (half := _first_half(server, connection, form.get("half", ""), made)) is not None:
            tries.clear(connection, place)
            return made._replace(**half)
        used = used._replace(why="a passkey without the provider's word") if made else used
    noted = _noted(principal, locked_s, outcome=used.outcome, why=used.why)
    return Lacking(noted, "wrong-passkey", form.get("half", ""))


def _first_half(server: Server, connection: Connection, half: str, made: Person) -> Mapping[str, Any] | None:
    """By whose word he came before the passkey, if by any; None where that is missing."""
    kept = server.drawer(connection, "half").use(half)
    if kept and (kept.facts["principal"], kept.facts["generation"]) == (made.principal, made.generation):
        return _both(kept, made.amr)
    return {} if has_password(connection, made.principal) else None


def has_password(connection: Connection, principal: str) -> bool:
    """Whether he has one here; whom a provider signs in has his there."""
    return connection.scalar(select(PASSWORD.c.principal).where(PASSWORD.c.principal == principal)) is not None


def _both(kept: Kept, amr: tuple[str, ...]) -> dict[str, Any]:
    """What both halves of a proof say."""
    return {"amr": (*kept.facts["amr"], *amr), **{name: kept.facts[name] for name in BY_PROVIDER}}


def _noted(principal: str, locked_s: int, **why: str) -> dict[str, str]:
    account = {"account": principal} if principal else {}
    return {**({"outcome": "locked", "locked_s": str(locked_s)} if locked_s else why), **account}


def person(server: Server, connection: Connection, principal: str, amr: tuple[str, ...]) -> Person | None:
    """The active one with this id, as he signs in now; None where there is none."""
    row = connection.execute(_WHO, {"principal": principal}).one_or_none()
    return _made(server, principal, row, amr) if row and row.active else None


def _made(server: Server, principal: str, row: Any, amr: tuple[str, ...]) -> Person:
    return Person(principal, row.name, new_id("sid"), server.now_s(), row.generation, amr, new_secret().reveal())


def _try(server: Server, connection: Connection, request: Request, login: str, way: str) -> tuple[str, int]:
    """What tries of this way are counted by (the account, and this browser where it is known for it, else the address), with
    this one; and for how long it is not even looked at.

    A code is asked of who has shown the password: its tries are counted together, wherever else they come from.
    """
    shown = _known_as(server, request.cookies.get(BROWSER_COOKIE, ""))
    facts = {"shown": shown, "whose": f"user:{login}", "now_s": server.now_s()}
    known = connection.execute(_KNOWN, facts).first()
    elsewhere = "" if way == "code" else site(request)
    place = tries.place_of(server.key, login, f"{way} {shown if known else elsewhere}")
    return place, tries.count(connection, place, server.now_s())


def current(server: Server, connection: Connection, request: Request) -> Person | None:
    """The person whose session the browser has, while it lives: one by the password alone, no longer than that is enough."""
    cookie = request.cookies.get(SESSION_COOKIE, "")
    facts = {"shown": digest(server.key, "session", cookie), "now_s": server.now_s()}
    row = connection.execute(_SESSION, facts).one_or_none() if cookie else None
    if row is None or (MFA not in row.amr.split() and factors.asked_for(connection, row.principal)):
        return None
    return Person(row.principal, row.name, row.sid, row.authenticated_at_s, row.generation, tuple(row.amr.split()))


def in_force(connection: Connection, person: Person, now_s: int) -> bool:
    """Whether his session lives; who ends it waits until this transaction ends."""
    chosen = select(SESSION.c.sid).where(
        SESSION.c.principal == person.principal, SESSION.c.sid == person.sid, SESSION.c.expires_at_s > now_s
    )
    return connection.execute(chosen.with_for_update(read=True)).first() is not None


def hold(connection: Connection, principal: str) -> None:
    """Nobody changes this account until the transaction ends."""
    connection.execute(_HOLD, {"whose": principal})


def as_proved(connection: Connection, person: Person) -> bool:
    """Whether the account is as it was when he proved who he is, and asks for no more; so it stays in this transaction."""
    facts = {"whose": person.principal, "generation": person.generation, "sure": MFA in person.amr}
    return connection.execute(_AS_PROVED, facts).first() is not None


def keep(server: Server, connection: Connection, request: Request, person: Person) -> None:
    """The session of who has just signed in, with what he may know it by; the browser is known for him."""
    agent = "".join(filter(str.isprintable, request.headers.get("user-agent", "")))[:AGENT_MAX_CHARS]
    row = {
        "digest": digest(server.key, "session", person.session), "sid": person.sid, "principal": person.principal,
        "authenticated_at_s": person.authenticated_at_s, "expires_at_s": server.now_s() + SESSION_LIFE_S,
        "amr": " ".join(person.amr), "provider": person.provider, "outside_sid": person.outside_sid,
        "place": source(request), "agent": agent,
    }  # fmt: skip
    connection.execute(insert(SESSION), row)
    _remember(server, connection, request, person)


def _remember(server: Server, connection: Connection, request: Request, person: Person) -> None:
    """Makes this browser known for who has just signed in there, and for nobody else."""
    if before := request.cookies.get(BROWSER_COOKIE, ""):
        connection.execute(_FORGET, {"shown": _known_as(server, before)})
    row = {"digest": _known_as(server, _browser(server, person)), "principal": person.principal, "sid": person.sid}
    connection.execute(insert(KNOWN_BROWSER), {**row, "expires_at_s": server.now_s() + BROWSER_LIFE_S})


def give_cookies(server: Server, response: Response, person: Person) -> None:
    """The cookies of what was kept."""
    set_cookie(response, SESSION_COOKIE, person.session, SESSION_LIFE_S)
    set_cookie(response, BROWSER_COOKIE, _browser(server, person), BROWSER_LIFE_S)


def set_cookie(response: Response, cookie: str, value: str, life_s: int | None = None) -> None:
    response.set_cookie(cookie, value, path="/", secure=True, httponly=True, samesite="lax", max_age=life_s)


def _browser(server: Server, person: Person) -> str:
    return derived(server.key, "known-browser", person.session).reveal()


def _known_as(server: Server, cookie: str) -> str:
    return digest(server.key, "known-browser", cookie)
