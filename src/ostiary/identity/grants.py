"""What was given to whom: codes, refresh tokens and grants, each one-time thing consumed by one statement."""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from sqlalchemy import Connection, Row, delete, insert, select, update

from ostiary.foundation.ids import new_id
from ostiary.foundation.secret import Secret
from ostiary.identity.credentials import digest, new_secret
from ostiary.identity.request import Refused
from ostiary.store.tables.directory import PRINCIPAL
from ostiary.store.tables.identity import CLIENT, CLIENT_SECRET, CODE, GRANT, REFRESH, SESSION, THROTTLE

CODE_LIFE_S: Final = 60
GRANT_LIFE_S: Final = 30 * 24 * 3600  # absolute (standard A1)
RETRY_S: Final = 10  # the answer to a refresh may get lost once
VERBS: Final = ("read", "write", "execute", "delete")
OIDC_SCOPES: Final = frozenset({"openid", "profile"})
EXPIRED: Final = (CODE, REFRESH, SESSION, THROTTLE)


class Client(NamedTuple):
    principal: str
    name: str
    public: bool
    redirects: tuple[str, ...]
    scopes: frozenset[str]

    @property
    def id(self) -> str:
        return self.principal.partition(":")[2]


class Replayed(Exception):
    """A one-time thing came twice: the caller revokes `grant` in a transaction that stays."""

    def __init__(self, grant: str) -> None:
        super().__init__(grant)
        self.grant = grant


def find_client(connection: Connection, client_id: str) -> Client | None:
    """The active client of that id."""
    row = connection.execute(
        select(CLIENT, PRINCIPAL.c.name)
        .join(PRINCIPAL, PRINCIPAL.c.id == CLIENT.c.principal)
        .where(CLIENT.c.principal == f"client:{client_id}", PRINCIPAL.c.active)
    ).one_or_none()
    if row is None:
        return None
    redirects = tuple(filter(None, row.redirects.split("\n")))
    return Client(row.principal, row.name, row.public, redirects, frozenset(row.scopes.split()))


def authenticate(connection: Connection, key: bytes, client_id: str, secret: str) -> Client:
    """The client that these credentials prove; a public one has no secret to show."""
    client = find_client(connection, client_id)
    refused = Refused("invalid_client", "the client is not known or its secret is wrong", status=401)
    if client is None or client.public != (not secret):
        raise refused
    if not client.public:
        shown = digest(key, "client-secret", client.principal, secret)
        stored = connection.execute(
            select(CLIENT_SECRET.c.digest).where(CLIENT_SECRET.c.principal == client.principal)
        ).scalars()
        if not any([hmac.compare_digest(shown, one) for one in stored]):  # noqa: C419  every one, in equal time
            raise refused
    return client


def redirect_known(client: Client, redirect: str) -> bool:
    """Exactly as registered; a loopback address may choose its port (RFC 8252 section 7.3)."""
    return redirect in client.redirects or any(
        one.startswith("http://") and _portless(one) == _portless(redirect) for one in client.redirects
    )


def narrow(client: Client, asked: str, system: str) -> frozenset[str]:
    """What of `asked` the client may have at `system`; all it may, when no business scope is asked for."""
    wanted = frozenset(asked.split())
    here = frozenset(scope for scope in client.scopes if scope.startswith(f"{system}/"))
    allowed = here if client.scopes else frozenset(f"{system}/*:{verb}" for verb in VERBS)
    business = wanted - OIDC_SCOPES
    if odd := [scope for scope in business if not any(_covers(one, scope) for one in allowed)]:
        raise Refused("invalid_scope", f"{len(odd)} of the scopes may not be asked for by this client")
    return (wanted & OIDC_SCOPES) | (business or allowed)


def begin(  # noqa: PLR0917  one row, field by field
    connection: Connection, key: bytes, now_s: int, values: Mapping[str, Any], redirect: str, challenge: str
) -> Secret:
    """A new grant (its `values` without id and end) and the code that opens it."""
    grant = new_id("gr")
    connection.execute(insert(GRANT).values(id=grant, expires_at_s=now_s + GRANT_LIFE_S, revoked=False, **values))
    code = new_secret()
    connection.execute(
        insert(CODE).values(
            digest=digest(key, "code", code.reveal()), grant=grant, redirect=redirect, challenge=challenge, used=False,
            expires_at_s=now_s + CODE_LIFE_S,
        )
    )  # fmt: skip
    return code


def redeem(
    connection: Connection, key: bytes, now_s: int, client: Client, *, code: str, redirect: str, verifier: str
) -> Row[Any]:
    """The grant behind `code`, once; raises Replayed when its own client shows it again."""
    mine = (CODE.c.digest == digest(key, "code", code), CODE.c.expires_at_s > now_s)
    row = connection.execute(
        update(CODE).where(*mine, CODE.c.used.is_(False)).values(used=True)
        .returning(CODE.c.grant, CODE.c.redirect, CODE.c.challenge)
    ).one_or_none()  # fmt: skip
    wrong = Refused("invalid_grant", "the code is not valid")
    if row is None:
        used = connection.execute(select(CODE.c.grant).where(*mine)).scalar_one_or_none()
        if used is not None and _grant(connection, used).client == client.principal:
            raise Replayed(used)
        raise wrong
    grant = _grant(connection, row.grant)
    proof = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    if grant.client != client.principal or row.redirect != redirect or not hmac.compare_digest(proof, row.challenge):
        raise wrong  # the transaction rolls back: another client cannot use the code up
    return _alive(grant, now_s)


def add_refresh(connection: Connection, key: bytes, grant: Row[Any]) -> Secret:
    token = new_secret()
    connection.execute(
        insert(REFRESH).values(
            digest=digest(key, "refresh", token.reveal()), grant=grant.id, superseded_at_s=0, retried=False,
            expires_at_s=grant.expires_at_s,
        )
    )  # fmt: skip
    return token


def refresh(connection: Connection, key: bytes, now_s: int, client: Client, token: str) -> Row[Any]:
    """The grant behind a refresh token, which is superseded; raises Replayed on reuse (RFC 9700 section 4.14.2)."""
    here = (REFRESH.c.digest == digest(key, "refresh", token), REFRESH.c.expires_at_s > now_s)
    found = connection.execute(select(REFRESH.c.grant).where(*here)).scalar_one_or_none()
    if found is None or _grant(connection, found).client != client.principal:
        raise Refused("invalid_grant", "the refresh token is not valid")
    grant = _alive(_grant(connection, found), now_s)
    fresh = update(REFRESH).where(*here, REFRESH.c.superseded_at_s == 0).values(superseded_at_s=now_s)
    if connection.execute(fresh.returning(REFRESH.c.grant)).first():
        return grant
    lost = (REFRESH.c.retried.is_(False), REFRESH.c.superseded_at_s >= now_s - RETRY_S)
    if connection.execute(update(REFRESH).where(*here, *lost).values(retried=True).returning(REFRESH.c.grant)).first():
        return grant
    raise Replayed(found)


def grant_of_refresh(connection: Connection, key: bytes, client: Client, token: str) -> str | None:
    """The client's own grant behind a refresh token, for revocation."""
    return connection.execute(
        select(GRANT.c.id).join(REFRESH, REFRESH.c.grant == GRANT.c.id)
        .where(REFRESH.c.digest == digest(key, "refresh", token), GRANT.c.client == client.principal)
    ).scalar_one_or_none()  # fmt: skip


def purge(connection: Connection, now_s: int) -> None:
    """Forgets what has expired; grants go when nothing points at them."""
    for table in EXPIRED:
        connection.execute(delete(table).where(table.c.expires_at_s <= now_s))
    connection.execute(delete(GRANT).where(GRANT.c.expires_at_s <= now_s))


def _grant(connection: Connection, grant: str) -> Row[Any]:
    return connection.execute(select(GRANT).where(GRANT.c.id == grant)).one()


def _alive(grant: Row[Any], now_s: int) -> Row[Any]:
    if grant.revoked or grant.expires_at_s <= now_s:
        raise Refused("invalid_grant", "the grant has ended")
    return grant


def _covers(allowed: str, scope: str) -> bool:
    """`erp/sale.*:read` covers `erp/sale.sale:read` and `erp/sale.line.*:read`."""
    place, _, verb = allowed.rpartition(":")
    wanted_place, _, wanted_verb = scope.rpartition(":")
    if wanted_verb != verb and not wanted_verb.startswith(f"{verb}."):
        return False
    return wanted_place.startswith(place[:-1]) if place.endswith("*") else wanted_place == place


def _portless(address: str) -> tuple[str, str, str, str] | None:
    try:
        place = urlsplit(address)
        _ = place.port
    except ValueError:
        return None
    odd = place.scheme != "http" or place.hostname not in {"127.0.0.1", "::1"} or place.username or place.fragment
    return None if odd else (place.scheme, place.hostname or "", place.path, place.query)
