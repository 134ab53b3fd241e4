"""Reads of the directory that gate, guard and identity share."""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, Table, select

from ostiary.foundation.clock import from_us
from ostiary.foundation.ids import EMERGENCY, role_set_id
from ostiary.store.database import insert_into, upsert
from ostiary.store.tables import (
    ASSIGNMENT,
    CLIENT,
    DEVICE,
    ERP_ACCOUNT,
    ERP_PAST,
    PRINCIPAL,
    REASON_MAX_CHARS,
    REVOCATION,
    ROLE_SET,
    SIGNING_KEY,
)

SOON: Final = timedelta(days=14)  # before a client's last day


class ErpAccount(NamedTuple):
    principal: str
    login: str
    uid: str
    sealed_secret: bytes


def sealed_for(system: str, principal: str) -> str:
    """What an ERP account's password is sealed for."""
    return f"erp-account:{system}:{principal}"


def role_sets(connection: Connection) -> Mapping[str, frozenset[str]]:
    """Every role set that a token may name: id -> directly assigned roles."""
    return {row.id: frozenset(filter(None, row.roles.split(","))) for row in connection.execute(select(ROLE_SET))}


def devices(connection: Connection) -> Mapping[str, str]:
    """Fingerprint of a registered device -> the principal that it is for, "" for everybody."""
    return {row.fingerprint: row.principal for row in connection.execute(select(DEVICE))}


def registered(connection: Connection, fingerprint: str, principal: str) -> bool:
    """Whether this device is registered for this principal, or for everybody."""
    mine = (DEVICE.c.fingerprint == fingerprint) & DEVICE.c.principal.in_(["", principal])
    return connection.execute(select(DEVICE.c.name).where(mine)).first() is not None


def emergency_set(roles: Iterable[str], role: str, identity: str) -> tuple[str, frozenset[str]]:
    """The role set of one emergency alone, by id and roles: one of these no role of a policy can be called."""
    held = frozenset({*roles, role, emergency_mark(identity)})
    return EMERGENCY + role_set_id(held), held


def emergency_mark(identity: str) -> str:
    """What is among the roles of one emergency, by its id."""
    return f"break-glass:{identity}"


def access_keys(connection: Connection) -> dict[str, Any]:
    """The JWKS (RFC 7517) of the public keys that access tokens are verified with, and no others."""
    chosen = select(SIGNING_KEY.c.public_jwk).where(SIGNING_KEY.c.purpose == "access").order_by(SIGNING_KEY.c.kid)
    return {"keys": [json.loads(text) for text in connection.scalars(chosen)]}


def erp_account(connection: Connection, principal: str, system: str) -> ErpAccount | None:
    table = ERP_ACCOUNT.c
    asked = select(table.principal, table.login, table.uid, table.sealed_secret)
    row = connection.execute(asked.where(table.principal == principal, table.system == system)).one_or_none()
    return None if row is None else ErpAccount(*row)


def clients_ending(connection: Connection, now: datetime) -> Mapping[str, str]:
    """Client -> why somebody has to look after it: its last day is near or over, or whose it is was disabled."""
    owner, soon = PRINCIPAL.alias(), CLIENT.c.until_s <= int((now + SOON).timestamp())
    left = (owner.c.id != PRINCIPAL.c.id) & ~owner.c.active
    which = PRINCIPAL.join(CLIENT).outerjoin(owner, owner.c.id == PRINCIPAL.c.person)
    rows = select(PRINCIPAL.c.id, PRINCIPAL.c.person, CLIENT.c.until_s, left.label("left")).select_from(which)
    rows = rows.where((PRINCIPAL.c.active & soon) | left)
    return {
        row.id: f"is {row.person}'s, who is disabled"
        if row.left
        else f"ends at {from_us(row.until_s * 10**6):%Y-%m-%d %H:%M} UTC"
        for row in connection.execute(rows.order_by(CLIENT.c.until_s))
    }


def ownerless(connection: Connection) -> list[str]:
    """The clients that are on and end with nobody: no person answers for them, or one that there is not."""
    owner, their = PRINCIPAL.alias(), PRINCIPAL.c
    which = PRINCIPAL.join(CLIENT).outerjoin(owner, (owner.c.id == their.person) & (owner.c.id != their.id))
    rows = select(their.id).select_from(which).where(their.active, owner.c.id.is_(None))
    return list(connection.scalars(rows.order_by(their.id)))


def person_of(connection: Connection, principal: str) -> str:
    """The human behind a principal; an unknown principal stands for itself."""
    found = connection.execute(select(PRINCIPAL.c.person).where(PRINCIPAL.c.id == principal)).scalar_one_or_none()
    return found or principal


def persons_of_erp_user(connection: Connection, system: str, uid: str, login: str | None = None) -> frozenset[str]:
    """Every human who acts as this ERP user, and who did; empty when nobody does, as far as ids are known.

    Those whose id is not known yet are known by their login: the one given, or that of others with this id. With a
    `login` it is enough that somebody did.
    """
    acts = select(PRINCIPAL.c.person).join(ERP_ACCOUNT).where(_is_user(ERP_ACCOUNT, system, uid, login))
    now = frozenset(connection.scalars(acts))
    if not now and login is None:
        return now
    return now.union(connection.scalars(select(ERP_PAST.c.person).where(_is_user(ERP_PAST, system, uid, login))))


def _is_user(table: Table, system: str, uid: str, login: str | None) -> ColumnElement[bool]:
    others = ERP_ACCOUNT.alias()
    same = table.c.login.in_(select(others.c.login).where(others.c.system == system, others.c.uid == uid))
    named = (table.c.uid == "") & ((table.c.login == login) | same)
    return (table.c.system == system) & ((table.c.uid == uid) | named)


def roles_of(connection: Connection, system: str, login: str) -> frozenset[str]:
    """All that those hold who are mapped to it."""
    same = (ERP_ACCOUNT.c.principal == ASSIGNMENT.c.principal) & (ERP_ACCOUNT.c.system == system)
    return frozenset(connection.scalars(select(ASSIGNMENT.c.role).where(same, ERP_ACCOUNT.c.login == login)))


def keep_past(connection: Connection, at_us: int, *which: ColumnElement[bool]) -> None:
    """Who stands behind these ERP accounts, which are about to go, stays known; their secrets do not."""
    account = ERP_ACCOUNT.c
    rows = select(account.system, account.uid, account.login, PRINCIPAL.c.person).join(PRINCIPAL).where(*which)
    for row in connection.execute(rows).all():
        upsert(connection, ERP_PAST, row._asdict(), {"at_us": at_us})


def revoked_keys(connection: Connection, now_s: int) -> frozenset[str]:
    """The revocation keys that a living token may still carry."""
    return frozenset(connection.scalars(select(REVOCATION.c.key).where(REVOCATION.c.expires_at_s > now_s)))


def revoked_since(connection: Connection, at_us: int) -> frozenset[str]:
    """The keys that were recorded from then on, by whichever node."""
    return frozenset(connection.scalars(select(REVOCATION.c.key).where(REVOCATION.c.at_us >= at_us)))


def revoke(connection: Connection, keys: Iterable[str], *, expires_at_s: int, reason: str, at_us: int) -> None:
    """Marks every key revoked until `expires_at_s`; a key revoked already keeps its first record.

    The audit log holds the whole reason.
    """
    short = reason[:REASON_MAX_CHARS]
    rows = [{"key": key, "expires_at_s": expires_at_s, "reason": short, "at_us": at_us} for key in sorted(set(keys))]
    if rows:
        connection.execute(insert_into(connection, REVOCATION).on_conflict_do_nothing(), rows)
