"""Envoy's first file: where the others are, the admin socket, and when to shed load."""

from typing import Final

from ostiary.envoy.edge import Edge, Json
from ostiary.envoy.listener import watched
from ostiary.envoy.message import extension

ADMIN_MODE: Final = 0o600
TRACKED_POWER: Final = 20  # requests that hold a mebibyte and more
# Of a regular expression: alternatives of a thousand role sets; Envoy's default refuses above 100.
RUNTIME: Final = dict.fromkeys(("re2.max_program_size.error_level", "re2.max_program_size.warn_level"), 1_000_000)


def bootstrap(edge: Edge) -> Json:
    """Pure; the same for every policy."""
    return {
        "node": {"id": edge.node, "cluster": "ostiary"},
        "admin": {"address": {"pipe": {"path": str(edge.home.socket("envoy")), "mode": ADMIN_MODE}}},
        "dynamic_resources": {"lds_config": watched(edge, "lds.json"), "cds_config": watched(edge, "cds.json")},
        "layered_runtime": {"layers": [{"name": "fixed", "static_layer": RUNTIME}]},
        "overload_manager": _overload(edge),
    }


def _overload(edge: Edge) -> Json:
    heap = "envoy.resource_monitors.fixed_heap"
    connections = "envoy.resource_monitors.global_downstream_max_connections"
    heap_config = "envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig"
    count_config = "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig"
    return {
        "refresh_interval": "0.25s",
        "resource_monitors": [
            extension(heap, heap_config, max_heap_size_bytes=edge.heap_bytes),
            extension(connections, count_config, max_active_downstream_connections=edge.connections),
        ],
        "buffer_factory_config": {"minimum_account_to_track_power_of_two": TRACKED_POWER},
        "actions": [
            {"name": "envoy.overload_actions.reset_high_memory_stream", "triggers": [_between(heap, 0.85, 0.95)]},
            _above("envoy.overload_actions.shrink_heap", heap, 0.95),
            _above("envoy.overload_actions.stop_accepting_requests", heap, 0.98),
        ],
    }


def _between(monitor: str, low: float, high: float) -> Json:
    """The fuller, the more of the largest requests are given up: those who send them lose, not everybody."""
    return {"name": monitor, "scaled": {"scaling_threshold": low, "saturation_threshold": high}}


def _above(action: str, monitor: str, value: float) -> Json:
    return {"name": action, "triggers": [{"name": monitor, "threshold": {"value": value}}]}
