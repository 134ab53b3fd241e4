"""Why a request was decided as it was, in the policy's own lines, and what would have allowed it."""

from collections.abc import Iterator
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address

from msgspec import Struct

from ostiary.erp.operation import Operation, Verb
from ostiary.plan.decide import closure
from ostiary.plan.formula import All, AnyOf, Formula, Hours, Networks, Not, holds
from ostiary.plan.model import Grant, Plan
from ostiary.plan.reason import TITLE, Reason
from ostiary.prove.example import DAYS

SUGGESTIONS_MAX = 5


class Explanation(Struct, frozen=True, kw_only=True):
    """`lines`: the policy's lines that decided, `file:line: text`; `would_allow`: any one of these would have."""

    reason: str
    sentence: str
    lines: tuple[str, ...] = ()
    would_allow: tuple[str, ...] = ()


class Asked(Struct, frozen=True, kw_only=True):
    """What is known of the request. `operation` None where it was not understood; `subject`: `client:shop`."""

    reason: Reason
    rule: str
    operation: Operation | None
    roles: frozenset[str]
    at: datetime
    source: IPv4Address | IPv6Address | None
    subject: str = ""


def explain(plan: Plan, asked: Asked) -> Explanation:
    """The decision in words; the plan is the one that was in force then."""
    did = asked.operation.permission if asked.operation else "this request"
    match asked.reason:
        case Reason.ALLOWED:
            return _told(asked, f"{did} was allowed", _rule_lines(plan, asked.rule))
        case Reason.ROLE:
            held = f"no role of the caller ({', '.join(sorted(asked.roles))}) grants it"
            sentence = f"{did} was refused: {held if asked.roles else 'the caller holds no role'}"
            return _told(asked, sentence, _role_lines(plan, asked.roles), tuple(_granting(plan, asked)))
        case Reason.CONTEXT:
            return _told(
                asked,
                f"{did} was refused: granted, but not at this time or from this place",
                _rule_lines(plan, asked.rule),
                tuple(_missing(plan, asked)),
            )
        case Reason.SCOPE:
            scope = f"a token with a scope that covers {did}"
            sentence = f"{did} was refused: the caller's roles grant it, the token's scope does not"
            return _told(asked, sentence, _rule_lines(plan, asked.rule), (scope,))
        case Reason.APART:
            return _told(
                asked,
                f"{did} was refused: duties kept apart",
                _rule_lines(plan, asked.rule),
                ("the same request by another person, who did not do the first duty to this record",),
            )
    return _told(asked, f"{did} was refused: {TITLE[asked.reason]}", (), _elsewhere(asked.reason))


def _told(asked: Asked, sentence: str, lines: tuple[str, ...], would: tuple[str, ...] = ()) -> Explanation:
    return Explanation(reason=str(asked.reason), sentence=sentence, lines=lines, would_allow=would)


def _rule_lines(plan: Plan, rule: str) -> tuple[str, ...]:
    """The lines of a grant or an apart rule, by id."""
    sources = [grant.source for grant in plan.grants if grant.id == rule]
    sources += [apart.source for apart in plan.apart if apart.id == rule]
    return tuple(f"{source}: {source.text}" for source in sources)


def _role_lines(plan: Plan, roles: frozenset[str]) -> tuple[str, ...]:
    held = closure(plan, roles)
    return tuple(f"{role.source}: {role.source.text}" for role in plan.roles if role.name in held)


def _granting(plan: Plan, asked: Asked) -> Iterator[str]:
    """The roles that would have granted it, or the line that no role has yet; and how one is given."""
    operation = asked.operation
    granting = [grant for grant in plan.grants if operation and grant.pattern.holds(operation)]
    for grant in granting[:SUGGESTIONS_MAX]:
        yield f"role {grant.role}, by {grant.source}: {grant.source.text}"
    if operation and not granting:
        action = f" {operation.action}" if operation.verb is Verb.EXECUTE and operation.action else ""
        line = f'"{operation.system}/{operation.object}: {operation.verb}{action}"'
        yield f"a role with {line} in its `may`; no role has it now"
    if asked.subject:
        kind, _, name = asked.subject.partition(":")
        roles = " ".join([*sorted(asked.roles), granting[0].role if granting else "ROLE"])
        yield f"the role is given by `ostiary {kind} roles {name} {roles}`"


def _missing(plan: Plan, asked: Asked) -> Iterator[str]:
    """What of each grant's context did not hold; every line once."""
    told: dict[str, None] = {}
    for grant in _blocked(plan, asked):
        parts = " and ".join(words(part) for part in _failing(grant, asked))
        told[f"the same request {parts} ({grant.context.name}, {grant.source})"] = None
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
    for part in formula.parts if isinstance(formula, All) else (formula,):
        if asked.source is None or not holds(part, at=asked.at, source=asked.source):
            yield part


def words(formula: Formula) -> str:
    """A condition as people say it."""
    match formula:
        case Hours():
            days = ", ".join(DAYS[day] for day in formula.days)
            return f"on {days} from {_clock(formula.start)} to {_clock(formula.end)} {formula.zone}"
        case Networks():
            return f"from {' or '.join(formula.networks)}"
        case All():
            return " and ".join(words(part) for part in formula.parts)
        case AnyOf():
            return " or ".join(words(part) for part in formula.parts)
        case Not():
            return f"not {words(formula.part)}"
    return "at any time"


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def _elsewhere(reason: Reason) -> tuple[str, ...]:
    """Refusals that no line of the policy decides."""
    match reason:
        case Reason.TOKEN_MISSING | Reason.TOKEN_INVALID | Reason.TOKEN_REVOKED:
            return ("a new access token for this system, from /identity/token",)
        case Reason.ADDRESS_BLOCKED:
            return ("another address, or the end of the measure: `ostiary measure list`",)
        case Reason.RATE_LIMITED:
            return ("waiting as long as Retry-After says",)
        case Reason.UNKNOWN_OPERATION:
            return ("an operation that the system's adapter knows: unknown means denied",)
        case Reason.CLOSED | Reason.UNAVAILABLE:
            return ("a gate in order: `ostiary status`, `ostiary doctor`",)
    return ("another request: what it sent can't be passed on",)
