"""What was given to whom: codes, refresh tokens and grants, each one-time thing consumed by one statement."""

import base64
import hashlib
import hmac
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Row, bindparam, delete, insert, select, update

from ostiary.erp.operation import Pattern, Verb, operation_named
from ostiary.foundation.secret import Secret, new_id
from ostiary.identity import names
from ostiary.identity.credentials import derived, digest, new_secret
from ostiary.identity.request import Refused
from ostiary.store.tables.directory import PRINCIPAL, REVOCATION
from ostiary.store.tables.identity import CLIENT, CLIENT_SECRET, CODE, GRANT, REFRESH, SESSION, THROTTLE

CODE_LIFE_S: Final = 60
GRANT_LIFE_S: Final = 30 * 24 * 3600  # absolute (standard A1)
RETRY_S: Final = 10  # the answer to a refresh may get lost once
VERBS: Final = tuple(Verb)
OIDC_SCOPES: Final = frozenset({"openid", "profile"})
EXPIRED: Final = (CODE, REFRESH, SESSION, THROTTLE, REVOCATION)


# Statements of every request are made once: to put one together takes as long as to carry it out (measured).
_CLIENT: Final = (
    select(CLIENT, PRINCIPAL.c.name, CLIENT_SECRET.c.digest)
    .join(PRINCIPAL, PRINCIPAL.c.id == CLIENT.c.principal)
    .outerjoin(CLIENT_SECRET, CLIENT_SECRET.c.principal == CLIENT.c.principal)
    .where(CLIENT.c.principal == bindparam("id"), PRINCIPAL.c.active)
)
_GRANT: Final = (
    select(GRANT, PRINCIPAL.c.name)
    .join(PRINCIPAL, PRINCIPAL.c.id == GRANT.c.principal)
    .where(GRANT.c.id == bindparam("id"))
)
_CODE_HERE: Final = (CODE.c.digest == bindparam("shown"), CODE.c.expires_at_s > bindparam("now_s"))
_USE: Final = (
    update(CODE).where(*_CODE_HERE, CODE.c.used.is_(False)).values(used=True)
    .returning(CODE.c.grant, CODE.c.redirect, CODE.c.challenge)
)  # fmt: skip
_USED: Final = select(CODE.c.grant).where(*_CODE_HERE)
_REFRESH_HERE: Final = (REFRESH.c.digest == bindparam("shown"), REFRESH.c.expires_at_s > bindparam("now_s"))
_SUPERSEDE: Final = (
    update(REFRESH).where(*_REFRESH_HERE, REFRESH.c.superseded_at_s == 0).values(superseded_at_s=bindparam("now_s"))
    .returning(REFRESH.c.grant)
)  # fmt: skip
_SUPERSEDED: Final = select(REFRESH.c.grant).where(*_REFRESH_HERE)


class Client(NamedTuple):
    principal: str
    name: str
    public: bool
    redirects: tuple[str, ...]
    scopes: frozenset[str]
    digests: tuple[str, ...]  # of its secrets

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
    if not names.NAME.fullmatch(client_id):
        return None
    rows = connection.execute(_CLIENT, {"id": f"client:{client_id}"}).all()
    if not rows:
        return None
    row, digests = rows[0], tuple(one.digest for one in rows if one.digest)
    redirects = tuple(filter(None, row.redirects.split("\n")))
    return Client(row.principal, row.name, row.public, redirects, frozenset(row.scopes.split()), digests)


def authenticate(connection: Connection, key: bytes, client_id: str, secret: str) -> Client:
    """The client that these credentials prove; a public one has no secret to show."""
    client = find_client(connection, client_id)
    if client is None:  # its name is not kept: it may be a secret, sent in the wrong field
        raise _unproved(secret, why="no such client, or it is disabled")
    if client.public and secret:
        raise _unproved(secret, client=client.id, why="a public client sends no secret")
    if not client.public:
        shown = digest(key, "client-secret", client.principal, secret)
        if not any([hmac.compare_digest(shown, one) for one in client.digests]):  # noqa: C419  every one, in equal time
            raise _unproved(secret, client=client.id, why="wrong client secret" if secret else "no client secret")
    return client


def _unproved(secret: str, **facts: str) -> Refused:
    """The same for every caller; `facts` are for the journal."""
    told = "the client is not known or its secret is wrong"
    return Refused("invalid_client", told, status=401, guessed=bool(secret), **facts)


def redirect_known(client: Client, redirect: str) -> bool:
    return any(names.same_redirect(one, redirect) for one in client.redirects)


def narrow(client: Client, asked: str, system: str) -> frozenset[str]:
    """What of `asked` the client may have at `system`; all it may, when no scope is asked for (RFC 6749 section 3.3)."""
    wanted = frozenset(asked.split())
    here = frozenset(scope for scope in client.scopes if scope.startswith(f"{system}/"))
    allowed = here if client.scopes else frozenset(f"{system}/*:{verb}" for verb in VERBS)
    business = wanted - OIDC_SCOPES
    if odd := [scope for scope in business if not _may(allowed, scope)]:
        raise Refused("invalid_scope", f"{len(odd)} of the scopes may not be asked for by this client")
    told = wanted or allowed
    if not told:
        raise Refused("invalid_scope", "this client may ask for nothing at this system")
    return told


def in_words(scopes: Iterable[str]) -> tuple[list[str], list[str]]:
    """The systems of which a client asks for everything, which is what the person's roles allow; and the other scopes."""
    asked = set(scopes)
    systems = sorted({scope.partition("/")[0] for scope in asked - OIDC_SCOPES})
    whole = {system: {f"{system}/*:{verb}" for verb in VERBS} for system in systems}
    everything = [system for system in systems if whole[system] <= asked]
    return everything, sorted(asked.difference(*(whole[system] for system in everything)))


def begin(  # noqa: PLR0917  one row, field by field
    connection: Connection, key: bytes, now_s: int, values: Mapping[str, Any], redirect: str, challenge: str
) -> Secret:
    """A new grant (its `values` without id and end) and the code that opens it."""
    grant = new_id("gr")
    connection.execute(insert(GRANT), {"id": grant, "expires_at_s": now_s + GRANT_LIFE_S, "revoked": False, **values})
    code = new_secret()
    opens = {"digest": digest(key, "code", code.reveal()), "redirect": redirect, "challenge": challenge}
    connection.execute(insert(CODE), {**opens, "grant": grant, "used": False, "expires_at_s": now_s + CODE_LIFE_S})
    return code


def redeem(
    connection: Connection, key: bytes, now_s: int, client: Client, *, code: str, redirect: str, verifier: str
) -> tuple[Row[Any], Secret]:
    """The grant behind `code`, once, and its first refresh token; raises Replayed when its own client shows it again."""
    here = {"shown": digest(key, "code", code), "now_s": now_s}
    row = connection.execute(_USE, here).one_or_none()
    wrong = Refused("invalid_grant", "the code is not valid", guessed=bool(code))
    if row is None:
        used = connection.execute(_USED, here).scalar_one_or_none()
        if used is not None and _grant(connection, used).client == client.principal:
            raise Replayed(used)
        raise wrong
    grant = _grant(connection, row.grant)
    proof = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    if grant.client != client.principal or row.redirect != redirect or not hmac.compare_digest(proof, row.challenge):
        raise wrong  # the transaction rolls back: another client cannot use the code up
    return _alive(grant, now_s), _add_refresh(connection, key, grant, new_secret())


def refresh(connection: Connection, key: bytes, now_s: int, client: Client, token: str) -> tuple[Row[Any], Secret]:
    """The grant behind a refresh token, which is superseded, and its successor.

    The answer may get lost once: whoever asks again within seconds gets the same successor, so that a thief who does
    shares it with its owner and is found out at the next turn. Raises Replayed on reuse (RFC 9700 section 4.14.2).
    """
    here = {"shown": digest(key, "refresh", token), "now_s": now_s}
    took = connection.execute(_SUPERSEDE, here).scalar_one_or_none()
    found = took or connection.execute(_SUPERSEDED, here).scalar_one_or_none()
    grant = _grant(connection, found) if found else None
    if grant is None or grant.client != client.principal:
        # what was taken is given back as the transaction rolls back: another client cannot use the token up
        raise Refused("invalid_grant", "the refresh token is not valid", guessed=bool(token))
    _alive(grant, now_s)
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
    return connection.execute(_GRANT, {"id": grant}).one()


def _alive(grant: Row[Any], now_s: int) -> Row[Any]:
    if grant.revoked or grant.expires_at_s <= now_s:
        raise Refused("invalid_grant", "the grant has ended")
    return grant


def _may(allowed: frozenset[str], scope: str) -> bool:
    """`erp/sale.*:read` covers `erp/sale.sale:read` and `erp/sale.line.*:read`."""
    return names.SCOPE.fullmatch(scope) is not None and any(_pattern(scope).within(_pattern(one)) for one in allowed)


def _pattern(scope: str) -> Pattern:
    named = operation_named(scope)
    assert named is not None, "what is kept of a client, and what has a scope's form, names a verb"
    return named.pattern
