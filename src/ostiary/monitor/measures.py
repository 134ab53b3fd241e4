"""Measures: what the watch does by itself. Each has a reason, ends by itself, and can be undone."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from ipaddress import ip_network
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, select, update

from ostiary.audit.log import Change
from ostiary.event.record import stamp
from ostiary.foundation.clock import from_us, to_us
from ostiary.foundation.errors import CallerFault
from ostiary.foundation.origin import Network
from ostiary.foundation.secret import new_id
from ostiary.monitor.alerts import KEPT, OURSELVES
from ostiary.monitor.catalogue import Finding
from ostiary.store.tables.monitor import MEASURE

BLOCK_MAX: Final = timedelta(hours=24)
REMEMBERED: Final = timedelta(days=7)  # earlier blocks of the same target that double the next one
LIVE_MAX: Final = 10_000  # blocks in force at once; past it alerts go on, blocks wait for room
LIST_MAX: Final = 500
LOOPBACK: Final = ("127.0.0.0/8", "::1/128")


def respond(
    connection: Connection, finding: Finding, alert: str, *, now: datetime, never: Sequence[str], first: timedelta
) -> str | None:
    """Blocks the address that `finding` is about; the measure's id, or None where none is to be made.

    `never` are the networks that can't be measured against; they are asked here, when a measure is made. `first`: how
    long it is blocked at first.
    """
    kind, _, address = finding.key.partition(":")
    if finding.rule != "authentication-failures" or kind != "address":
        return None
    target = _target(address)
    if target is None or _spared(target, never) or _count(connection, _of(target), _living(now)):
        return None
    length = min(first * 2 ** _earlier(connection, target, now), BLOCK_MAX)
    if finding.at + length <= now or live(connection, now) >= LIVE_MAX:  # old news after a standstill
        return None
    return _make(connection, target, finding, alert, now=now, expires=now + length)


def blocked(connection: Connection, now: datetime) -> tuple[str, ...]:
    """The networks that the gate refuses now."""
    chosen = select(MEASURE.c.target).where(MEASURE.c.kind == "block", _living(now)).distinct()
    return tuple(sorted(connection.scalars(chosen)))


def live(connection: Connection, now: datetime) -> int:
    return _count(connection, _living(now))


def list_measures(connection: Connection, *, now: datetime, everything: bool = False) -> list[dict[str, Any]]:
    """The newest first; those in force only unless `everything`."""
    chosen = select(MEASURE).order_by(MEASURE.c.made_at_us.desc(), MEASURE.c.id).limit(LIST_MAX)
    rows = connection.execute(chosen if everything else chosen.where(_living(now)))
    return [
        {
            "id": row.id, "kind": row.kind, "target": row.target, "rule": row.rule, "reason": row.reason,
            "alert": row.alert, "made": stamp(from_us(row.made_at_us)), "expires": stamp(from_us(row.expires_at_us)),
            "undone_by": row.undone_by,
        }
        for row in rows
    ]  # fmt: skip


def forget(connection: Connection, now: datetime) -> None:
    """Lets go of what ended long ago; the audit log knows that it was."""
    connection.execute(delete(MEASURE).where(MEASURE.c.expires_at_us <= to_us(now - KEPT)))


def undo(change: Change, measure: str) -> None:
    """Ends it now; have the gate told afterwards."""
    chosen = update(MEASURE).where(MEASURE.c.id == measure, _living(change.now)).values(undone_by=change.actor)
    target = change.connection.execute(chosen.returning(MEASURE.c.target)).scalar_one_or_none()
    if target is None:
        hint = "see `ostiary measure list`"
        raise CallerFault("measure-unknown", f"no measure {measure} is in force", hint=hint)
    change.note("measure.undo", measure, before={"target": target})


def _target(address: str) -> Network | None:
    """Rules name a caller by the network that is his: an address, or an IPv6 /64."""
    try:
        return ip_network(address)
    except ValueError:
        return None


def _spared(target: Network, never: Sequence[str]) -> bool:
    networks = [ip_network(text, strict=False) for text in never]
    return any(target.overlaps(one) for one in networks if one.version == target.version)


def _living(now: datetime) -> ColumnElement[bool]:
    return and_(MEASURE.c.expires_at_us > to_us(now), MEASURE.c.undone_by == "")


def _of(target: Network) -> ColumnElement[bool]:
    return MEASURE.c.target == str(target)


def _count(connection: Connection, *which: ColumnElement[bool]) -> int:
    return connection.execute(select(func.count()).select_from(MEASURE).where(*which)).scalar_one()


def _earlier(connection: Connection, target: Network, now: datetime) -> int:
    """How often it was blocked lately; a block that somebody undid is no strike."""
    lately = MEASURE.c.made_at_us > to_us(now - REMEMBERED)
    return min(_count(connection, _of(target), lately, MEASURE.c.undone_by == ""), 10)


def _make(
    connection: Connection, target: Network, finding: Finding, alert: str, *, now: datetime, expires: datetime
) -> str:
    reason = f"{finding.evidence['failures']} failed authentications within a minute"
    row = {
        "id": new_id("me"), "kind": "block", "target": str(target), "reason": reason, "rule": finding.rule, "alert": alert,
        "made_at_us": to_us(now), "expires_at_us": to_us(expires), "undone_by": "",
    }  # fmt: skip
    connection.execute(insert(MEASURE).values(**row))
    told = {"target": str(target), "until": stamp(expires), "alert": alert}
    Change(connection, OURSELVES, now).note("measure.make", str(row["id"]), after=told, reason=reason)
    return str(row["id"])
