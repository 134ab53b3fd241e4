"""What a policy names and no system knows: a slip of the pen, as a rule. Told, not refused: an offer may grow."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from typing import Final

from ostiary.erp.catalogue import Offer
from ostiary.erp.operation import Operation, Pattern, covering_scopes, doing, operation_named
from ostiary.policy.model import Apart, Kind, Policy, Source
from ostiary.policy.parse import packs
from ostiary.prove.rules import Finding

SLIPS_TOLD_MAX: Final = 20
OFFERED_TOLD_MAX: Final = 12
MEND: Final = "mend the name, or take the rule away"
Doings = dict[str, set[str]]


def slips(policy: Policy, offers: Mapping[str, Offer]) -> Iterator[str]:
    """Each as `file:line:column: what`, in the document's order; a system without an offer can't be checked."""
    doings = {name: _doings(offer.operations) for name, offer in offers.items()}
    named = [one for one in dict.fromkeys(_named(policy, doings)) if one[0].file not in packs()]  # whoever has it
    for system in policy.systems:
        if system.name not in offers and any(one.system == system.name for _, one in named):
            hint = f"`ostiary system account {system.name} --login LOGIN` learns it"
            told = f"what {system.name} offers is not known yet, so no name of it was checked"
            yield f"{_place(system.source)}: {told}; {hint}"
    unknown = list(_unknown(named, doings))
    yield from dict.fromkeys(f"{_place(at)}: {_slip(doings[one.system], one)}" for at, one in unknown[:SLIPS_TOLD_MAX])
    if len(unknown) > SLIPS_TOLD_MAX:
        yield f"{policy.file}: {len(unknown) - SLIPS_TOLD_MAX} more names are not known"
    yield from dict.fromkeys(_unknown_fields(policy, offers))
    linked = (rule for rule in policy.apart if rule.link and rule.source.file not in packs())
    yield from (f"{_place(rule.source)}: {slip}" for rule in linked if (slip := _astray(rule, offers)))


def void(policy: Policy, offers: Mapping[str, Offer]) -> Iterator[Finding]:
    """Rules that hold of nothing, whoever may what: their system is described as a whole, and has none of it."""
    doings = {one.name: _doings(offers[one.name].operations) for one in policy.systems if one.kind is Kind.OPENAPI}
    unknown = set(_unknown(_named(policy, doings), doings))
    sides = defaultdict[tuple[Source, bool], list[Pattern]](list)
    for rule in policy.apart:
        sides[rule.source, False].append(rule.first)
        sides[rule.source, True].append(rule.then)
    for statement in (*policy.never, *policy.always):
        sides[statement.source, False] += statement.patterns
    for (at, _), patterns in sides.items():
        if at.file not in packs() and all((at, one) in unknown for one in patterns):
            told = "; ".join(dict.fromkeys(_slip(doings[one.system], one) for one in patterns))
            yield Finding(message=f"this rule holds of nothing: {told}", hint=MEND, where=(at,))


def scope_slips(scopes: Iterable[str], offers: Mapping[str, Offer]) -> list[str]:
    """Each of these that its system does not know."""
    named = [one.pattern for one in map(operation_named, scopes) if one and one.system in offers]
    return [f"scope {one}: {told}" for one in named if (told := slip(offers[one.system], one))]


def slip(offer: Offer, pattern: Pattern) -> str:
    """What is wrong with one pattern, without its place; "" where the system knows it."""
    doings = _doings(offer.operations)
    return "" if _knows(doings, pattern) else _slip(doings, pattern)


def _named(policy: Policy, doings: Mapping[str, Doings]) -> Iterator[tuple[Source, Pattern]]:
    """All but what `never` says that nobody can do yet."""
    yield from ((may.source, pattern) for role in policy.roles for may in role.may for pattern in may.patterns)
    yield from ((rule.source, pattern) for rule in policy.apart for pattern in (rule.first, rule.then))
    yield from ((rule.source, pattern) for rule in policy.always for pattern in rule.patterns)
    never = ((rule.source, pattern) for rule in policy.never for pattern in rule.patterns)
    yield from ((at, one) for at, one in never if one.action or one.object not in doings.get(one.system, ()))
    yield from ((test.source, test.does.pattern) for test in policy.tests)


def _unknown(named: Iterable[tuple[Source, Pattern]], doings: Mapping[str, Doings]) -> Iterator[tuple[Source, Pattern]]:
    return ((at, one) for at, one in named if one.system in doings and not _knows(doings[one.system], one))


def _unknown_fields(policy: Policy, offers: Mapping[str, Offer]) -> Iterator[str]:
    """Fields and conditions that no object of the pattern has, where its fields are known."""

    @cache
    def known(system: str, name: str) -> frozenset[str]:
        links, family = _links(offers, system), name.removesuffix("*")
        objects = [one for one in links if one == name or (family != name and one.startswith(family))]
        return frozenset(field for one in objects for field in links[one])

    for at, pattern, names in _fields_named(policy):
        fields = known(pattern.system, pattern.object)
        for name in sorted(names - fields) if fields else ():
            yield f"{_place(at)}: {_no_field(pattern.object, name, fields)}"


def _fields_named(policy: Policy) -> Iterator[tuple[Source, Pattern, frozenset[str]]]:
    for may in (may for role in policy.roles for may in role.may):
        names = frozenset((*may.fields, *(condition.field for condition in may.where)))
        yield from ((may.source, pattern, names) for pattern in may.patterns)
    yield from (
        (test.source, test.does.pattern, test.does.fields_read | test.does.fields_written | test.record.keys())
        for test in policy.tests
    )


def _no_field(place: str, name: str, known: Collection[str]) -> str:
    return f"{place} has no field {name}" + _meant(name, known)


def _doings(operations: Iterable[Operation]) -> Doings:
    """What can be done with each object, family of objects and everything."""
    found: Doings = defaultdict(set)
    for scope in {scope for one in set(operations) for scope in covering_scopes(one)}:
        name, _, done = scope.partition("/")[2].rpartition(":")
        found[name].add(done)
    return found


def _knows(doings: Doings, pattern: Pattern) -> bool:
    """`*` where an ERP does not say which actions it has."""
    return not doings.get(pattern.object, set()).isdisjoint((doing(pattern.verb, pattern.action), f"{pattern.verb}.*"))


def _slip(doings: Doings, pattern: Pattern) -> str:
    if pattern.object not in doings:
        told, objects = f"{pattern.system} knows no object {pattern.object}", {one for one in doings if one[-1] != "*"}
        return told + (_meant(pattern.object, doings) or _offered(pattern, objects))
    done, known = f"{pattern.verb} {pattern.action}".rstrip(), [one.replace(".", " ") for one in doings[pattern.object]]
    alike = [one for one in known if one.startswith(f"{pattern.verb} ")] or [one for one in known if " " not in one]
    meant = _meant(done, known, near=0.8) if pattern.action else ""  # alike by the verb already
    return f"{pattern.system} knows no {done} of {pattern.object}" + (meant or _offered(pattern, alike))


def _offered(pattern: Pattern, known: Collection[str]) -> str:
    many = f"{len(known)} others, see `ostiary policy draft --from {pattern.system}`"
    return "; it knows " + (", ".join(sorted(known)) if len(known) <= OFFERED_TOLD_MAX else many)


def _meant(word: str, known: Collection[str], near: float = 0.6) -> str:
    close = get_close_matches(word, sorted(known), n=1, cutoff=near)
    return f"; did you mean {close[0]}?" if close else ""


def _links(offers: Mapping[str, Offer], system: str) -> Mapping[str, Mapping[str, str]]:
    """As the offer has them; none of a system that is not known."""
    return offers[system].links if system in offers else {}


def _astray(rule: Apart, offers: Mapping[str, Offer]) -> str:
    """Why the link does not lead from the second duty's object to the first one's; "" where it does, or who knows."""
    links, at = _links(offers, rule.then.system), rule.then.object
    for step in rule.steps:
        fields = links.get(at)
        if fields is None:
            return ""
        if step not in fields:
            return _no_field(at, step, fields)
        if not fields[step]:
            return f"{at}.{step} leads to no other record"
        at = fields[step]
    return "" if rule.first.holds_object(at) else f"the link {rule.link} leads to {at}, not to {rule.first.object}"


def _place(source: Source) -> str:
    return f"{source}:{source.column}"
