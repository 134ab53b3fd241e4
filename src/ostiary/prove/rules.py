"""`never`, `apart` and the embedded tests: proved of all that roles hold, with a request for each violation.

Two duties held at different hours count as held both: a day has both hours. Each answer rests on a concrete request;
who asks for too much at once is told what of the policy it was.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from ipaddress import ip_address
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from ostiary.erp.operation import Operation, Pattern, covering_scopes, operation_named
from ostiary.foundation.errors import OperatorFault
from ostiary.plan.decide import Decision, Facts, Reason, Records, closure, decide
from ostiary.plan.model import MFA, UNKNOWN, Always, Apart, Context, Formula, Grant, Never, Plan, Source, atoms
from ostiary.policy.model import Always as AlwaysMay
from ostiary.policy.model import Example, Expected, Policy
from ostiary.prove.situation import NEVER, Situation, TooMany, counterexample, either

Assigned = Mapping[str, frozenset[str]]  # principal or person -> roles
NOBODY: Final[Assigned] = {}
THE_RECORD: Final = "1"  # its id, of which a test says nothing
TWO_PERSONS: Final = "give them to two persons; {}or say in `controls` what is done instead"
BY_RECORD: Final = "or say `link` and `within`, so that only the same record is kept apart; "
PER_RECORD: Final = "nothing has to be done: the guard refuses the second duty to the same record"
FEWER: Final = "let fewer of them ask for hours, networks, countries and `within` together, or for the same ones"
NAMES_TOLD_MAX: Final = 10


class Among(Struct, frozen=True, kw_only=True):
    """These situations: where `outside` does not hold; `fixed` are the facts that must be as they are `near`."""

    outside: Formula = NEVER
    near: Situation = Situation()
    fixed: frozenset[str] = frozenset()


ANYWHERE: Final = Among()


class Request(Struct, frozen=True, kw_only=True):
    """A caller with just these roles, and a token that covers what is asked, is answered with `reason`."""

    roles: tuple[str, ...]
    operation: str
    at: datetime
    source: str
    country: str = UNKNOWN
    device: bool = False
    acr: str = ""
    age_s: int | None = None
    when: str  # time and address in words, as far as they matter
    reason: Reason = Reason.UNKNOWN_OPERATION

    def __str__(self) -> str:
        return f"{self.when}, {', '.join(self.roles)} doing {self.operation} is answered: {self.reason}"


class Finding(Struct, frozen=True, kw_only=True):
    """Something that must not be. `where` holds the policy's lines, `requests` pass and show it."""

    message: str
    hint: str = ""
    where: tuple[Source, ...] = ()
    requests: tuple[Request, ...] = ()

    def __str__(self) -> str:
        lines = dict.fromkeys(f"    because {source.cited}" for source in self.where)
        return "\n".join([self.message, *lines, f"    what to do: {self.hint}"])


Findings = tuple[Finding, ...]


def check(plan: Plan, assigned: Assigned = NOBODY, near: Situation | None = None, on: date = date.max) -> Findings:
    """Every violation of `never`, `always` and static `apart`, by a role alone or by a principal (`assigned`: id -> roles).

    `on`: the day whose controls count; without it, none.
    """
    never = (one for rule in plan.never for one in _never(plan, rule, near))
    always = (one for rule in plan.always for one in _always(plan, rule))
    return (*never, *always, *both(plan, assigned, near=near, on=on))


def changed(
    old: Plan, new: Plan, assigned: Assigned = NOBODY, near: Situation | None = None, on: date = date.max
) -> dict[str, Findings]:
    """Which statements' proof is another: those of `old` that `new` breaks, and those of `new` that `old` broke."""
    return {
        "no longer held": check(_held_to(new, old), assigned, near, on),
        "held only now": check(_held_to(old, new), assigned, near, on),
    }


def _held_to(plan: Plan, other: Plan) -> Plan:
    """The plan's grants under the other's statements, in whose contexts these speak, and of whose levels."""
    levels = {role.name: role.level for role in other.roles}
    roles = tuple(replace(role, level=levels.get(role.name, role.level)) for role in plan.roles)
    told = {"never": other.never, "always": other.always, "apart": other.apart, "contexts": other.contexts}
    return replace(plan, roles=roles, **told)


def broad(plan: Plan) -> Iterator[str]:
    """Grants wider than a business needs as a rule (standard B5): reported, not refused."""
    for grant in plan.grants:
        if grant.pattern.object == "*":
            yield f"{grant.source}: role {grant.role} may {grant.pattern.verb} every object of {grant.pattern.system}"


def controls(plan: Plan) -> Iterator[str]:
    """Who may do both duties of a rule all the same: reported, as long as the control lasts."""
    for name, one in dict.fromkeys((rule.name, one) for rule in plan.apart for one in rule.controls):
        told = f"{one.source}: {name!r} does not hold for role {', '.join(one.roles)} until {one.until}"
        yield f"{told}: {one.reason}; instead, {one.what} ({one.owner})"


def ended(plan: Plan, on: date) -> Iterator[Finding]:
    """Controls that counted before the day `on` alone: somebody decides anew before the policy is applied."""
    for one in dict.fromkeys(one for rule in plan.apart for one in rule.controls if one.until < on):
        told = f"the control of {one.source} ended on {one.until}"
        yield Finding(message=told, hint="remove it, or decide anew until when", where=(one.source,))


def failures(plan: Plan, policy: Policy) -> tuple[Finding, ...]:
    """The tests in the policy that do not hold; where they say nothing of the record, it meets all conditions."""
    met = replace(plan, grants=tuple(replace(grant, where=()) for grant in plan.grants))
    return tuple(found for test in policy.tests if (found := _failure(plan if test.record else met, test)))


def _meeting(
    plan: Plan, rule: Never | Apart, pattern: Pattern, near: Situation | None, beside: Formula = NEVER
) -> dict[str, list[tuple[Grant, Situation]]]:
    """By role: its own grants by which something in `pattern` may be done `beside` a context, each with where it may."""
    found: dict[str, list[tuple[Grant, Situation]]] = defaultdict(list)
    for grant in (grant for grant in plan.grants if grant.pattern.meets(pattern)):
        with proving(plan, f"{rule.source}: {rule.name!r}, where {grant.source} grants it to role {grant.role}"):
            there = counterexample(grant.context.formula, beside, near)
        if there:
            found[grant.role].append((grant, there))
    return found


def _never(plan: Plan, rule: Never, near: Situation | None) -> Iterator[Finding]:
    outside = _formula(plan, rule.context) if rule.context else NEVER
    meeting = [(pattern, _meeting(plan, rule, pattern, near, outside)) for pattern in rule.patterns]
    for role in plan.roles:
        if not rule.speaks_of(role.name, role.level):
            continue
        held = ((pattern, *one) for pattern, by_role in meeting for name in role.closure for one in by_role[name])
        for pattern, grant, there in {grant: (pattern, grant, there) for pattern, grant, there in held}.values():
            does = grant.pattern.both(pattern)
            yield Finding(
                message=f"never {rule.name!r}: {there}, role {role.name} may {does}",
                hint=f"take {grant.pattern} from role {grant.role}, or change the rule",
                where=(grant.source, rule.source),
                requests=known(request(plan, [role.name], does, there)),
            )


def _always(plan: Plan, rule: AlwaysMay) -> Iterator[Finding]:
    """A grant counts that covers all of the pattern, every field and record."""
    when = _formula(plan, rule.context) if rule.context else Always()
    whole = [grant for grant in plan.grants if not grant.fields and not grant.where]
    for role in (role for role in plan.roles if rule.speaks_of(role.name, role.level)):
        for pattern in rule.patterns:
            own = [one for one in whole if one.role in role.closure and pattern.within(one.pattern)]
            with proving(plan, f"{rule.source}: always {rule.name!r}"):
                there = counterexample(when, either(grant.context.formula for grant in own))
            if there or not own:
                yield Finding(
                    message=f"always {rule.name!r}: {there or 'in no context'}, role {role.name} may not {pattern}",
                    hint=f"give {pattern} to role {role.name} in every context, or change the rule",
                    where=(*(grant.source for grant in own), role.source, rule.source),
                )


def _formula(plan: Plan, context: str) -> Formula:
    return next(one.formula for one in plan.contexts if one.name == context)


def both(
    plan: Plan, assigned: Assigned, *, dynamic: bool = False, near: Situation | None = None, on: date = date.max
) -> Iterator[Finding]:
    """Who holds both duties of a rule, each in some situation, under no control: roles alone, and their holders."""
    roles = {f"role {role.name}": frozenset({role.name}) for role in plan.roles}
    holders = [(name, own, closure(plan, own)) for name, own in (*roles.items(), *sorted(assigned.items()))]
    inside = {system.name for system in plan.systems if system.guarded}
    for rule in (rule for rule in plan.apart if rule.dynamic is dynamic):
        first, then = (_meeting(plan, rule, side, near) for side in (rule.first, rule.then))
        for name, own, held in holders:
            if rule.controlled(own, on):
                continue
            one, other = sorted(held & first.keys()), sorted(held & then.keys())
            if one and other:
                sides = (rule.first, *first[one[0]][0]), (rule.then, *then[other[0]][0])
                told = f"apart {rule.name!r} ({rule.severity}): {name} holds both {rule.first} and {rule.then}"
                recorded = rule.first.system == rule.then.system and rule.first.system in inside
                ended = (one for one in rule.controls if one.until < on < date.max and not own.isdisjoint(one.roles))
                yield Finding(
                    message=told + "".join(f"; the control of {one.source} ended on {one.until}" for one in ended),
                    hint=PER_RECORD if rule.dynamic else TWO_PERSONS.format(BY_RECORD if recorded else ""),
                    where=(sides[0][1].source, sides[1][1].source, rule.source),
                    requests=known(*(request(plan, held, grant.pattern.both(side), at) for side, grant, at in sides)),
                )


def _failure(plan: Plan, test: Example) -> Finding | None:
    acr, device = MFA if test.assurance else "", test.device is not None
    there = Situation(test.when, ip_address(test.address), test.country, device, acr, test.signed_in)
    records, does = _record(test)
    described = any(one.name == does.system and not one.guarded for one in plan.systems)
    nothing = described and not plan.known.get(does.permission)  # as the gate has it: unknown means denied
    asked = asking(does.system, test.who, there, () if nothing else (does,))
    decision = decide(plan, replace(asked, records=records))
    expected = decision.reason is Reason.STEP_UP if test.expect is Expected.STEP_UP else not decision.allowed
    if decision.allowed if test.expect is Expected.ALLOW else expected:
        return None
    rule = f" by {decision.rule}" if decision.rule != "-" else ""
    got = f"{'allowed' if decision.allowed else f'refused ({decision.reason})'}{rule}"
    return Finding(
        message=f"test: {', '.join(test.who)} doing {test.does.permission} at {test.when.isoformat()} was {got}",
        hint="change the roles, or the test's `expect`",
        where=(test.source,),
    )


def _record(test: Example) -> tuple[Records, Operation]:
    """What the test says of the record, and what is done to it: the record holds that before and after."""
    if not test.record:
        return Records(), test.does
    name, sent = test.does.object, frozenset(one for one in test.record.items() if one[0] in test.does.fields_written)
    stored = frozenset((name, field) for field in test.record)
    does = replace(test.does, ids=(THE_RECORD,), sent=frozenset({sent} if sent else ()))
    return Records(stored=stored, held={(name, THE_RECORD): test.record}), does


# --- one concrete request: what an answer rests on, and how it is asked again


def request(
    plan: Plan, roles: Iterable[str], pattern: Pattern, there: Situation, *, unlike: Plan | None = None
) -> Request | None:
    """One of the pattern that is allowed, and not so by the plan `unlike`; None where none is known."""
    for asked in requests(plan, tuple(sorted(roles)), pattern, there):
        if asked.reason is Reason.ALLOWED and not (unlike and replay(unlike, asked).allowed):
            return asked
    return None


def known(*found: Request | None) -> tuple[Request, ...]:
    return tuple(one for one in found if one)


def requests(plan: Plan, roles: tuple[str, ...], pattern: Pattern, there: Situation) -> Iterator[Request]:
    """Those of the pattern, as the evaluator answers them; of what needs not be known beforehand, one more."""
    for operation in (*plan.known.get(str(pattern), ()), pattern.operation):
        asked = Request(
            roles=roles, operation=operation.permission, at=there.at, source=str(there.source), country=there.country,
            device=there.device, acr=there.acr, age_s=there.age_s, when=str(there),
        )  # fmt: skip
        yield replace(asked, reason=replay(plan, asked).reason)


def replay(plan: Plan, asked: Request) -> Decision:
    """What the evaluator says to it; what no URL of a described system is, is no operation there."""
    named = operation_named(asked.operation)
    described = {system.name for system in plan.systems if not system.guarded}
    does = () if named is None or (named.system in described and named not in plan.known[asked.operation]) else (named,)
    there = Situation(asked.at, ip_address(asked.source), asked.country, asked.device, asked.acr, asked.age_s)
    return decide(plan, asking(asked.operation.partition("/")[0], asked.roles, there, does))


def asking(system: str, roles: Iterable[str], there: Situation, does: tuple[Operation, ...]) -> Facts:
    """A caller with just these roles, and a token that covers all that he does."""
    scopes = frozenset(scope for one in does for scope in covering_scopes(one))
    return Facts(system=system, here=there, roles=frozenset(roles), scopes=scopes, operations=does)


# --- where a grant holds; and who asks for too much at once is told what of the policy it was


@contextmanager
def proving(plan: Plan, what: str) -> Iterator[None]:
    """Names what is proved, and the contexts that it turns on, where these are too many."""
    try:
        yield
    except TooMany as problem:
        asked = frozenset(atoms(problem.args[0]))
        named = [f"{one.name} ({one.source})" for one in plan.contexts if not asked.isdisjoint(atoms(one.formula))]
        told = f"{what}: this turns on too many contexts to prove, on {few(named)}"
        raise OperatorFault("contexts-too-many", told, hint=FEWER) from problem


def where(plan: Plan, grant: Grant, among: Among = ANYWHERE) -> Situation | None:
    """Where the grant holds; as `counterexample`."""
    with proving(plan, f"{grant.source}: role {grant.role} may {grant.pattern}"):
        return counterexample(grant.context.formula, among.outside, among.near, among.fixed)


def impossible(plan: Plan) -> Iterator[str]:
    """Each context that lines of `may` name, alone or with others, and that never holds, at the first such line."""
    first: dict[Context, Grant] = {}
    for grant in plan.grants:
        first.setdefault(grant.context, grant)
    for context, grant in first.items():
        if where(plan, grant) is None:
            told = f"nothing is granted when {context.name}: that is at no time and place"
            yield f"{grant.source}:{grant.source.column}: {told}"


def few(names: Sequence[str]) -> str:
    """The names, or the first of them and how many more there are."""
    more = len(names) - NAMES_TOLD_MAX
    return ", ".join(names[:NAMES_TOLD_MAX]) + (f" and {more} more" if more > 0 else "")
