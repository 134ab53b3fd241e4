"""Where requests go: each ERP, the guard and the identity server."""

from collections.abc import Sequence
from typing import Final
from urllib.parse import SplitResult, urlsplit

from ostiary.envoy.edge import FIXED, Edge, Json
from ostiary.envoy.message import extension, resource_file, typed
from ostiary.foundation.ids import content_hash
from ostiary.plan.model import Plan, System

CLUSTER: Final = "envoy.config.cluster.v3.Cluster"
UPSTREAM_TLS: Final = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"


def cluster_file(plans: Sequence[Plan], edge: Edge) -> Json:
    """The upstreams of all of `plans`, and our own."""
    systems = {cluster_name(system): system for plan in plans for system in plan.systems}
    inside = [_inside("identity", edge), _inside("guard", edge)]
    return resource_file([*inside, *(_system(systems[name], edge) for name in sorted(systems))])


def cluster_name(system: System) -> str:
    """Another upstream is another cluster: a request goes where the revision that judged it says."""
    return f"system-{system.name}-{content_hash(system.upstream.encode(), chars=8)}"


def _inside(name: str, edge: Edge) -> Json:
    return _cluster(name, {"pipe": {"path": str(edge.home.socket(name))}}, type="STATIC")


def _system(system: System, edge: Edge) -> Json:
    at = urlsplit(system.upstream)
    secure = at.scheme == "https"
    host, port = at.hostname or "", at.port or (443 if secure else 80)
    return _cluster(
        cluster_name(system),
        {"socket_address": {"address": host, "port_value": port}},
        **FIXED["system"],
        **({"transport_socket": _tls(at, edge)} if secure else {}),
    )


def _cluster(name: str, address: Json, **more: Json) -> Json:
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
    assigned = {"cluster_name": name, "endpoints": endpoints}
    return typed(CLUSTER, name=name, load_assignment=assigned, **FIXED["cluster"], **more)


def _tls(at: SplitResult, edge: Edge) -> Json:
    """Verified up to a trusted authority and for the very name."""
    host = at.hostname or ""
    kind = "IP_ADDRESS" if host.replace(".", "").isdigit() or ":" in host else "DNS"
    name = {"san_type": kind, "matcher": {"exact": host}}
    trusted = {"filename": str(edge.upstream_authorities)}
    context = {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
        "validation_context": {"trusted_ca": trusted, "match_typed_subject_alt_names": [name]},
    }
    sni = {} if kind == "IP_ADDRESS" else {"sni": host}
    return extension("tls", UPSTREAM_TLS, **sni, common_tls_context=context)
