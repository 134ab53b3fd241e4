"""Users and clients as administrators see them: each change is audited in its transaction and says what it revoked."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, delete, func, insert, select, update

from ostiary.audit.log import Entry, append
from ostiary.foundation.clock import to_us
from ostiary.foundation.errors import CallerFault
from ostiary.foundation.ids import role_set_id
from ostiary.foundation.secret import Secret
from ostiary.foundation.settings import LIFE_MAX_S
from ostiary.identity import names, roster, tries
from ostiary.identity.credentials import digest, new_secret, pepper
from ostiary.store import directory
from ostiary.store.database import insert_into, upsert
from ostiary.store.seal import Sealer
from ostiary.store.tables.control import PROPOSAL
from ostiary.store.tables.directory import ASSIGNMENT, DEVICE, ERP_ACCOUNT, PRINCIPAL, REVOCATION, ROLE_SET
from ostiary.store.tables.identity import CLIENT, CLIENT_SECRET, CODE, GRANT, PASSWORD, REFRESH, SESSION

REVOKED_S: Final = LIFE_MAX_S + 120  # a token may be signed while its revocation waits for the lock; clocks differ
LIVE_SECRETS: Final = 2
Keys = tuple[str, ...]


class Made(NamedTuple):
    """A new or renewed client; the secret is shown once."""

    id: str
    secret: Secret | None


def add_user(
    connection: Connection, *, actor: str, now: datetime, login: str, hashed: str, name: str = "",
    roles: Sequence[str] = (), person: str = "",
) -> str:  # fmt: skip
    """Makes `user:<login>` and returns its id; the password comes hashed, which takes too long for a transaction."""
    principal = _add(connection, "user", login, name, person, actor=actor, now=now, roles=roles)
    connection.execute(insert(PASSWORD).values(principal=principal, hash=hashed))
    return principal


def add_client(
    connection: Connection, *, actor: str, now: datetime, sealer: Sealer, client_id: str, name: str = "",
    roles: Sequence[str] = (), scopes: Sequence[str] = (), redirects: Sequence[str] = (), public: bool = False,
    person: str = "",
) -> Made:  # fmt: skip
    """Makes `client:<id>`; a confidential one gets its secret."""
    names.refuse_redirects(redirects)
    names.refuse_scopes(scopes)
    more = {"public": public, "redirects": list(redirects), "scopes": list(scopes)}
    _refuse_useless(more)
    principal = _add(connection, "client", client_id, name, person, actor=actor, now=now, roles=roles, more=more)
    connection.execute(insert(CLIENT).values(principal=principal, **_row(more)))
    return Made(principal, None if public else _add_secret(connection, sealer, principal, now))


def change_client(
    connection: Connection, *, actor: str, now: datetime, client_id: str, name: str | None = None,
    scopes: Sequence[str] | None = None, redirects: Sequence[str] | None = None, public: bool | None = None,
) -> Keys:  # fmt: skip
    """What is given is changed; but for the name, what the client was given before ends. A public one has no secret."""
    principal = f"client:{client_id}"
    before = roster.one(connection, principal)
    told = {"name": name, "scopes": scopes, "redirects": redirects, "public": public}
    after = {what: value for what, value in told.items() if value not in (None, before.get(what))}
    _refuse_useless({**before, **after})
    names.refuse_text(name=name or "")
    names.refuse_redirects(redirects or ())
    names.refuse_scopes(scopes or ())
    if name:
        connection.execute(update(PRINCIPAL).where(PRINCIPAL.c.id == principal).values(name=name))
    row = _row({what: value for what, value in after.items() if what != "name"})
    if row:
        connection.execute(update(CLIENT).where(CLIENT.c.principal == principal).values(row))
    if public:
        connection.execute(delete(CLIENT_SECRET).where(CLIENT_SECRET.c.principal == principal))
    old = {what: before[what] for what in after}
    append(connection, Entry(at=now, actor=actor, action="client.change", object=principal, before=old, after=after))
    return _end(connection, principal, now, "client changed") if row else ()


def rotate_secret(connection: Connection, *, actor: str, now: datetime, sealer: Sealer, client_id: str) -> Made:
    """A second secret; of more than two the oldest goes."""
    principal = f"client:{client_id}"
    one_at_a_time = select(CLIENT.c.public).where(CLIENT.c.principal == principal).with_for_update()
    row = connection.execute(one_at_a_time).one_or_none()
    if row is None or row.public:
        raise CallerFault("no-such-client", f"{principal} has no secret", hint="see `ostiary client list`")
    mine = select(CLIENT_SECRET.c.digest).where(CLIENT_SECRET.c.principal == principal)
    old = list(connection.execute(mine.order_by(CLIENT_SECRET.c.made_at_us.desc())).scalars())
    connection.execute(delete(CLIENT_SECRET).where(CLIENT_SECRET.c.digest.in_(old[LIVE_SECRETS - 1 :])))
    secret = _add_secret(connection, sealer, principal, now)
    append(connection, Entry(at=now, actor=actor, action="client.rotate", object=principal))
    return Made(principal, secret)


def note_certificate(connection: Connection, *, actor: str, now: datetime, client_id: str, days: int) -> None:
    """Records that the client was given a certificate for so many days."""
    principal = f"client:{client_id}"
    _generation(connection, principal)
    append(connection, Entry(at=now, actor=actor, action="client.certificate", object=principal, after={"days": days}))


def set_roles(connection: Connection, *, actor: str, now: datetime, principal: str, roles: Sequence[str]) -> Keys:
    """Exactly these roles from now on; older tokens are revoked."""
    keys = next_generation(connection, principal, now, "roles changed")
    before = _roles(connection, principal)
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


def enable(connection: Connection, *, actor: str, now: datetime, sealer: Sealer, principal: str) -> Keys:
    """Also lets in again whom wrong passwords keep out."""
    _set_active(connection, principal, actor=actor, now=now, active=True)
    tries.unlock(connection, pepper(connection, sealer), principal.partition(":")[2])
    return ()


def remove(connection: Connection, *, actor: str, now: datetime, principal: str) -> Keys:
    """All that is known of it goes, but for the audit log and whose hand its ERP user was; what it was given ends."""
    before = roster.one(connection, principal)
    others = select(PRINCIPAL.c.id).where(PRINCIPAL.c.person == principal, PRINCIPAL.c.id != principal)
    if acting := list(connection.execute(others.order_by(PRINCIPAL.c.id)).scalars()):
        hint = "remove these first; `disable` takes all access away at once"
        raise CallerFault("person-behind", f"{principal} is the person behind {', '.join(acting)}", hint=hint)
    keys = _end(connection, principal, now, "removed")
    mine = select(GRANT.c.id).where((GRANT.c.principal == principal) | (GRANT.c.client == principal))
    for table in (CODE, REFRESH):
        connection.execute(delete(table).where(table.c.grant.in_(mine)))
    connection.execute(delete(GRANT).where(GRANT.c.id.in_(mine)))
    directory.keep_past(connection, to_us(now), ERP_ACCOUNT.c.principal == principal)
    for table in (CLIENT_SECRET, CLIENT, PASSWORD, ERP_ACCOUNT, DEVICE, ASSIGNMENT):
        connection.execute(delete(table).where(table.c.principal == principal))
    connection.execute(delete(PRINCIPAL).where(PRINCIPAL.c.id == principal))
    append(connection, Entry(at=now, actor=actor, action="principal.remove", object=principal, before=before))
    return keys


def set_password(connection: Connection, *, actor: str, now: datetime, sealer: Sealer, login: str, hashed: str) -> Keys:
    """A new password, hashed; sessions, grants and older tokens end. Wrong tries of the old one count no more."""
    principal = f"user:{login}"
    keys = _end(connection, principal, now, "password changed")
    tries.unlock(connection, pepper(connection, sealer), login)
    upsert(connection, PASSWORD, {"principal": principal}, {"hash": hashed})
    append(connection, Entry(at=now, actor=actor, action="user.password", object=principal))
    return keys


def revoke_principal(connection: Connection, *, actor: str, now: datetime, principal: str, reason: str = "") -> Keys:
    """Every token, session and grant of the principal ends; it may sign in again."""
    keys = _end(connection, principal, now, reason or "revoked")
    append(connection, Entry(at=now, actor=actor, action="token.revoke", object=principal, reason=reason))
    return keys


def revoke_grant(connection: Connection, *, actor: str, now: datetime, grant: str, reason: str = "") -> Keys:
    """Every token of one grant ends."""
    if not names.GRANT.fullmatch(grant):
        raise CallerFault("no-such-grant", f"{grant!r} is no grant", hint="copy the `grant` of an event")
    connection.execute(update(GRANT).where(GRANT.c.id == grant).values(revoked=True))
    append(connection, Entry(at=now, actor=actor, action="token.revoke", object=grant, reason=reason))
    return revoke_keys(connection, (f"grant:{grant}",), now, reason or "revoked")


def revoke_token(connection: Connection, *, actor: str, now: datetime, jti: str, reason: str) -> Keys:
    """One access token ends."""
    append(connection, Entry(at=now, actor=actor, action="token.revoke", object=jti, reason=reason))
    return revoke_keys(connection, (f"jti:{jti}",), now, reason)


def set_erp_account(
    connection: Connection, *, actor: str, now: datetime, sealer: Sealer, principal: str, system: str, login: str,
    password: Secret, uid: str = "",
) -> Keys:  # fmt: skip
    """Says as which ERP user the principal's calls arrive."""
    names.refuse_text(system=system, login=login, uid=uid)
    _generation(connection, principal)
    sealed = sealer.seal(password, directory.sealed_for(system, principal))
    place = {"principal": principal, "system": system}
    table = ERP_ACCOUNT.c
    other = (table.login != login) | (table.uid != uid)
    directory.keep_past(connection, to_us(now), table.principal == principal, table.system == system, other)
    upsert(connection, ERP_ACCOUNT, place, {"login": login, "uid": uid, "sealed_secret": sealed})
    after = {"system": system, "login": login, "uid": uid}
    append(connection, Entry(at=now, actor=actor, action="account.set", object=principal, after=after))
    return ()


def remove_erp_account(connection: Connection, *, actor: str, now: datetime, principal: str, system: str) -> Keys:
    """The principal acts as nobody there from now on; whose hand the ERP user was stays known."""
    mine = (ERP_ACCOUNT.c.principal == principal, ERP_ACCOUNT.c.system == system)
    directory.keep_past(connection, to_us(now), *mine)
    gone = connection.execute(delete(ERP_ACCOUNT).where(*mine).returning(ERP_ACCOUNT.c.login)).scalar_one_or_none()
    if gone is None:
        kind, _, name = principal.partition(":")
        told = f"{principal} has no account in {system}"
        raise CallerFault("no-account", told, hint=f"see `ostiary {kind} show {name}`")
    before = {"system": system, "login": gone}
    append(connection, Entry(at=now, actor=actor, action="account.remove", object=principal, before=before))
    return ()


def set_reader(
    connection: Connection, *, actor: str, now: datetime, sealer: Sealer, system: str, login: str, password: Secret,
    uid: str = "",
) -> Keys:  # fmt: skip
    """Says as which ERP user the guard itself reads; the system becomes a principal, `system:<name>`, at the first."""
    principal = f"system:{system}"
    if not connection.execute(select(PRINCIPAL.c.id).where(PRINCIPAL.c.id == principal)).first():
        _add(connection, "system", system, "", "", actor=actor, now=now, roles=())
    return set_erp_account(
        connection, actor=actor, now=now, sealer=sealer, principal=principal, system=system, login=login,
        password=password, uid=uid,
    )  # fmt: skip


def revoke_keys(connection: Connection, keys: Keys, now: datetime, reason: str) -> Keys:
    """Marks the keys revoked for as long as a token that carries one can live."""
    at_s = int(now.timestamp())
    directory.revoke(connection, keys, expires_at_s=at_s + REVOKED_S, reason=reason, at_us=to_us(now))
    return keys


def _refuse_useless(client: Mapping[str, Any]) -> None:
    if client["public"] and not client["redirects"]:
        hint = "say with --redirect where people are sent back to, or leave out --public: it then gets a secret"
        raise CallerFault("redirect-missing", "a public client that nobody can sign in with has no use", hint=hint)


def _row(told: Mapping[str, Any]) -> dict[str, Any]:
    """What is told of a client as its row holds it; no redirect and no scope has a blank in it."""
    marks = {"redirects": "\n", "scopes": " "}
    return {what: marks[what].join(value) if what in marks else value for what, value in told.items()}


def _add(
    connection: Connection, kind: str, name: str, title: str, person: str, *, actor: str, now: datetime,
    roles: Sequence[str], more: dict[str, Any] | None = None,
) -> str:  # fmt: skip
    names.refuse_name(name)
    names.refuse_text(name=title, person=person)
    principal = f"{kind}:{name}"
    alike = select(PRINCIPAL.c.id).where(func.lower(PRINCIPAL.c.id) == principal.lower(), PRINCIPAL.c.id != principal)
    if other := connection.execute(alike).scalars().first():
        told = f"{other} exists already, and {principal} differs from it by capital letters alone"
        raise CallerFault("exists", told, hint=f"see `ostiary {kind} list`")
    row = {"id": principal, "name": title or name, "person": person or principal}
    new = insert_into(connection, PRINCIPAL).values(
        **row,
        generation=_first_generation(connection, principal),
        active=True,
        made_at_us=to_us(now),
    )
    if connection.execute(new.on_conflict_do_nothing().returning(PRINCIPAL.c.id)).first() is None:
        raise CallerFault("exists", f"{principal} exists already", hint=f"see `ostiary {kind} list`")
    _assign(connection, principal, roles)
    after = {**row, "roles": sorted(set(roles)), **(more or {})}
    append(connection, Entry(at=now, actor=actor, action=f"{kind}.add", object=principal, after=after))
    return principal


def _assign(connection: Connection, principal: str, roles: Sequence[str]) -> None:
    held = sorted(set(roles))
    names.refuse_roles(held)
    if held:
        connection.execute(insert(ASSIGNMENT), [{"principal": principal, "role": role} for role in held])
    upsert(connection, ROLE_SET, {"id": role_set_id(held)}, {"roles": ",".join(held)})


def _add_secret(connection: Connection, sealer: Sealer, principal: str, now: datetime) -> Secret:
    secret = new_secret()
    stored = digest(pepper(connection, sealer), "client-secret", principal, secret.reveal())
    at_us = to_us(now)
    connection.execute(insert(CLIENT_SECRET).values(digest=stored, principal=principal, made_at_us=at_us))
    return secret


def _set_active(connection: Connection, principal: str, *, actor: str, now: datetime, active: bool) -> None:
    _generation(connection, principal)
    connection.execute(update(PRINCIPAL).where(PRINCIPAL.c.id == principal).values(active=active))
    action = "principal.enable" if active else "principal.disable"
    told: dict[str, Any] = {"before": {"active": not active}, "after": {"active": active}}
    append(connection, Entry(at=now, actor=actor, action=action, object=principal, **told))


def _end(connection: Connection, principal: str, now: datetime, reason: str) -> Keys:
    keys = next_generation(connection, principal, now, reason)
    connection.execute(delete(SESSION).where(SESSION.c.principal == principal))
    mine = (GRANT.c.principal == principal) | (GRANT.c.client == principal)
    connection.execute(update(GRANT).where(mine).values(revoked=True))
    return keys


def next_generation(connection: Connection, principal: str, now: datetime, reason: str) -> Keys:
    """A client's older tokens go by both names: as subject and as client. A role for a time goes with them."""
    at_s = int(now.timestamp())
    held = (PROPOSAL.c.principal == principal, PROPOSAL.c.until_s > at_s)
    connection.execute(update(PROPOSAL).where(*held).values(until_s=at_s))
    up = update(PRINCIPAL).where(PRINCIPAL.c.id == principal).values(generation=PRINCIPAL.c.generation + 1)
    new = connection.execute(up.returning(PRINCIPAL.c.generation)).scalar_one_or_none()
    old = _known(principal, new) - 1
    kinds = ("gen", "cgen") if principal.startswith("client:") else ("gen",)
    return revoke_keys(connection, tuple(f"{kind}:{principal}#{old}" for kind in kinds), now, reason)


def _first_generation(connection: Connection, principal: str) -> int:
    """After those that were revoked of one that had the name before: else new tokens would count as revoked too."""
    mine = select(REVOCATION.c.key).where(REVOCATION.c.key.startswith(f"gen:{principal}#", autoescape=True))
    return 1 + max((int(key.rpartition("#")[2]) for key in connection.execute(mine).scalars()), default=0)


def _generation(connection: Connection, principal: str) -> int:
    chosen = select(PRINCIPAL.c.generation).where(PRINCIPAL.c.id == principal)
    return _known(principal, connection.execute(chosen).scalar_one_or_none())


def _known(principal: str, generation: int | None) -> int:
    return roster.missing(principal) if generation is None else generation


def _roles(connection: Connection, principal: str) -> list[str]:
    return sorted(connection.execute(select(ASSIGNMENT.c.role).where(ASSIGNMENT.c.principal == principal)).scalars())
