"""What every operation acts on, and how a change of the directory reaches store, audit log, gate and guard."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from threading import RLock
from typing import Any, Concatenate, ParamSpec, TypeVar

from ostiary.audit.log import Change, check, sign_head
from ostiary.control import revisions
from ostiary.control.installation import Administrators, Installation
from ostiary.control.outbox import Outbox
from ostiary.control.reconcile import Reconciler
from ostiary.envoy.daemon import Gate
from ostiary.foundation.errors import SystemFault
from ostiary.identity.principals import Keys
from ostiary.monitor.watch import Watch
from ostiary.store.database import AROUND, take_turns

P = ParamSpec("P")
T = TypeVar("T")
Act = Callable[Concatenate[Change, P], T]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """`turn` is held by whoever changes the policy or gives roles: what he looked at still holds when he is done."""

    on: Installation
    gate: Gate
    reconciler: Reconciler
    watch: Watch
    outbox: Outbox
    administrators: Administrators
    turn: RLock = field(default_factory=RLock)
    signing: RLock = field(default_factory=RLock)

    @property
    def now(self) -> datetime:
        return self.on.clock.now()

    def missing(self, proposal: revisions.Proposal) -> dict[str, Any]:
        """How many more have to say yes by the policy in force, and who may."""
        return revisions.missing(proposal, self.reconciler.plan.approvals, self.administrators)

    def change(self, actor: str, act: Act[P, T], *what: P.args, **told: P.kwargs) -> T:
        """Carries out `act`, of what it is told, in one transaction with its audit entry, and signs the log's new head.

        Where the log is broken already, it fails before anything changed.
        """
        done = self._done(actor, act, *what, **told)
        self.sign()
        return done

    def change_directory(self, actor: str, act: Act[P, Keys], *what: P.args, **told: P.kwargs) -> Keys:
        """As `change`; what `act` revoked is refused, and gate and guard know the directory as it is now.

        Where they can't be told, it fails, and `catch_up` brings it later.
        """
        revoked = self._done(actor, act, *what, **told)
        try:
            self.reconciler.refuse(revoked)
            self.reconciler.refresh()
        except AROUND as problem:
            why = f"it is recorded, but not in force everywhere: {getattr(problem, 'message', problem)}"
            hint = "it is brought there as soon as that is mended; see `ostiary status`"
            raise SystemFault(getattr(problem, "code", "disk"), why, hint=hint) from problem
        finally:
            self.sign()
        return revoked

    def add_to_directory(self, actor: str, act: Act[P, T], *what: P.args, **told: P.kwargs) -> T:
        """As `change`, for somebody new: the answer, which may hold a secret, is given even if it is in force later."""
        made = self.change(actor, act, *what, **told)
        try:
            self.reconciler.refresh()
        except AROUND:
            log.exception("a change of the directory is brought to gate and guard later")
        return made

    def _done(self, actor: str, act: Act[P, T], *what: P.args, **told: P.kwargs) -> T:
        """One after the other, whichever node of a fleet it is: what `act` has read still holds when it writes."""
        check(self.on.store, self.on.home)
        with self.on.store.begin() as connection:
            take_turns(connection, "change")
            return act(Change(connection, actor, self.now), *what, **told)

    def sign(self) -> None:
        """Signs the audit log as it stands; one at a time, so that no older head replaces a newer one."""
        with self.signing:
            sign_head(self.on.store, self.on.home, self.now)
