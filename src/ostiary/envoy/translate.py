"""From plan and population to the files that Envoy reads: pure, no clock, socket, database or randomness."""

from collections.abc import Mapping
from typing import Any

from ostiary.envoy.access import Classes, policy_filter, scope_filter
from ostiary.envoy.clusters import cluster_file
from ostiary.envoy.edge import Edge, Resources
from ostiary.envoy.guard_call import body_filter, guard_filter
from ostiary.envoy.handover import strip_filter
from ostiary.envoy.inject import inject_filter
from ostiary.envoy.limits import address_filter, caller_filter
from ostiary.envoy.listener import listener_file
from ostiary.envoy.routes import route_file
from ostiary.envoy.token import token_filter
from ostiary.plan.decide import RoleSets
from ostiary.plan.model import Plan


def translate(
    plan: Plan,
    *,
    role_sets: RoleSets,
    jwks: Mapping[str, Any],
    edge: Edge,
    principals: Mapping[str, str],
    static_credentials: Mapping[tuple[str, str], str] = {},
    before: Plan | None = None,
) -> Resources:
    """Everything that follows from policy and population; the listener follows from `edge` alone.

    `principals`: principal id -> role-set id. `static_credentials`: (system, principal) -> Authorization value.
    With `before`, what routes rest on (tables, upstreams, audiences) serves the routes of both plans: in force before
    the new routes are, it lets every request be judged by one revision.
    """
    plans = (plan,) if before is None else (before, plan)
    classes = Classes(plan)
    used = classes.used(plan) if before is None else {**Classes(before).used(before), **classes.used(plan)}
    return dict(
        [
            ("lds.json", listener_file(edge)),
            ("cds.json", cluster_file(plans, edge)),
            ("rds.json", route_file(plan, classes, edge)),
            address_filter(plan),
            token_filter(plans, jwks, edge),
            policy_filter(used, role_sets),
            scope_filter(plans),
            caller_filter(plan, role_sets, principals),
            body_filter(),
            guard_filter(plans),
            inject_filter(plan, static_credentials),
            strip_filter(plans),
        ]
    )
