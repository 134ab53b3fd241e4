"""The plan: one policy, compiled; equal policies give equal plans. What its grants ask of a request's context is a formula
that Envoy, the evaluator and the prover all understand.

Shapes that it has from below as they are, it gives on, also what it does not need itself (`Kind as Kind`).
"""

from bisect import bisect
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import cache, cached_property, lru_cache
from importlib import resources
from ipaddress import ip_address
from typing import Final
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Struct
from msgspec.structs import force_setattr, replace

from ostiary.erp.operation import Condition, Operation, Pattern, Verb, covering_scopes
from ostiary.erp.route import Route
from ostiary.foundation.ids import content_hash
from ostiary.foundation.origin import Address, unmapped
from ostiary.policy.model import Always as AlwaysMay
from ostiary.policy.model import Apart, Approvals, Level, Limits, Never, OwnerLeaves, Response, Source, System
from ostiary.policy.model import HandOver as HandOver
from ostiary.policy.model import Kind as Kind
from ostiary.policy.model import Limit as Limit
from ostiary.policy.words import ASK_S, FOREVER_S

MINUTES_A_DAY = 24 * 60
MFA: Final = "mfa"  # the `acr` of a token whose person showed more than one factor (RFC 8176)
UNKNOWN: Final = ""  # the country of an address that no database knows
V4: Final = 1 << 32  # so many addresses have version 4


class Circumstances(Struct, frozen=True):
    """What a request's conditions are about. `age_s`: how long ago a person signed in; None where none did."""

    at: datetime
    source: Address
    country: str = UNKNOWN
    device: bool = False
    acr: str = ""
    age_s: int | None = None

    def __post_init__(self) -> None:
        force_setattr(self, "source", unmapped(self.source))


def age(at: datetime, signed_in_s: int | None) -> int | None:
    """Of a sign-in; None where there was none."""
    return int(at.timestamp()) - signed_in_s if signed_in_s else None


class Always(Struct, frozen=True, gc=False, tag="always"):
    """Holds for every request."""


class Hours(Struct, frozen=True, gc=False, kw_only=True, cache_hash=True, tag="hours"):
    """Days of the week (Monday 0) and minutes of the day [start, end) in a named zone.

    `end` < `start` crosses midnight: the hours after midnight belong to the day on which they began.
    start == end is the whole day. `holidays` are days on which none begin: `2026-12-24`, or every year `12-24`.
    """

    days: tuple[int, ...]
    start: int
    end: int
    zone: str
    holidays: tuple[str, ...] = ()


class Networks(Struct, frozen=True, gc=False, kw_only=True, cache_hash=True, tag="networks"):
    """The caller's address lies in one of these networks (CIDR texts)."""

    networks: tuple[str, ...]


class Countries(Struct, frozen=True, gc=False, kw_only=True, cache_hash=True, tag="countries"):
    """The caller's address lies in one of these; in `UNKNOWN` where nobody knows."""

    countries: tuple[str, ...]


class Device(Struct, frozen=True, gc=False, tag="device"):
    """The call comes from a registered device."""


class Mfa(Struct, frozen=True, gc=False, tag="mfa"):
    """The person showed more than one factor."""


class Recent(Struct, frozen=True, gc=False, kw_only=True, tag="recent"):
    """The person signed in no longer ago than this."""

    seconds: int


class All(Struct, frozen=True, gc=False, kw_only=True, cache_hash=True, tag="all"):
    parts: tuple["Formula", ...]


class AnyOf(Struct, frozen=True, gc=False, kw_only=True, cache_hash=True, tag="any"):
    parts: tuple["Formula", ...]


class Not(Struct, frozen=True, gc=False, kw_only=True, cache_hash=True, tag="not"):
    part: "Formula"


Formula = Always | Hours | Networks | Countries | Device | Mfa | Recent | All | AnyOf | Not


def every(parts: Iterable[Formula]) -> Formula:
    """All of `parts` as one formula, as flat as it can be."""
    flat = [one for part in parts for one in (part.parts if isinstance(part, All) else (part,)) if one != Always()]
    return flat[0] if len(flat) == 1 else All(parts=tuple(flat)) if flat else Always()


def holds(formula: Formula, here: Circumstances) -> bool:  # noqa: C901, PLR0911  a case for each kind of condition
    """Whether `formula` holds in these circumstances; their time is an aware one."""
    match formula:
        case Always():
            return True
        case Hours():
            return _within_hours(formula, here.at)
        case Networks():
            return bisect(edges(formula), number(here.source)) % 2 == 1
        case Countries():
            return here.country in formula.countries
        case Device():
            return here.device
        case Mfa():
            return here.acr == MFA
        case Recent():
            return here.age_s is not None and here.age_s <= formula.seconds
        case All():
            return all(holds(part, here) for part in formula.parts)
        case AnyOf():
            return any(holds(part, here) for part in formula.parts)
        case Not():
            return not holds(formula.part, here)


def atoms(formula: Formula) -> Iterator[Formula]:
    """What it is made of by all, any and not."""
    match formula:
        case All() | AnyOf():
            for part in formula.parts:
                yield from atoms(part)
        case Not():
            yield from atoms(formula.part)
        case _:
            yield formula


def number(address: Address) -> int:
    """All addresses in one row, those of version 6 behind the others: one of the other family lies in no network."""
    return int(address) + (V4 if address.version > 4 else 0)  # noqa: PLR2004  the version


@lru_cache(maxsize=4096)
def edges(listed: Networks) -> Sequence[int]:
    """The numbers at which addresses begin and cease to lie in one of the networks, in turn."""
    found: list[int] = []
    for first, end in sorted(map(_range, listed.networks)):
        if found and first <= found[-1]:
            found[-1] = max(found[-1], end)
        else:
            found += (first, end)
    return found


def _range(network: str) -> tuple[int, int]:
    # Its first address, and the one behind its last.
    text, _, prefix = network.partition("/")
    address = ip_address(text)
    size = 1 << address.max_prefixlen - int(prefix or address.max_prefixlen)
    first = number(address) - int(address) % size
    return first, first + size


def _within_hours(hours: Hours, at: datetime) -> bool:
    local = at.astimezone(zone(hours.zone))
    minute, day = local.hour * 60 + local.minute, local.date()
    if hours.start <= hours.end:
        return _begins(hours, day) and (hours.start == hours.end or hours.start <= minute < hours.end)
    begun_yesterday = minute < hours.end and _begins(hours, day - timedelta(days=1))
    return begun_yesterday or (minute >= hours.start and _begins(hours, day))


def _begins(hours: Hours, day: date) -> bool:
    return day.weekday() in hours.days and not (hours.holidays and is_holiday(_holidays(hours), day))


def is_holiday(holidays: frozenset[str], day: date) -> bool:
    return not holidays.isdisjoint((day.isoformat(), day.isoformat()[len("2026-") :]))


@lru_cache(maxsize=4096)
def _holidays(hours: Hours) -> frozenset[str]:
    return frozenset(hours.holidays)


@cache
def zone(name: str) -> ZoneInfo:
    """From the database that Envoy reads too, not from the machine's own."""
    with (resources.files("tzdata") / "zoneinfo").joinpath(*name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


# `gc=False` here, and on all that a grant is made of: a tree without circles, which the collector need not walk.
JOINT: Final = " + "
OBSERVE: Final = "observe"  # the rule by which one passes whom the ERP alone knows


class Role(Struct, frozen=True, kw_only=True, gc=False):
    """`closure` is the role itself and every role it includes, however deep, sorted."""

    name: str
    level: Level
    department: str = ""
    closure: tuple[str, ...]
    source: Source


class Context(Struct, frozen=True, kw_only=True, gc=False):
    """A condition; `name` joins the names in the policy with ' + '; 'always' where there is none."""

    name: str
    formula: Formula
    source: Source | None = None  # where it is one context of the policy

    @property
    def names(self) -> tuple[str, ...]:
        return () if self.formula == Always() else tuple(self.name.split(JOINT))


def joined(contexts: Iterable[Context]) -> Context:
    """All of them as one."""
    several = tuple(contexts)
    name = JOINT.join(one.name for one in several) or "always"
    return Context(name=name, formula=every(one.formula for one in several))


class Grant(Struct, frozen=True, kw_only=True, gc=False):
    """`role` may do `pattern` while `context` holds, naming `fields` alone (none: any), to records that meet `where`.

    `id` is stable: `clerk/2` is the role's second `may`.
    """

    id: str
    role: str
    pattern: Pattern
    context: Context
    fields: tuple[str, ...] = ()
    where: tuple[Condition, ...] = ()
    source: Source

    @property
    def terms(self) -> str:
        """What of the objects it is about, as people say it; "" for all."""
        only = [f"the fields {', '.join(self.fields)}"] if self.fields else []
        return " of ".join([*only, *([f"records with {', '.join(map(str, self.where))}"] if self.where else [])])


class Plan(Struct, frozen=True, kw_only=True, cache_hash=True, dict=True):
    """`dict`: what is worked out of it, once for each plan, is no part of what it says."""

    policy: str
    systems: tuple[System, ...]
    roles: tuple[Role, ...]
    grants: tuple[Grant, ...]
    contexts: tuple[Context, ...] = ()  # as the policy names them, each with its line
    routes: tuple[Route, ...] = ()
    apart: tuple[Apart, ...] = ()
    never: tuple[Never, ...] = ()
    always: tuple[AlwaysMay, ...] = ()
    limits: Limits
    silent_s: int = 0
    when_owner_leaves: OwnerLeaves = OwnerLeaves.END
    approvals: Approvals = Approvals()
    response: Response = Response()
    revision: str = ""  # the content hash of everything else; set by `seal`

    @property
    def silence(self) -> str:
        """What the gate does while control is silent."""
        known = {0: "close", ASK_S: "ask the guard about every caller"}
        lasts = "for ever" if self.silent_s == FOREVER_S else f"for {self.silent_s} s"
        return known.get(self.silent_s, f"go on as it was {lasts}, and no revocation and no block reaches it meanwhile")

    @cached_property
    def closures(self) -> Mapping[str, frozenset[str]]:
        """Role -> itself and all that it includes."""
        return {role.name: frozenset(role.closure) for role in self.roles}

    @cached_property
    def places(self) -> Mapping[str, Mapping[str, Sequence[int]]]:
        """Pattern -> role -> the places of its grants of just this pattern."""
        found: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        for place, grant in enumerate(self.grants):
            found[str(grant.pattern)][grant.role].append(place)
        return found

    @cached_property
    def writing(self) -> Mapping[str, Sequence[Grant]]:
        """Role -> its own grants of writes."""
        found: dict[str, list[Grant]] = defaultdict(list)
        for grant in self.grants:
            if grant.pattern.verb is Verb.WRITE:
                found[grant.role].append(grant)
        return found

    def writing_of(self, roles: Iterable[str], system: str) -> list[Grant]:
        return [one for role in roles for one in self.writing.get(role, ()) if one.pattern.system == system]

    def granting(self, scopes: Iterable[str], held: frozenset[str] | None = None) -> list[Grant]:
        """The grants of an operation that these scopes cover, in their order; of the roles `held`, or of all."""
        found = []
        for by_role in filter(None, map(self.places.get, scopes)):
            names = by_role if held is None else held & by_role.keys()
            found += [place for role in names for place in by_role[role]]
        return [self.grants[place] for place in sorted(found)]

    def near(self, role: str, grant: Grant) -> list[Grant]:
        """The grants of this role of all operations that `grant` is about, of whatever records, in whatever context."""
        return self.granting(covering_scopes(grant.pattern), self.closures.get(role, frozenset()))

    @cached_property
    def conditions(self) -> frozenset[Formula]:
        """All that grants ask for, apart from all, any and not."""
        asked = {grant.context.formula for grant in self.grants}
        return frozenset(atom for formula in asked for atom in atoms(formula))

    @cached_property
    def known(self) -> Mapping[str, Sequence[Operation]]:
        """Pattern -> the operations in it: those that a URL is; of a system without such, those that the policy names."""
        inside = {system.name for system in self.systems if system.guarded}
        apart = (one for rule in self.apart for one in (rule.first, rule.then))
        never = (one for rule in self.never for one in rule.patterns)
        named = (*(grant.pattern for grant in self.grants), *apart, *never)
        exact = (one.operation for one in named if one.system in inside and "*" not in one.object)
        found: dict[str, list[Operation]] = defaultdict(list)
        for operation in dict.fromkeys((*(route.operation for route in self.routes), *exact)):
            for scope in covering_scopes(operation):
                found[scope].append(operation)
        return found


def prepared(plan: Plan) -> Plan:
    """The same plan, equal contexts one object each, with all worked out that its first decision would wait for."""
    one: dict[Context, Context] = {}
    grants = [replace(grant, context=one.setdefault(grant.context, grant.context)) for grant in plan.grants]
    plan = replace(plan, grants=tuple(grants))
    plan.granting(plan.writing, frozenset(plan.closures))  # each is worked out when it is first looked at
    for listed in (atom for atom in plan.conditions if isinstance(atom, Networks)):
        edges(listed)
    return plan


def seal(plan: Plan) -> Plan:
    """The plan with its revision: a hash of all it says, so that the same policy has the same revision."""
    bare = replace(plan, revision="")
    return replace(bare, revision=content_hash(msgspec.json.encode(bare, order="deterministic")))


def to_json(plan: Plan) -> bytes:
    return msgspec.json.encode(plan, order="deterministic")


def from_json(data: bytes) -> Plan:
    """The plan in `data`; raises msgspec.ValidationError when it is none."""
    return msgspec.json.decode(data, type=Plan)
