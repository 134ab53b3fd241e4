"""Envoy's first file: where the others are, the admin socket, and when to shed load."""

from typing import Final

from ostiary.envoy.edge import FIXED, Edge, Json
from ostiary.envoy.listener import watched
from ostiary.envoy.message import extension

ADMIN_MODE: Final = 0o600
MONITORS: Final = "envoy.resource_monitors"
MONITOR_TYPES: Final = "envoy.extensions.resource_monitors"


def bootstrap(edge: Edge) -> Json:
    """Pure; the same for every policy."""
    return {
        "node": {"id": edge.node, "cluster": "ostiary"},
        "admin": {"address": {"pipe": {"path": str(edge.home.socket("envoy")), "mode": ADMIN_MODE}}},
        "dynamic_resources": {"lds_config": watched(edge, "lds.json"), "cds_config": watched(edge, "cds.json")},
        "layered_runtime": {"layers": [{"name": "fixed", "static_layer": FIXED["runtime"]}]},
        "overload_manager": {**FIXED["overload"], "resource_monitors": _monitors(edge)},
    }


def _monitors(edge: Edge) -> list[Json]:
    """By whose measure the actions are taken; more connections than these are not accepted."""
    heap = f"{MONITOR_TYPES}.fixed_heap.v3.FixedHeapConfig"
    count = f"{MONITOR_TYPES}.downstream_connections.v3.DownstreamConnectionsConfig"
    most = {"max_active_downstream_connections": edge.connections}
    return [
        extension(f"{MONITORS}.fixed_heap", heap, max_heap_size_bytes=edge.heap_bytes),
        extension(f"{MONITORS}.global_downstream_max_connections", count, **most),
    ]
