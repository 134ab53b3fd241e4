"""Users and clients as administrators see them: each change is audited in its transaction and says what it revoked."""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from sqlalchemy import Connection, Table, delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from ostiary.audit.log import Entry, append
from ostiary.foundation.errors import CallerFault
from ostiary.foundation.ids import role_set_id
from ostiary.foundation.secret import Secret
from ostiary.identity.credentials import digest, hash_password, new_secret, pepper
from ostiary.store import directory
from ostiary.store.seal import Sealer
from ostiary.store.tables.directory import ASSIGNMENT, ERP_ACCOUNT, PRINCIPAL, ROLE_SET
from ostiary.store.tables.identity import CLIENT, CLIENT_SECRET, GRANT, PASSWORD, SESSION

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,99}")  # no ":" or "#": they part ids and generations
ROLE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
SCOPE: Final = re.compile(r"[A-Za-z0-9_-]+/(\*|[\w.-]+(\.\*)?):(read|write|execute|delete)(\.\w+)?")
TOKEN_LIFE_MAX_S: Final = 2 * 3600
LIVE_SECRETS: Final = 2
Keys = tuple[str, ...]


class Made(NamedTuple):
    """A new or renewed client; the secret is shown once."""

    id: str
    secret: Secret | None


def add_user(
    connection: Connection, *, actor: str, now: datetime, login: str, password: Secret, name: str = "",
    roles: Sequence[str] = (), person: str = "",
) -> str:  # fmt: skip
    """Makes `user:<login>` and returns its id."""
    principal = _add(connection, actor, now, "user", login, name, roles, person)
    connection.execute(insert(PASSWORD).values(principal=principal, hash=hash_password(password, login=login)))
    return principal


def add_client(
    connection: Connection, *, actor: str, now: datetime, sealer: Sealer, client_id: str, name: str = "",
    roles: Sequence[str] = (), scopes: Sequence[str] = (), redirects: Sequence[str] = (), public: bool = False,
    person: str = "",
) -> Made:  # fmt: skip
    """Makes `client:<id>`; a confidential one gets its secret."""
    _refuse_odd(redirects, scopes)
    principal = _add(connection, actor, now, "client", client_id, name, roles, person)
    connection.execute(
        insert(CLIENT).values(
            principal=principal, public=public, redirects="\n".join(redirects), scopes=" ".join(scopes)
        )
    )
    return Made(principal, None if public else _add_secret(connection, sealer, principal, now))


def rotate_secret(connection: Connection, *, actor: str, now: datetime, sealer: Sealer, client_id: str) -> Made:
    """A second secret; of more than two the oldest goes."""
    principal = f"client:{client_id}"
    row = connection.execute(select(CLIENT.c.public).where(CLIENT.c.principal == principal)).one_or_none()
    if row is None or row.public:
        raise CallerFault("no-such-client", f"{principal} has no secret", hint="see `ostiary client list`")
    secret = _add_secret(connection, sealer, principal, now)
    old = connection.execute(
        select(CLIENT_SECRET.c.digest)
        .where(CLIENT_SECRET.c.principal == principal)
        .order_by(CLIENT_SECRET.c.made_at_us.desc())
    ).scalars()
    connection.execute(delete(CLIENT_SECRET).where(CLIENT_SECRET.c.digest.in_(list(old)[LIVE_SECRETS:])))
    append(connection, Entry(at=now, actor=actor, action="client.rotate", object=principal))
    return Made(principal, secret)


def set_roles(connection: Connection, *, actor: str, now: datetime, principal: str, roles: Sequence[str]) -> Keys:
    """Exactly these roles from now on; older tokens are revoked."""
    before = _roles(connection, principal)
    keys = _next_generation(connection, principal, now, "roles changed")
    connection.execute(delete(ASSIGNMENT).where(ASSIGNMENT.c.principal == principal))
    _assign(connection, principal, roles)
    told: dict[str, Any] = {"before": {"roles": before}, "after": {"roles": sorted(set(roles))}}
    append(connection, Entry(at=now, actor=actor, action="principal.roles", object=principal, **told))
    return keys


def disable(connection: Connection, *, actor: str, now: datetime, principal: str) -> Keys:
    """No token, no sign-in; sessions and grants end."""
    keys = _end(connection, principal, now, "disabled")
    _set_active(connection, principal, actor=actor, now=now, active=False)
    return keys


def enable(connection: Connection, *, actor: str, now: datetime, principal: str) -> Keys:
    _set_active(connection, principal, actor=actor, now=now, active=True)
    return ()


def set_password(connection: Connection, *, actor: str, now: datetime, login: str, password: Secret) -> Keys:
    """A new password; sessions, grants and older tokens end."""
    principal = f"user:{login}"
    keys = _end(connection, principal, now, "password changed")
    _upsert(connection, PASSWORD, {"principal": principal}, {"hash": hash_password(password, login=login)})
    append(connection, Entry(at=now, actor=actor, action="user.password", object=principal))
    return keys


def revoke_principal(connection: Connection, *, actor: str, now: datetime, principal: str, reason: str = "") -> Keys:
    """Every token, session and grant of the principal ends; it may sign in again."""
    keys = _end(connection, principal, now, reason or "revoked")
    append(connection, Entry(at=now, actor=actor, action="token.revoke", object=principal, reason=reason))
    return keys


def revoke_grant(connection: Connection, *, actor: str, now: datetime, grant: str, reason: str = "") -> Keys:
    """Every token of one grant ends."""
    connection.execute(update(GRANT).where(GRANT.c.id == grant).values(revoked=True))
    append(connection, Entry(at=now, actor=actor, action="token.revoke", object=grant, reason=reason))
    return revoke_keys(connection, (f"grant:{grant}",), now, reason or "revoked")


def set_erp_account(
    connection: Connection, *, actor: str, now: datetime, sealer: Sealer, principal: str, system: str, login: str,
    password: Secret, uid: str = "",
) -> Keys:  # fmt: skip
    """Says as which ERP user the principal's calls arrive."""
    _generation(connection, principal)
    sealed = sealer.seal(password, f"erp-account:{system}:{principal}")
    place = {"principal": principal, "system": system}
    _upsert(connection, ERP_ACCOUNT, place, {"login": login, "uid": uid, "sealed_secret": sealed})
    after = {"system": system, "login": login, "uid": uid}
    append(connection, Entry(at=now, actor=actor, action="account.set", object=principal, after=after))
    return ()


def set_reader(
    connection: Connection, *, actor: str, now: datetime, sealer: Sealer, system: str, login: str, password: Secret,
) -> Keys:  # fmt: skip
    """Says as which ERP user the guard itself reads; the system becomes a principal, `system:<name>`, at the first."""
    principal = f"system:{system}"
    if not connection.execute(select(PRINCIPAL.c.id).where(PRINCIPAL.c.id == principal)).first():
        _add(connection, actor, now, "system", system, "", (), "")
    return set_erp_account(
        connection, actor=actor, now=now, sealer=sealer, principal=principal, system=system, login=login,
        password=password,
    )  # fmt: skip


def list_users(connection: Connection) -> list[dict[str, Any]]:
    return _list(connection, "user:")


def list_clients(connection: Connection) -> list[dict[str, Any]]:
    return _list(connection, "client:")


def revoke_keys(connection: Connection, keys: Keys, now: datetime, reason: str) -> Keys:
    """Marks the keys revoked for as long as a token that carries one can live."""
    at_s = int(now.timestamp())
    directory.revoke(
        connection, keys, expires_at_s=at_s + TOKEN_LIFE_MAX_S + 1, reason=reason, at_us=int(now.timestamp() * 1e6)
    )
    return keys


def _list(connection: Connection, prefix: str) -> list[dict[str, Any]]:
    rows = connection.execute(select(PRINCIPAL).where(PRINCIPAL.c.id.startswith(prefix)).order_by(PRINCIPAL.c.id))
    return [
        {
            "id": row.id,
            "name": row.name,
            "person": row.person,
            "active": row.active,
            "roles": _roles(connection, row.id),
        }
        for row in rows.all()
    ]


def _add(  # noqa: PLR0917  one row, field by field
    connection: Connection, actor: str, now: datetime, kind: str, name: str, title: str, roles: Sequence[str],
    person: str,
) -> str:  # fmt: skip
    if not NAME.fullmatch(name):
        raise CallerFault("name-invalid", f"{name!r} is no name", hint="letters, digits and . _ @ + -, at most 100")
    principal = f"{kind}:{name}"
    if connection.execute(select(PRINCIPAL.c.id).where(PRINCIPAL.c.id == principal)).first():
        raise CallerFault("exists", f"{principal} exists already", hint=f"see `ostiary {kind} list`")
    row = {"id": principal, "name": title or name, "person": person or principal}
    connection.execute(
        insert(PRINCIPAL).values(**row, generation=1, active=True, made_at_us=int(now.timestamp() * 1_000_000))
    )
    _assign(connection, principal, roles)
    after = {**row, "roles": sorted(set(roles))}
    append(connection, Entry(at=now, actor=actor, action=f"{kind}.add", object=principal, after=after))
    return principal


def _assign(connection: Connection, principal: str, roles: Sequence[str]) -> None:
    held = sorted(set(roles))
    if odd := [role for role in held if not ROLE.fullmatch(role)]:
        raise CallerFault("role-invalid", f"{odd[0]!r} is no role's name", hint="name a role of the policy")
    if held:
        connection.execute(insert(ASSIGNMENT), [{"principal": principal, "role": role} for role in held])
    _upsert(connection, ROLE_SET, {"id": role_set_id(held)}, {"roles": ",".join(held)})


def _add_secret(connection: Connection, sealer: Sealer, principal: str, now: datetime) -> Secret:
    secret = new_secret()
    stored = digest(pepper(connection, sealer), "client-secret", principal, secret.reveal())
    at_us = int(now.timestamp() * 1_000_000)
    connection.execute(insert(CLIENT_SECRET).values(digest=stored, principal=principal, made_at_us=at_us))
    return secret


def _set_active(connection: Connection, principal: str, *, actor: str, now: datetime, active: bool) -> None:
    _generation(connection, principal)
    connection.execute(update(PRINCIPAL).where(PRINCIPAL.c.id == principal).values(active=active))
    action = "principal.enable" if active else "principal.disable"
    told: dict[str, Any] = {"before": {"active": not active}, "after": {"active": active}}
    append(connection, Entry(at=now, actor=actor, action=action, object=principal, **told))


def _end(connection: Connection, principal: str, now: datetime, reason: str) -> Keys:
    keys = _next_generation(connection, principal, now, reason)
    connection.execute(delete(SESSION).where(SESSION.c.principal == principal))
    mine = (GRANT.c.principal == principal) | (GRANT.c.client == principal)
    connection.execute(update(GRANT).where(mine).values(revoked=True))
    return keys


def _next_generation(connection: Connection, principal: str, now: datetime, reason: str) -> Keys:
    """A client's older tokens go by both names: as subject and as client."""
    old = _generation(connection, principal)
    connection.execute(update(PRINCIPAL).where(PRINCIPAL.c.id == principal).values(generation=old + 1))
    kinds = ("gen", "cgen") if principal.startswith("client:") else ("gen",)
    return revoke_keys(connection, tuple(f"{kind}:{principal}#{old}" for kind in kinds), now, reason)


def _generation(connection: Connection, principal: str) -> int:
    found = connection.execute(select(PRINCIPAL.c.generation).where(PRINCIPAL.c.id == principal)).scalar_one_or_none()
    if found is None:
        raise CallerFault("no-such-principal", f"there is no {principal}", hint="write user:NAME or client:NAME")
    return int(found)


def _roles(connection: Connection, principal: str) -> list[str]:
    return sorted(connection.execute(select(ASSIGNMENT.c.role).where(ASSIGNMENT.c.principal == principal)).scalars())


def _upsert(connection: Connection, table: Table, place: dict[str, Any], values: dict[str, Any]) -> None:
    new = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = new(table).values(**place, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=list(place), set_=values))


def _refuse_odd(redirects: Iterable[str], scopes: Iterable[str]) -> None:
    for redirect in redirects:
        if not _safe(redirect):
            raise CallerFault(
                "redirect-invalid", f"{redirect!r} is no safe redirect", hint="https, or http://127.0.0.1"
            )
    for scope in scopes:
        if not SCOPE.fullmatch(scope):
            raise CallerFault("scope-invalid", f"{scope!r} is no scope", hint="write it like erp/party.party:read")


def _safe(redirect: str) -> bool:
    """https, or the loopback address of a native app (RFC 8252 section 7.3); no fragment (RFC 6749 section 3.1.2)."""
    try:
        place = urlsplit(redirect)
    except ValueError:
        return False
    plain = redirect.isascii() and redirect.isprintable() and not {" ", "#", "@", "\\"} & set(redirect)
    loopback = place.scheme == "http" and (place.hostname or "") in {"127.0.0.1", "::1"}
    return plain and bool(place.hostname) and (place.scheme == "https" or loopback)
