"""Access classes: operations that the same grants allow are judged by the same table, found by one map.

The route names the class, the token the role set. A class lists its grants with the role sets that hold each, so that
the table grows with the rules, not with rules times role sets. A class's id is a hash of its meaning: while routes go
from one revision to the next, the table holds the classes of both, and a request is judged by those of its own route.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final

import msgspec

from ostiary.envoy import cel, matcher
from ostiary.envoy.condition import condition
from ostiary.envoy.edge import Json
from ostiary.envoy.message import changeable
from ostiary.envoy.signals import RBAC
from ostiary.envoy.token import PAYLOAD
from ostiary.erp.operation import Operation, covering_scopes
from ostiary.foundation.ids import content_hash
from ostiary.plan.decide import RoleSets
from ostiary.plan.model import Grant, Plan, Route

CLASS_HEADER: Final = "x-gw-class"
METADATA: Final = "ostiary"  # the key of a route's own facts
UNKNOWN: Final = "unknown"  # the class of a request that names no operation
ALTERNATIVES_MAX: Final = 1_000  # role sets in one regular expression


class AccessClass(msgspec.Struct, frozen=True, kw_only=True):
    """`held_by`: for each grant, its role and every role that includes it."""

    id: str
    grants: tuple[Grant, ...]
    held_by: tuple[tuple[str, ...], ...]


class Classes:
    """Finds the class of an operation without walking every grant: a covering pattern has the text of a scope."""

    def __init__(self, plan: Plan) -> None:
        self._grants = plan.grants
        self._known: dict[tuple[int, ...], AccessClass] = {}
        self._including: dict[str, list[str]] = defaultdict(list)
        for role in plan.roles:
            for included in role.closure:
                self._including[included].append(role.name)
        self._by_pattern: dict[str, list[int]] = defaultdict(list)
        for number, grant in enumerate(plan.grants):
            self._by_pattern[str(grant.pattern)].append(number)
        self._by_route = {route: self.of(operation_of(route)) for route in plan.routes}
        systems = [self.of_system(system.name) for system in plan.systems if system.guarded]
        self.used: Mapping[str, AccessClass] = {
            one.id: one for one in (*self._by_route.values(), *systems)
        }  # by a route of the plan

    def of(self, operation: Operation) -> AccessClass:
        texts = covering_scopes(operation)
        return self._class(tuple(sorted({number for text in texts for number in self._by_pattern.get(text, ())})))

    def of_route(self, route: Route) -> AccessClass:
        """Of a route of the plan."""
        return self._by_route[route]

    def of_system(self, name: str) -> AccessClass:
        """May this caller do anything at all there: what the gate can say of a guarded system."""
        return self._class(tuple(n for n, grant in enumerate(self._grants) if grant.pattern.system == name))

    def _class(self, numbers: tuple[int, ...]) -> AccessClass:
        if numbers not in self._known:
            self._known[numbers] = self._made([self._grants[number] for number in numbers])
        return self._known[numbers]

    def _made(self, chosen: Sequence[Grant]) -> AccessClass:
        held_by = tuple(tuple(sorted(self._including[grant.role])) for grant in chosen)
        meaning = [(grant.id, held, grant.context.formula) for grant, held in zip(chosen, held_by, strict=True)]
        identity = content_hash(msgspec.json.encode(meaning, order="deterministic"))
        return AccessClass(id=identity, grants=tuple(chosen), held_by=held_by)


@lru_cache(maxsize=2)
def classes_of(plan: Plan) -> Classes:
    """The classes of a plan, found once: from one revision to the next, those of both are asked for again and again."""
    return Classes(plan)


def operation_of(route: Route) -> Operation:
    return Operation(system=route.system, object=route.object, verb=route.verb, action=route.action)


def policy_filter(classes: Mapping[str, AccessClass], role_sets: RoleSets) -> tuple[str, Json]:
    """Role, then context: the verdict and the grant's id go into the metadata, and `scope_filter` enforces them.

    A filter that denies leaves its verdict only after the refusal is written (measured), too late to say which rule
    it was; so this table only speaks (Envoy calls that a shadow), and the next filter is silent and acts.
    """
    holders = _holders(role_sets)
    table = {name: _judge(classes[name], holders) for name in sorted(classes)}
    judged = matcher.exact(matcher.request_header(CLASS_HEADER), table, matcher.deny())
    return changeable("policy", RBAC, shadow_rules_stat_prefix="policy_", shadow_matcher=matcher.whole(judged))


def scope_filter(plans: Sequence[Plan]) -> tuple[str, Json]:
    """Passes only what the access table allowed (no verdict is an error, which denies) and a scope covers.

    Guarded operations' scopes are the guard's to judge.
    """
    result = _field(cel.attribute("metadata.filter_metadata"), "envoy.filters.http.rbac", "policy_shadow_engine_result")
    allowed = cel.call("_==_", result, cel.text("allowed"))
    guarded = cel.call("_==_", cel.index(cel.attribute("request.headers"), "x-gw-operation"), cel.text("-"))
    admitted = cel.predicate(cel.every([allowed, cel.some([guarded, *_covered(plans)])]))
    verdict = matcher.first([(admitted, matcher.allow())], matcher.deny())
    return changeable("scope", RBAC, rules_stat_prefix="scope_", matcher=matcher.whole(verdict))


def _covered(plans: Sequence[Plan]) -> list[Json]:
    """One of the scopes that the route lists is among the token's; guarded operations are the guard's to judge.

    A route that lists fewer scopes than there are slots makes an error of the others: in CEL `error || true` is
    true, and an error alone matches nothing, which denies.
    """
    slots = max((len(covering_scopes(operation_of(route))) for plan in plans for route in plan.routes), default=0)
    held = _field(cel.attribute("metadata.filter_metadata"), "envoy.filters.http.jwt_authn", PAYLOAD, "scope")
    listed = _field(cel.attribute("xds.route_metadata.filter_metadata"), METADATA, "scopes")
    return [cel.call("@in", cel.call("_[_]", listed, cel.number(slot)), held) for slot in range(slots)]


def _field(tree: Json, *keys: str) -> Json:
    for key in keys:
        tree = cel.index(tree, key)
    return tree


def _holders(role_sets: RoleSets) -> Mapping[str, Sequence[str]]:
    """Role -> the role sets in which it is assigned directly."""
    holders: dict[str, list[str]] = defaultdict(list)
    for name in sorted(role_sets):
        for role in role_sets[name]:
            holders[role].append(name)
    return holders


def _judge(judged: AccessClass, holders: Mapping[str, Sequence[str]]) -> Json:
    """The first grant held whose context holds allows; else the first held is named as the one in the way.

    A role set that holds none, or that nobody knows, is denied.
    """
    allowing: list[tuple[Json, Json]] = []
    blocking: list[tuple[Json, Json]] = []
    for grant, held_by in zip(judged.grants, judged.held_by, strict=True):
        role_sets = {name for role in held_by for name in holders.get(role, ())}
        holds = condition(grant.context.formula)
        if not role_sets:
            continue
        held = _is_one_of(role_sets)
        if holds is True:
            allowing.append((held, matcher.allow(grant.id)))
            continue
        if holds is not False:
            allowing.append((matcher.both([held, holds]), matcher.allow(grant.id)))
        blocking.append((held, matcher.deny(grant.id)))
    return matcher.first([*allowing, *blocking], matcher.deny())


def _is_one_of(role_sets: Iterable[str]) -> Json:
    """A regular expression: RE2 walks the id once, however many there are, and matches it whole."""
    ids = sorted(role_sets)
    parts = [ids[start : start + ALTERNATIVES_MAX] for start in range(0, len(ids), ALTERNATIVES_MAX)]
    return matcher.either([matcher.regex(matcher.request_header("x-gw-rs"), "|".join(part)) for part in parts])
