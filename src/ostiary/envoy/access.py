"""What is decided of a request: by the access class of its route, and between two policies by blocked addresses,
revocations and the lease, each a file of its own.

Operations that the same grants allow are of one class, judged by the same table, found by one map. The route names the
class, the token the role set. A class maps role sets to the first grant that each holds, once for grants of one
context: one look, whatever their number (a regular expression for each grant made a table of twice the size, and slower
with every role: measured). A class's id is a hash of its meaning: while routes go from one revision to the next, the
table holds the classes of both, and a request is judged by those of its own route.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache, lru_cache, partial
from itertools import groupby
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from ostiary.envoy import cel, matcher
from ostiary.envoy.caller import CLAIM_HEADERS
from ostiary.envoy.condition import by_clock, came_before, condition, ranges, somebody_signed_in, stepped_up
from ostiary.envoy.resource import CLASS_HEADER, FIXED, SUBJECT_HEADER, Json, Resources, extension, place
from ostiary.envoy.upstream import EXT_AUTHZ, guard_service
from ostiary.erp.operation import Operation, covering_scopes
from ostiary.foundation.errors import OurFault
from ostiary.foundation.ids import content_hash
from ostiary.plan.decide import Reason, RoleSets, step_up
from ostiary.plan.model import OBSERVE, Formula, Grant, Plan, Route

SCOPE_HEADER: Final = "x-gw-scope"  # the token's scopes, each between two spaces
METADATA: Final = "ostiary"  # the key of a route's own facts
STEP_UP: Final = "step-up"  # the one of them that says how a person is to sign in anew
Held = tuple[Grant, frozenset[str]]  # a grant and the role sets that hold it
Decision = Callable[[str], Json]  # of the grant of this id
# Kind of revocation key -> the header that jwt_authn sets from the claim of that name.
REVOCABLE: Final = {kind: CLAIM_HEADERS[kind] for kind in ("jti", "grant", "sid", "gen", "cgen")}
RANGES_MAX: Final = 262_144  # the cap of Envoy's address trie; a network of version 4 takes two


class AccessClass(msgspec.Struct, frozen=True, kw_only=True):
    """`grants`: each with its role and every role that includes it.

    `inside`: operations of a guarded system, whose scopes are the guard's to judge. `limited`: a grant turns on fields
    or records, which only the guard sees. `until`: callers without a token pass to the guard before it.
    """

    id: str
    inside: bool
    limited: bool
    until: datetime | None
    grants: tuple[tuple[Grant, tuple[str, ...]], ...]

    @property
    def guarded(self) -> bool:
        """The guard judges it too, and knows better what is lacking."""
        return self.inside or self.limited or self.until is not None

    @property
    def challenges(self) -> tuple[tuple[str, str], ...]:
        """What the refusal says for each grant that may ask for a better sign-in, by the details that Envoy keeps of it."""
        asked = [one for one, _ in self.grants if stepped_up(one.context.formula) != one.context.formula]
        told = ((matcher.denied_by(Reason.STEP_UP, one.id), step_up(one.context.formula)) for one in asked)
        return () if self.guarded else tuple(told)


class Classes:
    """The classes of a plan, each made once."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._until = {system.name: system.observe_until for system in plan.systems}
        self._class = cache(self._made)
        self._including: dict[str, list[str]] = defaultdict(list)
        for role in plan.roles:
            for included in role.closure:
                self._including[included].append(role.name)
        self._by_route = {route: self.of(route.operation) for route in plan.routes}
        systems = [self.of_system(system.name) for system in plan.systems if system.guarded]
        # By a route of the plan.
        self.used: Mapping[str, AccessClass] = {one.id: one for one in (*self._by_route.values(), *systems)}

    def of(self, operation: Operation) -> AccessClass:
        """By the patterns that cover it and have grants, of which there are few."""
        patterns = tuple(text for text in covering_scopes(operation) if text in self._plan.places)
        return self._class(operation.system, patterns)

    def of_route(self, route: Route) -> AccessClass:
        """Of a route of the plan."""
        return self._by_route[route]

    def of_system(self, name: str) -> AccessClass:
        """May this caller do anything at all there: what the gate can say of a guarded system."""
        return self._class(name, None)

    def _made(self, system: str, patterns: tuple[str, ...] | None) -> AccessClass:
        """Of these patterns; None: of all that the system has."""
        if inside := patterns is None:
            chosen = [grant for grant in self._plan.grants if grant.pattern.system == system]
        else:
            chosen = self._plan.granting(patterns)
        grants = tuple((grant, tuple(sorted(self._including[grant.role]))) for grant in chosen)
        meaning = [(one.id, str(one.pattern), held, one.context.formula, bool(one.terms)) for one, held in grants]
        limited, until = any(grant.terms for grant in chosen), self._until.get(system)
        meant = content_hash(msgspec.json.encode([inside, until, meaning], order="deterministic"))
        return AccessClass(
            id=place(system, observed=until is not None) + meant, inside=inside, limited=limited, until=until,
            grants=grants,
        )  # fmt: skip


@lru_cache(maxsize=2)
def classes_of(plan: Plan) -> Classes:
    """The classes of a plan, found once: from one revision to the next, those of both are asked for again and again."""
    return Classes(plan)


def policy_filter(
    plans: Sequence[Plan], classes: Mapping[str, AccessClass], role_sets: RoleSets, zone: str, draft: Plan | None = None
) -> tuple[str, Json]:
    """Role, then context, then scope; the decision's name says which of them, and by which grant.

    What a draft would say of the same request is noted beside it.
    """
    judge = partial(_judge, holders=_holders(role_sets), narrow=_narrow(plans), zone=zone)
    table = {f"{name} ": judge(classes[name]) for name in sorted(classes)}
    judged = matcher.prefix(CLASS_HEADER, table, matcher.deny(Reason.UNKNOWN_OPERATION))
    return matcher.decides("policy", judged, _shadow(plans, draft, judge) if draft else None)


def _shadow(plans: Sequence[Plan], draft: Plan, judge: Callable[[AccessClass], Json]) -> Json:
    """By the names of the routes in force: most operations of a class share one class of the draft, the others are
    listed one by one. A route that the draft alone has is not there to be asked for.
    """
    by_class: dict[str, dict[str, str]] = defaultdict(dict)
    for plan in plans:
        for class_id, operation, meant in _meant(plan, draft):
            by_class[class_id][operation] = by_class[class_id].get(operation) or meant  # several routes may do it
    usual = {name: Counter(meant.values()).most_common(1)[0][0] for name, meant in by_class.items()}
    odd = {
        f"{name} {operation}": meant
        for name, by_operation in by_class.items()
        for operation, meant in by_operation.items()
        if meant != usual[name]
    }
    known, unknown = classes_of(draft).used, matcher.deny(Reason.UNKNOWN_OPERATION)
    said = {meant: judge(known[meant]) if meant in known else unknown for meant in {*usual.values(), *odd.values()}}
    told = {f"{name} ": said[meant] for name, meant in sorted([*usual.items(), *odd.items()])}
    return matcher.prefix(CLASS_HEADER, told, unknown)


def _meant(plan: Plan, draft: Plan) -> Iterator[tuple[str, str, str]]:
    """Class, operation and the class that the draft gives it, "" where it does not know it."""
    theirs = {(one.system, one.method, one.template, one.operation): one for one in draft.routes}
    classes, meant = classes_of(plan), classes_of(draft)
    for route in plan.routes:
        same = theirs.get((route.system, route.method, route.template, route.operation))
        yield classes.of_route(route).id, route.operation.permission, meant.of_route(same).id if same else ""
    there = {system.name for system in draft.systems if system.guarded}
    for system in (system.name for system in plan.systems if system.guarded):
        yield classes.of_system(system).id, f"{system}/-", meant.of_system(system).id if system in there else ""


def _narrow(plans: Sequence[Plan]) -> Json | None:
    """One of the scopes that the route lists is among the token's, for tokens of less than a whole grant.

    A route that lists fewer scopes than there are slots makes an error of the others: in CEL `error || true` is
    true, and an error alone matches nothing, which denies.
    """
    slots = max((len(covering_scopes(route.operation)) for plan in plans for route in plan.routes), default=0)
    held = cel.index(cel.attribute("request.headers"), SCOPE_HEADER)
    listed = cel.index(cel.index(cel.attribute("xds.route_metadata.filter_metadata"), METADATA), "scopes")
    terms = [cel.method(held, "contains", cel.call("_[_]", listed, cel.number(slot))) for slot in range(slots)]
    return cel.predicate(cel.some(terms)) if terms else None


def _covered(judged: AccessClass, narrow: Json | None) -> Json | None:
    """The token has a scope for the operation; None where that is not asked. A scope as wide as a grant is found first."""
    if judged.inside or narrow is None:
        return None
    texts = sorted({text for grant, _ in judged.grants for text in covering_scopes(grant.pattern)})
    return matcher.either([*(matcher.contains(SCOPE_HEADER, spaced(text)) for text in texts), narrow])


def spaced(scope: str) -> str:
    """As it stands in the token's list: no scope is found within another."""
    return f" {scope} "


def _holders(role_sets: RoleSets) -> Mapping[str, Sequence[str]]:
    """Role -> the role sets in which it is assigned directly."""
    holders: dict[str, list[str]] = defaultdict(list)
    for name in sorted(role_sets):
        for role in role_sets[name]:
            holders[role].append(name)
    return holders


def _judge(judged: AccessClass, holders: Mapping[str, Sequence[str]], narrow: Json | None, zone: str) -> Json:
    """The first grant held whose context holds allows, if a scope covers the operation; else it, or the first that is
    held, is named as the one in the way.

    A role set that holds none, or that nobody knows, is denied.
    """
    found = [(_with(one, by_clock(one.context.formula, zone)), _held(roles, holders)) for one, roles in judged.grants]
    blocking = [(grant, sets) for grant, sets in found if condition(grant.context.formula) is not True]
    denied = _by_role_set(blocking, partial(matcher.deny, Reason.CONTEXT), matcher.deny(Reason.ROLE))
    anew, scope = (partial(matcher.deny, reason) for reason in (Reason.STEP_UP, Reason.SCOPE))
    allowed = _met(found, matcher.allow, matcher.allow if judged.guarded else anew, denied)
    covered = _covered(judged, narrow)
    if covered is not None:
        allowed = matcher.first([(covered, allowed)], _met(found, scope, scope, denied))
    return allowed if judged.until is None else _observed(judged.until, allowed)


def _observed(until: datetime, judged: Json) -> Json:
    """A caller without a token passes to the guard, by the clock and no other word."""
    unknown = matcher.first([(came_before(until), matcher.allow(OBSERVE))], matcher.deny(Reason.TOKEN_MISSING))
    return matcher.first([(matcher.without(SUBJECT_HEADER), unknown)], judged)


def _met(found: Sequence[Held], decision: Decision, lacking: Decision, otherwise: Json) -> Json:
    """The first grant whose context holds; else, for a person, the first that lacks nothing but a better sign-in."""
    better = [
        (_with(grant, formula), sets)
        for grant, sets in found
        if (formula := stepped_up(grant.context.formula)) != grant.context.formula
    ]
    if better:
        signed_in = (somebody_signed_in(), _in_context(better, lacking, otherwise))
        otherwise = matcher.first([signed_in], otherwise)
    return _in_context(found, decision, otherwise)


def _with(grant: Grant, formula: Formula) -> Grant:
    return replace(grant, context=replace(grant.context, formula=formula))


def _held(names: Iterable[str], holders: Mapping[str, Sequence[str]]) -> frozenset[str]:
    return frozenset(name for role in names for name in holders.get(role, ()))


def _in_context(found: Iterable[Held], decision: Decision, otherwise: Json) -> Json:
    """Grants one after the other that hold in the same context share one look at it, and one map."""
    for formula, run in reversed([(key, list(run)) for key, run in groupby(found, lambda one: one[0].context.formula)]):
        holds = condition(formula)
        if holds is True:
            otherwise = _by_role_set(run, decision, otherwise)
        elif holds is not False:
            chosen = _by_role_set(run, decision, None)
            otherwise = matcher.first([(holds, chosen)], otherwise) if chosen else otherwise
    return otherwise


def _by_role_set(found: Iterable[Held], decision: Decision, otherwise: Json | None) -> Json:
    """For each role set the first of the grants that it holds: one look, however many there are."""
    lists, known = [], frozenset[str]()
    for grant, sets in found:
        lists.append((sets - known, decision(grant.id)))
        known |= sets
    return matcher.among("x-gw-rs", lists, otherwise)


class Signals(Struct, frozen=True, kw_only=True):
    """Revocation keys are "kind:value"; `blocked` are CIDR texts; `lease_until` None keeps the gate open. `asks`: the guard, after
    it.
    """

    revoked_hot: tuple[str, ...] = ()
    revoked_cold: Collection[str] = ()
    blocked: tuple[str, ...] = ()
    lease_until: int | None = None
    asks: bool = False


def signal_resources(signals: Signals) -> Resources:
    """The files of the three filters; pure."""
    hot = hot_filter(signals.revoked_hot, signals.lease_until, asks=signals.asks)
    return dict([blocked_filter(signals.blocked), cold_filter(signals.revoked_cold), hot])


def blocked_filter(blocked: Collection[str]) -> tuple[str, Json]:
    if not blocked:
        return matcher.nothing("blocked")
    listed = ranges(sorted(set(blocked)))
    if len(listed) > RANGES_MAX:
        raise OurFault("too-many-blocks", f"{len(blocked)} blocked networks: {len(listed)} ranges, over {RANGES_MAX}")
    chosen = [{"ranges": listed, "on_match": matcher.refuse(Reason.ADDRESS_BLOCKED)}]
    trie = extension("blocked", "xds.type.matcher.v3.IPMatcher", range_matchers=chosen)
    tree = {"matcher_tree": {"input": matcher.source_address(), "custom_match": trie}}
    return matcher.exceptions("blocked", {"matcher": {**tree, "on_no_match": matcher.skip()}})


def cold_filter(keys: Iterable[str]) -> tuple[str, Json]:
    return _refusing("revoked-cold", keys, matcher.skip())


def hot_filter(keys: Iterable[str], lease_until: int | None, *, asks: bool = False) -> tuple[str, Json]:
    """With the lease, which is renewed every few seconds: both files are small."""
    return _refusing("revoked-hot", keys, _lease(lease_until, asks=asks))


def _refusing(name: str, keys: Iterable[str], otherwise: Json) -> tuple[str, Json]:
    """One list for each kind of key, each falling through to the next; no token here carries a kind that only another
    version knows.
    """
    by_kind: dict[str, set[str]] = defaultdict(set)
    for key in keys:
        kind, _, value = key.partition(":")
        by_kind[kind].add(value)
    for kind in sorted(REVOCABLE.keys() & by_kind, reverse=True):
        otherwise = matcher.among(REVOCABLE[kind], [(by_kind[kind], matcher.refuse(Reason.TOKEN_REVOKED))], otherwise)
    return matcher.nothing(name) if otherwise == matcher.skip() else matcher.exceptions(name, otherwise)


def _lease(until: int | None, *, asks: bool) -> Json:
    """The gate closes by itself when nobody renews the lease, or has the guard look at every caller: without anyone acting."""
    if until is None:
        return matcher.skip()
    in_time = came_before(datetime.fromtimestamp(until, UTC))
    lapsed = matcher.execute(_standing()) if asks else matcher.refuse(Reason.CLOSED)
    return matcher.first([(in_time, matcher.skip())], lapsed)


def _standing() -> Json:
    """The guard's word on what was revoked, and on who signed what has a role set: it reads both from the store."""
    told = "authorization", "host", CLAIM_HEADERS["rs"], *REVOCABLE.values()
    service, asked = guard_service("/standing"), {"patterns": [{"exact": name} for name in told]}
    return extension("standing", EXT_AUTHZ, http_service=service, allowed_headers=asked, **FIXED["unanswered"])
