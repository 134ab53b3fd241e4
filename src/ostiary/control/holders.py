"""Who holds which roles, by the human behind user and client: duties kept apart are kept apart for persons."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec
from sqlalchemy import Connection, select

from ostiary.foundation.errors import OperatorFault
from ostiary.plan.decide import narrowed
from ostiary.plan.model import Plan
from ostiary.prove.rules import check
from ostiary.store.directory import person_of
from ostiary.store.tables.directory import ASSIGNMENT, PRINCIPAL

_HELD: Final = select(PRINCIPAL.c.person, ASSIGNMENT.c.role).join(ASSIGNMENT, ASSIGNMENT.c.principal == PRINCIPAL.c.id)


def assigned(connection: Connection) -> Mapping[str, frozenset[str]]:
    """Person -> the roles that all principals of that person hold directly."""
    held: dict[str, set[str]] = {}
    for person, role in connection.execute(_HELD):
        held.setdefault(person, set()).add(role)
    return {person: frozenset(roles) for person, roles in held.items()}


def holders_of(connection: Connection) -> Mapping[str, Sequence[str]]:
    """Role -> the principals that hold it directly."""
    held: dict[str, list[str]] = {}
    chosen = select(ASSIGNMENT.c.role, ASSIGNMENT.c.principal).order_by(ASSIGNMENT.c.principal)
    for role, principal in connection.execute(chosen):
        held.setdefault(role, []).append(principal)
    return held


def allow(connection: Connection, plan: Plan, principal: str, roles: Iterable[str], *, person: str = "") -> None:
    """Raises where `principal` may not hold just these roles: unknown to the policy, or duties kept apart."""
    wanted = frozenset(roles)
    known = {role.name for role in plan.roles}
    if missing := sorted(wanted - known):
        raise OperatorFault(
            "no-role",
            f"the policy in force has no role {', '.join(missing)}",
            hint=f"one of: {', '.join(sorted(known)) or 'none yet'}; or apply a policy that has it first",
        )
    if person and connection.execute(select(PRINCIPAL.c.id).where(PRINCIPAL.c.id == person)).first() is None:
        raise OperatorFault("no-person", f"there is no {person}", hint="name a user: `ostiary user list`")
    human = person or person_of(connection, principal)
    others = connection.execute(_HELD.where(PRINCIPAL.c.person == human, PRINCIPAL.c.id != principal))
    held = wanted.union(role for _, role in others)
    own = msgspec.structs.replace(
        narrowed(plan, held), never=(), always=()
    )  # the rest was proved when the plan came into force
    if found := check(own, {human: held}):
        told = "\n".join(f"  {one}" for one in found)
        raise OperatorFault(
            "roles-apart", f"{human} would hold what is kept apart:\n{told}", hint="nothing was changed"
        )
