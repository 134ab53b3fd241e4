"""Who is signed in at a browser, how, and since when."""

from typing import Final, NamedTuple

from sqlalchemy import Boolean, Connection, bindparam, insert, select
from starlette.requests import Request
from starlette.responses import Response

from ostiary.identity import factors
from ostiary.identity.credentials import digest
from ostiary.identity.request import source
from ostiary.identity.server import Server
from ostiary.plan.model import MFA
from ostiary.store.tables import PRINCIPAL, SESSION

SESSION_LIFE_S: Final = 8 * 3600
AGENT_MAX_CHARS: Final = 120
SESSION_COOKIE: Final = "__Host-ostiary-session"

_SESSION: Final = (
    select(SESSION, PRINCIPAL.c.name, PRINCIPAL.c.generation)
    .join(PRINCIPAL, PRINCIPAL.c.id == SESSION.c.principal)
    .where(SESSION.c.digest == bindparam("shown"), SESSION.c.expires_at_s > bindparam("now_s"), PRINCIPAL.c.active)
)
_HOLD: Final = (
    select(PRINCIPAL.c.id).where(PRINCIPAL.c.id == bindparam("principal"), PRINCIPAL.c.active).with_for_update()
)
_AS_PROVED: Final = _HOLD.where(
    PRINCIPAL.c.generation == bindparam("generation"), bindparam("sure", type_=Boolean) | ~factors.ASKED_FOR
)


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


def current(server: Server, connection: Connection, request: Request) -> Person | None:
    """The person whose session the browser has, while it lives: one by the password alone, no longer than that is enough."""
    cookie = request.cookies.get(SESSION_COOKIE, "")
    facts = {"shown": digest(server.key, "session", cookie), "now_s": server.now_s()}
    row = connection.execute(_SESSION, facts).one_or_none() if cookie else None
    if row is None or ("mfa" not in row.amr.split() and factors.asked_for(connection, row.principal)):
        return None
    return Person(row.principal, row.name, row.sid, row.authenticated_at_s, row.generation, tuple(row.amr.split()))


def keep(connection: Connection, server: Server, request: Request, person: Person) -> None:
    """The session of who has just signed in, with what he may know it by."""
    agent = "".join(filter(str.isprintable, request.headers.get("user-agent", "")))[:AGENT_MAX_CHARS]
    row = {
        "digest": digest(server.key, "session", person.session), "sid": person.sid, "principal": person.principal,
        "authenticated_at_s": person.authenticated_at_s, "expires_at_s": server.now_s() + SESSION_LIFE_S,
        "amr": " ".join(person.amr), "provider": person.provider, "outside_sid": person.outside_sid,
        "place": source(request), "agent": agent,
    }  # fmt: skip
    connection.execute(insert(SESSION), row)


def in_force(connection: Connection, person: Person, now_s: int) -> bool:
    chosen = select(SESSION.c.sid).where(
        SESSION.c.principal == person.principal, SESSION.c.sid == person.sid, SESSION.c.expires_at_s > now_s
    )
    return connection.execute(chosen).first() is not None


def hold(connection: Connection, principal: str) -> None:
    """Nobody changes this account until the transaction ends."""
    connection.execute(_HOLD, {"principal": principal})


def as_proved(connection: Connection, person: Person) -> bool:
    """Whether the account is as it was when he proved who he is, and asks for no more; so it stays in this transaction."""
    facts = {"principal": person.principal, "generation": person.generation, "sure": MFA in person.amr}
    return connection.execute(_AS_PROVED, facts).first() is not None


def set_cookie(response: Response, cookie: str, value: str, life_s: int | None = None) -> None:
    response.set_cookie(cookie, value, path="/", secure=True, httponly=True, samesite="lax", max_age=life_s)
