"""What record conditions turn on, asked of the ERP: what it holds of the records a call names, and whose they are."""

from collections.abc import Sequence
from typing import Final

from ostiary.erp.operation import Condition, Operation, covering_scopes
from ostiary.erp.tryton import plain
from ostiary.guard.erp import Erp, NotEstablished
from ostiary.guard.history import Case
from ostiary.plan.decide import Facts, Records, closure
from ostiary.plan.model import Plan

LINKS_MAX: Final = 100  # each may be a question to the ERP


async def established(plan: Plan, facts: Facts, case: Case) -> Records:
    """All that the conditions of the caller's grants turn on; raises NotEstablished where a part of it can't be told."""
    records, held = Records(), closure(plan, facts.roles)
    for name in dict.fromkeys(operation.object for operation in facts.operations):
        does = [operation for operation in facts.operations if operation.object == name]
        grants = {grant.id: grant for one in does for grant in plan.granting(covering_scopes(one), held)}
        conditions = dict.fromkeys(one for grant in grants.values() for one in grant.where)
        if conditions:
            records += await _of_object(name, does, tuple(conditions), case)
    return records


async def _of_object(name: str, does: Sequence[Operation], conditions: Sequence[Condition], case: Case) -> Records:
    """Which fields it stores, what its records hold, and which of their values, and of those written, are the caller's."""
    if case.erp is None:
        raise NotEstablished("this system does not say what a record holds")
    targets = {one.field: await case.erp.stored(name, one.field) for one in conditions}
    ids = sorted({record for one in does for record in one.ids})
    rows = await case.erp.rows(name, ids, list(targets)) if ids else ()
    held = {(name, str(row["id"])): {field: plain(row.get(field)) for field in targets} for row in rows}
    fields = {one.field for one in conditions if one.compare == "own"}
    told = [*held.values(), *(dict(row) for one in does for row in one.sent)]
    links = {(field, value) for row in told for field, value in row.items() if field in fields and value is not None}
    if len(links) > LINKS_MAX:
        raise NotEstablished("the records link to too many users and companies")
    own = [(name, *link) for link in sorted(links) if await _is_own(targets[link[0]], link[1], case, case.erp)]
    return Records(stored=frozenset((name, field) for field in targets), held=held, own=frozenset(own))


async def _is_own(target: str, value: str, case: Case, erp: Erp) -> bool:
    """Of an ERP user that several act as nobody can say whose hand it was."""
    match target:
        case "res.user":
            return await case.past.persons(case.system, value, erp) == {case.person}
        case "company.company" if case.account is not None:
            return value in map(plain, await erp.companies(case.account))
    raise NotEstablished("own is for links to users, and to companies where the caller has an ERP user")
