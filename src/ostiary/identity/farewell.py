"""Tells clients that a session has ended (OpenID Connect Back-Channel Logout 1.0): after it has, whoever ended it.

What is to be told is put into the outbox in the transaction that ends it; nobody who signs out waits for it.
"""

import json
from typing import Final

from msgspec.json import decode
from sqlalchemy import ColumnElement, Connection, insert, select

from ostiary.audit.log import Change
from ostiary.foundation.jose import LOGOUT_TOKEN, SigningKey
from ostiary.foundation.proof import LOGOUT
from ostiary.foundation.secret import new_id
from ostiary.identity.clients import Terms
from ostiary.store.tables import CLIENT, GRANT, OUTBOX, SESSION

TOKEN_LIFE_S: Final = 120  # section 2.4
_GIVEN: Final = (
    select(GRANT.c.client, GRANT.c.sid, GRANT.c.principal).distinct()
    .join(SESSION, (SESSION.c.principal == GRANT.c.principal) & (SESSION.c.sid == GRANT.c.sid))
    .join(CLIENT, CLIENT.c.principal == GRANT.c.client).where(CLIENT.c.backchannel_logout_uri != "")
)  # fmt: skip


def tell(change: Change, *which: ColumnElement[bool]) -> None:
    """The clients that were given something in these sessions, which end, and want to know it."""
    given = _GIVEN.where(*which, GRANT.c.expires_at_s > int(change.now.timestamp()))
    for client, sid, subject in change.connection.execute(given).all():
        told = json.dumps({"sub": subject, "sid": sid})
        change.connection.execute(insert(OUTBOX).values(receiver=client, body=told))


def wanted(connection: Connection, client: str) -> tuple[str, str]:
    """Where the client wants to be told, "" where it does not or is no more; and signed as its ID tokens are (section 2.6)."""
    facts = connection.scalar(select(CLIENT.c.facts).where(CLIENT.c.principal == client))
    terms = decode(facts, type=Terms) if facts else Terms()
    return terms.backchannel_logout_uri, terms.id_token_alg


def token(key: SigningKey, issuer: str, client: str, body: str, now_s: int) -> str:
    """Section 2.4: of a type and a key of its own, so that it is taken for nothing else."""
    told = {
        "iss": issuer, "aud": client.partition(":")[2], "iat": now_s, "exp": now_s + TOKEN_LIFE_S,
        "jti": new_id("lt"), "events": {LOGOUT: {}}, **json.loads(body),
    }  # fmt: skip
    return key.sign(told, type_=LOGOUT_TOKEN)
