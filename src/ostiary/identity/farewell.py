"""Tells clients that a session has ended (OpenID Connect Back-Channel Logout 1.0): after it has, whoever ended it.

What is to be told is kept where the session was, in the transaction that ends it; nobody who signs out waits for it.
"""

import asyncio
import logging
import ssl
from contextlib import suppress
from typing import Any, Final

import httpx
from sqlalchemy import ColumnElement, delete, select, tuple_, update

from ostiary.audit.log import Change
from ostiary.foundation.jose import LOGOUT_TOKEN, SigningKey
from ostiary.foundation.proof import LOGOUT
from ostiary.foundation.secret import new_id
from ostiary.identity.server import Server
from ostiary.store.database import insert_into
from ostiary.store.tables import CLIENT, FAREWELL, GRANT, SESSION

TOKEN_LIFE_S: Final = 120  # section 2.4
TRIES_MAX: Final = 5
PAUSE_S: Final = 15  # times the square of the tries: the fifth comes after some eight minutes
TIMEOUT_S: Final = 5.0
BATCH: Final = 40
FINAL: Final = range(400, 500)  # it was understood, and is not wanted; but for 429
_F: Final = FAREWELL.c
_GIVEN: Final = (
    select(GRANT.c.client, GRANT.c.sid, GRANT.c.principal.label("subject")).distinct()
    .join(SESSION, (SESSION.c.principal == GRANT.c.principal) & (SESSION.c.sid == GRANT.c.sid))
    .join(CLIENT, CLIENT.c.principal == GRANT.c.client).where(CLIENT.c.backchannel_logout_uri != "")
)  # fmt: skip
_PLACES: Final = select(CLIENT.c.principal.label("client"), CLIENT.c.backchannel_logout_uri.label("place"))
log = logging.getLogger(__name__)


def tell(change: Change, *which: ColumnElement[bool]) -> None:
    """The clients that were given something in these sessions, which end, and want to know it."""
    now_s = int(change.now.timestamp())
    wanted = _GIVEN.where(*which, GRANT.c.expires_at_s > now_s)
    if rows := [{**one, "tries": 0, "due_at_s": now_s} for one in change.connection.execute(wanted).mappings()]:
        change.connection.execute(insert_into(change.connection, FAREWELL).on_conflict_do_nothing(), rows)


def send(server: Server) -> None:
    """One round: what is due is sent, each beside the others. Call it now and then, in a thread of its own."""
    due = _due(server)
    answers = asyncio.run(_posted(server.settings.upstream_authorities, due)) if due else []
    for (one, place, _), status in zip(due, answers, strict=True):
        final = not place or (status in FINAL and status != httpx.codes.TOO_MANY_REQUESTS)
        if httpx.codes.is_success(status) or final or one.tries >= TRIES_MAX:
            with server.store.begin() as connection:
                connection.execute(delete(FAREWELL).where(_F.client == one.client, _F.sid == one.sid))
                if not httpx.codes.is_success(status):
                    log.warning("%s can't be told that a session has ended: status %d", one.client, status)
                    after = {"sid": one.sid, "status": status, "tries": one.tries}
                    Change(connection, "ostiary", server.now()).note("client.untold", one.client, after=after)


def _due(server: Server) -> list[tuple[Any, str, str]]:
    """What is due, where it goes, its token. One statement takes it, for the time of a try: no other node sends it too."""
    now_s, tries, first = server.now_s(), _F.tries + 1, select(_F.client, _F.sid)
    due = first.where(_F.due_at_s <= now_s).order_by(_F.tries, _F.due_at_s).limit(BATCH)
    with server.store.read() as connection:
        if connection.execute(due).first() is None:
            return []
    taken = update(FAREWELL).where(tuple_(_F.client, _F.sid).in_(due), _F.due_at_s <= now_s)
    taken = taken.values(tries=tries, due_at_s=now_s + PAUSE_S * tries * tries)
    with server.store.begin() as connection:
        rows = connection.execute(taken.returning(_F.client, _F.sid, _F.subject, _F.tries)).all()
        known = {one.client: one.place for one in connection.execute(_PLACES)}
        key = server.signing(connection)["logout"]
    return [(one, known.get(one.client, ""), _token(server, key, one)) for one in rows]


def _token(server: Server, key: SigningKey, one: Any) -> str:
    """Section 2.4: of a type and a key of its own, so that it is taken for nothing else."""
    now_s = server.now_s()
    told = {
        "iss": server.issuer, "aud": one.client.partition(":")[2], "iat": now_s, "exp": now_s + TOKEN_LIFE_S,
        "jti": new_id("lt"), "sub": one.subject, "sid": one.sid, "events": {LOGOUT: {}},
    }  # fmt: skip
    return key.sign(told, type_=LOGOUT_TOKEN)


async def _posted(authorities: str, due: list[tuple[Any, str, str]]) -> list[int]:
    """The status of each answer, 0 where there is none; what else it says is not read, however long it is."""
    trust = ssl.create_default_context(cafile=authorities or None)
    async with httpx.AsyncClient(verify=trust, follow_redirects=False, trust_env=False) as client:

        async def post(place: str, token: str) -> int:
            with suppress(
                httpx.HTTPError, httpx.InvalidURL, OSError, ValueError
            ):  # the last for what is no host after all
                to = client.stream("POST", place, data={"logout_token": token})
                async with asyncio.timeout(TIMEOUT_S), to as answer:
                    return answer.status_code
            return 0

        return await asyncio.gather(*(post(place, token) for _, place, token in due))
