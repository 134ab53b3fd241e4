"""Holds gate and guard to what policy and directory say; every change to either passes through here, one at a time."""

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from http.client import HTTPException
from threading import RLock
from typing import Any, Final

from sqlalchemy import select

from ostiary.control.installation import Installation
from ostiary.envoy.delivery import Gate
from ostiary.envoy.edge import Edge
from ostiary.envoy.signals import Signals
from ostiary.envoy.translate import signal_resources, translate
from ostiary.foundation import unix
from ostiary.foundation.errors import OurFault, SystemFault
from ostiary.foundation.files import write_atomically
from ostiary.foundation.ids import role_set_id
from ostiary.plan.model import Plan, WhenSilent, from_json, to_json
from ostiary.store import directory
from ostiary.store.tables.directory import ASSIGNMENT, PRINCIPAL

LEASE_S: Final = 30  # the gate closes itself when control has been silent for so long
HOT_MAX: Final = 200  # revocations pushed one by one; more are merged into the cold list at once
DELIVERY_TIMEOUT_S: Final = 30.0
GUARD_TIMEOUT_S: Final = 10.0

log = logging.getLogger(__name__)


class Reconciler:
    """The one writer of the gate's files and the one voice to the guard."""

    def __init__(
        self, installation: Installation, gate: Gate, edge: Edge, blocked: Callable[[], tuple[str, ...]]
    ) -> None:
        self._on = installation
        self._gate = gate
        self._edge = edge
        self._blocked = blocked
        self._lock = RLock()
        self._hot: tuple[str, ...] = ()
        self._cold: tuple[str, ...] = ()
        self._disk_low = False

    def prepare(self) -> None:
        """Writes all that Envoy starts with; nothing has to run yet."""
        with self._lock:
            self._cold = self._revoked()
            self._gate.write({**self._translated(self.plan()), **self._signals()})

    def plan(self) -> Plan:
        """The plan in force."""
        return from_json((self._on.home.plans / f"{self._current()}.json").read_bytes())

    def apply(self, plan: Plan) -> None:
        """Puts `plan` in force at guard and gate, or leaves the one before in force and raises."""
        with self._lock:
            resources = self._translated(plan)
            self._gate.validate(resources)
            before = self._current()
            write_atomically(self._on.home.plans / f"{plan.revision}.json", to_json(plan), durable=True)
            self._tell_guard("plan", {"revision": plan.revision})
            try:
                self._gate.write(resources)
                self._gate.wait_for(resources, timeout_s=DELIVERY_TIMEOUT_S)
            except SystemFault:
                self._tell_guard("plan", {"revision": before})
                raise
            write_atomically(self._on.home.plans / "current", plan.revision.encode(), durable=True)

    def refresh(self) -> None:
        """Brings what the directory says (role sets, keys, limits of principals) to the gate."""
        with self._lock:
            resources = self._translated(self.plan())
            if self._gate.write(resources):
                self._gate.wait_for(resources, timeout_s=DELIVERY_TIMEOUT_S)

    def push_revoked(self, keys: Iterable[str]) -> None:
        """Has gate and guard refuse these keys at once."""
        with self._lock:
            self._hot = tuple(dict.fromkeys((*self._hot, *keys)))
            if len(self._hot) > HOT_MAX:
                self.merge_revoked()
            else:
                self._gate.write(self._signals())
        self._tell_guard("revoked", {"keys": sorted(keys)})

    def merge_revoked(self) -> None:
        """Moves the hot list into the cold one, and lets go of what no living token carries."""
        with self._lock:
            cold = self._revoked()
            if cold == self._cold and not self._hot:
                return
            self._cold = cold
            resources = self._signals()
            self._gate.write(resources)
            self._gate.wait_for(resources, timeout_s=DELIVERY_TIMEOUT_S)
            self._hot = ()
            self._gate.write(self._signals())

    def renew_lease(self) -> None:
        """Keeps the gate open for another while, and brings blocks that came or went."""
        with self._lock:
            self._gate.write(self._signals())

    def disk_low(self, low: bool) -> None:
        """Closes the gate before an event could be lost; opens it again when there is room."""
        self._disk_low = low
        self.renew_lease()

    def guard_state(self) -> dict[str, Any]:
        answer = self._ask_guard("GET", "state", b"")
        return dict(json.loads(answer.body))

    def _translated(self, plan: Plan) -> Mapping[str, Any]:
        with self._on.store.read() as connection:
            roles: dict[str, list[str]] = {row.id: [] for row in connection.execute(select(PRINCIPAL.c.id))}
            for row in connection.execute(select(ASSIGNMENT)):
                roles[row.principal].append(row.role)
            return translate(
                plan,
                role_sets=directory.role_sets(connection),
                jwks=directory.access_keys(connection),
                edge=self._edge,
                principals={principal: role_set_id(held) for principal, held in roles.items()},
            )

    def _signals(self) -> Mapping[str, Any]:
        now_s = int(self._on.clock.now().timestamp())
        lease = 0 if self._disk_low else now_s + LEASE_S if self.plan().when_silent is WhenSilent.CLOSE else None
        signals = Signals(revoked_hot=self._hot, revoked_cold=self._cold, blocked=self._blocked(), lease_until=lease)
        return signal_resources(signals, self._edge)

    def _revoked(self) -> tuple[str, ...]:
        with self._on.store.read() as connection:
            return tuple(sorted(directory.revoked_keys(connection, int(self._on.clock.now().timestamp()))))

    def _current(self) -> str:
        return (self._on.home.plans / "current").read_text("ascii")

    def _tell_guard(self, about: str, message: dict[str, Any]) -> None:
        answer = self._ask_guard("POST", about, json.dumps(message).encode())
        if answer.status != 200:  # noqa: PLR2004  RFC 9110 section 15.3.1
            raise OurFault("guard-refused", f"the guard refused {about}: {answer.body.decode(errors='replace')[:200]}")

    def _ask_guard(self, method: str, about: str, body: bytes) -> unix.Answer:
        path = self._on.home.socket("guard-control")
        try:
            return unix.ask(path, method, f"/internal/{about}", body, timeout_s=GUARD_TIMEOUT_S)
        except (OSError, HTTPException) as problem:
            raise SystemFault(
                "guard-silent",
                f"the guard does not answer ({problem})",
                hint="see `ostiary status`; nothing it guards passes until it runs again",
            ) from problem
