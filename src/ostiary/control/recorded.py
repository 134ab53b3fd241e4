"""Decisions as the gate's events and the guard's journal hold them, and replayed against a draft."""

import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from ipaddress import ip_address
from itertools import chain
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import to_builtins

from ostiary.control.documents import read_document
from ostiary.control.evidence import circumstances
from ostiary.control.installation import opened
from ostiary.erp.operation import operation_named
from ostiary.event import search
from ostiary.event.record import NONE
from ostiary.foundation.home import Home
from ostiary.guard.journal import Line
from ostiary.plan.decide import Facts
from ostiary.plan.formula import Circumstances
from ostiary.plan.reason import Reason
from ostiary.policy.document import Document
from ostiary.prove.replay import Recorded, replay
from ostiary.store.directory import role_sets
from ostiary.store.plans import plan_in_force

TICK: Final = 10_000
Tick = Callable[[int], None]  # is told how many decisions were read, now and then
Roles = Mapping[str, frozenset[str]]


def replay_document(document: Document, home: Home, *, since: datetime, tick: Tick) -> dict[str, Any]:
    """What the document would have decided otherwise since then."""
    _, plan, _ = read_document(document)
    return dict(to_builtins(replay(plan, recorded(home, since, tick), plan_in_force(home))))


def recorded(home: Home, since: datetime, tick: Tick) -> Iterator[Recorded]:
    """Every decision about a system since then, once: those of the gate alone, then the guard's; each the newest first."""
    with opened(home) as on, on.store.read() as connection:
        roles = role_sets(connection)
    for number, one in enumerate(chain(_native(home, roles, since), _judged(home, roles, since)), 1):
        if not number % TICK:
            tick(number)
        yield one


def _native(home: Home, roles: Roles, since: datetime) -> Iterator[Recorded]:
    """What the guard was asked about stands in its journal, with all its operations. A scope that was cut is none."""
    for event in search.events(home.access_log, since):
        if NONE in (event.system, event.source) or event.guard_us:
            continue
        did, scopes = operation_named(event.operation), frozenset(event.scopes.rpartition(" ")[0].split())
        facts = Facts(
            system=event.system, here=circumstances(event), roles=roles.get(event.role_set), scopes=scopes,
            operations=(did,) if did else (),
        )  # fmt: skip
        yield Recorded(event.decision, event.subject, event.reason, facts, did is not None)


class Use(NamedTuple):
    """One thing that somebody did with the roles of this set."""

    principal: str
    role_set: str
    permission: str
    at: datetime


class Used:
    """All that was allowed since then, of a call of many operations each; as far back as one search may read.

    `whole`, once it is told: it was all.
    """

    def __init__(self, home: Home, since: datetime) -> None:
        self._home, self._since, self.whole = home, since, True

    def __iter__(self) -> Iterator[Use]:
        native = search.Newest(self._home.access_log, search.Filter(reason=Reason.ALLOWED, since=self._since))
        for event in native:
            if not event.guard_us:
                yield Use(event.subject, event.role_set, event.operation, event.at)
        self.whole = native.whole
        try:
            for line, at in _journal(self._home, self._since, search.READ_MAX_BYTES):
                if line.reason == Reason.ALLOWED:
                    yield from (Use(line.subject, line.role_set, one, at) for one in line.operations)
        except search.TooMuch:
            self.whole = False


def _journal(home: Home, since: datetime, most_bytes: int = sys.maxsize) -> Iterator[tuple[Line, datetime]]:
    for text in search.lines(home.guard_log, since, most_bytes):
        try:
            line = msgspec.json.decode(text, type=Line)
            at = datetime.fromisoformat(line.at)
        except (ValueError, TypeError):  # half a line, or one of an earlier release
            continue
        if at < since:
            return
        yield line, at


def _judged(home: Home, roles: Roles, since: datetime) -> Iterator[Recorded]:
    for line, at in _journal(home, since):
        told = {"at": at.isoformat(), "source": "::", **line.here}
        try:
            told |= {"at": datetime.fromisoformat(told["at"]), "source": ip_address(told["source"])}
        except (ValueError, TypeError):  # of an earlier release
            continue
        did = tuple(filter(None, map(operation_named, line.operations)))
        facts = Facts(
            system=line.system, here=Circumstances(**told), roles=roles.get(line.role_set),
            scopes=frozenset(line.scopes), operations=did,
        )  # fmt: skip
        yield Recorded(line.decision, line.subject, line.reason, facts, line.whole and bool(did))
