"""Access classes: operations that the same grants allow are judged by the same table, found by one map.

The route names the class, the token the role set. A class lists its grants with the role sets that hold each, so that
the table grows with the rules, not with rules times role sets. A class's id is a hash of its meaning: when
routes and table are of two revisions for a moment, an id that one of them lacks denies.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
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
from ostiary.plan.decide import RoleSets, closure
from ostiary.plan.model import Grant, Plan, Route

CLASS_HEADER: Final = "x-gw-class"
METADATA: Final = "ostiary"  # the key of a route's own facts
UNKNOWN: Final = "unknown"  # the class of a request that names no operation
ALTERNATIVES_MAX: Final = 1_000  # role sets in one regular expression


class AccessClass(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    grants: tuple[Grant, ...]


class Classes:
    """Finds the class of an operation without walking every grant: a covering pattern has the text of a scope."""

    def __init__(self, plan: Plan) -> None:
        self._grants = plan.grants
        self._by_pattern: dict[str, list[int]] = defaultdict(list)
        for number, grant in enumerate(plan.grants):
            self._by_pattern[str(grant.pattern)].append(number)

    def of(self, operation: Operation) -> AccessClass:
        texts = covering_scopes(operation)
        numbers = sorted({number for text in texts for number in self._by_pattern.get(text, ())})
        return access_class(self._grants[number] for number in numbers)

    def of_system(self, name: str) -> AccessClass:
        """May this caller do anything at all there: what the gate can say of a guarded system."""
        return access_class(grant for grant in self._grants if grant.pattern.system == name)


def access_class(grants: Iterable[Grant]) -> AccessClass:
    chosen = tuple(grants)
    meaning = [(grant.id, grant.role, grant.context.formula) for grant in chosen]
    return AccessClass(id=content_hash(msgspec.json.encode(meaning, order="deterministic")), grants=chosen)


def operation_of(route: Route) -> Operation:
    return Operation(system=route.system, object=route.object, verb=route.verb, action=route.action)


def policy_filter(plan: Plan, classes: Iterable[AccessClass], role_sets: RoleSets) -> tuple[str, Json]:
    """Role, then context: the verdict and the grant's id go into the metadata, and `scope_filter` enforces them.

    A filter that denies leaves its verdict only after the refusal is written (measured), too late to say which rule
    it was; so this table only speaks (Envoy calls that a shadow), and the next filter is silent and acts.
    """
    holders = _holders(plan, role_sets)
    table = {one.id: _judge(one.grants, holders) for one in classes}
    judged = matcher.exact(matcher.request_header(CLASS_HEADER), table, matcher.deny())
    return changeable("policy", RBAC, shadow_rules_stat_prefix="policy_", shadow_matcher=matcher.whole(judged))


def scope_filter(plan: Plan) -> tuple[str, Json]:
    """Passes only what the access table allowed (no verdict is an error, which denies) and a scope covers.

    Guarded operations' scopes are the guard's to judge.
    """
    result = _field(cel.attribute("metadata.filter_metadata"), "envoy.filters.http.rbac", "policy_shadow_engine_result")
    allowed = cel.call("_==_", result, cel.text("allowed"))
    guarded = cel.call("_==_", cel.index(cel.attribute("request.headers"), "x-gw-operation"), cel.text("-"))
    admitted = cel.predicate(cel.every([allowed, cel.some([guarded, *_covered(plan)])]))
    verdict = matcher.first([(admitted, matcher.allow())], matcher.deny())
    return changeable("scope", RBAC, rules_stat_prefix="scope_", matcher=matcher.whole(verdict))


def _covered(plan: Plan) -> list[Json]:
    """One of the scopes that the route lists is among the token's; guarded operations are the guard's to judge.

    A route that lists fewer scopes than there are slots makes an error of the others: in CEL `error || true` is
    true, and an error alone matches nothing, which denies.
    """
    slots = max((len(covering_scopes(operation_of(route))) for route in plan.routes), default=0)
    held = _field(cel.attribute("metadata.filter_metadata"), "envoy.filters.http.jwt_authn", PAYLOAD, "scope")
    listed = _field(cel.attribute("xds.route_metadata.filter_metadata"), METADATA, "scopes")
    return [cel.call("@in", cel.call("_[_]", listed, cel.number(slot)), held) for slot in range(slots)]


def _field(tree: Json, *keys: str) -> Json:
    for key in keys:
        tree = cel.index(tree, key)
    return tree


def _holders(plan: Plan, role_sets: RoleSets) -> Mapping[str, Sequence[str]]:
    """Role -> the role sets that hold it, directly or by inclusion."""
    holders: dict[str, list[str]] = defaultdict(list)
    for name in sorted(role_sets):
        for role in closure(plan, role_sets[name]):
            holders[role].append(name)
    return holders


def _judge(grants: Sequence[Grant], holders: Mapping[str, Sequence[str]]) -> Json:
    """The first grant held whose context holds allows; else the first held is named as the one in the way.

    A role set that holds none, or that nobody knows, is denied.
    """
    allowing: list[tuple[Json, Json]] = []
    blocking: list[tuple[Json, Json]] = []
    for grant in grants:
        role_sets, holds = holders.get(grant.role), condition(grant.context.formula)
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


def _is_one_of(role_sets: Sequence[str]) -> Json:
    """A regular expression: RE2 walks the id once, however many there are, and matches it whole."""
    ids = sorted(role_sets)
    parts = [ids[start : start + ALTERNATIVES_MAX] for start in range(0, len(ids), ALTERNATIVES_MAX)]
    return matcher.either([matcher.regex(matcher.request_header("x-gw-rs"), "|".join(part)) for part in parts])
