"""Recorded decisions: why each fell as it did, in the policy's own lines; and what a draft would decide otherwise."""

import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import date, datetime
from importlib import resources
from itertools import islice
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from ostiary.erp.operation import Operation, Verb, covering_scopes
from ostiary.plan import model as kind
from ostiary.plan.decide import STEPS, UNCLEAR, Facts, Reason, Recorded, admit, closure, decide, limit_of, narrowed
from ostiary.plan.model import MINUTES_A_DAY, OBSERVE, Formula, Grant, Limit, Plan, Source, atoms, every, holds
from ostiary.prove.rules import both
from ostiary.prove.situation import DAYS, duration

SUGGESTIONS_MAX = 5
MACHINE: Final = "client:"  # how a caller is called that acts for itself
NEVER_A_MACHINE: Final = ": a machine signs nobody in, so by this line it never can; a person who holds the role does"
_TOLD: Final = tomllib.loads((resources.files("ostiary.prove") / "decisions.toml").read_text("utf-8"))
ELSEWHERE: Final = {name: one["passes"] for one in _TOLD["elsewhere"] for name in one["reasons"]}
CHANGES_MAX: Final = 10_000  # told one by one; of more only the number
# What a plan and the facts decide; whatever else refused a request, refuses it still.
BY_POLICY: Final = frozenset({Reason.STEP_UP, *STEPS})
UNKEPT: Final = (kind.Countries, kind.Device, kind.Mfa, kind.Recent)


class Explanation(Struct, frozen=True, kw_only=True):
    """`lines`: the policy's lines that decided, `file:line: text`; `would_allow`: any one of these would have."""

    reason: str
    sentence: str
    lines: tuple[str, ...] = ()
    would_allow: tuple[str, ...] = ()


class Asked(Struct, frozen=True, kw_only=True):
    """What is known of the request. `operation` None where it was not understood; `here` None where it had no address. `subject`: `client:shop`."""

    reason: Reason
    rule: str
    operation: Operation | None
    roles: frozenset[str]
    here: kind.Circumstances | None
    subject: str = ""
    besides: frozenset[str] = frozenset()  # what the same person holds as somebody else
    inside: bool = False  # the guard refused it: what is too large there is no body that the policy bounds


def explain(plan: Plan, asked: Asked, now: Plan | None = None) -> Explanation:
    """The decision in words, by the plan that was in force then; what to do about a role, by the one that is `now`."""
    did = asked.operation.permission if asked.operation else "this request"
    why, would = _why(plan, asked, did, now or plan)
    sentence = f"{did} was refused: {why}" if why else f"{did} was allowed"
    lines = tuple(source.cited for source in _deciding(plan, asked) if source)
    return Explanation(reason=str(asked.reason), sentence=sentence, lines=lines, would_allow=tuple(would))


def _why(plan: Plan, asked: Asked, did: str, now: Plan) -> tuple[str, Iterable[str]]:
    """Why it was refused, and what would have allowed it."""
    match asked.reason:
        case Reason.ALLOWED:
            return "", ()
        case Reason.ROLE:
            held = f"no role of the caller ({', '.join(sorted(asked.roles))}) grants it"
            nobody = "" if not asked.operation or _grants_of(plan, asked) else "; no role of the policy grants it"
            return (held if asked.roles else "the caller holds no role") + nobody, _granting(now, asked)
        case Reason.CONTEXT | Reason.STEP_UP | Reason.FIELD | Reason.RECORD:
            missing = _within if asked.reason in {Reason.FIELD, Reason.RECORD} else _missing
            return asked.reason.words.lower(), missing(plan, asked)
        case Reason.SCOPE:
            scope = f"a token with a scope that covers {did}"
            return "the caller's roles grant it, the token's scope does not", (scope,)
        case Reason.APART:
            other = "the same request by another person, who did not do the first duty to this record"
            return "duties kept apart", (other,)
    return asked.reason.words + _by_limit(plan, asked), (ELSEWHERE[asked.reason],)


def _by_limit(plan: Plan, asked: Asked) -> str:
    """Which of the limits it was; "" where it was none."""
    if asked.reason is Reason.TOO_LARGE and not asked.inside:
        return f"; by limits, body: {plan.limits.body}"
    limit = _limit(plan, asked)
    return f", by limits: {limit.name}: {limit}" if asked.reason is Reason.RATE_LIMITED else ""


def _limit(plan: Plan, asked: Asked) -> Limit:
    """Whoever is known has one of his own; all others of an address share one."""
    return limit_of(plan, asked.roles) if asked.subject else plan.limits.anonymous


def _deciding(plan: Plan, asked: Asked) -> Iterator[Source | None]:
    """The lines of the limit, or of the caller's roles, or of the rule, by its id; None where no line says it."""
    match asked.reason:
        case Reason.RATE_LIMITED:
            yield _limit(plan, asked).source
        case Reason.TOO_LARGE if not asked.inside:
            yield plan.limits.source
        case Reason.ROLE:
            held = closure(plan, asked.roles)
            yield from (role.source for role in plan.roles if role.name in held)
        case reason if reason not in ELSEWHERE:
            yield from (rule.source for rule in plan.apart if rule.id == asked.rule)
            yield from (system.source for system in plan.systems if asked.rule == OBSERVE and system.observe_until)
            for grant in (grant for grant in plan.grants if grant.id == asked.rule):
                yield grant.source
                names = grant.context.names if reason in {Reason.CONTEXT, Reason.STEP_UP} else ()
                yield from (context.source for context in plan.contexts if context.name in names)


def _granting(plan: Plan, asked: Asked) -> Iterator[str]:
    """The roles that would have granted it, or the line that no role has yet; and how one is given."""
    operation, granting = asked.operation, _grants_of(plan, asked)
    apart = {grant.role: _kept_apart(plan, asked, grant.role) for grant in granting[:SUGGESTIONS_MAX]}
    for grant in granting[:SUGGESTIONS_MAX]:
        yield f"role {grant.role}, by {grant.source.cited}{apart[grant.role]}"
    if operation and not granting:
        action = f" {operation.action}" if operation.verb is Verb.EXECUTE and operation.action else ""
        line = f'"{operation.system}/{operation.object}: {operation.verb}{action}"'
        yield f"a new line in the `may` of a role: {line}"
    fit = [role for role in apart if not apart[role]]
    if asked.subject and (fit or not apart):
        kind, _, name = asked.subject.partition(":")
        held = sorted(asked.roles & plan.closures.keys())
        roles = " ".join([*held, *(fit or ["ROLE"])[:1]])
        yield f"the role is given by `ostiary {kind} roles {name} {roles}`"


def _kept_apart(plan: Plan, asked: Asked, role: str) -> str:
    """That whoever asked would not be given it, and by which rule; "" where nothing stands against it."""
    held = (asked.roles & plan.closures.keys()) | asked.besides | {role}
    day = asked.here.at.date() if asked.here else date.max
    found = next(both(narrowed(plan, held), {asked.subject: held}, on=day), None) if asked.subject else None
    return f"; another person may hold it, for {found.message}" if found else ""


def _grants_of(plan: Plan, asked: Asked) -> list[Grant]:
    return [grant for grant in plan.grants if asked.operation and grant.pattern.holds(asked.operation)]


def _within(plan: Plan, asked: Asked) -> Iterator[str]:
    """What each of the caller's own grants covers, told where it stands."""
    for grant in islice(_blocked(plan, asked), SUGGESTIONS_MAX):
        terms = f"{grant.terms}, by id" if grant.where else grant.terms or "all of the object"
        yield f"a request within {terms}: {grant.id}, {grant.source.cited}"


def _missing(plan: Plan, asked: Asked) -> Iterator[str]:
    """What of each grant's context did not hold; every line once."""
    told: dict[str, None] = {}
    for grant in _blocked(plan, asked):
        lacking = every(_failing(grant, asked))
        never = NEVER_A_MACHINE if asked.subject.startswith(MACHINE) and signs_in(lacking) else ""
        told[f"the same request {words(lacking)} ({grant.context.name}, {grant.source}){never}"] = None
    yield from list(told)[:SUGGESTIONS_MAX]


def _blocked(plan: Plan, asked: Asked) -> Iterator[Grant]:
    """The caller's own grants of it; of an operation that was not looked at, those of the system."""
    held = closure(plan, asked.roles)
    systems = {grant.pattern.system for grant in plan.grants if grant.id == asked.rule}
    for grant in plan.grants:
        meant = grant.pattern.holds(asked.operation) if asked.operation else grant.pattern.system in systems
        if meant and grant.role in held:
            yield grant


def _failing(grant: Grant, asked: Asked) -> Iterator[Formula]:
    formula = grant.context.formula
    for part in formula.parts if isinstance(formula, kind.All) else (formula,):
        if asked.here is None or not holds(part, asked.here):
            yield part


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
    whole, daily = (formula.start, formula.end) == (0, MINUTES_A_DAY), len(formula.days) == len(DAYS)
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
    return replace(bare, context=replace(grant.context, formula=kind.Always())) if _open(bare) else bare


def _granted(plan: Plan, facts: Facts) -> list[tuple[object, ...]]:
    """All that the plan grants of these operations to these roles, whatever its lines are called."""
    held = closure(plan, facts.roles)
    grants = [one for did in facts.operations for one in plan.granting(covering_scopes(did), held)]
    if not facts.operations:
        grants = [one for one in plan.grants if one.role in held and one.pattern.system == facts.system]
    return [(one.pattern, one.context.formula, one.fields, one.where) for one in grants]
