"""From plan and population to the files that Envoy reads: pure, no clock, socket, database or randomness."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from ostiary.envoy.access import AccessClass, classes_of, policy_filter
from ostiary.envoy.bound import bound_filter
from ostiary.envoy.clusters import cluster_file
from ostiary.envoy.country import country_filter
from ostiary.envoy.device import device_filter
from ostiary.envoy.edge import Edge, Json, Resources
from ostiary.envoy.guard_call import body_filter, guard_filter
from ostiary.envoy.handover import inject_filter, strip_filter
from ostiary.envoy.limits import address_filter, caller_filter, proof_filter
from ostiary.envoy.listener import listener_file
from ostiary.envoy.routes import route_file
from ostiary.envoy.token import token_filter
from ostiary.plan.decide import RoleSets
from ostiary.plan.model import Plan, Route, Source, System

PART_ROUTES: Final = 5_000


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
            address_filter(plan),
            caller_filter(plan, population.role_sets, population.callers),
            body_filter(),
            bound_filter(proof_filter(plan, population.role_sets, population.callers)),
            inject_filter(plan, population.keys),
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
        ("cds.json", cluster_file(plans, edge)),
        token_filter(plans, population.jwks, edge, asked),
        *country_filter(asked, edge),
        *device_filter(asked, population.devices, edge),
        policy_filter(plans, used, population.role_sets, edge.zone, population.draft),
        guard_filter(plans),
        strip_filter(plans),
    ]
