"""The plan: one policy, compiled; equal policies give equal plans.

Shapes that it has from below as they are, it gives on (`Kind as Kind`).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from ostiary.erp.operation import Condition, Operation, Pattern, Verb, covering_scopes
from ostiary.erp.route import Route as Route
from ostiary.foundation.ids import content_hash
from ostiary.plan.formula import Always, Formula, Networks, atoms, edges, every
from ostiary.policy.model import Always as AlwaysMay
from ostiary.policy.model import Apart as Apart
from ostiary.policy.model import Approvals as Approvals
from ostiary.policy.model import Control as Control
from ostiary.policy.model import HandOver as HandOver
from ostiary.policy.model import Kind as Kind
from ostiary.policy.model import Level as Level
from ostiary.policy.model import Limit as Limit
from ostiary.policy.model import Limits as Limits
from ostiary.policy.model import Never as Never
from ostiary.policy.model import OwnerLeaves as OwnerLeaves
from ostiary.policy.model import Response as Response
from ostiary.policy.model import Source as Source
from ostiary.policy.model import System as System
from ostiary.policy.words import FOREVER_S

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
        kept = "keep" if self.silent_s == FOREVER_S else f"keep for {self.silent_s} s"
        return kept if self.silent_s else "close"

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
        rules = (one for rule in self.apart for one in (rule.first, rule.then))
        named = (
            *(grant.pattern for grant in self.grants),
            *rules,
            *(one for rule in self.never for one in rule.patterns),
        )
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
