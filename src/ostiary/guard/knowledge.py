"""What the guard knows: plans, keys, role sets, revocations; all of it fresh, or the guard is closed."""

import asyncio
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

import anyio.to_thread
from msgspec import Struct
from msgspec.structs import replace

from ostiary.erp.adapters import understood
from ostiary.erp.catalogue import Catalogue, Site, learned
from ostiary.erp.openapi import Match, Table, fields_sent, operation_of
from ostiary.erp.operation import Call, Pattern, Problem, Request, Unreadable
from ostiary.foundation.clock import Clock
from ostiary.foundation.errors import SystemFault
from ostiary.foundation.home import LEASE_S, Home
from ostiary.foundation.jose import Claims, TokenRefused, revocation_keys, verify_access_token
from ostiary.guard.erp import monotonic
from ostiary.guard.records import Owners
from ostiary.plan.model import Apart, HandOver, Kind, Plan, System, prepared, seal
from ostiary.store.database import Store
from ostiary.store.directory import access_keys, devices, revoked_keys, role_sets
from ostiary.store.plans import draft, read_plan, revision_in_force

REFRESH_S: Final = 2.0
SOONER_S: Final = 0.25  # how often an unknown key or role set may ask for a refresh
TOKENS_MAX: Final = 10_000
REVISION_MAX_CHARS: Final = 40
ON_THEIR_WAY_S: Final = 5.0  # whoever begins a request and keeps its body back does not keep the policy of then

log = logging.getLogger(__name__)


class Ready:
    """One plan, made ready to be asked quickly."""

    def __init__(self, plan: Plan) -> None:
        self.plan = prepared(plan)
        self.tables: Mapping[str, Table] = {
            system.name: Table(route for route in plan.routes if route.system == system.name)
            for system in plan.systems
            if system.kind is Kind.OPENAPI
        }
        self.apart: tuple[Apart, ...] = tuple(rule for rule in plan.apart if rule.dynamic)
        self.fields = tuple(dict.fromkeys(grant.pattern for grant in plan.grants if grant.fields))
        self.where = tuple(dict.fromkeys(grant.pattern for grant in plan.grants if grant.where))
        self._by_length = sorted(plan.systems, key=lambda system: -len(system.prefix))

    def system(self, host: str, path: str) -> System | None:
        """The system at this host and path: the longest prefix of whole segments."""
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
        here = (system for system in self._by_length if system.host.lower() == name.lower())
        return next((system for system in here if f"{path}/".startswith(f"{system.prefix}/")), None)


class Caller(Struct, frozen=True, kw_only=True):
    claims: Claims
    keys: frozenset[str]  # by which it may be revoked


# What a request would do, and for a described operation which one it is.
Read = tuple[Call | Unreadable, Match | None]


class Knowledge:
    def __init__(self, home: Home, store: Store, issuer: str, clock: Clock) -> None:
        self._home, self._store, self.issuer, self._clock = home, store, issuer, clock
        self._plans: OrderedDict[str, Ready] = OrderedDict()  # previous, current
        self._previous_until = float("inf")  # the gate still asks by it while it changes over
        self.draft: Plan | None = None
        self._jwks: dict[str, Any] = {"keys": []}
        self._roles: Mapping[str, frozenset[str]] = {}
        self._revoked: frozenset[str] = frozenset()
        self._devices: Mapping[str, str] = {}
        self._callers: OrderedDict[bytes, Caller] = OrderedDict()
        self._fresh_at = float("-inf")
        self._asked_at: dict[str, float] = {}
        self._refreshing = asyncio.Lock()

    async def begin(self) -> None:
        """Reads everything; the plan that `plans/current` names, if there is one yet."""
        await self.refresh()
        if revision := revision_in_force(self._home):
            await self.take_plan(revision)

    async def keep_fresh(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_S)
            try:
                await self.refresh()
            except Exception:
                log.exception("the store could not be read; the guard closes after %s s", LEASE_S)

    async def refresh(self) -> None:
        """Replaces keys, role sets and revocations by the store's; a push that came meanwhile is not undone."""
        async with self._refreshing:
            before, began = self._revoked, monotonic()
            jwks, roles, revoked, self._devices = await anyio.to_thread.run_sync(self._read)
            if jwks != self._jwks:
                self._callers.clear()
            self._jwks, self._roles = jwks, roles
            self._revoked = revoked | (self._revoked - before)
            self._fresh_at = began

    def _read(self) -> tuple[dict[str, Any], Mapping[str, frozenset[str]], frozenset[str], Mapping[str, str]]:
        with self._store.read() as connection:
            now_s = int(self._clock.now().timestamp())
            roles, revoked = role_sets(connection), revoked_keys(connection, now_s)
            return access_keys(connection), roles, revoked, devices(connection)

    @property
    def fresh(self) -> bool:
        return monotonic() - self._fresh_at < LEASE_S

    async def take_plan(self, revision: str) -> None:
        """The plan of `revision` becomes the current one; raises SystemFault when its file does not hold that plan."""
        ready, self.draft = await anyio.to_thread.run_sync(self._made_ready, revision)  # a large one takes a second
        self._plans.pop(revision, None)
        self._plans[revision], self._previous_until = ready, float("inf")
        while len(self._plans) > 2:  # noqa: PLR2004  previous and current
            self._plans.popitem(last=False)

    def _made_ready(self, revision: str) -> tuple[Ready, Plan | None]:
        if not revision.isalnum() or len(revision) > REVISION_MAX_CHARS:
            raise SystemFault("plan-unknown", "no such revision")
        plan = read_plan(self._home, revision)
        if plan.revision != revision or seal(plan).revision != revision:
            told = f"the file of revision {revision} holds another plan"
            raise SystemFault("plan-changed", told, hint="apply the policy again")
        beside = draft(self._home)
        return Ready(plan), beside and prepared(beside)

    def changed_over(self) -> None:
        """The gate asks by the current plan alone; by the one before, only what is on its way."""
        self._previous_until = min(self._previous_until, monotonic() + ON_THEIR_WAY_S)

    def plan(self, revision: str) -> Ready | None:
        ready = self._plans.get(revision)
        return ready if ready is self.current or monotonic() < self._previous_until else None

    @property
    def current(self) -> Ready | None:
        return next(reversed(self._plans.values()), None)

    @property
    def revisions(self) -> tuple[str, ...]:
        return tuple(self._plans)

    def take_revoked(self, keys: list[str]) -> None:
        self._revoked |= frozenset(keys)

    async def caller(self, text: str, audience: str) -> Caller:
        """Who shows this token; verified here, whatever any header says. Raises TokenRefused."""
        now = self._clock.now()
        name = hashlib.sha256(f"{audience}\0{text}".encode()).digest()
        known = self._callers.get(name)
        if known is not None and now.timestamp() < known.claims.expires_at:
            return known
        try:
            claims = self._verify(text, audience, now)
        except TokenRefused:
            if not await self._refreshed_now("key"):
                raise
            claims = self._verify(text, audience, now)
        self._callers[name] = caller = Caller(claims=claims, keys=frozenset(revocation_keys(claims)))
        if len(self._callers) > TOKENS_MAX:
            self._callers.popitem(last=False)
        return caller

    def _verify(self, text: str, audience: str, now: datetime) -> Claims:
        return verify_access_token(text, self._jwks, issuer=self.issuer, audience=audience, now=now)

    def revoked(self, keys: Iterable[str]) -> bool:
        return not self._revoked.isdisjoint(keys)

    def registered(self, subject: str, *fingerprints: str) -> bool:
        """Whether one of these devices is registered for everybody, or for this principal."""
        return any(self._devices.get(one) in {"", subject} for one in fingerprints)

    async def roles(self, role_set: str) -> frozenset[str] | None:
        """The roles of a role set; None where the store has none of that id."""
        if role_set and role_set not in self._roles:
            await self._refreshed_now("role set")
        return self._roles.get(role_set)

    async def _refreshed_now(self, unknown: str) -> bool:
        """Reads the store once more for an unknown key or role set, or waits for one who does; not at every request."""
        if self._refreshing.locked():
            async with self._refreshing:
                return True
        if monotonic() - self._asked_at.get(unknown, float("-inf")) < SOONER_S:
            return False
        self._asked_at[unknown] = monotonic()
        await self.refresh()
        return True

    def understood(self, ready: Ready, system: System, request: Request, *, observed: bool) -> Read:
        """From a request to business operations, by the kind of the system it is for."""
        if system.kind is Kind.OPENAPI:
            return _described(ready, system, request)
        catalogue = self._catalogue(system.name)
        if catalogue is None:
            detail = "what this system offers has not been learned yet"
            return Unreadable(problem=Problem.UNKNOWN_OPERATION, detail=detail), None
        keyed, database = system.hand_over is HandOver.KEY and not observed, system.database
        site = Site(name=system.name, catalogue=catalogue, database=database, keyed=keyed, observed=observed)
        return understood(system.kind, request, site), None

    def between(self, rules: Iterable[Apart]) -> Iterator[Pattern]:
        """The objects in the middle of each rule's link: who changes a record of them may turn it."""
        for rule in (rule for rule in rules if rule.steps[1:]):
            models = offered.models if (offered := self._catalogue(rule.then.system)) else {}
            objects = {name for name in models if rule.then.holds_object(name)}
            for step in rule.steps[:-1]:
                fields = (models[name].get(step) for name in objects)
                objects = {field.target for field in fields if field and field.target in models}
                yield from (replace(rule.then, object=name) for name in objects)

    def owners(self, system: str) -> Owners:
        """What the records of a system are parts of, where that is offered."""
        return offered.owners if (offered := self._catalogue(system)) else {}

    def _catalogue(self, system: str) -> Catalogue | None:
        return learned(self._home.catalogue(system))


def _described(ready: Ready, system: System, request: Request) -> Read:
    found = ready.tables[system.name].find(request.method, request.path)
    if found is None:
        return Unreadable(problem=Problem.UNKNOWN_OPERATION, detail="no such operation is described"), None
    operation = operation_of(found)
    if any(pattern.holds(operation) for pattern in ready.fields):
        operation = replace(operation, fields_written=fields_sent(found, request))
    return Call(operations=(operation,)), found
