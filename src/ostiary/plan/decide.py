"""The one evaluator in Python: what the gate decides natively and the guard inside, in one order; and the words for why, one
list for the gate, the guard, the evaluator, the events and the answers to callers.

Order (the contract of gate and evaluator): address, token, revocation, lease, operation, role, context, scope, field,
record, step-up. The gate goes as far as the scope; what has fields or records to look at, it asks the guard about.
What lies beyond a grant of fewer fields or records is refused, and what is not established lies beyond it.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from enum import Enum, StrEnum
from functools import cached_property
from operator import ge, gt, le, lt
from typing import Any, Final, NamedTuple, Self

from msgspec import Struct
from msgspec.structs import replace

from ostiary.erp.operation import OWN, Condition, Operation, Pattern, Verb, covering_scopes
from ostiary.plan.model import MFA, Circumstances, Formula, Grant, Limit, Mfa, Plan, Recent, atoms, holds

HEADER: Final = "ostiary-reason"  # of an answer, by which the gate notes it
UNCLEAR: Final = "unclear"  # what a draft would say, where that turns on what is not kept, or was not asked
NO_ACCOUNT: Final = "no ERP user is mapped to"  # of a refusal by the guard
BEARER: Final = 'Bearer realm="ostiary"'
UNBOUND: Final = 'DPoP realm="ostiary", error="invalid_dpop_proof", algs="ES256 EdDSA Ed25519 PS256"'
NONCE_ASKED: Final = UNBOUND.replace("invalid_dpop_proof", "use_dpop_nonce")  # RFC 9449 section 9
SIGN_IN_ANEW: Final = f'{BEARER}, error="insufficient_user_authentication"'


class Reason(StrEnum):
    """In the order in which they are checked; each with its answer's status, in what words, and by what challenge.

    The challenge is a `WWW-Authenticate` (RFC 6750 section 3), without an error code where no token was shown.
    """

    status: int
    words: str
    challenge: str

    def __new__(cls, name: str, status: int, words: str, challenge: str = "") -> Self:
        one = str.__new__(cls, name)
        one._value_, one.status, one.words, one.challenge = name, status, words, challenge
        return one

    ALLOWED = "allowed", 200, "Allowed"
    ADDRESS_BLOCKED = "address-blocked", 403, "This address is blocked for a time"
    RATE_LIMITED = "rate-limited", 429, "Too many requests"
    TOKEN_MISSING = "token-missing", 401, "An access token is needed", BEARER
    TOKEN_INVALID = "token-invalid", 401, "The access token is not valid here", f'{BEARER}, error="invalid_token"'
    TOKEN_REVOKED = "token-revoked", 401, "The access token was revoked", f'{BEARER}, error="invalid_token"'
    TOKEN_UNBOUND = "token-unbound", 401, "The caller does not show that it holds the key of the token", UNBOUND
    # Said by the identity server, and by the gate for it where an API key is shown.
    CREDENTIAL_INVALID = (
        "credential-invalid",
        401,
        "The password, client secret, API key, code or refresh token is wrong",
    )
    CLOSED = "closed", 503, "The gate is closed: its control side is silent"
    UNKNOWN_OPERATION = "unknown-operation", 403, "No such operation is open here"
    ROLE = "role", 403, "No role of the caller grants this operation"
    CONTEXT = "context", 403, "Granted, but not at this time or from this place"
    SCOPE = "scope", 403, "The token's scope does not cover this operation", f'{BEARER}, error="insufficient_scope"'
    FIELD = "field", 403, "Granted, but not all the fields that the request names"
    STEP_UP = "step-up", 401, "Granted, once the person has signed in anew or with another factor", SIGN_IN_ANEW
    TOO_LARGE = "too-large", 413, "The request is too large"
    INVALID = "invalid", 400, "The request is not valid"
    RECORD = "record", 403, "Granted, but not for this record as it is, or would be"
    APART = "apart", 403, "Duties kept apart: another person must do this"
    UNAVAILABLE = "unavailable", 503, "The request can't be judged or served now"
    ERP_REFUSES = "erp-refuses", 502, "The system does not take the credential that the gate has for this caller"


def step_up(formula: Formula) -> str:
    """The challenge that tells a client how its person is to sign in (RFC 9470 section 3)."""
    found = list(atoms(formula))
    ages = [atom.seconds for atom in found if isinstance(atom, Recent)]
    told = [f'acr_values="{MFA}"'] * (Mfa() in found) + ([f'max_age="{min(ages)}"'] if ages else [])
    return ", ".join([Reason.STEP_UP.challenge, *told])


def problem(reason: Reason, *, detail: str, decision: str) -> dict[str, Any]:
    """The body of a refusal (RFC 9457): nothing of the policy, which the decision id leads its operator to."""
    return {
        "type": f"urn:ostiary:reason:{reason}",
        "title": reason.words,
        "status": reason.status,
        "detail": detail,
        "reason": str(reason),
        "decision": decision,
    }


STEPS: Final = (Reason.ROLE, Reason.CONTEXT, Reason.SCOPE, Reason.FIELD, Reason.RECORD, Reason.ALLOWED)
UNFORESEEN: Final = "writing it may change more than it names, so a line has to name it in `fields`"
RoleSets = Mapping[str, frozenset[str]]  # role-set id -> directly assigned role names
NUMBER: Final = re.compile(r"-?[0-9]{1,30}(\.[0-9]{1,30})?")
ORDER: Final = {"<": lt, "<=": le, ">": gt, ">=": ge}
Value = str | None  # as text; None where it can't be told


class Token(Enum):
    """What was shown: the reason against it."""

    MISSING = Reason.TOKEN_MISSING
    INVALID = Reason.TOKEN_INVALID
    REVOKED = Reason.TOKEN_REVOKED
    VALID = None


class Records(Struct, frozen=True, kw_only=True):
    """What was established: fields that the ERP stores, what records hold of them, which values are the caller's own."""

    stored: frozenset[tuple[str, str]] = frozenset()  # object, field
    held: Mapping[tuple[str, str], Mapping[str, Value]] = {}  # object, id
    own: frozenset[tuple[str, str, str]] = frozenset()  # object, field, value

    def __add__(self, more: "Records") -> "Records":
        return Records(stored=self.stored | more.stored, held={**self.held, **more.held}, own=self.own | more.own)


class Facts(Struct, frozen=True, kw_only=True):
    """All that a decision rests on. `roles` are the directly assigned ones.

    `operations` is empty where the request names no known operation. `scopes` are the token's. `records`: what the
    ERP was asked, which is nothing where nobody asked.
    """

    system: str
    here: Circumstances
    token: Token = Token.VALID
    roles: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()
    operations: tuple[Operation, ...] = ()
    address_blocked: bool = False
    lease_lapsed: bool = False
    records: Records = Records()


class Recorded(NamedTuple):
    """One decision as it was recorded. `whole`: its facts name all the operations that the request was about."""

    decision: str
    principal: str
    reason: str
    facts: Facts
    whole: bool


class Decision(Struct, frozen=True, kw_only=True):
    """`rule` is the grant that allows; or the one that comes nearest; else "-". `lacking`: the fields or the record."""

    reason: Reason
    rule: str = "-"
    context: str = ""
    lacking: str = ""
    challenge: str = ""  # how the person is to sign in
    operation: Operation | None = None

    def __str__(self) -> str:
        """As gate and guard name it: `context:clerk/2`."""
        return f"{self.reason}:{self.rule}"

    @property
    def allowed(self) -> bool:
        return self.reason is Reason.ALLOWED

    @property
    def words(self) -> str:
        """Why, for whoever asked: what he meets anyhow, and the name of the context."""
        under = f": {self.context}" if self.reason in {Reason.CONTEXT, Reason.STEP_UP} else ""
        return (self.lacking or self.reason.words) + under


def decide(plan: Plan, facts: Facts) -> Decision:
    """Whether `facts` may pass: every operation must be allowed, else the first refusal stands for all."""
    if early := _before_operations(facts):
        return Decision(reason=early)
    held, known = closure(plan, facts.roles), _Known(facts)
    if any(one.fields_computed for one in facts.operations):
        known.facts = replace(facts, operations=tuple(_reaching(plan, held, known)))
    first = None
    for operation in known.facts.operations:
        if (decision := _decide_one(plan, held, known, operation)).reason is not Reason.ALLOWED:
            return decision
        first = first or decision
    return first or Decision(reason=Reason.UNKNOWN_OPERATION)


def admit(plan: Plan, facts: Facts) -> Decision:
    """What the gate can say natively of a guarded system: may this caller do anything there, here and now?"""
    if early := _before_operations(facts):
        return Decision(reason=early)
    held = closure(plan, facts.roles)
    granted = [grant for grant in plan.grants if grant.pattern.system == facts.system and grant.role in held]
    found = _judge(granted, _Known(facts))
    return replace(found, reason=Reason.ALLOWED) if found.reason is Reason.STEP_UP else found  # the guard asks for it


def closure(plan: Plan, roles: Iterable[str] | None) -> frozenset[str]:
    """The roles held: those assigned and all that they include; roles the plan does not know give nothing."""
    return frozenset(name for role in roles or () for name in plan.closures.get(role, ()))


def narrowed(plan: Plan, roles: Iterable[str] | None) -> Plan:
    """The plan with the grants of these roles only: the same answers for them, without a walk over all others."""
    held = closure(plan, roles)
    return replace(
        plan,
        roles=tuple(role for role in plan.roles if role.name in held),
        grants=tuple(grant for grant in plan.grants if grant.role in held),
    )


def limit_of(plan: Plan, roles: Iterable[str] | None) -> Limit:
    """The request limit of a principal with these roles: the most generous that a role of his names."""
    held = closure(plan, roles)
    own = [limit for limit in plan.limits.roles if limit.name in held]
    return max(own, key=lambda limit: (limit.requests / limit.seconds, limit.name), default=plan.limits.default)


def _reaching(plan: Plan, held: frozenset[str], known: "_Known") -> Iterator[Operation]:
    """The operations, without the computed fields that pass: all that the caller may write of the system he may write
    whole, and what the record is a part of as well.
    """
    system = known.facts.system
    writing = plan.writing_of(held, system)
    whole = [one.pattern for one in writing if not one.terms and known[one.context.formula]]
    fewer = [one.pattern for one in writing if one.terms]
    for operation in known.facts.operations:
        owners = (Pattern(system=system, object=name, verb=Verb.WRITE) for name in operation.part_of)
        passes = all(any(map(one.within, whole)) for one in (*fewer, *owners))
        yield replace(operation, fields_computed=frozenset()) if passes else operation


def _before_operations(facts: Facts) -> Reason | None:
    if facts.address_blocked:
        return Reason.ADDRESS_BLOCKED
    return facts.token.value or (Reason.CLOSED if facts.lease_lapsed else None)


class Together:
    """What one call does to each record: looked at once, however many of its operations are about the record."""

    def __init__(self, operations: Iterable[Operation], records: Records) -> None:
        self.records = records
        self._about = defaultdict[tuple[str, str], list[Operation]](list)
        self._executing = Counter[tuple[str, str]]()
        self._written: dict[tuple[str, str, Condition], bool] = {}
        for one in operations:
            for place in ((one.object, record) for record in set(one.ids)):
                self._about[place].append(one)
                self._executing[place] += one.verb is Verb.EXECUTE

    def keeps(self, condition: Condition, record: str, operation: Operation) -> bool:
        """Whether nothing but the operation runs code on one of its records, and no value against the condition is written."""
        place = operation.object, record
        if self._executing[place] > (operation.verb is Verb.EXECUTE):
            return False
        known = (*place, condition)
        if known not in self._written:
            values = (value for one in self._about[place] for value in _told(condition.field, one))
            self._written[known] = all(_holds(condition, operation.object, value, self.records) for value in values)
        return self._written[known]


class _Known(dict[Formula, bool]):
    """What holds of these facts: each formula judged once, however many operations and grants ask for it."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts

    def __missing__(self, formula: Formula) -> bool:
        return self.setdefault(formula, holds(formula, self.facts.here))

    @cached_property
    def stepped_up(self) -> "_Known":
        return _Known(replace(self.facts, here=replace(self.facts.here, acr=MFA, age_s=0)))

    @cached_property
    def together(self) -> Together:
        return Together(self.facts.operations, self.facts.records)


def _decide_one(plan: Plan, held: frozenset[str], known: _Known, operation: Operation) -> Decision:
    covering = covering_scopes(operation)
    return _judge(plan.granting(covering, held), known, operation, scoped=not known.facts.scopes.isdisjoint(covering))


def _judge(
    granting: Sequence[Grant], known: _Known, operation: Operation | None = None, *, scoped: bool = True
) -> Decision:
    """The nearest to a yes; for a person a better sign-in, where nothing else is lacking."""
    found, facts = _nearest(granting, known, operation, scoped=scoped), known.facts
    pending = found.reason is Reason.RECORD and facts.records == Records()
    if found.allowed or pending or not granting or facts.here.age_s is None:
        return found
    then = _nearest(granting, known.stepped_up, operation, scoped=scoped)
    if then.allowed:
        formula = next(grant.context.formula for grant in granting if grant.id == then.rule)
        return replace(then, reason=Reason.STEP_UP, challenge=step_up(formula))
    return then if STEPS.index(then.reason) > STEPS.index(found.reason) else found


def _nearest(granting: Sequence[Grant], known: _Known, operation: Operation | None, *, scoped: bool) -> Decision:
    """One grant must cover all of the operation; of those that don't, the first that comes furthest is named."""
    nearest = Decision(reason=Reason.ROLE, operation=operation)
    for grant in granting:
        reason, lacking = _judge_by(grant, known, operation, scoped=scoped)
        if reason is not nearest.reason and STEPS.index(reason) > STEPS.index(nearest.reason):
            rule, context = grant.id, grant.context.name
            nearest = Decision(reason=reason, rule=rule, context=context, lacking=lacking, operation=operation)
        if reason is Reason.ALLOWED:
            break
    return nearest


def _judge_by(grant: Grant, known: _Known, operation: Operation | None, *, scoped: bool) -> tuple[Reason, str]:
    if not known[grant.context.formula]:
        return Reason.CONTEXT, ""
    if not scoped:
        return Reason.SCOPE, ""
    if operation and (more := beyond(grant.fields, operation)):
        told = "not among its fields" if grant.fields else UNFORESEEN
        return Reason.FIELD, f"{told}: {', '.join(sorted(more))}"
    if operation and (lacking := unmet(grant.where, operation, known.together)):
        return Reason.RECORD, lacking
    return Reason.ALLOWED, ""


# --- fewer fields, or fewer records


def beyond(fields: Sequence[str], operation: Operation) -> frozenset[str]:
    """The fields that the operation names and the grant does not; an id alone may always be read.

    A grant of every field is none of fields that write others: what these are, nobody can say.
    """
    named = operation.fields_written | (operation.fields_read - {"id"})
    return (named if fields else operation.fields_computed).difference(fields)


def unmet(where: Iterable[Condition], operation: Operation, call: Together) -> str:
    """The first record and condition that don't surely agree, before the call and with what it writes; "" for none."""
    for condition in where:
        if record := _astray(condition, operation, call):
            named = operation.ids or operation.sent
            why = "" if named else "; a call that names no ids is refused, whatever the records hold"
            return f"{record} is not granted: {condition}{why}"
    return ""


def _astray(condition: Condition, operation: Operation, call: Together) -> str:
    """One of the operation's records for which the condition may not hold, or to which the call may write such a value."""
    name, field, records = operation.object, condition.field, call.records
    if (name, field) not in records.stored or not (operation.ids or operation.sent):
        return name  # the ERP computes it; or nobody knows beforehand which records these are
    for one in operation.ids:
        if not _holds(condition, name, records.held.get((name, one), {}).get(field), records):
            return f"{name} {one}"
    if not operation.ids:
        made = (row.get(field) for row in map(dict, operation.sent))
        return "" if all(_holds(condition, name, value, records) for value in made) else f"a new {name}"
    return "" if all(call.keeps(condition, one, operation) for one in operation.ids) else name


def _told(field: str, operation: Operation) -> list[Value]:
    """Every value that the operation writes to the field; None where it writes there, and does not say what."""
    sent = [row[field] for row in map(dict, operation.sent) if field in row]
    return sent or [None] * (field in operation.fields_written)


def _holds(condition: Condition, name: str, value: Value, records: Records) -> bool:
    match condition.compare:
        case "own":
            return value == OWN or (name, condition.field, value) in records.own
        case "in":
            return value in condition.values
        case compare:
            (bound,) = condition.values
            return bool(value and NUMBER.fullmatch(value) and ORDER[compare](Decimal(value), Decimal(bound)))
