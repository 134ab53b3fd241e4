"""Devices that are registered, each by its certificate: for one principal, or for everybody."""

from typing import Any

from sqlalchemy import Connection, delete, select

from ostiary.audit.log import Change
from ostiary.foundation.errors import CallerFault
from ostiary.identity import names, roster
from ostiary.identity.principals import Keys
from ostiary.store.database import insert_into
from ostiary.store.tables import DEVICE


def add(change: Change, *, name: str, principal: str, fingerprint: str) -> Keys:
    names.refuse_name(name)
    if principal:
        roster.one(change.connection, principal)
    row = {"name": name, "principal": principal, "fingerprint": fingerprint}
    new = insert_into(change.connection, DEVICE).values(row).on_conflict_do_nothing().returning(DEVICE.c.name)
    if change.connection.execute(new).first() is None:
        raise CallerFault("exists", f"device {name} exists already", hint=f"`ostiary device remove {name}` ends it")
    change.note("device.add", f"device:{name}", after=row)
    return ()


def remove(change: Change, *, name: str) -> Keys:
    """Its certificate counts no more, nor does a token that was issued to it count as one of a device."""
    ends = delete(DEVICE).where(DEVICE.c.name == name).returning(DEVICE)
    gone = change.connection.execute(ends).mappings().one_or_none()
    if gone is None:
        raise CallerFault("no-such-device", f"there is no device {name}", hint="see `ostiary device list`")
    change.note("device.remove", f"device:{name}", before=dict(gone))
    return ()


def listed(connection: Connection) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(select(DEVICE).order_by(DEVICE.c.name)).mappings()]
