"""The listener, and the file that Envoy starts with: what is fixed while it runs. Nothing that policy can change stands here.

A changed listener leaves open connections on the old one until they drain (measured: 60 s and more), so every filter
that policy or a signal touches is a name here and a file below ecds/.
"""

from collections.abc import Sequence
from typing import Final

from ostiary.envoy.caller import DEVICE_HEADER, GEOIP, JWT, key_filter
from ostiary.envoy.condition import TIME_WORDS
from ostiary.envoy.edge import FIXED, Edge, Json
from ostiary.envoy.limits import LOCAL
from ostiary.envoy.matcher import FILTER_STATE, MUTATION, NOTHING, RBAC, WITH_MATCHER
from ostiary.envoy.message import (
    ANSWER,
    CALL_HEADER,
    CLASS_HEADER,
    DECISION_HEADER,
    TYPES,
    extension,
    header,
    typed,
    versioned,
)
from ostiary.envoy.refusal import local_replies
from ostiary.envoy.upstream import BUFFER, EXT_AUTHZ, TELL, bare_filter
from ostiary.event.record import KEPT, NONE, WRITTEN

LISTENER: Final = "envoy.config.listener.v3.Listener"
FILE_LOG: Final = "envoy.extensions.access_loggers.file.v3.FileAccessLog"
MANAGER: Final = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
CUSTOM: Final = "envoy.extensions.filters.http.custom_response.v3.CustomResponse"
TLS: Final = "envoy.extensions.transport_sockets.tls.v3"
CERTIFICATE: Final = "certificate.json"
# Changeable filter -> what its file may hold.
CHANGEABLE: Final = {
    "blocked": (WITH_MATCHER, NOTHING),
    "address-limit": (LOCAL,),
    "token": (JWT,),
    "country": (GEOIP, NOTHING),
    "device": (RBAC, NOTHING),
    "bound": (WITH_MATCHER,),
    "revoked-cold": (RBAC, NOTHING),
    "revoked-hot": (WITH_MATCHER, NOTHING),
    "policy": (RBAC,),
    "caller-limit": (LOCAL,),
    "body": (f"{BUFFER}.Buffer",),
    "guard": (EXT_AUTHZ,),
    "inject": (WITH_MATCHER, NOTHING),
    "strip": (MUTATION,),
}
# As a request meets them: cheap and anonymous first, the guard last.
ORDER: Final = (
    "mark", "blocked", "address-limit", "key", "token", "country", "device", "kept", "bound", "revoked-cold", "revoked-hot", "policy", "caller-limit", "body",
    TELL, "bare", "guard", "inject", "strip", ANSWER,
)  # fmt: skip
ADMIN_MODE: Final = 0o600
CONNECTIONS: Final = "envoy.resource_monitors.global_downstream_max_connections"
COUNTED: Final = "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig"


def listener_file(edge: Edge) -> Json:
    chain = {**FIXED["chain"], "filters": [extension("http", MANAGER, **_manager(edge))]}
    if not edge.plain:
        chain["transport_socket"] = _tls(edge)
    address = {"socket_address": {"address": edge.listen, "port_value": edge.port}}
    return versioned([typed(LISTENER, address=address, filter_chains=[chain], **FIXED["listener"])])


def _manager(edge: Edge) -> dict[str, Json]:
    """The address is the connection's, unless proxies in front are trusted by number; a certificate is the caller's."""
    return {
        **FIXED["manager"],
        "rds": {"route_config_name": "routes", "config_source": watched(edge, "rds.json")},
        "xff_num_trusted_hops": edge.trusted_hops,
        "early_header_mutation_extensions": [_early(edge)],
        **FIXED["no_certificate" if edge.client_ca is None else "certificate"],
        "local_reply_config": local_replies(edge),
        "access_log": [_log(edge)],
        "http_filters": _filters(edge),
    }


def _early(edge: Edge) -> Json:
    """Before anything reads them: every inside header that came from outside goes, ours are set.

    Envoy cleans its own x-envoy-* later than this, and `PATH` would prefer a caller's x-envoy-original-path to the
    path that is served: a caller then chose which path he is judged by.
    """
    mutations: list[Json] = [
        {"remove_on_match": {"key_matcher": {"prefix": "x-envoy-"}}},
        {"remove_on_match": {"key_matcher": {"prefix": "x-gw-"}}},
        {"append": header(CALL_HEADER, "%PATH(NQ:PATH)% %REQ(:METHOD)%")},
    ]
    if edge.client_ca is not None:
        mutations.append({"append": header(DEVICE_HEADER, "%DOWNSTREAM_PEER_FINGERPRINT_256%")})
    message = "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation"
    return extension("inside-headers", message, mutations=mutations)


def _log(edge: Edge) -> Json:
    """One JSON line for each request, which `event.record` reads."""
    nothing = {} if edge.client_ca else {"device": NONE}  # the filter that would say it is not there
    line = {
        key: " ".join((words | nothing)[word] for word in words).format(node=edge.node, decision=edge.decision)
        for key, words in WRITTEN.items()
    }
    form = {"json_format": line, "omit_empty_values": False}
    return extension("file", FILE_LOG, path=str(edge.home.access_log), log_format=form)


def _filters(edge: Edge) -> list[Json]:
    found = {name: _discovered(edge, name, messages) for name, messages in CHANGEABLE.items()}
    answer = extension(ANSWER, CUSTOM, **FIXED["answer"])
    found |= {one["name"]: one for one in (_mark(), key_filter(edge), _kept(edge), _tell(edge), bare_filter(), answer)}
    router = extension(
        "router", "envoy.extensions.filters.http.router.v3.Router", suppress_envoy_headers=True, dynamic_stats=False
    )
    without = {"country": edge.geoip, "device": edge.client_ca}
    return [*(found[name] for name in ORDER if without.get(name, edge) is not None), router]


def _mark() -> Json:
    """What the route found, and when, as a header: matchers read headers."""
    mutations = [{"append": header(CLASS_HEADER, f"%ROUTE_NAME% {TIME_WORDS}")}]
    return extension("mark", MUTATION, mutations={"request_mutations": mutations, "response_mutations": _told()})


def _kept(edge: Edge) -> Json:
    """Who asked for what, for the log."""
    words = KEPT if edge.geoip else {**KEPT, "country": NONE}
    text = {"text_format_source": {"inline_string": " ".join(words.values())}}
    kept = {"object_key": "ostiary.kept", "factory_key": "envoy.string", "format_string": text}
    return extension("kept", FILTER_STATE, on_request_headers=[kept])


def _tell(edge: Edge) -> Json:
    """What our own servers are told of a request. Earlier, trusted proxies don't count yet for its address."""
    facts = {
        DECISION_HEADER: edge.decision,
        "x-gw-source": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
        "x-gw-revision": "%METADATA(VIRTUAL_HOST:ostiary:revision)%",
    }
    if edge.client_ca is not None:
        facts["x-gw-client-cert"] = "%REQ(x-forwarded-client-cert)%"
    mutations = [{"append": header(name, value)} for name, value in facts.items()]
    return extension(TELL, MUTATION, mutations={"request_mutations": mutations})


def _told() -> list[Json]:
    """The names of draft-ietf-httpapi-ratelimit-headers-03 beside Envoy's, which begin with x- and which many know."""
    limits = [f"ratelimit-{what}" for what in ("limit", "remaining", "reset")]
    return [{"append": header(name, f"%RESP(x-{name})%")} for name in limits]


def _discovered(edge: Edge, name: str, messages: Sequence[str]) -> Json:
    """No default: until its file was read, the filter answers 500 to everything."""
    source = watched(edge, f"ecds/{name}.json")
    return {
        "name": name,
        "config_discovery": {"config_source": source, "type_urls": [TYPES + message for message in messages]},
    }


def watched(edge: Edge, name: str) -> Json:
    """A file that Envoy reads, and again when another takes its place."""
    return {"path_config_source": {"path": str(edge.home.envoy / name)}, "resource_api_version": "V3"}


def certificate_file(edge: Edge) -> Json:
    """The gate's certificate by discovery: only so does Envoy read it again when its files are replaced (measured)."""
    pair = {
        "certificate_chain": {"filename": str(edge.certificate)},
        "private_key": {"filename": str(edge.key)},
        "watched_directory": {"path": str(edge.certificate.parent)},
    }
    return versioned([typed(f"{TLS}.Secret", name="gate", tls_certificate=pair)])


def _tls(edge: Edge) -> Json:
    context: dict[str, Json] = {
        "tls_params": {"tls_minimum_protocol_version": f"TLSv{edge.tls_minimum.replace('.', '_')}"},
        "alpn_protocols": ["h2", "http/1.1"],
        "tls_certificate_sds_secret_configs": [{"name": "gate", "sds_config": watched(edge, CERTIFICATE)}],
    }
    if edge.client_ca is not None:
        known = {"trusted_ca": {"filename": str(edge.client_ca)}}
        taken = "ACCEPT_UNTRUSTED" if edge.any_client_certificate else "VERIFY_TRUST_CHAIN"
        context["validation_context"] = {**known, "trust_chain_verification": taken}
    downstream = typed(f"{TLS}.DownstreamTlsContext", common_tls_context=context, require_client_certificate=False)
    return {"name": "tls", "typed_config": downstream}


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
