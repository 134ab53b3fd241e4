"""What was given to whom: codes, refresh tokens and grants, each one-time thing consumed by one statement."""

import hmac
import time
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, delete, insert, select, update

from ostiary.foundation.proof import hashed
from ostiary.foundation.secret import Secret, new_id
from ostiary.identity.clients import FAPI2, Client
from ostiary.identity.credentials import Drawer, derived, digest, new_secret
from ostiary.identity.request import Refused
from ostiary.store.database import Store
from ostiary.store.tables import GRANT, KNOWN_BROWSER, ONE_TIME, PRINCIPAL, REFRESH, REVOCATION, SESSION, THROTTLE

CODE_LIFE_S: Final = 60
GRANT_LIFE_S: Final = 30 * 24 * 3600  # absolute (standard A1)
RETRY_S: Final = 10  # the answer to a refresh may get lost once
# Grants when nothing points at them.
EXPIRED: Final = (ONE_TIME, REFRESH, KNOWN_BROWSER, THROTTLE, REVOCATION, GRANT, SESSION)
PURGED_MAX: Final = 1_000  # rows of one transaction
PURGE_PAUSE_S: Final = 0.01


# Statements of every request are made once: to put one together takes as long as to carry it out (measured).
_GRANT: Final = (
    select(GRANT, PRINCIPAL.c.name)
    .join(PRINCIPAL, PRINCIPAL.c.id == GRANT.c.principal)
    .where(GRANT.c.id == bindparam("id"))
)
_REFRESH_HERE: Final = (REFRESH.c.digest == bindparam("shown"), REFRESH.c.expires_at_s > bindparam("now_s"))
_SUPERSEDE: Final = (
    update(REFRESH).where(*_REFRESH_HERE, REFRESH.c.superseded_at_s == 0).values(superseded_at_s=bindparam("now_s"))
    .returning(REFRESH.c.grant)
)  # fmt: skip
_SUPERSEDED: Final = select(REFRESH.c.grant).where(*_REFRESH_HERE)


class Replayed(Exception):
    """A one-time thing came twice: the caller revokes `grant` in a transaction that stays."""

    def __init__(self, grant: str) -> None:
        super().__init__(grant)
        self.grant = grant


def begin(connection: Connection, now_s: int, values: Mapping[str, Any]) -> str:
    """The id of a new grant: its `values` without id and end."""
    grant = new_id("gr")
    row = {"id": grant, "expires_at_s": now_s + GRANT_LIFE_S, "revoked": False, **values}
    connection.execute(insert(GRANT), row)
    return grant


def code_for(codes: Drawer, grant: str, *, client: str, redirect: str, challenge: str) -> Secret:
    """The code that opens the grant."""
    code = new_secret()
    codes.keep(code.reveal(), CODE_LIFE_S, client=client, grant=grant, redirect=redirect, challenge=challenge)
    return code


def redeem(
    codes: Drawer, client: Client, *, code: str, redirect: str, verifier: str, bound: str
) -> tuple[Row[Any], Secret]:
    """The grant behind `code`, once, and its first refresh token; raises Replayed when its own client shows it again."""
    kept = codes.use(code)
    wrong = Refused("invalid_grant", "the code is not valid", guessed=bool(code))
    if kept is None:
        used = codes.look(code)
        if used is not None and used.client == client.principal:
            raise Replayed(used.grant)
        raise wrong
    same = hmac.compare_digest(hashed(verifier), kept.facts["challenge"])
    if kept.client != client.principal or kept.facts["redirect"] != redirect or not same:
        raise wrong  # the transaction rolls back: another client cannot use the code up
    return opened(codes, client, kept.grant, bound)


def opened(codes: Drawer, client: Client, grant_id: str, bound: str) -> tuple[Row[Any], Secret]:
    """The grant, and its first refresh token: a public client's is bound as the access token is (RFC 9449 section 5)."""
    grant = _alive(_grant(codes.connection, grant_id), codes.now_s)
    if grant.bound and grant.bound != bound:
        raise Refused("invalid_grant", "the code is bound to another key")
    if client.public and bound:
        codes.connection.execute(update(GRANT).where(GRANT.c.id == grant.id).values(bound=bound))
    return grant, _add_refresh(codes.connection, codes.key, grant, new_secret())


def refresh(  # noqa: PLR0917  what the request shows
    connection: Connection, key: bytes, now_s: int, client: Client, token: str, bound: str
) -> tuple[Row[Any], Secret]:
    """The grant behind a refresh token, which is superseded, and its successor.

    The answer may get lost once: whoever asks again within seconds gets the same successor, so that a thief who does
    shares it with its owner and is found out at the next turn. Raises Replayed on reuse (RFC 9700 section 4.14.2).
    In the profile fapi2 it stays the same: there the client proves who it is (FAPI 2.0 section 5.3.2.1).
    """
    here, turns = {"shown": digest(key, "refresh", token), "now_s": now_s}, client.profile != FAPI2
    took = connection.execute(_SUPERSEDE, here).scalar_one_or_none() if turns else None
    found = took or connection.execute(_SUPERSEDED, here).scalar_one_or_none()
    grant = _grant(connection, found) if found else None
    if grant is None or grant.client != client.principal or (client.public and grant.bound != bound):
        # what was taken is given back as the transaction rolls back: another client cannot use the token up
        raise Refused("invalid_grant", "the refresh token is not valid", guessed=bool(token))
    _alive(grant, now_s)
    if not turns:
        return grant, Secret(token)
    successor = derived(key, "refresh-successor", token)
    if took:
        return grant, _add_refresh(connection, key, grant, successor)
    if _retried(connection, here) and _unused(connection, key, successor):
        return grant, successor
    raise Replayed(grant.id)


def _retried(connection: Connection, here: Mapping[str, Any]) -> bool:
    """Whether this is the first to ask again, soon enough."""
    lost = (REFRESH.c.retried.is_(False), REFRESH.c.superseded_at_s >= here["now_s"] - RETRY_S)
    again = update(REFRESH).where(*_REFRESH_HERE, *lost).values(retried=True).returning(REFRESH.c.grant)
    return connection.execute(again, here).first() is not None


def _unused(connection: Connection, key: bytes, token: Secret) -> bool:
    shown = digest(key, "refresh", token.reveal())
    used = select(REFRESH.c.superseded_at_s).where(REFRESH.c.digest == shown)
    return connection.execute(used).scalar_one_or_none() == 0


def _add_refresh(connection: Connection, key: bytes, grant: Row[Any], token: Secret) -> Secret:
    new = {"digest": digest(key, "refresh", token.reveal()), "grant": grant.id, "expires_at_s": grant.expires_at_s}
    connection.execute(insert(REFRESH), {**new, "superseded_at_s": 0, "retried": False})
    return token


def of_refresh(connection: Connection, key: bytes, client: Client, token: str) -> Row[Any] | None:
    """The client's own grant behind a refresh token, with when the token was superseded."""
    return connection.execute(
        select(GRANT, REFRESH.c.superseded_at_s).join(REFRESH, REFRESH.c.grant == GRANT.c.id)
        .where(REFRESH.c.digest == digest(key, "refresh", token), GRANT.c.client == client.principal)
    ).one_or_none()  # fmt: skip


def purge(store: Store, now_s: int) -> None:
    """Forgets what has expired, a little in each transaction, so that nobody waits for long, however much it is."""
    for table in EXPIRED:
        (key,) = table.primary_key
        kept_s = GRANT_LIFE_S if table is SESSION else 0  # what was given in it can end with it as long
        some = select(key).where(table.c.expires_at_s <= now_s - kept_s).limit(PURGED_MAX)
        gone = PURGED_MAX
        while gone == PURGED_MAX:
            with store.begin() as connection:
                gone = connection.execute(delete(table).where(key.in_(some))).rowcount
            time.sleep(PURGE_PAUSE_S)  # a lock goes to who asks next: others come first


def _grant(connection: Connection, grant: str) -> Row[Any]:
    return connection.execute(_GRANT, {"id": grant}).one()


def _alive(grant: Row[Any], now_s: int) -> Row[Any]:
    if grant.revoked or grant.expires_at_s <= now_s:
        raise Refused("invalid_grant", "the grant has ended")
    return grant
