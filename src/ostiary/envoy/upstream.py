"""Where requests go, and what is told there: each ERP, the guard, and the identity server.

What reaches an ERP is the headers listed here and its own credential, nothing else. Measured on live Tryton:
`Authorization` of A beside `Cookie: tryton_session` of B acted as B. RE2 knows no "all but these", so the complement of
the list is spelled out as a regular expression from its trie.

The guard is asked where a request needs a look inside: whole bodies only, and no answer is a refusal.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

from ostiary.envoy import matcher, resource
from ostiary.envoy.resource import FIXED, Edge, Json, changeable, extension, header, place, typed, versioned
from ostiary.erp.route import GIVEN, OWN_KEYS
from ostiary.foundation.ids import content_hash
from ostiary.plan.decide import Reason
from ostiary.plan.model import HandOver, Kind, Plan, Route, System

CLUSTER: Final = "envoy.config.cluster.v3.Cluster"
UPSTREAM_TLS: Final = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
PASSED: Final = (
    "accept", "accept-charset", "accept-encoding", "accept-language", "cache-control", "content-disposition",
    "content-encoding", "content-language", "content-length", "content-type", "date", "expect", "if-match",
    "if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "prefer", "range", "te", "traceparent",
    "tracestate", "transfer-encoding", "user-agent", "x-request-id", "host",
    "odata-version", "odata-maxversion",
)  # fmt: skip
TRYTON: Final = ("x-tryton-context", "x-tryton-usage")
GUARD: Final = "envoy.filters.http.ext_authz"  # where its answers are found
SENT: Final = "ostiary.sent."  # and a header's name: where the injector leaves what it holds
FILE: Final = "envoy.extensions.formatter.file_content.v3.FileContent"
EXT_AUTHZ: Final = "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz"
NO_BODY_BYTES: Final = 1  # of a body whose length is not told beforehand: Envoy knows no 0
TOOK_HEADER: Final = "x-gw-took"  # milliseconds from a request's first byte to its last
LATE: Final = "[5-9][0-9]{3}|[0-9]{5,}"  # longer than `guard.knowledge.ON_THEIR_WAY_S`
BUFFER: Final = "envoy.extensions.filters.http.buffer.v3"
BODY_MAX_BYTES: Final = 100 * 1024 * 1024  # no policy may say more
TELL: Final = "tell"  # the filter that says what a request is about to our own servers
ON: Final = typed("envoy.config.route.v3.FilterConfig", config={})
SHOWN: Final = ("authorization", "content-type", "content-encoding", "host", "range", "user-agent", *TRYTON)
REFUSED: Final = ("ostiary-reason", "content-type", "retry-after", "www-authenticate")


def cluster_file(plans: Sequence[Plan], edge: Edge) -> Json:
    """The upstreams of all of `plans`, and our own."""
    systems = {cluster_name(system): system for plan in plans for system in plan.systems}
    inside = [_inside("identity", edge), _inside("guard", edge)]
    return versioned([*inside, *(_system(systems[name], edge) for name in sorted(systems))])


def cluster_name(system: System) -> str:
    """Another upstream is another cluster: a request goes where the revision that judged it says."""
    return f"system-{system.name}-{content_hash(system.upstream.encode(), chars=8)}"


def _inside(name: str, edge: Edge) -> Json:
    return _cluster(name, {"pipe": {"path": str(edge.home.socket(name))}}, type="STATIC")


def host_and_port(system: System) -> tuple[str, int]:
    """Where the system itself answers."""
    at = urlsplit(system.upstream)
    return at.hostname or "", at.port or (443 if at.scheme == "https" else 80)


def _system(system: System, edge: Edge) -> Json:
    host, port = host_and_port(system)
    secure = urlsplit(system.upstream).scheme == "https"
    return _cluster(
        cluster_name(system),
        {"socket_address": {"address": host, "port_value": port}},
        **FIXED["system"],
        **({"transport_socket": _tls(host, edge)} if secure else {}),
    )


def _cluster(name: str, address: Json, **more: Json) -> Json:
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
    assigned = {"cluster_name": name, "endpoints": endpoints}
    return typed(CLUSTER, name=name, load_assignment=assigned, **FIXED["cluster"], **more)


def _tls(host: str, edge: Edge) -> Json:
    """Verified up to a trusted authority and for the very name."""
    kind = "IP_ADDRESS" if host.replace(".", "").isdigit() or ":" in host else "DNS"
    name = {"san_type": kind, "matcher": {"exact": host}}
    trusted = {"filename": str(edge.upstream_authorities)}
    context = {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
        "validation_context": {"trusted_ca": trusted, "match_typed_subject_alt_names": [name]},
    }
    sni = {} if kind == "IP_ADDRESS" else {"sni": host}
    return extension("tls", UPSTREAM_TLS, **sni, common_tls_context=context)


def strip_filter(plans: Sequence[Plan]) -> tuple[str, Json]:
    """The caller's token goes first and for good; a credential comes only from the guard or the injector.

    The guard's credential is taken from the metadata of its answer, so a guard that gave none leaves none. Where no
    system is given any, nobody looks for one.
    """
    own, sent = own_keys(plans), {name for plan in plans for system in plan.systems for name in system.sent}
    ours = dict.fromkeys(("authorization", *own, *sorted(sent)))
    passed = {*PASSED, *ours}
    if any(system.kind is Kind.TRYTON for plan in plans for system in plan.systems):
        passed |= {*TRYTON}
    asked = {system.hand_over for plan in plans for system in plan.systems} - {HandOver.NONE, HandOver.KEY}
    handed = ("authorization", *own) if own or asked else ()
    mutations = [
        *({"remove": name} for name in ours),
        *({"append": header(name, f"%FILTER_STATE({SENT}{name}:PLAIN)%")} for name in sorted(sent)),
        *({"append": header(name, f"%DYNAMIC_METADATA({GUARD}:{name})%")} for name in handed),
        {"remove_on_match": {"key_matcher": {"prefix": "x-gw-"}}},  # most of what goes, at less than the expression
        {"remove_on_match": {"key_matcher": {"safe_regex": {"regex": all_but(passed)}}}},
    ]
    return changeable("strip", matcher.MUTATION, mutations={"request_mutations": mutations})


def inject_filter(plan: Plan, credentials: Mapping[tuple[str, str], Mapping[str, str]]) -> tuple[str, Json]:
    """The ERP's keys, put on natively: without one of his own a caller is denied.

    `credentials`: (system, principal) -> header -> the file that holds its value. A credential_injector that is delivered
    within a changed filter never fetches its secret (measured: every request refused until a restart). So each value
    stands in a file that only its owner may read, and the filter, which Envoy's admin socket shows, names the file.
    """
    decisions: dict[str, Json] = {}
    for system in plan.systems:
        if system.hand_over is HandOver.KEY:
            own = {principal: files for (name, principal), files in credentials.items() if name == system.name}
            chosen = {principal: _inject(system, own[principal]) for principal in sorted(own)}
            nobody = matcher.refuse(Reason.UNAVAILABLE)
            if system.observe_until:
                nobody = matcher.first([(matcher.without(resource.SUBJECT_HEADER), matcher.skip())], nobody)
            decisions[place(system.name)] = matcher.exact(resource.SUBJECT_HEADER, chosen, nobody)
    if not decisions:
        return matcher.nothing("inject")
    return matcher.exceptions("inject", matcher.prefix(resource.CLASS_HEADER, decisions, matcher.skip()))


def _inject(system: System, files: Mapping[str, str]) -> Json:
    """The strip filter makes headers of it, once the caller's are gone; a value is a format, hence `%%`."""
    states = []
    for name, form in system.sent.items():
        text = f"%FILE_CONTENT({files[name]})%" if name in files else form.replace("%", "%%")
        told = {"text_format_source": {"inline_string": text}, "formatters": [extension("file", FILE)]}
        states.append({"object_key": SENT + name, "factory_key": "envoy.string", "format_string": told})
    return matcher.execute(extension("inject", matcher.FILTER_STATE, on_request_headers=states))


def own_keys(plans: Sequence[Plan]) -> tuple[str, ...]:
    """Headers by which the guard hands over a caller's own key, where a system is observed."""
    observed = any(system.observe_until for plan in plans for system in plan.systems)
    return OWN_KEYS if observed else ()


def given(system: System, route: Route) -> list[Json]:
    """The described headers: stripped as all others are, and set again on this route to what the guard has found.

    None of them takes the place of the credential.
    """
    named = (name for name in route.headers if name not in PASSED and name not in system.sent)
    return [header(name, f"%DYNAMIC_METADATA({GUARD}:{GIVEN}{name})%") for name in named]


def all_but(names: Iterable[str]) -> str:
    """A regular expression for every header name that is none of `names` and no pseudo-header."""
    trie: dict[str, Json] = {}
    for name in names:
        node = trie
        for char in name:
            node = node.setdefault(char, {})
        node[""] = {}
    return _complement(trie, first=True)


def _complement(node: Mapping[str, Mapping[str, Json]], *, first: bool = False) -> str:
    """Texts that from here on are in none of the names: ended too early, gone astray, or gone on too long."""
    children = sorted(char for char in node if char)
    astray = "".join(re.escape(char) for char in children) + (":" if first else "")
    ways = [f"[^{astray}].*" if astray else ".+"]
    ways += [re.escape(char) + _complement(node[char]) for char in children]
    return "(?:" + "|".join(ways) + ")" + ("" if "" in node or first else "?")


def guard_filter(plans: Sequence[Plan]) -> tuple[str, Json]:
    """A part of a body is never shown: an attacker pads the head (hence `allow_partial_message` is off)."""
    own = own_keys(plans)
    described = {name for plan in plans for route in plan.routes for name in route.headers}
    asked = [{"exact": name} for name in dict.fromkeys([*SHOWN, *own, *sorted(described)])]
    passed_on = _exactly(("authorization", *own, "ostiary-decided"), {"prefix": GIVEN})
    service = guard_service("/check", dynamic_metadata_from_headers=passed_on, allowed_client_headers=_exactly(REFUSED))
    shown = {"patterns": [*asked, {"prefix": "x-gw-"}]}
    told = {"http_service": service, "allowed_headers": shown, "with_request_body": _whole(BODY_MAX_BYTES)}
    return changeable("guard", EXT_AUTHZ, **told, **FIXED["unanswered"])


def guard_service(prefix: str, **answer: Json) -> Json:
    """The guard's own paths below `prefix`, and what of its `answer` counts."""
    return {"server_uri": FIXED["guard"], "path_prefix": prefix, "authorization_response": answer}


def body_filter() -> tuple[str, Json]:
    """The whole body is here before the ERP sees a byte, or the request is refused as too large."""
    return changeable("body", f"{BUFFER}.Buffer", max_request_bytes=BODY_MAX_BYTES)


def bare_filter() -> Json:
    """Behind `body`, which tells a length to what came without: a request of which nobody looks at the inside has none,
    and no query.

    Who says at once what he wants, and keeps the end of it back, would be judged by what was so before (measured: each
    filter is the one of the request's beginning).
    """
    more = {"request_mutations": [{"append": header(TOOK_HEADER, "%REQUEST_DURATION%")}]}
    took = extension("took", matcher.MUTATION, mutations=more)
    late = matcher.first([(matcher.regex(TOOK_HEADER, LATE), matcher.deny(Reason.INVALID))], matcher.allow())
    ended = {"0": matcher.execute_all([took, matcher.decider(late)])}
    inside = matcher.first([(matcher.without("content-length"), matcher.skip())], matcher.refuse(Reason.INVALID))
    sized = matcher.exact("content-length", ended, inside)
    alone = matcher.first([(matcher.contains(":path", "?"), matcher.refuse(Reason.INVALID))], sized)
    judged = matcher.first([(matcher.without(resource.DECISION_HEADER), alone)], matcher.skip())
    return matcher.always_excepting("bare", judged)


def looked_into(body_bytes: int) -> Json:
    """What switches the guard on for a route. The policy's own limit stands there, so that it changes with the routes."""
    asked = {"with_request_body": _whole(body_bytes)}
    return {TELL: ON, "guard": typed(f"{EXT_AUTHZ}PerRoute", check_settings=asked), "body": body_limit(body_bytes)}


def _whole(most_bytes: int) -> Json:
    return {"max_request_bytes": most_bytes, "allow_partial_message": False}


def body_limit(most_bytes: int) -> Json:
    return typed(f"{BUFFER}.BufferPerRoute", buffer={"max_request_bytes": most_bytes})


def _exactly(names: tuple[str, ...], *more: Json) -> Json:
    return {"patterns": [*({"exact": name, "ignore_case": True} for name in names), *more]}
