"""Signing keys: next, active, retiring, gone. A key is published long before it signs and long after.

Access tokens, ID tokens and logout tokens never share one. Those by RS256 are made when the first client asks for it, and
sign at once, since nobody had a token by one before; from then on they turn as all others. Whoever calls `turn` or `rotate` then brings the new `next` to the gate.
"""

import json
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, delete, insert, select, update

from ostiary.audit.log import Change
from ostiary.foundation.clock import from_us, stamp, to_us
from ostiary.foundation.errors import CallerFault, SystemFault
from ostiary.foundation.jose import ALGORITHM, RS256, SigningKey
from ostiary.identity.credentials import pepper
from ostiary.store.database import Sealer, take_turns
from ostiary.store.tables import SIGNING_KEY

PURPOSES: Final = ("access", "id", "logout")
BY_RS256: Final = ("id-rs256", "logout-rs256")
ACTIVE_S: Final = 30 * 24 * 3600
JWKS_LIFE_S: Final = 3600  # as long may whoever fetched the keys keep them, by what we say
KEPT_S: Final = 24 * 3600  # as long some do
PUBLISHED_S: Final = KEPT_S + JWKS_LIFE_S  # of a copy that was an hour old: then everybody knows the next key
RETIRING_S: Final = 24 * 3600  # no token lives longer than two hours; an ID token may be looked at later
TURN: Final = "signing-keys"
_KEY = SIGNING_KEY.c
_KEYS: Final = select(_KEY.purpose, _KEY.state, _KEY.kid, _KEY.since_us)


def purpose_of(token: str, algorithm: str) -> str:
    """Of the keys that sign this kind of token by this algorithm."""
    return token if algorithm == ALGORITHM else f"{token}-{algorithm.lower()}"


def in_use(connection: Connection) -> tuple[str, ...]:
    """The purposes that there are keys for, or always have to be."""
    return tuple(sorted({*PURPOSES, *(purpose for purpose, _ in _standing(connection))}))


def ensure(connection: Connection, sealer: Sealer, now: datetime, *more: str) -> None:
    """Every purpose, and those of `more`, has an active key and the one after it, already published; digests have theirs."""
    take_turns(connection, TURN)
    pepper(connection, sealer)  # now: whoever only reads can't make it
    there = _standing(connection)
    for purpose in {*in_use(connection), *more}:
        for state in ("active", "next"):
            if (purpose, state) not in there:
                _make(connection, sealer, now, purpose, state)


def turn(change: Change, sealer: Sealer) -> tuple[str, ...]:
    """Rotates what is due and lets go of what has retired; returns the purposes that changed. Call it every hour."""
    ensure(change.connection, sealer, change.now)
    lapsed_us = to_us(change.now) - RETIRING_S * 1_000_000
    gone = delete(SIGNING_KEY).where(_KEY.state == "retiring", _KEY.since_us <= lapsed_us)
    changed = set(change.connection.scalars(gone.returning(_KEY.purpose)))
    for purpose in sorted(changed):
        change.note("key.retire", purpose)  # by which other nodes know of it
    for purpose in in_use(change.connection):
        if _age_s(change, purpose, "active") >= ACTIVE_S and _age_s(change, purpose, "next") >= PUBLISHED_S:
            rotate(change, sealer, purpose=purpose)
            changed.add(purpose)
    return tuple(sorted(changed))


def rotate(
    change: Change, sealer: Sealer, *, purpose: str = "access", compromised: bool = False, reason: str = ""
) -> str:
    """Next signs, active retires; returns the kid that signs now.

    Where a key is compromised, every one of its purpose goes at once, and its tokens with it: whoever got at the active
    key may have got at the next one.
    """
    ensure(change.connection, sealer, change.now, purpose)
    can_us = _standing(change.connection)[purpose, "next"].since_us + PUBLISHED_S * 10**6
    if not compromised and to_us(change.now) < can_us:
        told = f"the next key has not been published for {PUBLISHED_S // 3600} h yet: clients may not know it"
        hint = f"try again at {stamp(from_us(can_us))}; where the present key is in wrong hands, --compromised"
        raise CallerFault("key-too-new", told, hint=hint)
    if compromised:
        change.connection.execute(delete(SIGNING_KEY).where(_KEY.purpose == purpose))
    for before, after in (("active", "retiring"), ("next", "active")):
        moved = update(SIGNING_KEY).where(_KEY.purpose == purpose, _KEY.state == before)
        change.connection.execute(moved.values(state=after, since_us=to_us(change.now)))
    ensure(change.connection, sealer, change.now, purpose)
    kid = active_kids(change.connection)[purpose]
    change.note("key.rotate", purpose, after={"kid": kid, "compromised": compromised}, reason=reason)
    return kid


def active_kids(connection: Connection) -> dict[str, str]:
    """Purpose -> the key that signs now."""
    found = {purpose: row.kid for (purpose, state), row in _standing(connection).items() if state == "active"}
    if missing := [purpose for purpose in PURPOSES if purpose not in found]:
        told = f"there is no active key for {missing[0]} tokens"
        raise SystemFault("no-signing-key", told, hint="restart `ostiary up`")
    return found


def load(connection: Connection, sealer: Sealer, kid: str) -> SigningKey:
    row = connection.execute(select(_KEY.purpose, _KEY.sealed_private).where(_KEY.kid == kid)).one()
    return SigningKey.load(sealer.open(row.sealed_private, _sealed_for(row.purpose)))


def published(connection: Connection) -> dict[str, Any]:
    """The JWKS with every public key of every purpose."""
    rows = connection.scalars(select(_KEY.public_jwk).order_by(_KEY.kid))
    return {"keys": [json.loads(text) for text in rows]}


def _standing(connection: Connection) -> dict[tuple[str, str], Any]:
    """(purpose, state) -> the key, and since when it is in this state; of those that retire, one."""
    return {(row.purpose, row.state): row for row in connection.execute(_KEYS)}


def _age_s(change: Change, purpose: str, state: str) -> float:
    since_us: int = _standing(change.connection)[purpose, state].since_us
    return (to_us(change.now) - since_us) / 1_000_000


def _make(connection: Connection, sealer: Sealer, now: datetime, purpose: str, state: str) -> None:
    key, at_us = SigningKey.generate(RS256 if purpose in BY_RS256 else ALGORITHM), to_us(now)
    both = {"public_jwk": json.dumps(key.public()), "sealed_private": sealer.seal(key.private(), _sealed_for(purpose))}
    row = {"kid": key.kid, "purpose": purpose, "state": state, "made_at_us": at_us, "since_us": at_us, **both}
    connection.execute(insert(SIGNING_KEY), row)


def _sealed_for(purpose: str) -> str:
    return f"signing-key:{purpose}"
