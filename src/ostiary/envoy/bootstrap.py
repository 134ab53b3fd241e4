"""Envoy's first file: where the others are, the admin socket, and when to shed load."""

from typing import Final

from ostiary.envoy.edge import FIXED, Edge, Json
from ostiary.envoy.listener import watched
from ostiary.envoy.message import extension

ADMIN_MODE: Final = 0o600
CONNECTIONS: Final = "envoy.resource_monitors.global_downstream_max_connections"
COUNTED: Final = "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig"


def bootstrap(edge: Edge) -> Json:
    """Pure; the same for every policy."""
    overload = FIXED["overload"]
    counted = extension(CONNECTIONS, COUNTED, max_active_downstream_connections=edge.connections)
    return {
        "node": {"id": edge.node, "cluster": "ostiary"},
        "admin": {"address": {"pipe": {"path": str(edge.home.socket("envoy")), "mode": ADMIN_MODE}}},
        "dynamic_resources": {"lds_config": watched(edge, "lds.json"), "cds_config": watched(edge, "cds.json")},
        "layered_runtime": {"layers": [{"name": "fixed", "static_layer": FIXED["runtime"]}]},
        "overload_manager": {**overload, "resource_monitors": [*overload["resource_monitors"], counted]},
    }
