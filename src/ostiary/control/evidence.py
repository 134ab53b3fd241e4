"""What happened: events and decisions, the audit log, backups; from files and store alone, nothing has to run."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from itertools import chain
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import to_builtins
from sqlalchemy import Connection

from ostiary.audit.log import entries, verified, verify
from ostiary.control.documents import read_document, read_policy
from ostiary.control.installation import opened, refuse_empty
from ostiary.erp.operation import operation_named
from ostiary.event import record
from ostiary.event.record import NONE, Event
from ostiary.foundation.clock import SystemClock
from ostiary.foundation.data import beside
from ostiary.foundation.errors import CallerFault, OperatorFault
from ostiary.foundation.home import Home
from ostiary.foundation.origin import origin
from ostiary.guard.journal import Line
from ostiary.identity import principals
from ostiary.monitor.usage import patterns
from ostiary.plan.decide import UNCLEAR, Facts, Reason, Recorded
from ostiary.plan.model import UNKNOWN, Circumstances, age
from ostiary.policy.document import Document
from ostiary.prove.questions import Tally, replay
from ostiary.store import backup
from ostiary.store.directory import role_sets
from ostiary.store.plans import draft_since, plan_in_force

TICK: Final = 10_000
PART: Final = "what was used is not known in full: there is more than is read at once, or than is kept of one call"
Tick = Callable[[int], None]  # is told how many decisions were read, now and then
NOT_LET_IN: Final = frozenset({401, 403})  # RFC 9110 sections 15.5.2, 15.5.4
Roles = Mapping[str, frozenset[str]]
ACTS: Final = beside(__file__)  # of the audit log


def list_events(home: Home, limit: int = 20, **asked: Any) -> list[dict[str, Any]]:
    """Requests, the newest first; refuses a reason that there is not, and a name that says not whose it is.

    `asked`: the fields of a `Filter`.
    """
    refuse_empty(home)
    wanted = record.Filter(**asked)
    if wanted.reason and wanted.reason not in set(Reason):
        hint = f"one of: {', '.join(Reason)}"
        raise CallerFault("no-such-reason", f"there is no reason {wanted.reason!r}", hint=hint)
    if wanted.principal:
        with opened(home) as on, on.store.read() as connection:
            wanted = msgspec.structs.replace(wanted, principal=principals.in_full(connection, wanted.principal))
    found: list[dict[str, Any]] = []
    try:
        found.extend(map(record.shape, record.find(home.access_log, wanted, home.identity_log, limit=limit)))
    except record.TooMuch:
        if not found:
            told = f"among the newest events, {record.READ_MAX_BYTES >> 20} MiB of them, there is none like that"
            hint = f"older ones stand in {home.events}, one JSON line each"
            raise CallerFault("too-much-to-read", told, hint=hint) from None
    return found


def usage(home: Home, days: int = 30) -> dict[str, Any]:
    """What each caller does as a rule, and what of the last day is unlike it; `whole`: all of it was read and kept."""
    refuse_empty(home)
    now = SystemClock().now()
    found = Used(home, now - timedelta(days=days), {})
    habits, unusual = patterns(found, now)
    return {"unusual": to_builtins(unusual), "usual": to_builtins(habits), "whole": found.whole}


def list_entries(home: Home, action: str = "", limit: int = 20) -> list[dict[str, Any]]:
    """Administrative acts, the newest first; refuses an action that there is not."""
    if action and action not in ACTS["actions"]:
        hint = f"one of: {', '.join(ACTS['actions'])}"
        raise CallerFault("no-such-action", f"there is no action {action!r}", hint=hint)
    with opened(home) as on, on.store.read() as connection:
        return list(entries(connection, action=action, limit=limit))


def verify_audit(home: Home) -> dict[str, Any]:
    """Recomputes the log and holds it against its signed head."""
    with opened(home) as on:
        tree = verify(on.store, home)
    text = f"the audit log holds: {tree.size} entries, root {tree.root.hex()}"
    return {"size": tree.size, "root": tree.root.hex(), "text": text}


def back_up(home: Home, out: Path) -> dict[str, Any]:
    """Of what could be restored only: an audit log that does not hold is refused here, not when it is too late."""
    named, note = _named(home)
    with opened(home) as on:
        verify(on.store, home)
        backup.backup(home, on.store, out, named)
    return {"file": str(out), "bytes": out.stat().st_size, "warnings": note}


def _named(home: Home) -> tuple[Iterable[str], list[str]]:
    """The files that the policy beside the installation names, and what keeps it from naming all."""
    named: Iterable[str] = ()
    try:
        document = read_policy(home.policy)
        named = document.files
        read_document(document)  # one with mistakes names no OpenAPI document
    except OperatorFault as problem:
        return named, [f"files that {home.policy.name} names may be missing in it: {problem.message}"]
    return named, []


def restore_from(home: Home, file: Path, store_url: str = "") -> dict[str, Any]:
    """Into an empty home and store: an audit log that does not hold is not restored, and the watch begins anew."""
    from ostiary.monitor.watch import begin_anew  # its HTTP client takes a while to import

    def finish(connection: Connection) -> None:
        verified(connection, home)
        begin_anew(connection, home)

    backup.restore(file, home, store_url, finish=finish).close()
    return {"home": str(home.root)}


def replay_document(document: Document, home: Home, *, since: datetime, tick: Tick) -> dict[str, Any]:
    """What the document would have decided otherwise since then."""
    _, plan, _ = read_document(document)
    return dict(to_builtins(replay(plan, recorded(home, since, tick), plan_in_force(home))))


def shadowed(home: Home) -> dict[str, Any]:
    """What the draft would have decided otherwise, since it was begun."""
    if (since := draft_since(home)) is None:
        raise OperatorFault("no-draft", "no draft is asked now", hint="begin with `ostiary policy shadow FILE`")
    tally = Tally()
    for event in record.events(home.access_log, since):
        if event.draft == NONE or not tally.decided(event.reason):
            continue
        now = _said(event)
        if now == UNCLEAR or (now == Reason.ALLOWED) is not (event.reason == Reason.ALLOWED):
            tally.differs((event.subject, event.operation, event.reason, now), event.decision, event.at)
    return {"since": since.astimezone(UTC).isoformat(timespec="seconds"), **to_builtins(tally.all())}


def _said(event: Event) -> str:
    """The draft's word; nobody knows it where the ERP would have to be asked, or nobody looked inside."""
    reason = event.draft.partition(":")[0]
    unseen = reason == Reason.ALLOWED and event.operation == NONE
    return UNCLEAR if reason == Reason.RECORD or unseen else reason


def recorded(home: Home, since: datetime, tick: Tick) -> Iterator[Recorded]:
    """Every decision about a system since then, once: those of the gate alone, then the guard's; each the newest first."""
    with opened(home) as on, on.store.read() as connection:
        roles = role_sets(connection)
    for number, one in enumerate(chain(_native(home, roles, since), _judged(home, roles, since)), 1):
        if not number % TICK:
            tick(number)
        yield one


def turned_away(home: Home, since: datetime) -> frozenset[str]:
    """The decisions since then that let a call pass which the ERP itself then refused."""
    found = (one for one in record.events(home.access_log, since) if one.reason == Reason.ALLOWED)
    return frozenset(one.decision for one in found if one.status in NOT_LET_IN)


class Used:
    """Every call that was allowed since then, once; as far back as one search may read.

    `whole`, once they are told: they are all, and all of what each did; `whole_of`: this principal's are.
    """

    def __init__(self, home: Home, since: datetime, roles: Roles) -> None:
        self._asked, self._all_read = (home, roles, since, record.READ_MAX_BYTES), True
        self._did_more = set[str]()  # who did more in one call than is kept of it

    @property
    def whole(self) -> bool:
        return self._all_read and not self._did_more

    def whole_of(self, principal: str) -> bool:
        return self._all_read and principal not in self._did_more

    def __iter__(self) -> Iterator[Recorded]:
        for log in (_native, _judged):
            try:
                for one in log(*self._asked):
                    if one.reason == Reason.ALLOWED:
                        if one.facts.operations and not one.whole:
                            self._did_more.add(one.principal)
                        yield one
            except record.TooMuch:
                self._all_read = False


def _native(home: Home, roles: Roles, since: datetime, most_bytes: int = sys.maxsize) -> Iterator[Recorded]:
    """What the guard was asked about stands in its journal, with all its operations."""
    for event in record.events(home.access_log, since, most_bytes):
        if event.system != NONE and not event.guard_us and origin(event.source) is not None:
            yield by_gate(event, roles)


def by_gate(event: Event, roles: Roles) -> Recorded:
    """The decision as the gate wrote it. A scope that was cut is none."""
    did, scopes = operation_named(event.operation), frozenset(event.scopes.rpartition(" ")[0].split())
    here = Circumstances(
        at=event.at, source=ip_address(event.source if origin(event.source) else "::"),
        country=UNKNOWN if event.country == NONE else event.country,
        device=event.device != NONE, acr=event.acr, age_s=age(event.at, event.signed_in_s),
    )  # fmt: skip
    facts = Facts(
        system=event.system, here=here, roles=roles.get(event.role_set, frozenset()), scopes=scopes,
        operations=(did,) if did else (),
    )  # fmt: skip
    return Recorded(event.decision, event.subject, event.reason, facts, did is not None)


def _judged(home: Home, roles: Roles, since: datetime, most_bytes: int = sys.maxsize) -> Iterator[Recorded]:
    for text in record.lines(home.guard_log, since, most_bytes):
        try:
            line = msgspec.json.decode(text, type=Line)
            at, judged = datetime.fromisoformat(line.at), by_guard(line, roles)
        except (ValueError, TypeError):  # half a line, or one of an earlier release
            continue
        if at < since:
            return
        yield judged


def by_guard(line: Line, roles: Roles) -> Recorded:
    """The decision as the guard wrote it; raises ValueError or TypeError where the line is of an earlier release."""
    told = {"at": line.at, "source": "::", **line.here}
    here = {**told, "at": datetime.fromisoformat(told["at"]), "source": ip_address(told["source"])}
    did = tuple(filter(None, map(operation_named, line.operations)))
    facts = Facts(
        system=line.system, here=Circumstances(**here), roles=roles.get(line.role_set, frozenset()),
        scopes=frozenset(line.scopes), operations=did,
    )  # fmt: skip
    return Recorded(line.decision, line.subject, line.reason, facts, line.whole and bool(did))
