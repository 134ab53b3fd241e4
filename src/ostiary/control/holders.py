"""Who holds which roles, by the human behind user and client: duties kept apart are kept apart for persons."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

import msgspec
from sqlalchemy import Connection, select, union

from ostiary.audit.log import Change
from ostiary.control import proposals
from ostiary.control.proposals import Kind, State
from ostiary.foundation.errors import OperatorFault
from ostiary.plan.decide import narrowed
from ostiary.plan.model import Plan, System
from ostiary.prove.rules import check
from ostiary.store.directory import person_of
from ostiary.store.tables.control import PROPOSAL
from ostiary.store.tables.directory import ASSIGNMENT, ERP_ACCOUNT, PRINCIPAL

_ALWAYS: Final = select(PRINCIPAL.c.id, PRINCIPAL.c.person, ASSIGNMENT.c.role).join(
    ASSIGNMENT, ASSIGNMENT.c.principal == PRINCIPAL.c.id
)
_FOR_A_TIME: Final = select(PRINCIPAL.c.id, PRINCIPAL.c.person, PROPOSAL.c.role).join(
    PROPOSAL, PROPOSAL.c.principal == PRINCIPAL.c.id
)
_HELD: Final = union(_ALWAYS, _FOR_A_TIME.where(PROPOSAL.c.state == State.BEGUN)).subquery()


def assigned(connection: Connection) -> Mapping[str, frozenset[str]]:
    """Person -> the roles that all principals of that person hold directly."""
    held: dict[str, set[str]] = {}
    for _, person, role in connection.execute(select(_HELD)):
        held.setdefault(person, set()).add(role)
    return {person: frozenset(roles) for person, roles in held.items()}


def holders_of(connection: Connection) -> Mapping[str, Sequence[str]]:
    """Role -> the principals that hold it directly."""
    held: dict[str, list[str]] = {}
    chosen = select(ASSIGNMENT.c.role, ASSIGNMENT.c.principal).order_by(ASSIGNMENT.c.principal)
    for role, principal in connection.execute(chosen):
        held.setdefault(role, []).append(principal)
    return held


def for_a_time(connection: Connection, now: datetime) -> Sequence[tuple[str, str, str]]:
    """Principal, role and end of each role that somebody holds in an emergency now."""
    begun = proposals.found(connection, Kind.BREAK_GLASS, State.BEGUN)
    lasting = (one for one in begun if one.until_s > now.timestamp())
    return [(one.content["principal"], one.content["role"], proposals.until(one)) for one in lasting]


def without_account(connection: Connection, plan: Plan, system: System) -> Sequence[str]:
    """Who holds a role that grants something there, and has no user of the ERP as whom his calls could arrive."""
    granting = {grant.role for grant in plan.grants if grant.pattern.system == system.name}
    roles = [role.name for role in plan.roles if granting.intersection(role.closure)]
    there = select(ERP_ACCOUNT.c.principal).where(ERP_ACCOUNT.c.system == system.name)
    chosen = select(PRINCIPAL.c.id).join(ASSIGNMENT, ASSIGNMENT.c.principal == PRINCIPAL.c.id).distinct()
    chosen = chosen.where(PRINCIPAL.c.active, ASSIGNMENT.c.role.in_(roles), PRINCIPAL.c.id.not_in(there))
    return connection.scalars(chosen.order_by(PRINCIPAL.c.id)).all()


def allow(change: Change, plan: Plan, principal: str, roles: Iterable[str], person: str = "") -> None:
    """Raises where `principal` may not hold just these roles: unknown to the policy, or duties kept apart."""
    wanted = frozenset(roles)
    known = {role.name for role in plan.roles}
    if missing := sorted(wanted - known):
        hint = f"one of: {', '.join(sorted(known)) or 'none yet'}; or apply a policy that has it first"
        raise OperatorFault("no-role", f"the policy in force has no role {', '.join(missing)}", hint=hint)
    if person and change.connection.execute(select(PRINCIPAL.c.id).where(PRINCIPAL.c.id == person)).first() is None:
        raise OperatorFault("no-person", f"there is no {person}", hint="name a user: `ostiary user list`")
    human = person or person_of(change.connection, principal)
    others = select(_HELD.c.role).where(_HELD.c.person == human, _HELD.c.id != principal)
    held = wanted.union(change.connection.scalars(others))
    own = narrowed(plan, held)
    own = msgspec.structs.replace(own, never=(), always=())  # proved when the plan came into force
    if found := check(own, {human: held}, on=change.now.date()):
        lines = "\n".join(f"  {one}" for one in found)
        told = f"{human} would hold what is kept apart:\n{lines}"
        raise OperatorFault("roles-apart", told, hint="nothing was changed")
