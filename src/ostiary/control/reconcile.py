"""Holds gate and guard to what policy and directory say; every change to either passes through here."""

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPException
from threading import Lock, RLock
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, select

from ostiary.control.health import plan_in_force
from ostiary.control.installation import Installation
from ostiary.envoy.delivery import Gate
from ostiary.envoy.edge import Edge, Resources
from ostiary.envoy.signals import Signals, signal_resources
from ostiary.envoy.translate import beside_routes, bridge, news, translate
from ostiary.foundation import unix
from ostiary.foundation.errors import SystemFault
from ostiary.foundation.files import write_atomically
from ostiary.foundation.ids import role_set_id
from ostiary.guard.accounts import sealed_for
from ostiary.monitor.measures import blocked
from ostiary.plan.model import HandOver, Plan, WhenSilent, to_json
from ostiary.store import directory
from ostiary.store.tables.directory import ASSIGNMENT, ERP_ACCOUNT, PRINCIPAL

LEASE_S: Final = 30  # the gate closes itself when control has been silent for so long
ROUTES: Final = "rds.json"
HOT_MAX: Final = 300  # revocations pushed one by one; beyond, the cold list is merged at once
READERS_MAX: Final = 2  # Envoys that read a configuration at a time
GUARD_TIMEOUT_S: Final = 60.0  # learning what a large ERP offers takes a while
OK: Final = 200  # RFC 9110 section 15.3.1

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
        self._on = installation
        self._gate = gate
        self._edge = edge
        self._delivering = RLock()
        self._signalling = Lock()
        self._plan = plan_in_force(installation.home)
        self._hot: tuple[str, ...] = ()
        self._cold: tuple[str, ...] = ()
        self._disk_low = False
        self._behind = False

    @property
    def plan(self) -> Plan:
        """The plan in force."""
        return self._plan

    def prepare(self) -> None:
        """Writes all that Envoy starts with; nothing has to run yet."""
        self._cold = self._revoked()
        signals = Signals(revoked_cold=self._cold, blocked=self._blocked(), lease_until=self._lease())
        self._gate.write({**self._resources(self._plan), **signal_resources(signals, self._edge)})

    def translated(self, plan: Plan) -> Translated:
        """What `plan` means to the gate; raises when Envoy itself would not take what is new in it."""
        resources = self._resources(plan)
        parts = news(self._plan, plan, self._edge)
        with ThreadPoolExecutor(max_workers=READERS_MAX) as readers:
            list(readers.map(lambda part: self._gate.validate({**resources, ROUTES: part}), parts))
        return Translated(plan=plan, resources=resources)

    def apply(self, to: Translated) -> None:
        """Puts a plan in force at guard and gate, or leaves the one before in force and raises."""
        with self._delivering:
            revision = to.plan.revision
            write_atomically(self._on.home.plans / f"{revision}.json", to_json(to.plan), durable=True)
            self._tell_guard("plan", {"revision": revision})
            try:
                self._step_over(to)
            except (SystemFault, OSError):
                self._step_back()
                raise
            write_atomically(self._on.home.plans / "current", revision.encode(), durable=True)
            self._plan = to.plan
            with self._signalling:
                self._write(lease_until=self._lease())

    def _step_over(self, to: Translated) -> None:
        """First what serves the routes of both plans, then the new routes, then only what these need."""
        with self._on.store.read() as connection:
            population = {"role_sets": directory.role_sets(connection), "jwks": directory.access_keys(connection)}
        self._gate.put(bridge(self._plan, to.plan, edge=self._edge, **population))
        self._gate.put({ROUTES: to.resources[ROUTES]})
        self._gate.put(self._resources(to.plan, beside_routes))

    def _step_back(self) -> None:
        """Writes what was in force and does not wait for it: the next `catch_up` sees to that, and to what fails here."""
        self._behind = True
        with suppress(SystemFault, OSError):
            self._gate.write(self._resources(self._plan))
            self._tell_guard("plan", {"revision": self._plan.revision})

    def refresh(self) -> None:
        """Brings what the directory says (role sets, keys, accounts) to gate and guard."""
        with self._delivering:
            self._behind = True
            self._gate.put(self._resources(self._plan))  # first: a guard that is silent keeps nothing from the gate
            self._tell_guard("directory", {})
            self._behind = False

    def refuse(self, keys: Iterable[str]) -> None:
        """Has gate and guard refuse what carries these keys, at once; a silent guard reads them from the store."""
        told = sorted(keys)
        if not told:
            return
        with self._signalling:
            self._hot = tuple(dict.fromkeys((*self._hot, *told)))
            self._write(revoked_hot=self._hot)
        try:
            self._tell_guard("revoked", {"keys": told})
        except SystemFault:
            log.exception("the gate refuses what was revoked; the guard was not told")
        if len(self._hot) > HOT_MAX:
            self.merge_revoked()

    def merge_revoked(self) -> None:
        """Moves the hot list into the cold one, and lets go of what no living token carries."""
        with self._delivering:
            cold = self._revoked()
            if cold == self._cold and not self._hot:
                return
            self._gate.put(self._one(Signals(revoked_cold=cold), "revoked-cold"))
            self._cold = cold
            with self._signalling:
                self._hot = tuple(key for key in self._hot if key not in set(cold))
                self._write(revoked_hot=self._hot)

    def signal(self) -> None:
        """Brings blocks that came or went, and renews the lease: a store that can't be read lets it lapse."""
        with self._signalling:
            self._write(blocked=self._blocked())
            self._write(lease_until=self._lease())

    def catch_up(self) -> None:
        """What could not be brought when it happened, and revocations that another process recorded."""
        with self._delivering:
            if self._behind:
                self._tell_guard("plan", {"revision": self._plan.revision})
                self.refresh()
        self.merge_revoked()

    def disk_low(self, low: bool) -> None:
        """Closes the gate before an event could be lost; opens it again when there is room."""
        self._disk_low = low
        self.signal()

    def guard_state(self) -> dict[str, Any]:
        """The guard's revision, and whether what it knows is fresh."""
        return self._ask_guard("GET", "state", b"")

    def learn(self, system: str) -> dict[str, Any]:
        """Has the guard ask the ERP what it offers."""
        return self._tell_guard("learn", {"system": system})

    def _write(self, **signal: Any) -> None:
        """The one file that this signal is about."""
        names = {"revoked_hot": "revoked-hot", "lease_until": "lease", "blocked": "blocked"}
        for field in signal:
            self._gate.write(self._one(Signals(**{"lease_until": None, **signal}), names[field]))

    def _one(self, signals: Signals, name: str) -> Resources:
        file = f"ecds/{name}.json"
        return {file: signal_resources(signals, self._edge)[file]}

    def _lease(self) -> int | None:
        if self._disk_low:
            return 0
        if self._plan.when_silent is WhenSilent.KEEP:
            return None
        return int(self._on.clock.now().timestamp()) + LEASE_S

    def _blocked(self) -> tuple[str, ...]:
        with self._on.store.read() as connection:
            return blocked(connection, self._on.clock.now())

    def _revoked(self) -> tuple[str, ...]:
        with self._on.store.read() as connection:
            return tuple(sorted(directory.revoked_keys(connection, int(self._on.clock.now().timestamp()))))

    def _resources(self, plan: Plan, made_by: Callable[..., Resources] = translate) -> Resources:
        with self._on.store.read() as connection:
            return made_by(
                plan,
                role_sets=directory.role_sets(connection),
                jwks=directory.access_keys(connection),
                edge=self._edge,
                principals=_role_set_ids(connection),
                static_credentials=self._static_credentials(connection, plan),
            )

    def _static_credentials(self, connection: Connection, plan: Plan) -> Mapping[tuple[str, str], str]:
        """(system, principal) -> the ERP's own key, for systems whose keys Envoy presents."""
        static = [system.name for system in plan.systems if system.hand_over is HandOver.STATIC]
        rows = connection.execute(select(ERP_ACCOUNT).where(ERP_ACCOUNT.c.system.in_(static))) if static else ()
        return {
            (row.system, row.principal): self._on.sealer.open(
                row.sealed_secret, sealed_for(row.system, row.principal)
            ).reveal()
            for row in rows
        }

    def _tell_guard(self, about: str, message: dict[str, Any]) -> dict[str, Any]:
        return self._ask_guard("POST", about, json.dumps(message).encode())

    def _ask_guard(self, method: str, about: str, body: bytes) -> dict[str, Any]:
        socket = self._on.home.socket("guard-control")
        try:
            answer = unix.ask(socket, method, f"/internal/{about}", body, timeout_s=GUARD_TIMEOUT_S)
            told = dict(json.loads(answer.body))
        except (OSError, HTTPException, ValueError) as problem:
            raise SystemFault(
                "guard-silent",
                f"the guard does not answer ({problem})",
                hint="see `ostiary status`; nothing it guards passes until it runs again",
            ) from problem
        if answer.status != OK:
            problem_told = f"the guard could not do {about!r}: {told.get('problem')}"
            raise SystemFault("guard-refused", problem_told, hint="see the log of guard")
        return told


def _role_set_ids(connection: Connection) -> dict[str, str]:
    """Each principal's role set, as its tokens name it."""
    roles: dict[str, list[str]] = {name: [] for name in connection.execute(select(PRINCIPAL.c.id)).scalars()}
    for row in connection.execute(select(ASSIGNMENT)):
        roles[row.principal].append(row.role)
    return {principal: role_set_id(held) for principal, held in roles.items()}
