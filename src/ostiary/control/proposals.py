"""What waits for a second person: kept as it was shown, and decided by others than who asked for it."""

import json
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import ColumnElement, Connection, insert, select, update

from ostiary.audit.log import Change, refuse_unfit
from ostiary.control.installation import Administrators
from ostiary.event.record import stamp
from ostiary.foundation.clock import from_us, to_us
from ostiary.foundation.errors import CallerFault, OperatorFault
from ostiary.foundation.ids import content_hash
from ostiary.policy.model import Approvals
from ostiary.store.database import Store
from ostiary.store.tables.control import PROPOSAL

OPEN_MAX: Final = 100  # of a kind ...
OPEN_OF_ONE_MAX: Final = 20  # ... and of one person: nobody keeps the others from theirs
REASON_MAX_CHARS: Final = 900
LONG: Final = ("text", "files", "changes")  # of the content, what no line of the audit log has room for


class Kind(StrEnum):
    POLICY = "policy"
    ROLES = "roles"
    BREAK_GLASS = "break-glass"

    @property
    def listed(self) -> str:
        """The command that shows what waits."""
        return "review waiting" if self is Kind.ROLES else f"{self} list"

    def needs(self, asked: Approvals) -> int:
        """How many others must say yes: one, even if the policy asks for nobody any more; but in an emergency nobody."""
        if self is Kind.BREAK_GLASS:
            return asked.break_glass
        return max(1, asked.policy if self is Kind.POLICY else asked.giving)


class State(StrEnum):
    OPEN = "open"
    DONE = "done"
    REJECTED = "rejected"
    RENEWED = "renewed"  # as another one, since it would do something else by now
    BEGUN = "begun"  # a role for a time, until ...
    ENDED = "ended"


class Proposal(Struct, frozen=True, kw_only=True):
    """`content`: all that was shown; `approvals`: who else said yes."""

    id: str = ""
    kind: Kind
    actor: str
    reason: str
    at: datetime
    content: dict[str, Any]
    approvals: tuple[str, ...] = ()
    state: State = State.OPEN
    until_s: int = 0  # of a role for a time that has begun


def refuse_reason(reason: str) -> None:
    """Raises where nobody could learn from it later why this was done."""
    if not 0 < len(reason.strip()) <= REASON_MAX_CHARS:
        told = f"it needs a reason of at most {REASON_MAX_CHARS} characters"
        raise OperatorFault("reason", told, hint='--reason "why, in a few words"')
    refuse_unfit(reason)


def propose(change: Change, asked: Proposal) -> Proposal:
    """Keeps it; its id is a hash of all of it. What is asked for a second time waits already."""
    content, opened = json.dumps(asked.content), (PROPOSAL.c.kind == asked.kind, PROPOSAL.c.state == State.OPEN)
    same = (PROPOSAL.c.actor == asked.actor, PROPOSAL.c.reason == asked.reason, PROPOSAL.c.content == content)
    for one in _found(change.connection, *opened, *same):
        return one
    waiting = list(change.connection.execute(select(PROPOSAL.c.actor).where(*opened)).scalars())
    if len(waiting) >= OPEN_MAX or waiting.count(asked.actor) >= OPEN_OF_ONE_MAX:
        told = f"{len(waiting)} proposals are waiting already, {waiting.count(asked.actor)} of them yours"
        raise CallerFault("too-many-proposals", told, hint="approve or reject some")
    made = replace(asked, id=content_hash(msgspec.json.encode(asked, order="deterministic")))
    row = {"id": made.id, "kind": made.kind, "actor": made.actor, "reason": made.reason, "at_us": to_us(made.at)}
    of = {"principal": made.content.get("principal", ""), "role": made.content.get("role", ""), "until_s": 0}
    change.connection.execute(insert(PROPOSAL).values(**row, **of, content=content, approvals="[]", state=State.OPEN))
    record(change, made, "propose", made.reason)
    return made


def found(connection: Connection, kind: Kind, *states: State) -> list[Proposal]:
    """Those in one of these states, the oldest first."""
    return _found(connection, PROPOSAL.c.kind == kind, PROPOSAL.c.state.in_(states or [State.OPEN]))


def _found(connection: Connection, *which: ColumnElement[bool]) -> list[Proposal]:
    chosen = select(PROPOSAL).where(*which).order_by(PROPOSAL.c.at_us)
    return [
        Proposal(
            id=row.id, kind=Kind(row.kind), actor=row.actor, reason=row.reason, at=from_us(row.at_us), until_s=row.until_s,
            content=json.loads(row.content), approvals=tuple(json.loads(row.approvals)), state=State(row.state),
        )
        for row in connection.execute(chosen)
    ]  # fmt: skip


def asked(store: Store, kind: Kind, identity: str, *states: State) -> Proposal:
    """The one with this id, in one of these states; without any, an open one."""
    which = (PROPOSAL.c.kind == kind, PROPOSAL.c.state.in_(states or [State.OPEN]), PROPOSAL.c.id == identity)
    with store.read() as connection:
        known = _found(connection, *which)
    if not known:
        told = f"there is no {kind} proposal {identity} that is {' or '.join(states or [State.OPEN])}"
        raise CallerFault("no-proposal", told, hint=f"see `ostiary {kind.listed}`")
    return known[0]


def missing(proposal: Proposal, needed: Approvals, who: Administrators) -> dict[str, Any]:
    """How many more have to say yes by what is `needed`, and who may.

    One more where a provider asks: whoever mapped its claim to the role would be alone in saying yes.
    """
    needs = proposal.kind.needs(needed) + proposal.actor.startswith("provider:")
    left = max(0, needs - len(who.approvers.intersection(proposal.approvals)))
    return {"missing": left, "approvers": sorted(who.approvers - {proposal.actor, *proposal.approvals}) if left else []}


def about(proposal: Proposal) -> dict[str, Any]:
    """Who asked for it, when and why, and who else said yes: as it is shown."""
    told = {"who": proposal.actor, "when": stamp(proposal.at), "why": proposal.reason}
    return {**told, "approvals": [*proposal.approvals]}


def approve(change: Change, proposal: Proposal, who: Administrators) -> Proposal:
    """With the actor among those who said yes: somebody else than who asked, each once, and only who is asked still."""
    refuse_own(change.actor, proposal, who)
    counting = [one for one in proposal.approvals if one in who.approvers and one != change.actor]
    after = replace(proposal, approvals=(*counting, change.actor))
    record(change, after, "approve", approvals=json.dumps(after.approvals))
    return after


def refuse_own(actor: str, proposal: Proposal, who: Administrators) -> None:
    """Raises where this one's yes would not count."""
    who.refuse_silent(actor)
    if actor == proposal.actor:
        told = f"{actor} asked for it: somebody else must approve it"
        raise OperatorFault("own-proposal", told, hint="ask a second person; `reject` takes it back")


def close(change: Change, proposal: Proposal, state: State, reason: str = "") -> None:
    """It waits no longer."""
    record(change, proposal, state, reason, state=state)


def record(change: Change, proposal: Proposal, act: str, reason: str = "", **values: Any) -> None:
    """What was done to it, with the `values` that its row has from now on."""
    if values:
        change.connection.execute(update(PROPOSAL).where(PROPOSAL.c.id == proposal.id).values(**values))
    shown = {name: value for name, value in proposal.content.items() if name not in LONG}
    shown |= {"until": until(proposal)} if proposal.until_s else {}
    what, after = shown.get("principal", proposal.id), {"proposal": proposal.id, **shown}
    change.note(f"{proposal.kind}.{act}", what, before={"by": proposal.actor}, after=after, reason=reason)


def in_words(emergency: Proposal) -> str:
    """Who holds what, and until when."""
    return f"{emergency.content['principal']} has role {emergency.content['role']} until {until(emergency)}"


def given(emergency: Proposal) -> str:
    """The same, with who gave it and why."""
    return f"{in_words(emergency)}, given by {emergency.actor}: {emergency.reason}"


def until(emergency: Proposal) -> str:
    return stamp(datetime.fromtimestamp(emergency.until_s, UTC))
