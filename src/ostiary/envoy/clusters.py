"""Where requests go: each ERP, the guard and the identity server."""

from collections.abc import Sequence
from typing import Final
from urllib.parse import SplitResult, urlsplit

from ostiary.envoy.edge import Edge, Json
from ostiary.envoy.message import resource_file, typed
from ostiary.foundation.ids import content_hash
from ostiary.plan.model import Plan, System

CLUSTER: Final = "envoy.config.cluster.v3.Cluster"
CONNECT_TIMEOUT: Final = "3s"
BUFFER_MAX_BYTES: Final = 32 * 1024
CIRCUIT: Final = {"max_connections": 1024, "max_pending_requests": 1024, "max_requests": 4096, "max_retries": 0}
HTTP_OPTIONS: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


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
    """An ERP that doesn't answer is shown as unavailable at once, not tried by every caller in turn."""
    at = urlsplit(system.upstream)
    secure = at.scheme == "https"
    host, port = at.hostname or "", at.port or (443 if secure else 80)
    return _cluster(
        cluster_name(system),
        {"socket_address": {"address": host, "port_value": port}},
        type="STRICT_DNS",
        dns_lookup_family="ALL",
        common_lb_config={"healthy_panic_threshold": {"value": 0}},
        health_checks=[_health_check()],
        outlier_detection={"consecutive_gateway_failure": 20, "base_ejection_time": "5s", "max_ejection_percent": 50},
        **({"transport_socket": _tls(at, edge)} if secure else {}),
    )


def _cluster(name: str, address: Json, **more: Json) -> Json:
    options = {"explicit_http_config": {"http_protocol_options": {}}, "common_http_protocol_options": {"idle_timeout": "55s"}}  # fmt: skip
    return typed(
        CLUSTER,
        name=name,
        connect_timeout=CONNECT_TIMEOUT,
        per_connection_buffer_limit_bytes=BUFFER_MAX_BYTES,
        circuit_breakers={"thresholds": [CIRCUIT]},
        load_assignment={
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
        typed_extension_protocol_options={HTTP_OPTIONS: typed(HTTP_OPTIONS, **options)},
        **more,
    )


def _health_check() -> Json:
    """A connection is enough: an ERP has no path that answers everybody."""
    every = {"interval": "5s", "no_traffic_interval": "5s", "unhealthy_interval": "2s"}
    return {**every, "timeout": "2s", "unhealthy_threshold": 2, "healthy_threshold": 1, "tcp_health_check": {}}


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
    upstream = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
    sni = {} if kind == "IP_ADDRESS" else {"sni": host}
    return {"name": "tls", "typed_config": typed(upstream, **sni, common_tls_context=context)}
