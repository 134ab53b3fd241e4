"""From plan and population to the files that Envoy reads, routes above all: pure, no clock, socket, database or randomness.

Routes lead from host, method and path to operation, class and upstream, by maps. A list of routes is walked from its head
(1,000 routes halve the throughput); maps are flat. Templates share small lists below their literal head. Whatever no map
knows is refused, after the token was checked, as unknown. A path is matched without its query, after normalisation, and
only in the characters named here.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import takewhile
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from ostiary.envoy import caller, matcher, upstream
from ostiary.envoy.access import METADATA, STEP_UP, AccessClass, Classes, classes_of, policy_filter, spaced
from ostiary.envoy.listener import ANSWER, ORDER, listener_file, on_every_answer
from ostiary.envoy.resource import CALL_HEADER, FIXED, Edge, Json, Resources, place, typed, versioned
from ostiary.erp.operation import covering_scopes
from ostiary.plan.decide import HEADER, RoleSets
from ostiary.plan.model import HandOver, Plan, Route, Source, System

PART_ROUTES: Final = 5_000
ROUTES: Final = "envoy.config.route.v3.RouteConfiguration"
ROUTE: Final = "envoy.config.route.v3.Route"
OFF: Final = typed("envoy.config.route.v3.FilterConfig", disabled=True)
NOT_LOOKED_INTO: Final = {
    upstream.TELL: OFF,
    "guard": OFF,
    ANSWER: OFF,
    "body": upstream.body_limit(upstream.NO_BODY_BYTES),
}  # the rule of a host
# One segment: RFC 3986 pchar without ';' and without escapes, but for a space and the bytes of UTF-8 text.
SEGMENT: Final = r"(?:[A-Za-z0-9._~!$&'()*+,=:@-]|%(?:20|[89A-Fa-f][0-9A-Fa-f]))+"
# Escapes of UTF-8 (RFC 3629 section 4), without control characters and U+2000 to U+207F, which hide or turn text.
_NEXT: Final = "%[89ABab][0-9A-Fa-f]"
UTF8: Final = "|".join(
    [
        "%20",
        f"%[Cc]2%[ABab][0-9A-Fa-f]|%(?:[Cc][3-9A-Fa-f]|[Dd][0-9A-Fa-f]){_NEXT}",
        f"%[Ee]0%[ABab][0-9A-Fa-f]{_NEXT}|%[Ee]2%(?:8[2-9A-Fa-f]|[9ABab][0-9A-Fa-f]){_NEXT}",
        f"%[Ee](?:[13-9A-CEFa-cef]{_NEXT}|[Dd]%[89][0-9A-Fa-f]){_NEXT}",
        f"%[Ff](?:0%(?:9[0-9A-Fa-f]|[ABab][0-9A-Fa-f])|[1-3]{_NEXT}|4%8[0-9A-Fa-f]){_NEXT}{_NEXT}",
    ]
)
NO_UTF8: Final = matcher.both(
    [matcher.contains(CALL_HEADER, "%"), {"not_matcher": matcher.regex(CALL_HEADER, f"(?:[^%]|{UTF8})*")}]
)
METADATA_PATH: Final = "/.well-known/oauth-authorization-server/identity"  # RFC 8414 section 3.1
FORM_MAX_BYTES: Final = 32 * 1024  # of the identity server, which reads less: strangers fill no memory
SCIM_MAX_BYTES: Final = 256 * 1024  # of a directory that keeps users here: a group of some thousands
UPSTREAM_TIMEOUT: Final = "60s"
REMEMBERED_MAX: Final = 20_000  # routes, as long as a document may have
# A route of the identity server: it checks its callers itself; blocked addresses and address limits still hold.
UNTOUCHED: Final = tuple(one for one in ORDER if one not in ("mark", "blocked", "address-limit", "body", upstream.TELL))


class Population(Struct, frozen=True, kw_only=True):
    """What the directory says: role-set id -> roles, the public keys of access tokens, how many may call, and
    (system, principal) -> header -> the file with its value, where a system takes a key, and registered devices:
    fingerprint -> principal. `draft` is asked too, and not obeyed.
    """

    role_sets: RoleSets
    jwks: Mapping[str, Any]
    callers: int = 0
    keys: Mapping[tuple[str, str], Mapping[str, str]] = {}
    devices: Mapping[str, str] = {}
    draft: Plan | None = None


def translate(plan: Plan, population: Population, edge: Edge) -> Resources:
    """Everything that follows from policy and population; the listener follows from `edge` alone."""
    return {**beside_routes(plan, population, edge), "rds.json": route_file(plan, classes_of(plan), edge)}


def beside_routes(plan: Plan, population: Population, edge: Edge) -> Resources:
    """All of it but the routes, which follow from the policy alone."""
    return dict(
        [
            ("lds.json", listener_file(edge)),
            caller.address_filter(plan),
            caller.caller_filter(plan, population.role_sets, population.callers),
            upstream.body_filter(),
            caller.bound_filter(caller.proof_filter(plan, population.role_sets, population.callers)),
            upstream.inject_filter(plan, population.keys),
            *_tables((plan,), classes_of(plan).used, population, edge),
        ]
    )


def bridge(before: Plan, plan: Plan, population: Population, edge: Edge) -> Resources:
    """What routes rest on, for the routes of both plans at once: in force while the routes change, it lets every
    request be judged by one revision.
    """
    used = {**classes_of(before).used, **classes_of(plan).used}
    return dict(_tables((before, plan), used, population, edge))


def news(before: Plan, plan: Plan, edge: Edge) -> list[Json]:
    """The route file of `plan` without the routes that are the same in that of `before`, which Envoy has read.

    A large one in parts, to be read side by side: Envoy takes a second for 10,000 routes.
    """
    known, said = _meanings(before), _meanings(plan)
    fresh = tuple(route for route, meaning in said.items() if meaning != known.get(route))
    parts = [fresh[at : at + PART_ROUTES] for at in range(0, len(fresh), PART_ROUTES)] or [()]
    return [route_file(replace(plan, routes=part), classes_of(plan), edge) for part in parts]


def _meanings(plan: Plan) -> dict[Route, tuple[System, str, int]]:
    """All that a route's part of the file rests on, wherever in the policy it stands."""
    nowhere, classes = Source(file="", line=0, text=""), classes_of(plan)
    systems = {one.name: replace(one, source=nowhere) for one in plan.systems}
    most = plan.limits.body_bytes
    return {route: (systems[route.system], classes.of_route(route).id, most) for route in plan.routes}


def _tables(
    plans: Sequence[Plan], used: Mapping[str, AccessClass], population: Population, edge: Edge
) -> list[tuple[str, Json]]:
    """Upstreams, audiences, classes, scopes and headers: each of them found by what a route names."""
    asked = (*plans, population.draft) if population.draft else plans
    return [
        ("cds.json", upstream.cluster_file(plans, edge)),
        caller.token_filter(plans, population.jwks, edge, asked),
        *caller.country_filter(asked, edge),
        *caller.device_filter(asked, population.devices, edge),
        policy_filter(plans, used, population.role_sets, edge.zone, population.draft),
        upstream.guard_filter(plans),
        upstream.strip_filter(plans),
    ]


def route_file(plan: Plan, classes: Classes, edge: Edge) -> Json:
    """The one route configuration."""
    by_host: dict[str, list[System]] = defaultdict(list)
    by_host[edge.host] = []
    for system in plan.systems:
        by_host[system.host].append(system)
    hosts = [_host(host, systems, plan, classes, edge) for host, systems in sorted(by_host.items())]
    hosts.append(_virtual("elsewhere", "*", plan, _refused("-")))
    headers = on_every_answer(edge)
    return versioned([typed(ROUTES, virtual_hosts=hosts, response_headers_to_add=headers, **FIXED["routes"])])


def _host(host: str, systems: Sequence[System], plan: Plan, classes: Classes, edge: Edge) -> Json:
    """The longest prefix finds the system; a system refuses by itself what it doesn't know."""
    places: dict[str, Json] = {f"{system.prefix}/": _system(system, plan, classes) for system in systems}
    if host == edge.host:
        places["/identity/"] = _safe("/identity/", _identity())
        places["/identity/scim/v2/"] = _safe("/identity/scim/v2/", _identity(SCIM_MAX_BYTES))
        places[METADATA_PATH] = matcher.first([(_path(re.escape(METADATA_PATH)), _identity())], _refused("-"))
    found = matcher.prefix(CALL_HEADER, places, _refused("-"))
    found = matcher.first([(NO_UTF8, _refused("-"))], found)
    return _virtual(host, host, plan, found, typed_per_filter_config=NOT_LOOKED_INTO)


def _virtual(name: str, domain: str, plan: Plan, found: Json, **more: Json) -> Json:
    facts = _facts(revision=plan.revision)
    return {"name": name, "domains": [domain], "metadata": facts, "matcher": matcher.whole(found), **more}


def _system(system: System, plan: Plan, classes: Classes) -> Json:
    """Templates stand in lists below their literal heads. Where a list has no match, Envoy goes on with the next shorter
    head.
    """
    if system.guarded:
        name = f"{classes.of_system(system.name).id} {system.name}/-"  # the operation is for the guard to find
        return _safe(f"{system.prefix}/", _to(system, name, overrides=upstream.looked_into(plan.limits.body_bytes)))
    exact: dict[str, Json] = {}
    lists: dict[str, list[tuple[Json, Json]]] = defaultdict(list)
    routes = [route for route in plan.routes if route.system == system.name]
    unknown = _refused(system.name, observed=system.observe_until is not None)
    for head, forms in _spelt_otherwise(routes).items():
        pattern = f"{re.escape(system.prefix)}(?:{'|'.join(forms)})(?:/[^ ]*)? [^ ]+"
        lists[system.prefix + head].append((matcher.regex(CALL_HEADER, pattern), unknown))
    for route in sorted(routes, key=_specificity):
        decision = _native(system, route, classes, plan.limits.body_bytes)
        head, templated, _ = route.template.partition("{")
        if templated:
            lists[system.prefix + head].append((_call(system, route), decision))
        else:
            exact[f"{system.prefix}{route.template} {route.method.upper()}"] = decision
    below = {head: matcher.first(cases, None) for head, cases in sorted(lists.items())}
    return matcher.exact(CALL_HEADER, exact, matcher.prefix(CALL_HEADER, below, unknown))


def _spelt_otherwise(routes: Sequence[Route]) -> Mapping[str, list[str]]:
    """By literal head: the forms of paths that have the literal beside a parameter in other letters, capital or small.

    It is no value of the parameter: to a system that makes no difference between them it is the other operation.
    """
    below: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for route in routes:
        segments = ["{" if one.startswith("{") else one for one in route.template.split("/")]
        for n, segment in enumerate(segments[1:], 1):
            below[tuple(segments[:n])].add(segment)
    found: dict[str, list[str]] = defaultdict(list)
    for before, names in below.items():
        forms = [form for name in sorted(names - {"{"}) for form in _in_other_letters(name)] if "{" in names else []
        if forms:
            steps = [SEGMENT if one == "{" else re.escape(one) for one in before]
            found[f"{'/'.join(takewhile('{'.__ne__, before))}/"].append(f"{'/'.join(steps)}/(?:{'|'.join(forms)})")
    return found


def _in_other_letters(name: str) -> Iterator[str]:
    """By the first letter that is another."""
    for n, char in enumerate(name):
        if char.isalpha():
            yield f"{re.escape(name[:n])}{char.swapcase()}(?i:{re.escape(name[n + 1 :])})"


def _specificity(route: Route) -> tuple[tuple[bool, ...], str]:
    """Literal segments before `{name}`, from the left."""
    return tuple("{" in segment for segment in route.template.split("/")), route.template


def _call(system: System, route: Route) -> Json:
    pieces = re.split(r"\{[^{}]*\}", route.template)
    pattern = SEGMENT.join(re.escape(piece) for piece in pieces)
    return matcher.regex(CALL_HEADER, f"{re.escape(system.prefix)}{pattern} {route.method.upper()}")


def _safe(prefix: str, decision: Json) -> Json:
    """Any path below `prefix` in harmless characters."""
    return matcher.first([(_path(f"{re.escape(prefix)}(?:{SEGMENT}/?)*"), decision)], _refused("-"))


def _path(pattern: str) -> Json:
    return matcher.regex(CALL_HEADER, f"{pattern} [^ ]+")


def _native(system: System, route: Route, classes: Classes, body_bytes: int) -> Json:
    judged = classes.of_route(route)
    shown = body_bytes if judged.guarded or route.inspect or system.hand_over is HandOver.OAUTH else None
    return _written(system, route, judged.id, judged.challenges, shown)


@lru_cache(maxsize=REMEMBERED_MAX)
def _written(
    system: System, route: Route, class_id: str, challenges: tuple[tuple[str, str], ...], shown_bytes: int | None
) -> msgspec.Raw:
    """As the file has it: from one revision to the next most routes stay the same. `shown_bytes`: to the guard."""
    operation = route.operation
    scopes = [spaced(scope) for scope in covering_scopes(operation)]
    facts = _facts(scopes=scopes, **({STEP_UP: dict(challenges)} if challenges else {}))
    name = f"{class_id} {operation.permission}"
    overrides = {} if shown_bytes is None else upstream.looked_into(shown_bytes)
    told = _to(system, name, upstream.given(system, route), metadata=facts, overrides=overrides)
    return msgspec.Raw(msgspec.json.encode(told))


def _to(
    system: System, name: str, added: Sequence[Json] = (), *,
    overrides: Mapping[str, Json] = {}, metadata: Json | None = None,
) -> Json:  # fmt: skip
    """A route's name is what the gate knows of a request: access class and operation. Names cost less than metadata."""
    address, handed = urlsplit(system.upstream), system.hand_over is not HandOver.NONE
    cluster = upstream.cluster_name(system)
    target = {"cluster": cluster, "host_rewrite_literal": address.netloc, "timeout": UPSTREAM_TIMEOUT}
    if (there := address.path.rstrip("/")) != system.prefix:
        target["prefix_rewrite"] = f"{there}/"
    return _route(
        name=name,
        match={"prefix": f"{system.prefix}/"},
        route=target,
        **({"metadata": metadata} if metadata else {}),
        **({"request_headers_to_add": added} if added else {}),
        typed_per_filter_config={**overrides, **({ANSWER: upstream.ON} if handed and not system.observe_until else {})},
        response_headers_to_remove=["set-cookie", HEADER],  # only our own servers give reasons
    )


def _identity(most: int = FORM_MAX_BYTES) -> Json:
    passes = {upstream.TELL: upstream.ON, **dict.fromkeys(UNTOUCHED, OFF), "body": upstream.body_limit(most)}
    return _route(
        match={"prefix": "/"},
        name=f"{place('-')} -/-",
        route={"cluster": "identity", "timeout": UPSTREAM_TIMEOUT},
        typed_per_filter_config=passes,
    )


def _refused(system: str, *, observed: bool = False) -> Json:
    """The access table denies the class before this answer would be given."""
    return _route(
        match={"prefix": "/"}, name=f"{place(system, observed=observed)} {system}/-", direct_response={"status": 403}
    )


def _route(**fields: Json) -> Json:
    return {"action": {"name": "route", "typed_config": typed(ROUTE, **fields)}}


def _facts(**facts: Json) -> Json:
    return {"filter_metadata": {METADATA: facts}}
