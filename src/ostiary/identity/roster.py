"""Who there is: users and clients with all that they hold, and no secret."""

import json
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, NoReturn

from sqlalchemy import ColumnElement, Connection, Row, select

from ostiary.foundation.clock import stamp
from ostiary.foundation.errors import CallerFault
from ostiary.identity import tries
from ostiary.store.tables import ASSIGNMENT, CLIENT, ERP_ACCOUNT, FACTOR, OUTSIDE, PRINCIPAL


def users(connection: Connection) -> list[dict[str, Any]]:
    return _list(connection, PRINCIPAL.c.id.startswith("user:"))


def with_locks(connection: Connection, key: bytes, rows: list[dict[str, Any]], now_s: int) -> list[dict[str, Any]]:
    """The same, and for how long wrong passwords keep each user out yet; 0 where they don't."""
    logins = {row["id"]: row["id"].removeprefix("user:") for row in rows if row["id"].startswith("user:")}
    locked = tries.locked(connection, key, list(logins.values()), now_s)
    return [{**row, "locked_s": locked.get(logins[row["id"]], 0)} if row["id"] in logins else row for row in rows]


def clients(connection: Connection) -> list[dict[str, Any]]:
    return _list(connection, PRINCIPAL.c.id.startswith("client:"))


def one(connection: Connection, principal: str) -> dict[str, Any]:
    """One user or client, as it is listed; raises CallerFault where there is none."""
    found = _list(connection, PRINCIPAL.c.id == principal)
    return found[0] if found else missing(principal)


def in_full(connection: Connection, name: str) -> str:
    """`user:anna` of `anna`, where one principal alone is called so; what says which kind it is, as it is."""
    both = (f"user:{name}", f"client:{name}")
    meant = [name] if ":" in name else connection.scalars(select(PRINCIPAL.c.id).where(PRINCIPAL.c.id.in_(both))).all()
    if len(meant) != 1:
        told = f"{' and '.join(sorted(meant))} are both called {name}" if meant else f"nobody is called {name}"
        raise CallerFault("principal-unclear", told, hint=f"write user:{name} or client:{name}")
    return str(meant[0])


def missing(principal: str) -> NoReturn:
    hint = "write user:NAME or client:NAME, as `ostiary user list` and `client list` show it"
    raise CallerFault("no-such-principal", f"there is no {principal}", hint=hint)


def _list(connection: Connection, which: ColumnElement[bool]) -> list[dict[str, Any]]:
    """With roles, ERP logins by system, and for a client what it may ask for and where people are sent back."""
    some = select(PRINCIPAL.c.id).where(which)
    roles, accounts = defaultdict[str, list[str]](list), defaultdict[str, dict[str, str]](dict)
    held = select(ASSIGNMENT).where(ASSIGNMENT.c.principal.in_(some))
    for row in connection.execute(held.order_by(ASSIGNMENT.c.role)):
        roles[row.principal].append(row.role)
    acts_as = select(ERP_ACCOUNT).where(ERP_ACCOUNT.c.principal.in_(some))
    for row in connection.execute(acts_as.order_by(ERP_ACCOUNT.c.system)):
        accounts[row.principal][row.system] = row.login
    outside = defaultdict[str, dict[str, str]](dict)  # who he is at a provider, by its issuer
    for row in connection.execute(select(OUTSIDE).where(OUTSIDE.c.principal.in_(some))):
        outside[row.principal][row.issuer] = row.subject
    factors = defaultdict[str, set[str]](set)
    for row in connection.execute(select(FACTOR.c.principal, FACTOR.c.kind).where(FACTOR.c.principal.in_(some))):
        factors[row.principal].add(row.kind)
    shown = select(PRINCIPAL, CLIENT.c.facts, CLIENT.c.until_s).outerjoin(CLIENT).where(which).order_by(PRINCIPAL.c.id)
    return [
        {
            "id": row.id, "name": row.name, "person": row.person, "active": row.active,
            "roles": roles[row.id], "accounts": accounts[row.id], **_proves(row, factors[row.id], outside[row.id]),
        }
        for row in connection.execute(shown)
    ]  # fmt: skip


def end_of(until_s: int) -> str:
    return stamp(datetime.fromtimestamp(until_s, UTC))


def _proves(row: Row[Any], factors: Iterable[str], outside: dict[str, str]) -> dict[str, Any]:
    """Of a client all that was said of it; of a person who he is at providers, and what he shows beside the password: an
    app's codes (totp), a passkey, codes for when these are lost.
    """
    if row.facts:
        return {**json.loads(row.facts), "until": end_of(row.until_s)}
    return {"factors": sorted(factors), "outside": outside}
