"""Alerts: one open one for each rule and key, from firing over acknowledged to resolved.

Measures: what the watch does by itself, or an administrator by hand. Each has a reason, ends by itself, and can be undone.
"""

import json
import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from ipaddress import ip_network
from types import SimpleNamespace
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, func, insert, select, update

from ostiary.audit.log import Change
from ostiary.foundation.clock import from_us, stamp, to_us
from ostiary.foundation.errors import CallerFault, OperatorFault
from ostiary.foundation.origin import Network
from ostiary.foundation.secret import new_id
from ostiary.monitor.rules import RULES, Finding
from ostiary.store.database import insert_into
from ostiary.store.tables import ALERT, MEASURE, OUTBOX

OURSELVES: Final = "ostiary"
WEBHOOK: Final = "webhook"  # the receiver of every notice
QUIET: Final = timedelta(minutes=15)  # an alert that did not fire again for so long is over
KEPT: Final = timedelta(days=400)  # after it ended: a year, and its audit
LIST_MAX: Final = 500
NOTE_MAX_CHARS: Final = 1000
KEY_MAX_CHARS: Final = 300
# What is told outside when an alert fires for the first time or is resolved.
TOLD: Final = ("alert", "rule", "key", "severity", "state", "at", "what", "investigate", "evidence")
BLOCK_MAX: Final = timedelta(hours=24)
REMEMBERED: Final = timedelta(days=7)  # earlier blocks of the same target that double the next one
LIVE_MAX: Final = 10_000  # blocks in force at once; past it alerts go on, blocks wait for room
BY_HAND: Final = "by hand"  # where a rule's name stands otherwise
LOOPBACK: Final = ("127.0.0.0/8", "::1/128")

log = logging.getLogger(__name__)


def fire(connection: Connection, finding: Finding) -> str:
    """The id of the open alert that now holds `finding`; a new one is told outside."""
    begun = _begun(finding)
    again = {"count": ALERT.c.count + 1, "last_us": begun["last_us"], "evidence": begun["evidence"]}
    new = insert_into(connection, ALERT).values(begun).on_conflict_do_update(index_elements=["open_key"], set_=again)
    row = connection.execute(new.returning(ALERT)).one()
    if row.id == begun["id"]:
        _tell(connection, row, finding.at)
    return str(row.id)


def _begun(finding: Finding) -> dict[str, Any]:
    key, at_us = finding.key[:KEY_MAX_CHARS], to_us(finding.at)
    return {
        "id": new_id("al"), "rule": finding.rule, "key": key, "open_key": f"{finding.rule} {key}",
        "severity": RULES[finding.rule].severity, "state": "firing", "first_us": at_us, "last_us": at_us,
        "count": 1, "evidence": json.dumps(finding.evidence), "actor": "", "note": "",
    }  # fmt: skip


def unkept(finding: Finding) -> str:
    """What to tell where no store can keep it."""
    return _notice(SimpleNamespace(**{**_begun(finding), "id": "-"}), finding.at)


def resolve_quiet(connection: Connection, now: datetime) -> None:
    """Resolves what did not fire for `QUIET`; each resolution is told. Some stay until they are ended."""
    staying = [name for name, rule in RULES.items() if rule.staying]
    _over(connection, now, ALERT.c.last_us <= to_us(now - QUIET), ALERT.c.rule.not_in(staying))


def over(connection: Connection, finding: Finding) -> None:
    """Resolves what `finding` fired, and tells it."""
    _over(connection, finding.at, ALERT.c.rule == finding.rule, ALERT.c.key == finding.key)


def _over(connection: Connection, now: datetime, *which: ColumnElement[bool]) -> None:
    gone = connection.execute(
        update(ALERT)
        .where(ALERT.c.open_key.is_not(None), *which)
        .values(state="resolved", open_key=None, actor=OURSELVES)
        .returning(ALERT)
    )
    for row in gone.all():
        _tell(connection, row, now)


def forget(connection: Connection, now: datetime) -> None:
    """Lets go of alerts and measures that were over long ago; the audit log knows of them."""
    long_ago = to_us(now - KEPT)
    connection.execute(delete(ALERT).where(ALERT.c.open_key.is_(None), ALERT.c.last_us <= long_ago))
    connection.execute(delete(MEASURE).where(MEASURE.c.expires_at_us <= long_ago))


def list_alerts(connection: Connection, *, everything: bool = False) -> list[dict[str, Any]]:
    """The newest first; open ones only unless `everything`."""
    chosen = select(ALERT).order_by(ALERT.c.last_us.desc(), ALERT.c.id).limit(LIST_MAX)
    if not everything:
        chosen = chosen.where(ALERT.c.open_key.is_not(None))
    return [_shape(row) for row in connection.execute(chosen)]


def one_alert(connection: Connection, alert: str) -> dict[str, Any]:
    """The alert with this id, open or not."""
    row = connection.execute(select(ALERT).where(ALERT.c.id == alert)).one_or_none()
    if row is None:
        raise CallerFault("alert-unknown", f"there is no alert {alert}", hint="see `ostiary alert list --all`")
    return _shape(row)


def open_alerts(connection: Connection, but: str = "") -> int:
    """How many are open, without those of the rule `but`."""
    return _count(connection, ALERT.c.open_key.is_not(None), ALERT.c.rule != but)


def acknowledge(change: Change, alert: str, note: str = "") -> None:
    """Says that the actor looks after it; it goes on counting."""
    _change(change, "acknowledge", alert, note, state="acknowledged")


def resolve(change: Change, alert: str, note: str = "") -> None:
    """Says that it is over, outside too; if its rule fires again, that is a new alert."""
    _tell(change.connection, _change(change, "resolve", alert, note, state="resolved", open_key=None), change.now)


def _change(change: Change, act: str, alert: str, note: str, **values: str | None) -> Row[Any]:
    row = change.connection.execute(
        update(ALERT)
        .where(ALERT.c.id == alert, ALERT.c.open_key.is_not(None))
        .values(**values, actor=change.actor, note=note[:NOTE_MAX_CHARS])
        .returning(ALERT)
    ).one_or_none()
    if row is None:
        raise CallerFault("alert-unknown", f"there is no open alert {alert}", hint="see `ostiary alert list`")
    change.note(f"alert.{act}", alert, reason=note[:NOTE_MAX_CHARS])
    return row


def _tell(connection: Connection, row: Row[Any], at: datetime) -> None:
    log.warning("alert %s %s: %s %s", row.id, row.state, row.rule, row.key)
    connection.execute(insert(OUTBOX).values(receiver=WEBHOOK, body=_notice(row, at)))


def _notice(row: Any, at: datetime) -> str:
    shape = {**_shape(row), "alert": row.id, "at": stamp(at)}
    return json.dumps({name: shape[name] for name in TOLD})


def _shape(row: Any) -> dict[str, Any]:
    rule = RULES.get(row.rule)  # none where an older version fired it
    called = row.key.removeprefix("client:") if row.key.startswith("client:") else "NAME"
    return {
        "id": row.id, "rule": row.rule, "key": row.key, "severity": row.severity, "state": row.state,
        "first": stamp(from_us(row.first_us)), "last": stamp(from_us(row.last_us)), "count": row.count,
        "evidence": json.loads(row.evidence), "actor": row.actor, "note": row.note,
        **{text: getattr(rule, text, "").replace("NAME", called) for text in ("what", "why", "investigate")},
    }  # fmt: skip


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
    reason = f"{finding.evidence['failures']} failed authentications within a minute"
    change = Change(connection, OURSELVES, now)
    return _make(change, target, now + length, reason=reason, rule=finding.rule, alert=alert)


def block(change: Change, *, network: str, seconds: int, reason: str, never: Sequence[str]) -> dict[str, Any]:
    """Blocks it as the watch blocks who guesses, for as long as an administrator says; have the gate told afterwards."""
    target, expires = ip_network(network), change.now + timedelta(seconds=seconds)
    if _spared(target, never):
        hint = "name a network without this machine's addresses and those of `response: spare` in the policy"
        raise OperatorFault("network-spared", f"{network} holds addresses that are never blocked", hint=hint)
    measure = _make(change, target, expires, reason=reason, rule=BY_HAND, alert="")
    told = {"measure": measure, "target": str(target), "expires": stamp(expires)}
    return {**told, "warnings": _blocked_too(change, target, measure)}


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


def undo(change: Change, measure: str) -> list[str]:
    """Ends it now, and tells what else blocks addresses of its network; have the gate told afterwards."""
    chosen = update(MEASURE).where(MEASURE.c.id == measure, _living(change.now)).values(undone_by=change.actor)
    target = change.connection.execute(chosen.returning(MEASURE.c.target)).scalar_one_or_none()
    if target is None:
        hint = "see `ostiary measure list`"
        raise CallerFault("measure-unknown", f"no measure {measure} is in force", hint=hint)
    change.note("measure.undo", measure, before={"target": target})
    return _blocked_too(change, ip_network(target), measure)


def _blocked_too(change: Change, target: Network, but: str) -> list[str]:
    chosen = select(MEASURE).where(MEASURE.c.id != but, _living(change.now)).order_by(MEASURE.c.id)
    rows = [row for row in change.connection.execute(chosen) if target.overlaps(ip_network(row.target))]
    told = "{0.target} is blocked by {0.id} until {1}: `ostiary measure undo {0.id}`"
    return [told.format(row, stamp(from_us(row.expires_at_us))) for row in rows[:LIST_MAX]]


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
    return connection.execute(select(func.count()).where(*which)).scalar_one()


def _earlier(connection: Connection, target: Network, now: datetime) -> int:
    """How often it was blocked lately; a block that somebody undid is no strike."""
    lately = MEASURE.c.made_at_us > to_us(now - REMEMBERED)
    return min(_count(connection, _of(target), lately, MEASURE.c.undone_by == ""), 10)


def _make(change: Change, target: Network, expires: datetime, *, reason: str, rule: str, alert: str) -> str:
    row = {
        "id": new_id("me"), "kind": "block", "target": str(target), "reason": reason, "rule": rule, "alert": alert,
        "made_at_us": to_us(change.now), "expires_at_us": to_us(expires), "undone_by": "",
    }  # fmt: skip
    change.connection.execute(insert(MEASURE).values(**row))
    told = {"target": str(target), "until": stamp(expires), "alert": alert}
    change.note("measure.make", str(row["id"]), after=told, reason=reason)
    return str(row["id"])
