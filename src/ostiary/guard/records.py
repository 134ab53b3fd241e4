"""What is established of the records that a call names, as the ERP and the guard know them, before it is judged by them.

Duties kept apart by history: who did the first of two things to this record? The guard never sees the ERP's answers,
and records are made around it too. So what counts is what the ERP records now (link, maker, last writer), and beside it
every change that the guard itself let through. Who changes a part changes the whole: the lines of a journal entry are
what it says. Record conditions turn on what the ERP holds of a record, and whose it is.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from ostiary.erp.operation import Call, Condition, Operation, Pattern, Verb, covering_scopes
from ostiary.erp.tryton import plain
from ostiary.guard.accounts import Accounts
from ostiary.guard.answer import Refused
from ostiary.guard.erp import Erp, NotEstablished
from ostiary.guard.locks import Record
from ostiary.plan.decide import Facts, Reason, Records, closure
from ostiary.plan.model import Apart, Plan
from ostiary.store.directory import ErpAccount

CLOCKS_APART_MAX: Final = timedelta(days=1)  # an ERP writes times in its own zone, or an unnamed one
LINK_STEPS_MAX: Final = 4
RECORDS_MAX: Final = 1_000
Linked = tuple[str, Mapping[str, str]]  # object, and its records, each with the one that it leads to; "" at the end
CREATING: Final = frozenset(["create", "copy"])
Owners = Mapping[str, Mapping[str, str]]  # object -> the fields that name what its records are parts of, and its object
LEVELS_MAX: Final = 8  # of parts within parts
CHANGING: Final = frozenset({Verb.WRITE, Verb.DELETE})
LINKS_MAX: Final = 100  # each may be a question to the ERP


class Moved(Exception):
    """A link led to a record that was not held."""


class Case(Struct, frozen=True, kw_only=True):
    """One request to be judged: what `person` is about to do, as which ERP user, and where the answers are found.

    `held`: the records of links that can't change meanwhile.
    """

    system: str
    call: Call
    person: str
    account: ErpAccount | None
    erp: Erp | None
    past: Accounts
    now: datetime
    held: frozenset[Record] = frozenset()


async def linked(rules: Iterable[Apart], case: Case) -> frozenset[Record]:
    """The records to which the links of this call lead, and those on the way, as far as the ERP tells them now."""
    found = set[Record]()
    for rule in rules:
        for duties in _seconds(rule, case.call):
            with suppress(NotEstablished):  # `judge` asks again, and says so
                chain = await _chain(rule, duties, case.erp) if case.erp else []
                found.update((rule.then.system, name, one) for name, ids in chain[1:] for one in ids)
    return frozenset(found)


async def judge(rules: Iterable[Apart], case: Case) -> None:
    """Raises Refused by the first rule that this call would break, or of which that can't be ruled out.

    Raises Moved when another record than those held counts now.
    """
    for rule in rules:
        for duties in _seconds(rule, case.call):
            try:
                detail = await _refusal(rule, duties, case)
            except NotEstablished as problem:
                detail = f"who did the first of the two can't be established: {problem}"
            if detail:
                first = duties[0]
                raise Refused(Reason.APART, detail, pointer=first.pointer, rule=rule.id, operation=first.permission)


def _seconds(rule: Apart, call: Call) -> Iterable[Sequence[Operation]]:
    """The second duties in a call, those to one object together: of all their records the ERP is asked at once."""
    found: dict[str, list[Operation]] = {}
    for one in filter(rule.then.holds, call.operations):
        found.setdefault(one.object, []).append(one)
    return found.values()


async def _refusal(rule: Apart, duties: Sequence[Operation], case: Case) -> str:
    if not all(one.ids for one in duties):
        raise NotEstablished("the request names no record that exists already")
    if rule.link and (computed := {name for one in case.call.operations for name in one.fields_computed}):
        raise NotEstablished(f"the request itself may change its {rule.link}, by {', '.join(sorted(computed))}")
    if case.erp is None:
        raise NotEstablished("this system does not say who made a record")
    chain = await _held_chain(rule, duties, case, case.erp)
    name, ends = chain[-1]
    for part in (one for one in case.call.operations if one.object == name and rule.first.holds(one)):
        others = [record for one in duties if one is not part for record in one.ids]
        if not _reached(chain, others).isdisjoint(part.ids):
            return f"this request itself does both parts of {rule.name!r} to {name}"
    since, ids = case.now - timedelta(days=rule.within_days), [*ends]
    if await case.past.did(case.person, rule.first, (name, ids), since):
        return f"you yourself changed its {name} through this gate less than {rule.within_days} days ago"
    rows = await case.erp.rows(name, ids, ["create_uid", "create_date", "write_uid", "write_date"])
    return await _refusal_by_origin(rule, (name, rows), case, case.erp, since - CLOCKS_APART_MAX)


async def _held_chain(rule: Apart, duties: Sequence[Operation], case: Case, erp: Erp) -> list[Linked]:
    """The link as the ERP holds it now, and the call leaves it."""
    chain = await _chain(rule, duties, erp)
    for (name, ids), step in zip(chain, rule.steps, strict=False):
        turning = (one for one in case.call.operations if one.object == name and step in one.fields_written)
        if any(not ids.keys().isdisjoint(one.ids) for one in turning):
            raise NotEstablished(f"the request itself changes {step}")
    if any((rule.then.system, name, one) not in case.held for name, ids in chain[1:] for one in ids):
        raise Moved
    name, _ = chain[-1]
    if not rule.first.holds_object(name):
        raise NotEstablished(f"{rule.link or name} leads to {name}, which the rule does not speak of")
    return chain


async def _chain(rule: Apart, duties: Sequence[Operation], erp: Erp) -> list[Linked]:
    """From the operations' own records to the end of the link: by fields that are stored, so that no other record hides."""
    name, ids = duties[0].object, sorted({record for one in duties for record in one.ids})
    if len(rule.steps) > LINK_STEPS_MAX or len(ids) > RECORDS_MAX:
        raise NotEstablished("too much would have to be read")
    found: list[Linked] = []
    for step in rule.steps:
        values = {str(row["id"]): row.get(step) for row in await erp.rows(name, ids, [step])}
        if any(not isinstance(value, int) or isinstance(value, bool) for value in values.values()):
            raise NotEstablished(f"a {name} has no {step}")
        target = await erp.stored(name, step)
        if not target:
            raise NotEstablished(f"{step} of {name} is no link to one record")
        found.append((name, {record: str(value) for record, value in values.items()}))
        name, ids = target, sorted({str(value) for value in values.values()})
    return [*found, (name, dict.fromkeys(ids, ""))]


def _reached(chain: Iterable[Linked], records: Iterable[str]) -> set[str]:
    """Where the link leads from these of its first records."""
    found = set(records)
    for _, following in [*chain][:-1]:
        found = {following[record] for record in found}
    return found


async def _refusal_by_origin(
    rule: Apart, found: tuple[str, Iterable[Mapping[str, Any]]], case: Case, erp: Erp, since: datetime
) -> str:
    name, rows = found
    known: dict[str, frozenset[str]] = {}  # one hand made many of them
    for row in rows:
        for uid, did in _suspects(rule.first, row, since):
            if uid not in known:
                known[uid] = await case.past.persons(rule.then.system, uid, erp)
            if not (persons := known[uid]):
                raise NotEstablished(f"nobody here is known as the ERP user {uid} who {did} {name} {row['id']}")
            if case.person in persons:
                return f"the ERP records that you {did} {name} {row['id']} less than {rule.within_days} days ago"
    return ""


def _suspects(first: Pattern, row: Mapping[str, Any], since: datetime) -> Iterable[tuple[str, str]]:
    """The ERP users whose recorded act may have been `first`. The last writer stands for every change but a creation."""
    if first.verb is Verb.WRITE and (not first.action or first.action in CREATING):
        yield from _suspect(row, "create", "made", since)
    if first.verb in {Verb.WRITE, Verb.EXECUTE} and first.action not in CREATING and row.get("write_uid") is not None:
        yield from _suspect(row, "write", "changed", since)


def _suspect(row: Mapping[str, Any], what: str, did: str, since: datetime) -> Iterable[tuple[str, str]]:
    uid, at = row.get(f"{what}_uid"), _time(row.get(f"{what}_date"))
    if not isinstance(uid, int) or at is None:
        raise NotEstablished(f"the ERP does not say who {did} this record, or when")
    if at >= since:
        yield str(uid), did


def _time(value: Any) -> datetime | None:
    """Tryton's JSON for a time, which names no zone."""
    match value:
        case {"__class__": "datetime", "year": int(year), "month": int(month), "day": int(day)}:
            return datetime(year, month, day, tzinfo=UTC) + timedelta(hours=23, minutes=59)  # the later end of the day
    return None


def records_to_hold(
    rules: Iterable[Apart], call: Call, others: Iterable[Pattern] = (), *, reads: bool = False
) -> frozenset[Record]:
    """The records of this call on which a rule or a grant may turn: changed, or `reads` that turn on them, and of an
    object that a rule, its link, or a grant with conditions speaks of (`others`: the last two).
    """
    does = [one for one in call.operations if one.ids and (reads or one.verb is not Verb.READ)]
    patterns = [*others, *(pattern for rule in rules for pattern in (rule.first, rule.then))] if does else []
    return frozenset(
        (one.system, one.object, record)
        for one in does
        if any(pattern.system == one.system and pattern.holds_object(one.object) for pattern in patterns)
        for record in one.ids
    )


async def with_wholes(rules: Sequence[Apart], case: Case, owners: Owners) -> Call:
    """The call, and beside its operations a write to each record that is changed by its parts, where a rule speaks of
    such writes. Raises NotEstablished where the ERP does not say which records these are.
    """
    patterns = (pattern for rule in rules for pattern in (rule.first, rule.then))
    spoken = [one for one in patterns if one.system == case.system and one.verb is Verb.WRITE]
    found, parts = [*case.call.operations], list(case.call.operations)
    for _ in range(LEVELS_MAX):
        by_object: dict[str, list[Operation]] = {}
        for one in parts:
            if _changes(one, rules) and _reaches(spoken, one.object, owners):
                by_object.setdefault(one.object, []).append(one)
        if not by_object or case.erp is None:
            break
        levels = [await _wholes(same, owners[name], case.call, case.erp) for name, same in by_object.items()]
        parts = [whole for level in levels for whole in level]
        found += parts
    else:
        raise NotEstablished("too much would have to be read")
    return replace(case.call, operations=tuple(found))


def _changes(part: Operation, rules: Iterable[Apart]) -> bool:
    """An action may write what it likes, too; but one that is itself the second duty of a rule is judged as that."""
    acts = part.verb is Verb.EXECUTE and not any(rule.then.holds(part) for rule in rules)
    return acts or part.verb in CHANGING


def _reaches(spoken: Sequence[Pattern], name: str, owners: Owners) -> bool:
    """Whether a rule speaks of what its records are parts of, or parts of parts."""
    above, ahead = set[str](), {name}
    while ahead:
        ahead = {owner for one in ahead for owner in owners.get(one, {}).values()} - above
        above |= ahead
    return any(pattern.holds_object(one) for pattern in spoken for one in above)


async def _wholes(parts: Sequence[Operation], links: Mapping[str, str], call: Call, erp: Erp) -> list[Operation]:
    """What the changed records of one object are parts of now, and become parts of."""
    name, ids = parts[0].object, sorted({record for one in parts for record in one.ids})
    if len(ids) > RECORDS_MAX:
        raise NotEstablished("too much would have to be read")
    rows = await erp.rows(name, ids, list(links)) if ids else ()
    found = []
    for link, owner in links.items():
        sent = (values for one in parts for values in map(dict, one.sent) if not one.ids or link in values)
        named = {str(row[link]) for row in rows if row.get(link) is not None} | {values.get(link) for values in sent}
        if None in named and not any(one.object == owner and one.verb is Verb.WRITE for one in call.operations):
            raise NotEstablished(f"the request does not say of which {owner} a {name} becomes a part")
        if whole := tuple(sorted(one for one in named if one is not None)):
            written = Pattern(system=parts[0].system, object=owner, verb=Verb.WRITE, action="write").operation
            found.append(replace(written, ids=whole, pointer=parts[0].pointer))
    return found


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
