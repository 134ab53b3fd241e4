"""Recorded decisions against a draft: what it would decide otherwise, for whom, and how often that happened."""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Final, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from ostiary.erp.operation import covering_scopes
from ostiary.plan.decide import STEPS, Facts, admit, closure, decide
from ostiary.plan.formula import Always, Countries, Device, Mfa, Recent, atoms
from ostiary.plan.model import Grant, Plan
from ostiary.plan.reason import UNCLEAR, Reason

CHANGES_MAX: Final = 10_000  # told one by one; of more only the number
# What a plan and the facts decide; whatever else refused a request, refuses it still.
BY_POLICY: Final = frozenset({Reason.STEP_UP, *STEPS})
UNKEPT: Final = (Countries, Device, Mfa, Recent)


class Recorded(NamedTuple):
    """One decision as it was recorded. `whole`: its facts name all the operations that the request was about."""

    decision: str
    principal: str
    reason: str
    facts: Facts
    whole: bool


class Otherwise(Struct):
    """One kind of change; the newest decision is the example."""

    principal: str
    operation: str
    was: str
    would: str
    decision: str
    last: datetime
    times: int = 0


class Replayed(Struct, kw_only=True):
    """`left`: reason -> decisions that no policy decides. `more`: changes of kinds that found no room."""

    decisions: int = 0
    left: Counter[str]
    changes: list[Otherwise]
    more: int = 0


class Tally:
    """Counts by kind of change; memory grows with the kinds alone."""

    def __init__(self) -> None:
        self.done = Replayed(left=Counter(), changes=[])
        self._kinds: dict[tuple[str, str, str, str], Otherwise] = {}

    def decided(self, reason: str) -> bool:
        """Counts a decision; whether a policy could have decided it otherwise."""
        if reason not in BY_POLICY:
            self.done.left[reason] += 1
            return False
        self.done.decisions += 1
        return True

    def differs(self, kind: tuple[str, str, str, str], decision: str, at: datetime) -> None:
        """`kind`: principal, operation, and what was and would be; the newest comes first."""
        if kind not in self._kinds and len(self._kinds) >= CHANGES_MAX:
            self.done.more += 1
            return
        if kind not in self._kinds:
            self._kinds[kind] = Otherwise(*kind, decision=decision, last=at)
        self._kinds[kind].times += 1

    def all(self) -> Replayed:
        """What would be refused comes first, then what happened most."""
        found = self._kinds.values()
        self.done.changes = sorted(found, key=lambda change: (change.would == Reason.ALLOWED, -change.times))
        return self.done


def replay(plan: Plan, recorded: Iterable[Recorded], before: Plan | None = None) -> Replayed:
    """Each of `recorded`, the newest first, decided again by `plan`; memory grows with the kinds of change alone.

    `before`: the plan in force. Where neither knows, for what was sent is not kept, and both say the same, nothing changes.
    """
    strict = replace(plan, grants=tuple(grant for grant in plan.grants if not _open(grant)))
    loose = replace(plan, grants=tuple(map(_loosened, plan.grants)))
    tally = Tally()
    for one in recorded:
        if not tally.decided(one.reason):
            continue
        would = _now(strict, loose, one)
        if would == UNCLEAR and before is not None and _granted(plan, one.facts) == _granted(before, one.facts):
            continue
        if would != UNCLEAR and (would == Reason.ALLOWED) is (one.reason == Reason.ALLOWED):
            continue
        did = ", ".join(operation.permission for operation in one.facts.operations) or f"{one.facts.system}/"
        tally.differs((one.principal, did, one.reason, would), one.decision, one.facts.here.at)
    return tally.all()


def _now(strict: Plan, loose: Plan, one: Recorded) -> str:
    """What the plan says, with none of its grants that turn on what is not kept, and with them as if it held.

    Where that differs, nobody knows; nor where it would let on what was refused before anybody saw all of it.
    """
    judge = decide if one.facts.operations else admit
    would, least = judge(loose, one.facts).reason, judge(strict, one.facts).reason
    unseen = one.reason != Reason.ALLOWED and not one.whole
    return UNCLEAR if would is Reason.ALLOWED and (unseen or least is not Reason.ALLOWED) else would


def _open(grant: Grant) -> bool:
    """It turns on what was sent, on a record, or on what is noted only while the policy in force asks for it."""
    return bool(grant.terms) or any(isinstance(atom, UNKEPT) for atom in atoms(grant.context.formula))


def _loosened(grant: Grant) -> Grant:
    bare = replace(grant, fields=(), where=())
    return replace(bare, context=replace(grant.context, formula=Always())) if _open(bare) else bare


def _granted(plan: Plan, facts: Facts) -> list[tuple[object, ...]]:
    """All that the plan grants of these operations to these roles, whatever its lines are called."""
    held = closure(plan, facts.roles)
    grants = [one for did in facts.operations for one in plan.granting(covering_scopes(did), held)]
    if not facts.operations:
        grants = [one for one in plan.grants if one.role in held and one.pattern.system == facts.system]
    return [(one.pattern, one.context.formula, one.fields, one.where) for one in grants]
