"""Holds gate and guard to what policy and directory say; every change to either passes through here."""

import base64
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Lock, RLock
from typing import Any, Final, NamedTuple

from msgspec.structs import replace
from sqlalchemy import Connection, func, select

from ostiary.audit.log import acted_since, tree
from ostiary.control.installation import Installation
from ostiary.envoy.access import Signals, blocked_filter, cold_filter, hot_filter, signal_resources
from ostiary.envoy.caller import token_filter
from ostiary.envoy.daemon import Gate
from ostiary.envoy.resource import Edge, Resources
from ostiary.envoy.translate import Population, beside_routes, bridge, news, translate
from ostiary.foundation import unix
from ostiary.foundation.clock import to_us
from ostiary.foundation.errors import OurFault, SystemFault
from ostiary.foundation.home import LEASE_S, Home, write_atomically
from ostiary.foundation.ids import content_hash
from ostiary.foundation.secret import Secret
from ostiary.monitor.alerts import blocked
from ostiary.plan.model import HandOver, Plan, System
from ostiary.policy.words import ASK_S, FOREVER_S
from ostiary.store import directory
from ostiary.store.database import AROUND, Sealer
from ostiary.store.plans import draft, draft_since, keep_plan, plan_in_force, put_beside, put_in_force
from ostiary.store.tables import ERP_ACCOUNT, PRINCIPAL

ROUTES: Final = "rds.json"
HOT_MAX: Final = 300  # revocations pushed one by one; a longer list becomes part of the cold one
HEARD_S: Final = 15  # what another node's clock may be behind, and its commit after its record (BUSY_TIMEOUT_MS)
# Acts that leave the directory as it is, and come many at a time.
BESIDE: Final = ("alert.", "factor.", "measure.", "policy.", "session.", "token.", "user.password")
READS_ITSELF: Final = frozenset({"revoked", "directory", "state"})  # what the guard reads from the store, told or not
GUARD_READS_S: Final = 2.0  # as often: whoever waits for it longer keeps the gate from hearing of others
READERS_MAX: Final = 2  # Envoys that read a configuration at a time
PLACES: Final = re.compile("{(key|login|basic)}")
FIT: Final = re.compile("[ -~]{1,8000}")  # of a header's value: no line of it ends early
NAME_CHARS: Final = 32

log = logging.getLogger(__name__)


class Translated(NamedTuple):
    """A plan and what it means to the gate, of which Envoy has said that it would take it."""

    plan: Plan
    resources: Resources


class Reconciler:
    """The one writer of the gate's files and the one voice to the guard.

    Signals (revocations, blocks, lease) never wait for a policy that is being delivered.
    """

    def __init__(self, installation: Installation, gate: Gate, edge: Edge) -> None:
        self._on, self._gate, self._edge = installation, gate, edge
        self._delivering, self._signalling = RLock(), Lock()
        # Changed here alone, and the plan that is asked beside it.
        self.plan, self.draft = plan_in_force(installation.home), draft(installation.home)
        self._hot, self._cold = frozenset[str](), frozenset[str]()
        self._disk_low = self._behind = False
        self._read_until = self._noticed = 0  # the size of the audit log when the directory was last read; at a look

    def prepare(self) -> None:
        """Writes all that Envoy starts with; nothing has to run yet."""
        self._read_until, self._cold = self._on.store.ask(tree).size, self._revoked()
        signals = Signals(revoked_cold=self._cold, blocked=self._blocked(), lease_until=self._lease(), asks=self._asks)
        self._gate.write({**self._resources(self.plan), **signal_resources(signals)})

    def translated(self, plan: Plan) -> Translated:
        """What `plan` means to the gate; raises when Envoy itself would not take what is new in it."""
        resources = translate(plan, self._population(plan, keys=False), self._edge)
        parts = news(self.plan, plan, self._edge)
        with ThreadPoolExecutor(max_workers=READERS_MAX) as readers:
            list(readers.map(lambda part: self._gate.validate({**resources, ROUTES: part}), parts))
        return Translated(plan=plan, resources=resources)

    def apply(self, to: Translated) -> bool:
        """Puts a plan in force at guard and gate, or leaves the one before in force and raises.

        Whether it was the draft, which is none any more.
        """
        with self._delivering:
            revision, draft = to.plan.revision, self.draft
            ends = draft is not None and draft.revision == revision
            keep_plan(self._on.home, to.plan)
            self._tell_guard("plan", revision=revision)
            try:
                self.draft = None if ends else draft
                self._step_over(to)
                put_in_force(self._on.home, revision)
            except Exception:
                self.draft = draft
                self._step_back()
                raise
            self.plan = to.plan
            try:  # it is in force: what is left is tried again
                if ends:
                    put_beside(self._on.home, None)
                with self._signalling:
                    self._write_hot()
                self._tell_guard("changed-over")
            except AROUND:
                self._behind = True
                log.exception("revision %s is in force; the rest of it is written later", revision)
            return ends

    def beside(self, plan: Plan | None) -> None:
        """Has gate and guard ask a draft too, which decides nothing; None ends it."""
        with self._delivering:
            before, self.draft, since = self.draft, plan, draft_since(self._on.home)
            try:
                put_beside(self._on.home, plan)
                self._tell_guard("plan", revision=self.plan.revision)
                self.refresh()
            except AROUND:
                self.draft, self._behind = before, True
                put_beside(self._on.home, before, since)
                raise

    def refuse_unreadable(self, draft: Plan) -> None:
        """Raises where Envoy would not take the draft beside the plan in force."""
        population = replace(self._population(self.plan, keys=False), draft=draft)
        resources = beside_routes(self.plan, population, self._edge)
        self._gate.validate({**resources, ROUTES: news(self.plan, self.plan, self._edge)[0]})

    def _step_over(self, to: Translated) -> None:
        """First what serves the routes of both plans, then the new routes, then only what these need."""
        self._gate.put(bridge(self.plan, to.plan, self._population(to.plan), self._edge))
        self._gate.put({ROUTES: to.resources[ROUTES]})
        self._put(self._resources(to.plan, beside_routes))

    def _put(self, resources: Resources) -> None:
        self._gate.put(resources)
        forget_keys(self._on.home, resources)

    def _step_back(self) -> None:
        """Writes what was in force and does not wait for it: the next `catch_up` sees to that, and to what fails here."""
        self._behind = True
        with suppress(*AROUND):
            put_in_force(self._on.home, self.plan.revision)
        with suppress(*AROUND):
            self._gate.write(self._resources(self.plan))
            self._tell_guard("plan", revision=self.plan.revision)

    def refresh(self) -> None:
        """Brings what the directory says (role sets, keys, accounts) to gate and guard."""
        with self._delivering:
            made_by = translate if self._behind else beside_routes  # routes follow from the policy alone
            self._behind = True
            try:  # each is told whatever became of the other
                self._read_until = self._on.store.ask(tree).size
                self._write_signers()
                self._put(self._resources(self.plan, made_by))
            finally:
                self._tell_guard("directory")
            self._tell_guard("changed-over")
            self._behind = False

    def refuse(self, keys: Iterable[str]) -> None:
        """Has gate and guard refuse what carries these keys, at once; a silent guard reads them from the store."""
        told = sorted(keys)
        if not told:
            return
        self._push(told)
        try:
            self._tell_guard("revoked", keys=told)
        except SystemFault:
            log.exception("the gate refuses what was revoked; the guard was not told")

    def shorten(self) -> None:
        """Makes a long hot list part of the cold one. Asked every second, and not by whoever revokes: he would wait."""
        if len(self._hot) > HOT_MAX:
            self._merge()

    def _merge(self) -> None:
        """The cold list is the store's, the hot one what came since.

        Envoy reads 10,000 keys for 25 ms and 100,000 for 250, in which it hears of no other: so this is done seldom.
        """
        with self._delivering:
            before, living = self._hot, self._revoked()  # what is hot was recorded first
            self._gate.put(dict([cold_filter(living)]))
            self._cold = living
            with self._signalling:
                self._hot -= before
                self._write_hot()

    def _push(self, keys: Iterable[str]) -> None:
        with self._signalling:
            self._hot = self._hot.union(keys)
            self._write_hot()

    def signal(self) -> None:
        """Brings blocks that came or went, and renews the lease: a store that can't be read lets it lapse."""
        with self._signalling:
            self._gate.write(dict([blocked_filter(self._blocked())]))
            self._write_hot()

    def catch_up(self) -> None:
        """What could not be brought when it happened; revocations that another process recorded, or that lapsed."""
        with self._delivering:
            if self._behind or self._guard_lags():
                self._tell_guard("plan", revision=self.plan.revision)
            if self._behind:
                self.refresh()
        living = self._revoked()
        unknown, lapsed = living - self._cold - self._hot, (self._cold | self._hot) - living
        if len(self._hot) + len(unknown) + len(lapsed) > HOT_MAX:
            self._merge()
        elif unknown:
            self._push(unknown)

    def hear(self) -> None:
        """Refuses what another node of a fleet has just recorded; what this does not find is left to `catch_up`."""
        with suppress(*AROUND):
            since_us = to_us(self._on.clock.now()) - HEARD_S * 1_000_000
            self.refuse(self._on.store.ask(directory.revoked_since, since_us) - self._cold - self._hot)

    def follow(self) -> None:
        """As `refresh`, where another process has changed the directory; not in `hear`, which waits for no policy.

        A change of this process is brought by itself by the next look: twice would hold up what comes then.
        """
        with suppress(*AROUND), self._delivering:
            if self._read_until < self._noticed:
                self.refresh()
                return
            until, changed = self._on.store.ask(acted_since, self._read_until, BESIDE)
            self._read_until, self._noticed = (self._read_until, until) if changed else (until, 0)

    def _guard_lags(self) -> bool:
        """One that starts while a plan is put in force reads the one before; a silent one reads the new when it starts."""
        with suppress(SystemFault):
            return bool(self.guard_state()["revision"] != self.plan.revision)
        return False

    def disk_low(self, low: bool) -> None:
        """Closes the gate before an event could be lost; opens it again when there is room."""
        self._disk_low = low
        self.signal()

    def guard_state(self) -> dict[str, Any]:
        """The guard's revision, and whether what it knows is fresh."""
        return self._tell_guard("state")

    def learn(self, system: str, login: str = "", password: Secret | None = None) -> dict[str, Any]:
        """Has the guard ask the ERP what it offers, as the user that is given or else as the one that is kept."""
        return self._tell_guard("learn", **_asked_as(system, login, password))

    def erp_user(self, system: str, login: str, password: Secret) -> str:
        """The ERP's own id of this user; raises where the ERP does not let it in."""
        return str(self._tell_guard("account", **_asked_as(system, login, password))["uid"])

    def _write_signers(self) -> None:
        """First of all: no revocation names what is signed with a key in wrong hands, and a large policy takes its time."""
        asked = [self.plan, self.draft] if self.draft else [self.plan]
        self._gate.write(
            dict([token_filter([self.plan], self._on.store.ask(directory.access_keys), self._edge, asked)])
        )

    def _write_hot(self) -> None:
        """The hot list and the lease, which share a file."""
        self._gate.write(dict([hot_filter(self._hot, self._lease(), asks=self._asks)]))

    @property
    def _asks(self) -> bool:
        return self.plan.silent_s == ASK_S and not self._disk_low

    def _lease(self) -> int | None:
        if self._disk_low:
            return 0
        if self.plan.silent_s == FOREVER_S:
            return None
        return int(self._on.clock.now().timestamp()) + max(LEASE_S, self.plan.silent_s)

    def _blocked(self) -> tuple[str, ...]:
        return self._on.store.ask(blocked, self._on.clock.now())

    def _revoked(self) -> frozenset[str]:
        return self._on.store.ask(directory.revoked_keys, int(self._on.clock.now().timestamp()))

    def _resources(self, plan: Plan, made_by: Callable[[Plan, Population, Edge], Resources] = translate) -> Resources:
        return made_by(plan, self._population(plan), self._edge)

    def _population(self, plan: Plan, *, keys: bool = True) -> Population:
        """Without `keys` nothing is written: for what Envoy is only to read once."""
        with self._on.store.read() as connection:
            return Population(
                role_sets=directory.role_sets(connection),
                jwks=directory.access_keys(connection),
                callers=connection.execute(select(func.count()).select_from(PRINCIPAL)).scalar_one(),
                devices=directory.devices(connection),
                keys=write_keys(connection, self._on.sealer, self._on.home, plan) if keys else {},
                draft=self.draft,
            )

    def _tell_guard(self, about: str, **told: Any) -> dict[str, Any]:
        """What the guard answers; to us its own faults are around us."""
        try:
            wait_s = GUARD_READS_S if about in READS_ITSELF else unix.TIMEOUT_S
            return dict(unix.call(self._on.home.socket("guard-control"), f"internal/{about}", told, timeout_s=wait_s))
        except OSError as problem:
            hint = "see `ostiary status`; nothing it guards passes until it runs again"
            raise SystemFault("guard-silent", "the guard does not answer", hint=hint) from problem
        except OurFault as problem:
            raise SystemFault("guard-fails", f"the guard could not do {about}", hint=problem.hint) from problem


def _asked_as(system: str, login: str, password: Secret | None) -> dict[str, Any]:
    return {"system": system, "login": login, "password": password.reveal() if password else ""}


def sent_values(system: System, login: str, key: str) -> dict[str, str]:
    """By header, what it holds for this account, where that turns on the account."""
    basic = base64.b64encode(f"{login}:{key}".encode()).decode()
    told = {"key": key, "login": login, "basic": basic}
    return {name: PLACES.sub(lambda at: told[at[1]], form) for name, form in system.sent.items() if PLACES.search(form)}


def fit(system: System, login: str, key: str) -> bool:
    return all(FIT.fullmatch(value) for value in sent_values(system, login, key).values())


def write_keys(
    connection: Connection, sealer: Sealer, home: Home, plan: Plan
) -> Mapping[tuple[str, str], Mapping[str, str]]:
    """(system, principal) -> header -> the file with its value, for systems whose keys Envoy puts on.

    The name of a file follows from what is sealed, of which nobody can guess the key; a new key is another file.
    """
    handed = {system.name: system for system in plan.systems if system.hand_over is HandOver.KEY}
    (folder := home.envoy / "keys").mkdir(mode=0o700, exist_ok=True)
    found: dict[tuple[str, str], dict[str, str]] = {}
    chosen = select(ERP_ACCOUNT).where(ERP_ACCOUNT.c.system.in_(handed), ~ERP_ACCOUNT.c.principal.startswith("system:"))
    for row in connection.execute(chosen) if handed else ():
        system, sealed_for = handed[row.system], directory.sealed_for(row.system, row.principal)
        key = sealer.open(row.sealed_secret, sealed_for).reveal()
        if not fit(system, row.login, key):
            continue  # sealed for another kind of hand-over: whose it is has no key
        files = found[row.system, row.principal] = {}
        for name, value in sent_values(system, row.login, key).items():
            told = f"{sealed_for} {row.login} {system.sends} {name} ".encode()
            path = folder / content_hash(told + row.sealed_secret, chars=NAME_CHARS)
            if not path.exists():
                write_atomically(path, value.encode())
            files[name] = str(path)
    return found


def forget_keys(home: Home, resources: Resources) -> None:
    """Takes away the files that nothing in `resources` names, which Envoy has in force."""
    named = str(resources["ecds/inject.json"])
    for path in (home.envoy / "keys").glob("*"):
        if path.name not in named:
            path.unlink(missing_ok=True)
