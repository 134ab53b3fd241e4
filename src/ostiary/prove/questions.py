"""The questions that are asked of a policy: who can do it, what can he do, which lines do nothing; why a recorded decision
fell as it did, in the policy's own lines; and what a draft would decide otherwise.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from ostiary.erp.operation import Operation, Verb, covering_scopes, operation_named
from ostiary.foundation.data import beside
from ostiary.plan import model as kind
from ostiary.plan.decide import STEPS, UNCLEAR, Facts, Reason, Recorded, admit, closure, decide, limit_of, narrowed
from ostiary.plan.model import Formula, Grant, Limit, Plan, Source, atoms, every, holds, joined
from ostiary.prove.changes import covering
from ostiary.prove.rules import ANYWHERE, Among, Finding, Request, both, few, known, request, requests, where
from ostiary.prove.situation import DAYS, Situation, duration, either, looks_at

Uses = Mapping[tuple[str, frozenset[str]], int]  # permission and roles assigned -> how often it was allowed
KEEP: Final = "take it away, unless it is for what is rare: the end of a quarter, of a year"
SUGGESTIONS_MAX = 5
MACHINE: Final = "client:"  # how a caller is called that acts for itself
A_SCOPE: Final = "a token with a scope that covers {}"
NEVER_A_MACHINE: Final = ": a machine signs nobody in, so by this line it never can; a person who holds the role does"
_TOLD: Final = beside(__file__)
ELSEWHERE: Final = {name: one["passes"] for one in _TOLD["elsewhere"] for name in one["reasons"]}
CHANGES_MAX: Final = 10_000  # told one by one; of more only the number
# What a plan and the facts decide; whatever else refused a request, refuses it still.
BY_POLICY: Final = frozenset({Reason.STEP_UP, *STEPS})
UNKEPT: Final = (kind.Countries, kind.Device, kind.Mfa, kind.Recent)


class Way(Struct, frozen=True, kw_only=True):
    """`role` may do it by the grant `rule`, its own or one of a role that it includes, while `context` holds."""

    role: str
    rule: str
    permission: str
    context: str
    words: str  # the context, and of which fields and records, as people say it
    where: Source
    request: Request | None  # None where only the ERP knows which records pass


def who_can(plan: Plan, operation: Operation, among: Among = ANYWHERE) -> Iterator[Way]:
    """Every role by which the operation, or one of what it holds (a verb's actions, `sale.*`), is allowed, and every line."""
    near, by_role = _about(plan, operation), defaultdict(list)
    for grant in near.grants:
        if grant.pattern.meets(operation.pattern):
            by_role[grant.role].append(grant)
    for role in plan.roles:
        granted = (grant for name in role.closure for grant in by_role.get(name, ()))
        yield from _ways(near, role.name, granted, among, operation)


def _about(plan: Plan, operation: Operation) -> Plan:
    """As far as the plan speaks of the operation's object: found in one pass, where one question is worth no index."""
    names = {scope.partition("/")[2].rpartition(":")[0] for scope in covering_scopes(operation)}
    inside = operation.pattern.holds_object  # more than one, of a family
    grants = [grant for grant in plan.grants if grant.pattern.object in names or inside(grant.pattern.object)]
    routes = [route for route in plan.routes if inside(route.object)]
    return replace(plan, grants=tuple(grants), routes=tuple(routes))


def what_can(plan: Plan, roles: Iterable[str], among: Among = ANYWHERE, beyond: str = "") -> Iterator[Way]:
    """All that these roles allow; only what the role `beyond` does not."""
    for role in roles:
        for grant in (grant for grant in plan.grants if grant.role in plan.closures[role]):
            covered = [one.context.formula for one in covering(plan, beyond, grant)]
            yield from _ways(plan, role, [grant], replace(among, outside=either((among.outside, *covered))))


def _ways(
    plan: Plan, role: str, granted: Iterable[Grant], among: Among, operation: Operation | None = None
) -> Iterator[Way]:
    for grant in granted:
        there = where(plan, grant, among)
        if there:
            pattern = grant.pattern.both(operation.pattern) if operation else grant.pattern
            yield Way(
                role=role,
                rule=grant.id,
                permission=str(grant.pattern),
                context=grant.context.name,
                words=words(grant.context.formula) + (f", for {grant.terms}" if grant.terms else ""),
                where=grant.source,
                request=request(plan, [role], pattern, there),
            )


def idle(plan: Plan, near: Situation = ANYWHERE.near) -> Iterator[Finding]:
    """Lines that change nothing: all that are told could be taken away together, and nobody could do less."""
    gone: set[str] = set()
    described = {system.name for system in plan.systems if not system.guarded}
    for grant in reversed(plan.grants):
        others = [one for one in covering(plan, grant.role, grant) if one.id not in gone | {grant.id}]
        there = where(plan, grant, Among(near=near))
        if there is None:
            why = f"never does: {grant.context.name} holds at no time and place"
        elif grant.pattern.system in described and not plan.known[str(grant.pattern)]:
            why = f"may do nothing there: {grant.pattern.system} has no such operation"
        elif where(plan, grant, Among(outside=either(one.context.formula for one in others))) is None:
            why = f"may do so anyhow, by {', '.join(str(one.source) for one in others)}"
        else:
            continue
        gone.add(grant.id)
        yield Finding(
            message=f"role {grant.role} may {grant.pattern}, and {why}",
            hint="take the line away, or mend it",
            where=(grant.source, *(one.source for one in others)),
            requests=known(next(requests(plan, (grant.role,), grant.pattern, there or near))),
        )


def unused(
    plan: Plan, uses: Uses, days: int, near: Situation = ANYWHERE.near, before: Plan | None = None
) -> Iterator[Finding]:
    """Grants of more than was done in these days; what was done is the least privilege that it needed.

    Of those alone that are in the plan `before` as well: nobody could have used what is new.
    """
    old = {(one.role, one.pattern) for one in (before or plan).grants}
    done: dict[str, Counter[str]] = defaultdict(Counter)
    for (permission, roles), count in uses.items():
        if operation := operation_named(permission):
            for grant in plan.granting(covering_scopes(operation), closure(plan, roles)):
                done[grant.id][permission] += count
    for grant in plan.grants:
        used = sorted(done[grant.id])
        there = where(plan, grant, Among(near=near))
        if there and used != [str(grant.pattern)] and (grant.role, grant.pattern) in old:
            yield Finding(
                message=f"role {grant.role} may {grant.pattern}; in {days} days it "
                + (f"did only {few(used)}" if used else "did nothing of it"),
                hint=f"grant just what was done: {few(used)}" if used else KEEP,
                where=(grant.source,),
                requests=known(request(plan, [grant.role], grant.pattern, there)),
            )


# --- why it was decided so


class Explanation(Struct, frozen=True, kw_only=True):
    """`lines`: the policy's lines that decided, `file:line: text`; `would_allow`: any one of these would have."""

    reason: str
    sentence: str
    lines: tuple[str, ...] = ()
    would_allow: tuple[str, ...] = ()


class Asked(Struct, frozen=True, kw_only=True):
    """What is known of a request, and how it was decided. `did` is None where it was not understood.

    `whole`: the facts name all that it was about. `besides`: the roles that the same person holds as somebody else.
    `inside`: the guard refused it: what is too large there is no body that the policy bounds.
    """

    reason: Reason
    rule: str
    did: Operation | None
    facts: Facts
    whole: bool = True
    subject: str = ""  # `client:shop`
    besides: frozenset[str] = frozenset()
    inside: bool = False


def explain(plan: Plan, asked: Asked, now: Plan | None = None) -> Explanation:
    """The decision in words, by the plan that was in force then; what to do about a role, by the one that is `now`."""
    reason, did = asked.reason, asked.did.permission if asked.did else "this request"
    why = "allowed" if reason is Reason.ALLOWED else f"refused: {_why(plan, asked)}"
    would = [ELSEWHERE[reason]] if reason in ELSEWHERE else []
    if reason in BY_POLICY and reason is not Reason.ALLOWED:
        would = list(_would_allow(now if now and reason is Reason.ROLE else plan, asked))
    lines = tuple(source.cited for source in _deciding(plan, asked) if source)
    return Explanation(reason=str(reason), sentence=f"{did} was {why}", lines=lines, would_allow=tuple(would))


def _why(plan: Plan, asked: Asked) -> str:
    roles, words = asked.facts.roles, asked.reason.words
    match asked.reason:
        case Reason.ROLE:
            names = ", ".join(sorted(roles))
            held = f"no role of the caller ({names}) grants it" if roles else "the caller holds no role"
            return held + ("; no role of the policy grants it" if asked.did and not _meant(plan, asked) else "")
        case Reason.TOO_LARGE if not asked.inside:
            return f"{words}; by limits, body: {plan.limits.body}"
        case Reason.RATE_LIMITED:
            return f"{words}, by limits: {_limit(plan, asked).name}: {_limit(plan, asked)}"
    return words.lower() if asked.reason in BY_POLICY else words


def _limit(plan: Plan, asked: Asked) -> Limit:
    """Whoever is known has one of his own; all others of an address share one."""
    return limit_of(plan, asked.facts.roles) if asked.subject else plan.limits.anonymous


def _deciding(plan: Plan, asked: Asked) -> Iterator[Source | None]:
    """The lines of the limit, or of the caller's roles, or of the rule, by its id; None where no line says it."""
    match asked.reason:
        case Reason.RATE_LIMITED:
            yield _limit(plan, asked).source
        case Reason.TOO_LARGE if not asked.inside:
            yield plan.limits.source
        case Reason.ROLE:
            held = closure(plan, asked.facts.roles)
            yield from (role.source for role in plan.roles if role.name in held)
        case reason if reason in BY_POLICY or reason is Reason.APART:
            yield from (rule.source for rule in plan.apart if rule.id == asked.rule)
            yield from (system.source for system in plan.systems if asked.rule == kind.OBSERVE and system.observe_until)
            for grant in (grant for grant in plan.grants if grant.id == asked.rule):
                yield grant.source
                names = grant.context.names if reason in {Reason.CONTEXT, Reason.STEP_UP} else ()
                yield from (context.source for context in plan.contexts if context.name in names)


# --- what would have allowed it: by each line of the policy that is about it, all that it asks for and that was not so


def _would_allow(plan: Plan, asked: Asked) -> Iterator[str]:
    """The fewest steps first, and none that takes more than another needs; where a role is lacking, how one is given."""
    by_steps = {tuple(_lacking(plan, asked, grant)): grant for grant in _meant(plan, asked) or _unwritten(asked)}
    best = sorted(by_steps, key=len)[:SUGGESTIONS_MAX]
    least = [steps for steps in best if not any(set(other) < set(steps) for other in best)]
    barred = {steps: _barred(plan, asked, by_steps[steps]) for steps in least}
    yield from (", and ".join(steps) + barred[steps] for steps in least)
    fit = [by_steps[steps].role for steps in least if not barred[steps]]
    if asked.reason is Reason.ROLE and asked.subject and (fit or not least):
        kind, _, name = asked.subject.partition(":")
        roles = dict.fromkeys([*sorted(asked.facts.roles & plan.closures.keys()), "".join(fit[:1]) or "ROLE"])
        yield f"the role is given by `ostiary {kind} roles {name} {' '.join(roles)}`"


def _meant(plan: Plan, asked: Asked) -> list[Grant]:
    """The caller's own grants of it, else everybody's; of an operation that was not looked at, his own of the system."""
    held, did, system = closure(plan, asked.facts.roles), asked.did, asked.facts.system
    about = [one for one in plan.grants if (one.pattern.holds(did) if did else one.pattern.system == system)]
    return [one for one in about if one.role in held] or (about if did else [])


def _unwritten(asked: Asked) -> Iterator[Grant]:
    """The line that no role has yet, as one of no role."""
    if (did := asked.did) and asked.reason is Reason.ROLE:
        action = f" {did.action}" if did.verb is Verb.EXECUTE and did.action else ""
        text = f'a new line in the `may` of a role: "{did.system}/{did.object}: {did.verb}{action}"'
        yield Grant(id="", role="", pattern=did.pattern, context=joined(()), source=Source(file="", line=0, text=text))


def _lacking(plan: Plan, asked: Asked, grant: Grant) -> Iterator[str]:
    """In the order in which it is looked at; of fields and records no more is known than what the grant says of them."""
    if asked.reason is Reason.ROLE:
        yield f"role {grant.role}, by {grant.source.cited}" if grant.role else grant.source.text
    if (when := _unmet(grant, asked.facts.here)) != kind.Always():
        yield f"the same request {words(when)} ({grant.context.name}, {grant.source})"
    if asked.did is None:
        yield "a line that grants what was asked"
        return
    if asked.facts.scopes.isdisjoint(covering_scopes(asked.did)):
        yield A_SCOPE.format(asked.did.permission)
    if grant.terms:
        yield f"a request within {grant.terms}{', by id' if grant.where else ''}: {grant.id}, {grant.source.cited}"
    elif asked.reason is Reason.FIELD and when == kind.Always():
        yield f"a line that names in `fields` what is written, as {grant.id}, {grant.source}, does not"
    rest = [one.permission for one in asked.facts.operations if not _passes(plan, asked, one, grant)]
    if rest or not asked.whole:
        yield f"what allows the rest of the call: {few(rest) or 'not all of it was read'}"


def _unmet(grant: Grant, here: kind.Circumstances) -> Formula:
    """What of its context does not hold: all of it, where the part that does looks at the same and might not hold then."""
    formula = grant.context.formula
    parts = formula.parts if isinstance(formula, kind.All) else (formula,)
    failing, holding = (every(one for one in parts if holds(one, here) is so) for so in (False, True))
    return failing if looks_at(failing).isdisjoint(looks_at(holding)) else formula


def _passes(plan: Plan, asked: Asked, one: Operation, grant: Grant) -> bool:
    """Whether an operation of the same call is surely granted once this grant's is, by what has to change for that."""
    facts, changed, covering = asked.facts, looks_at(_unmet(grant, asked.facts.here)), covering_scopes(one)
    whole = [other for other in plan.granting(covering, closure(plan, facts.roles | {grant.role})) if not other.terms]
    formulas = {other.context.formula for other in whole if not facts.scopes.isdisjoint(covering)}
    kept = (holds(one, facts.here) and changed.isdisjoint(looks_at(one)) for one in formulas)
    return one == asked.did or grant.context.formula in formulas or any(kept)


def _barred(plan: Plan, asked: Asked, grant: Grant) -> str:
    """Why it is no way for whoever asked; "" where nothing stands against it."""
    if asked.subject.startswith(MACHINE) and signs_in(_unmet(grant, asked.facts.here)):
        return NEVER_A_MACHINE
    if asked.subject and asked.reason is Reason.ROLE:
        held = (asked.facts.roles & plan.closures.keys()) | asked.besides | {grant.role}
        for found in both(narrowed(plan, held), {asked.subject: held}, on=asked.facts.here.at.date()):
            return f"; another person may hold it, for {found.message}"
    return ""


def signs_in(formula: Formula) -> bool:
    """Whether it can hold for nobody but a person who signed in: a client that acts for itself never does."""
    if isinstance(formula, kind.All | kind.AnyOf):
        return (any if isinstance(formula, kind.All) else all)(map(signs_in, formula.parts))
    return isinstance(formula, kind.Mfa | kind.Recent)


def words(formula: Formula) -> str:  # noqa: PLR0911  a case for each kind of condition
    """A condition as people say it."""
    match formula:
        case kind.Hours():
            but = f", but for {', '.join(formula.holidays)}" if formula.holidays else ""
            return f"{_hours(formula)}{but}"
        case kind.Networks():
            return f"from {' or '.join(formula.networks)}"
        case kind.Countries():
            return f"from {' or '.join(code or 'an unknown country' for code in formula.countries)}"
        case kind.Device():
            return "from a registered device"
        case kind.Mfa():
            return "after a sign-in with more than one factor"
        case kind.Recent():
            return f"within {duration(formula.seconds)} of the sign-in"
        case kind.All() | kind.AnyOf():
            return (" and " if isinstance(formula, kind.All) else " or ").join(map(_grouped, formula.parts))
        case kind.Not():
            return f"not {_grouped(formula.part)}"
    return "at any time"


def _grouped(part: Formula) -> str:
    """In brackets, where it is of several parts: `a or b and c` can be heard in two ways."""
    several = isinstance(part, kind.All | kind.AnyOf) and len(part.parts) > 1
    return f"({words(part)})" if several else words(part)


def _hours(formula: kind.Hours) -> str:
    """Days and hours, each where it says something."""
    whole, daily = (formula.start, formula.end) == (0, kind.MINUTES_A_DAY), len(formula.days) == len(DAYS)
    if whole and daily:
        return "at any time"
    days = "every day" if daily else f"on {', '.join(DAYS[day] for day in formula.days)}"
    hours = "all day" if whole else f"from {clock(formula.start)} to {clock(formula.end)}"
    return f"{days} {hours} {formula.zone}"


def clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


# --- against a draft: what it would decide otherwise, for whom, and how often that happened


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
        if kind in self._kinds or len(self._kinds) < CHANGES_MAX:
            self._kinds.setdefault(kind, Otherwise(*kind, decision=decision, last=at)).times += 1
        else:
            self.done.more += 1

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
    return replace(bare, context=replace(grant.context, formula=kind.Always())) if _open(bare) else bare


def _granted(plan: Plan, facts: Facts) -> list[tuple[object, ...]]:
    """All that the plan grants of these operations to these roles, whatever its lines are called."""
    held = closure(plan, facts.roles)
    grants = [one for did in facts.operations for one in plan.granting(covering_scopes(did), held)]
    if not facts.operations:
        grants = [one for one in plan.grants if one.role in held and one.pattern.system == facts.system]
    return [(one.pattern, one.context.formula, one.fields, one.where) for one in grants]
