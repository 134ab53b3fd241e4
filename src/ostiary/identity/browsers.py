"""Browsers that a person has signed in with: whoever guesses from elsewhere does not keep him out of these.

Each has a cookie of its own, another one after every sign-in, so that a copy is good until the next one at most; what ends
the session that it came with ends it too.
"""

from typing import Final

from sqlalchemy import Connection, bindparam, delete, insert, select
from starlette.requests import Request
from starlette.responses import Response

from ostiary.identity import tries
from ostiary.identity.credentials import derived, digest
from ostiary.identity.request import site
from ostiary.identity.server import Server
from ostiary.identity.session import Person, set_cookie
from ostiary.store.tables import KNOWN_BROWSER

COOKIE: Final = "__Host-ostiary-device"
LIFE_S: Final = 365 * 24 * 3600
_THIS: Final = KNOWN_BROWSER.c.digest == bindparam("shown")
_ITS: Final = (
    _THIS,
    KNOWN_BROWSER.c.principal == bindparam("whose"),
    KNOWN_BROWSER.c.expires_at_s > bindparam("now_s"),
)
_KNOWN: Final = select(KNOWN_BROWSER.c.sid).where(*_ITS)
_FORGET: Final = delete(KNOWN_BROWSER).where(_THIS)


def place(server: Server, connection: Connection, request: Request, login: str, way: str) -> str:
    """What tries of this way are counted by: the account, and this browser where it is known for it, else the address.

    A code is asked of who has shown the password: its tries are counted together, wherever else they come from.
    """
    shown = _digest(server, request.cookies.get(COOKIE, ""))
    facts = {"shown": shown, "whose": f"user:{login}", "now_s": server.now_s()}
    known = connection.execute(_KNOWN, facts).first()
    elsewhere = "" if way == "code" else site(request)
    return tries.place_of(server.key, login, f"{way} {shown if known else elsewhere}")


def remember(server: Server, connection: Connection, request: Request, person: Person) -> None:
    """Makes this browser known for who has just signed in there, and for nobody else."""
    if before := request.cookies.get(COOKIE, ""):
        connection.execute(_FORGET, {"shown": _digest(server, before)})
    row = {"digest": _digest(server, _cookie(server, person)), "principal": person.principal, "sid": person.sid}
    connection.execute(insert(KNOWN_BROWSER), {**row, "expires_at_s": server.now_s() + LIFE_S})


def give(server: Server, response: Response, person: Person) -> None:
    """The cookie that `remember` knows it by."""
    set_cookie(response, COOKIE, _cookie(server, person), LIFE_S)


def _cookie(server: Server, person: Person) -> str:
    return derived(server.key, "known-browser", person.session).reveal()


def _digest(server: Server, cookie: str) -> str:
    return digest(server.key, "known-browser", cookie)
