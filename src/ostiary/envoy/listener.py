"""The listener, the refusals that the gate writes itself, and the file that Envoy starts with: what is fixed while it runs.

Nothing that policy can change stands here. A changed listener leaves open connections on the old one until they drain
(measured: 60 s and more), so every filter that policy or a signal touches is a name here and a file below ecds/.

A refusal is problem details (RFC 9457) with reason and decision. Who refused is told by the details that Envoy keeps of
its answer: a decision's name, or jwt_authn's. The first mapper that fits writes the answer; a refusal that the guard
wrote passes as it is.
"""

from collections.abc import Sequence
from typing import Final

from ostiary.envoy import matcher, resource
from ostiary.envoy.caller import DEVICE_HEADER, GEOIP, JWT, LOCAL, key_filter
from ostiary.envoy.condition import TIME_WORDS
from ostiary.envoy.matcher import FILTER_STATE, MUTATION, NOTHING, RBAC, WITH_MATCHER
from ostiary.envoy.resource import FIXED, Edge, Json, extension, header, typed, versioned
from ostiary.envoy.upstream import BUFFER, EXT_AUTHZ, TELL, bare_filter
from ostiary.event.record import KEPT, NONE, WRITTEN
from ostiary.foundation.api_key import WRONG
from ostiary.plan.decide import HEADER, NONCE_ASKED, Reason, problem

LISTENER: Final = "envoy.config.listener.v3.Listener"
FILE_LOG: Final = "envoy.extensions.access_loggers.file.v3.FileAccessLog"
MANAGER: Final = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
CUSTOM: Final = "envoy.extensions.filters.http.custom_response.v3.CustomResponse"
TLS: Final = "envoy.extensions.transport_sockets.tls.v3"
CERTIFICATE: Final = "certificate.json"
ANSWER: Final = "answer"  # the filter that looks at what the ERP answers
HSTS: Final = "max-age=31536000; includeSubDomains"  # RFC 6797
# Changeable filter -> what its file may hold.
CHANGEABLE: Final = {
    "blocked": (WITH_MATCHER, NOTHING),
    "address-limit": (LOCAL,),
    "token": (JWT,),
    "country": (GEOIP, NOTHING),
    "device": (RBAC, NOTHING),
    "bound": (WITH_MATCHER,),
    "revoked-cold": (WITH_MATCHER, NOTHING),
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
# What the guard says for it: of any 5xx Envoy takes the status alone (measured).
GUARD_SAYS: Final = {Reason.UNAVAILABLE: 424, Reason.ERP_REFUSES: 423}
UNPROVED: Final = 421  # what the guard says of a proof: it knows neither decision nor revision of the request then
WITHOUT_NONCE: Final = 428
REVOKED: Final = 410
# What is made of an ERP's 401: no answer of the gate's own has it, and its mapper makes 502 of it.
ERP_REFUSES: Final = 511
EXPRESSION: Final = "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter"
ASKED_ANEW: Final = "%CEL(xds.route_metadata.filter_metadata['ostiary']['step-up'][response.code_details])%"
WHY: Final = "The decision id tells the operator of this gate why."
# By the gate's own decision; of this reason `inject` alone has one.
DETAIL: Final = {Reason.UNAVAILABLE: "The system has no account for this caller; an administrator can give one."}
RENEW: Final = "Your token is good. The key or password that the gate has for the system is wrong or was withdrawn there: an administrator gives another one with `account`."
KEY: Final = "The API key is wrong, has ended or was taken back: its owner gets another one from an administrator."
NONCE: Final = "Put the nonce of the answer's DPoP-Nonce header into the proof."
TOKEN: Final = "jwt_authn_access_denied"  # noqa: S105  the beginning of jwt_authn's own details
ASKED: Final = {"response_flag_filter": {"flags": ["UAEX"]}}  # who was asked about the request did not let it pass


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
        "rds": {"route_config_name": "routes", "config_source": _watched(edge, "rds.json")},
        "xff_num_trusted_hops": edge.trusted_hops,
        "early_header_mutation_extensions": [_early(edge)],
        **FIXED["no_certificate" if edge.client_ca is None else "certificate"],
        "local_reply_config": _local_replies(edge),
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
        {"append": header(resource.CALL_HEADER, "%PATH(NQ:PATH)% %REQ(:METHOD)%")},
    ]
    if edge.client_ca is not None:
        mutations.append({"append": header(DEVICE_HEADER, "%DOWNSTREAM_PEER_FINGERPRINT_256%")})
    message = "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation"
    return extension("inside-headers", message, mutations=mutations)


def _local_replies(edge: Edge) -> Json:
    """The guard's word first; then the gate's own decisions by name; then whatever is left."""
    named = [one for one in Reason if one is not Reason.ALLOWED]
    return {
        "mappers": [
            _refuse(Reason.ERP_REFUSES, _status(ERP_REFUSES), edge, RENEW),
            _refuse(Reason.TOO_LARGE, _status(413), edge),
            _refuse(Reason.RATE_LIMITED, _status(429), edge),
            _refuse(Reason.UNAVAILABLE, _said(_any([_range(100, 399), _status(503)])), edge),
            _refuse(Reason.TOKEN_REVOKED, _said(_status(REVOKED)), edge),
            _refuse(Reason.TOKEN_UNBOUND, _said(_status(UNPROVED)), edge),
            _refuse(Reason.TOKEN_UNBOUND, _said(_status(WITHOUT_NONCE)), edge, NONCE, NONCE_ASKED),
            _refuse(Reason.CREDENTIAL_INVALID, _said(_status(WRONG)), edge, KEY, Reason.TOKEN_INVALID.challenge),
            *(_pass(_said(_status(said)), edge) | {"status_code": one.status} for one, said in GUARD_SAYS.items()),
            _pass(ASKED, edge),
            _refuse(Reason.TOKEN_MISSING, _details(f"{TOKEN}{{Jwt_is_missing}}"), edge),
            _refuse(Reason.TOKEN_INVALID, _details(TOKEN), edge),
            *(_refuse(one, _details(matcher.denied_by(one, "")), edge, DETAIL.get(one, WHY)) for one in named),
            _refuse(Reason.INVALID, _range(400, 499), edge),
            _refuse(Reason.UNAVAILABLE, _range(500, 599), edge),
        ]
    }


def _refuse(reason: Reason, when: Json, edge: Edge, detail: str = WHY, challenge: str = "") -> Json:
    body = problem(reason, detail=detail, decision=edge.decision)
    headers = [*on_every_answer(edge), header(HEADER, str(reason))]
    if challenge := challenge or reason.challenge:
        headers.append(header("www-authenticate", ASKED_ANEW if reason is Reason.STEP_UP else challenge))
    return {
        "filter": when,
        "status_code": reason.status,
        "headers_to_add": headers,
        "body_format_override": {"json_format": body, "content_type": "application/problem+json"},
    }


def _pass(when: Json, edge: Edge) -> Json:
    kept = {"text_format_source": {"inline_string": "%LOCAL_REPLY_BODY%"}, "content_type": "application/problem+json"}
    return {"filter": when, "headers_to_add": on_every_answer(edge), "body_format_override": kept}


def on_every_answer(edge: Edge) -> list[Json]:
    """The ERP's answers and our own."""
    security = [] if edge.plain else [header("strict-transport-security", HSTS)]
    return [header("ostiary-decision", edge.decision), *security]


def _details(start: str) -> Json:
    """Of what Envoy notes about its own answer, with which `start` it begins."""
    expression = f"response.code_details.startsWith('{start}')"
    return {"extension_filter": extension("details", EXPRESSION, expression=expression)}


def _said(answer: Json) -> Json:
    """Guard or identity server did not let it pass, and answered so."""
    return _all([ASKED, answer])


def _status(code: int) -> Json:
    return _compared("EQ", code)


def _range(low: int, high: int) -> Json:
    return _all([_compared("GE", low), _compared("LE", high)])


def _compared(operator: str, code: int) -> Json:
    value = {"default_value": code, "runtime_key": "ostiary.none"}
    return {"status_code_filter": {"comparison": {"op": operator, "value": value}}}


def _all(filters: list[Json]) -> Json:
    return {"and_filter": {"filters": filters}}


def _any(filters: list[Json]) -> Json:
    return {"or_filter": {"filters": filters}}


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
    mutations = [{"append": header(resource.CLASS_HEADER, f"%ROUTE_NAME% {TIME_WORDS}")}]
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
        resource.DECISION_HEADER: edge.decision,
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
    source = _watched(edge, f"ecds/{name}.json")
    return {
        "name": name,
        "config_discovery": {"config_source": source, "type_urls": [resource.TYPES + message for message in messages]},
    }


def _watched(edge: Edge, name: str) -> Json:
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
        "tls_certificate_sds_secret_configs": [{"name": "gate", "sds_config": _watched(edge, CERTIFICATE)}],
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
        "dynamic_resources": {"lds_config": _watched(edge, "lds.json"), "cds_config": _watched(edge, "cds.json")},
        "layered_runtime": {"layers": [{"name": "fixed", "static_layer": FIXED["runtime"]}]},
        "overload_manager": {**overload, "resource_monitors": [*overload["resource_monitors"], counted]},
    }
