"""Devices without a browser: a code on their screen, which a person enters elsewhere (RFC 8628)."""

import hmac
import secrets
from typing import Any, Final

from sqlalchemy import Connection, Row
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ostiary.foundation.secret import Secret
from ostiary.identity import clients, tokens
from ostiary.identity.clients import Client
from ostiary.identity.credentials import Kept, digest, new_secret
from ostiary.identity.request import Refused, form
from ostiary.identity.server import Server

LIFE_S: Final = 600
POLL_S: Final = 5
LETTERS: Final = "BCDFGHJKLMNPQRSTVWXZ"  # no words, nothing to mistake (RFC 8628 section 6.1): 34 bits
LENGTH: Final = 8
TYPED_MAX_CHARS: Final = 20
KIND: Final = "device"
DENIED: Final = "denied"  # in place of the grant


def begin(server: Server, request: Request, body: bytes) -> Response:
    """The device's code, and the one for the person."""
    told = form(request, body)
    with server.store.begin() as connection:
        client = clients.authenticate(server, connection, request, told)
        clients.refuse_grant(client, KIND)
        clients.refuse_many(server, connection, request, client)
        clients.scope_of(server, client, told)  # raises for what it may not ask for
        code = "".join(secrets.choice(LETTERS) for _ in range(LENGTH))
        text = f"{new_secret().reveal()}.{code}"
        wanted = {name: told[name] for name in ("scope", "resource") if name in told}
        proof = digest(server.key, "device-code", text)
        server.drawer(connection, KIND).keep(code, LIFE_S, client=client.principal, proof=proof, **wanted)
    server.note(request, "kept", client=client.id)
    place = f"{server.issuer}/device"
    answer = {"device_code": text, "user_code": shown(code), "verification_uri": place}
    more = {"verification_uri_complete": f"{place}?user_code={shown(code)}", "expires_in": LIFE_S, "interval": POLL_S}
    return JSONResponse({**answer, **more}, headers={"cache-control": "no-store"})


def waiting(server: Server, connection: Connection, code: str) -> Kept | None:
    """What the device with this code asks for, while nobody has answered."""
    kept = server.drawer(connection, KIND).look(plain(code))
    return kept if kept and not kept.grant and not kept.used else None


def decide(server: Server, connection: Connection, code: str, grant: str = DENIED) -> bool:
    """The person's answer, the first one alone."""
    return server.drawer(connection, KIND).fill(plain(code), grant)


def redeem(  # noqa: PLR0917  what the request shows
    server: Server, connection: Connection, request: Request, client: Client, text: str, bound: str
) -> tuple[Row[Any], Secret]:
    """The grant that the person gave, once; raises Refused in the words of RFC 8628 section 3.5."""
    drawer, code = server.drawer(connection, KIND), text.rpartition(".")[2]
    kept = drawer.look(code)
    proof = digest(server.key, "device-code", text)
    mine = kept is not None and kept.client == client.principal
    if kept is None or not mine or not hmac.compare_digest(proof, kept.facts["proof"]):
        raise Refused("expired_token", "there is no such code, or it has lapsed; begin again", guessed=True)
    if not server.seen_first(connection, request, "device-poll", text, POLL_S):
        raise Refused("slow_down", f"ask every {POLL_S} seconds")
    if not kept.grant:
        raise Refused("authorization_pending", "nobody has entered the code yet")
    if kept.grant == DENIED:
        raise Refused("access_denied", "the person said no")
    if drawer.use(code) is None:
        raise tokens.Replayed(kept.grant)
    return tokens.opened(drawer, client, kept.grant, bound)


def plain(code: str) -> str:
    """However a person writes it."""
    return "".join(letter for letter in code.upper()[:TYPED_MAX_CHARS] if letter in LETTERS)


def shown(code: str) -> str:
    """As the device shows it."""
    text = plain(code)
    return f"{text[:4]}-{text[4:]}"
