"""Signing keys: next, active, retiring; access tokens and ID tokens never share one."""

import json
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, delete, insert, select, update

from ostiary.audit.log import Entry, append
from ostiary.foundation.errors import SystemFault
from ostiary.foundation.jose import SigningKey
from ostiary.store.seal import Sealer
from ostiary.store.tables.directory import SIGNING_KEY

PURPOSES: Final = ("access", "id")
_KEY = SIGNING_KEY.c


def ensure(connection: Connection, sealer: Sealer, now: datetime) -> None:
    """Every purpose has an active key and the one after it, already published."""
    for purpose in PURPOSES:
        for state in ("active", "next"):
            found = connection.execute(select(_KEY.kid).where(_KEY.purpose == purpose, _KEY.state == state)).first()
            if found is None:
                _make(connection, sealer, now, purpose, state)


def rotate(connection: Connection, *, actor: str, sealer: Sealer, now: datetime, purpose: str = "access") -> str:
    """Next signs, active retires, what retired before goes; returns the kid that signs now."""
    ensure(connection, sealer, now)
    connection.execute(delete(SIGNING_KEY).where(_KEY.purpose == purpose, _KEY.state == "retiring"))
    for before, after in (("active", "retiring"), ("next", "active")):
        connection.execute(update(SIGNING_KEY).where(_KEY.purpose == purpose, _KEY.state == before).values(state=after))
    _make(connection, sealer, now, purpose, "next")
    kid = connection.execute(select(_KEY.kid).where(_KEY.purpose == purpose, _KEY.state == "active")).scalar_one()
    append(connection, Entry(at=now, actor=actor, action="key.rotate", object=purpose, after={"kid": kid}))
    return str(kid)


def active(connection: Connection, sealer: Sealer, purpose: str) -> SigningKey:
    row = connection.execute(
        select(_KEY.kid, _KEY.sealed_private).where(_KEY.purpose == purpose, _KEY.state == "active")
    ).one_or_none()
    if row is None:
        raise SystemFault("no-signing-key", f"there is no active key for {purpose} tokens", hint="restart `ostiary up`")
    return SigningKey.load(sealer.open(row.sealed_private, _sealed_for(purpose)))


def published(connection: Connection) -> dict[str, Any]:
    """The JWKS with every public key of every purpose."""
    rows = connection.execute(select(_KEY.public_jwk).order_by(_KEY.kid)).scalars()
    return {"keys": [json.loads(text) for text in rows]}


def _make(connection: Connection, sealer: Sealer, now: datetime, purpose: str, state: str) -> None:
    key = SigningKey.generate()
    connection.execute(
        insert(SIGNING_KEY).values(
            kid=key.kid,
            purpose=purpose,
            state=state,
            public_jwk=json.dumps(key.public()),
            sealed_private=sealer.seal(key.private(), _sealed_for(purpose)),
            made_at_us=int(now.timestamp() * 1_000_000),
        )
    )


def _sealed_for(purpose: str) -> str:
    return f"signing-key:{purpose}"
