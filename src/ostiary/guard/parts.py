"""Who changes a part changes the whole: the lines of a journal entry are what it says."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from ostiary.erp.operation import Call, Operation, Pattern, Verb
from ostiary.guard.erp import Erp, NotEstablished
from ostiary.guard.history import RECORDS_MAX, Case
from ostiary.plan.model import Apart

Owners = Mapping[str, Mapping[str, str]]  # object -> the fields that name what its records are parts of, and its object
LEVELS_MAX: Final = 8  # of parts within parts
CHANGING: Final = frozenset({Verb.WRITE, Verb.DELETE})


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
