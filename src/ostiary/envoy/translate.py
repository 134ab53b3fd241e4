"""From plan and population to the files that Envoy reads: pure, no clock, socket, database or randomness."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from ostiary.envoy.access import AccessClass, Classes, operation_of, policy_filter, scope_filter
from ostiary.envoy.clusters import cluster_file
from ostiary.envoy.edge import Edge, Json, Resources
from ostiary.envoy.guard_call import body_filter, guard_filter
from ostiary.envoy.handover import strip_filter
from ostiary.envoy.inject import inject_filter
from ostiary.envoy.limits import address_filter, caller_filter
from ostiary.envoy.listener import listener_file
from ostiary.envoy.routes import route_file
from ostiary.envoy.token import token_filter
from ostiary.plan.decide import RoleSets
from ostiary.plan.model import Plan, Route, Source, System


def translate(
    plan: Plan,
    *,
    role_sets: RoleSets,
    jwks: Mapping[str, Any],
    edge: Edge,
    principals: Mapping[str, str],
    static_credentials: Mapping[tuple[str, str], str] = {},
) -> Resources:
    """Everything that follows from policy and population; the listener follows from `edge` alone.

    `principals`: principal id -> role-set id. `static_credentials`: (system, principal) -> Authorization value.
    """
    classes = Classes(plan)
    return dict(
        [
            ("lds.json", listener_file(edge)),
            ("rds.json", route_file(plan, classes, edge)),
            address_filter(plan),
            caller_filter(plan, role_sets, principals),
            body_filter(),
            inject_filter(plan, static_credentials),
            *_tables((plan,), classes.used, role_sets, jwks, edge),
        ]
    )


def bridge(before: Plan, plan: Plan, *, role_sets: RoleSets, jwks: Mapping[str, Any], edge: Edge) -> Resources:
    """What routes rest on, for the routes of both plans at once: in force while the routes change, it lets every
    request be judged by one revision.
    """
    used = {**Classes(before).used, **Classes(plan).used}
    return dict(_tables((before, plan), used, role_sets, jwks, edge))


def news(before: Plan, plan: Plan, edge: Edge) -> Json:
    """The route file of `plan` without the routes that are the same in that of `before`, which Envoy has read."""
    classes = Classes(plan)
    known, said = _meanings(before, Classes(before)), _meanings(plan, classes)
    return route_file(replace(plan, routes=tuple(one for one in said if said[one] != known.get(one))), classes, edge)


def _meanings(plan: Plan, classes: Classes) -> dict[Route, tuple[System, str]]:
    """All that a route's part of the file rests on, wherever in the policy it stands."""
    nowhere = Source(file="", line=0, text="")
    systems = {one.name: replace(one, source=nowhere) for one in plan.systems}
    return {route: (systems[route.system], classes.of(operation_of(route)).id) for route in plan.routes}


def _tables(
    plans: Sequence[Plan], used: Mapping[str, AccessClass], role_sets: RoleSets, jwks: Mapping[str, Any], edge: Edge
) -> list[tuple[str, Json]]:
    """Upstreams, audiences, classes, scopes and headers: each of them found by what a route names."""
    return [
        ("cds.json", cluster_file(plans, edge)),
        token_filter(plans, jwks, edge),
        policy_filter(used, role_sets),
        scope_filter(plans),
        guard_filter(plans),
        strip_filter(plans),
    ]
