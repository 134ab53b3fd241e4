"""Who is calling: the access token, the key that it is bound to, the registered device, the country; and how much he may ask.

jwt_authn fails open in several ways (measured): a route without a requirement is not verified, a token without
`exp` is accepted, `?access_token=` is read unless told otherwise, `typ` is ignored. Hence: one rule matches every
path, expiry is required and short, one header is read, and only the access tokens' own keys are known.

Tokens that are bound to a key are good for nobody who does not hold it (RFC 8705 section 3, RFC 9449 section 7). A
certificate's fingerprint is compared natively; a DPoP proof is signed anew for each request, so the guard looks at it.
What the token filter verified has the claim `bnd` in a header: without it, the caller may not call his token bound.

Limits hold for each address (of IPv6: for each /64, which is one caller's) before any token is verified, and for each
caller after. Both are filter-level buckets: a bucket in a route's configuration is a separate one for each route (measured
5 + 5). Any change to a limit filter refills its buckets, so neither holds the revision.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from ostiary.envoy import cel, matcher, resource
from ostiary.envoy.condition import ACR_HEADER, COUNTRY_HEADER, REGISTERED, SIGNED_IN_HEADER
from ostiary.envoy.resource import FIXED, Edge, Json, changeable, extension, header, place
from ostiary.envoy.upstream import EXT_AUTHZ, guard_service, own_keys
from ostiary.foundation.api_key import KEY_PREFIX, PLACE
from ostiary.foundation.origin import MAPPED, OWNED_PREFIX, SHARED
from ostiary.plan.decide import Reason, RoleSets, limit_of
from ostiary.plan.model import Countries, Device, Limit, Mfa, Plan, Recent

DEVICE_HEADER: Final = "x-gw-device"  # the fingerprint of the certificate that the connection shows
TOKEN_DEVICE_HEADER: Final = "x-gw-token-device"  # noqa: S105  the claim `dev`: the device that the token was issued to
JWT: Final = "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication"
NOTHING: Final = "urn:ostiary:nothing"  # without a system nobody has a token, but one provider must ask for it
OR_NONE: Final[Json] = {"allow_missing_or_failed": {}}
# How a token is shown, and what it then is bound to: schemes have no case (RFC 9110 section 11.1), Envoy looks for texts.
SCHEMES: Final = {"Bearer ": "", "bearer ": "", "DPoP ": "jkt", "dpop ": "jkt"}
CLAIM_HEADERS: Final[Mapping[str, str]] = FIXED["claim_headers"]
# What a claim is asked for by a context of the policy, and only then.
ASSURANCE_HEADERS: Final = {"acr": ACR_HEADER, "auth_time": SIGNED_IN_HEADER}
DEVICE_HEADERS: Final = {"dev": TOKEN_DEVICE_HEADER}
SHA256_CHARS: Final = 64  # in hex
BOUND_HEADER: Final = CLAIM_HEADERS["bnd"]
SHOWN: Final = ("authorization", "dpop", "host", BOUND_HEADER)
GEOIP: Final = "envoy.extensions.filters.http.geoip.v3.Geoip"
MARKER: Final = b"\xab\xcd\xefMaxMind.com"  # before the metadata, in the file's last 128 KiB (MaxMind DB format 2.0)
METADATA_MAX_BYTES: Final = 128 * 1024
MAXMIND: Final = "envoy.extensions.geoip_providers.maxmind.v3.MaxMindConfig"
LOCAL: Final = "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit"
ADDRESSES_MAX: Final = 100_000  # an evicted bucket comes back full: keep more than a flood brings in a fill
CALLERS_MIN: Final = 10_000
WHOLE: Final = [{"address_prefix": str(one[0]), "prefix_len": one.prefixlen} for one in (MAPPED, *SHARED)]
# An office behind one address; a flood is not.
ADDRESS_LIMIT: Final = Limit(name="address", requests=60_000, seconds=60)
IDENTITY: Final = {"safe_regex": {"regex": "(/[.]well-known/oauth-authorization-server)?/identity[ /].*"}}
# Where something shown is looked at.
SHOWING: Final = "token|revoke|userinfo|introspect|par|device-authorization|scim/v2/[^ ]*"
MACHINES: Final = {"safe_regex": {"regex": f"/identity/({SHOWING}) [A-Z]+"}}


def token_filter(plans: Sequence[Plan], jwks: Mapping[str, Any], edge: Edge, asked: Sequence[Plan]) -> tuple[str, Json]:
    """Each system asks for its own audience, as its route names it; a request for no system needs a token of any.

    The contexts of all that are `asked` find their claims, a draft's too. On routes of a system that is observed who
    shows none, or one that is not valid, has no claims: the policy filter and the guard see to him.
    """
    keys = _es256_only(jwks)
    systems = [system for plan in plans for system in plan.systems]
    places = sorted({(system.name, system.audience) for system in systems})
    observed = sorted({(system.name, system.audience) for system in systems if system.observe_until})
    audiences = sorted({audience for _, audience in places}) or [NOTHING]
    headers = {**CLAIM_HEADERS, **_asked_for(asked)}
    anywhere = {"match": {"prefix": "/"}, "requires": _any_of(audiences)}
    lets = (_rule(place(name, observed=True), _any_of([audience], OR_NONE)) for name, audience in observed)
    asks = (_rule(place(name), _any_of([audience])) for name, audience in places)
    providers = {audience: _provider(audience, keys, edge, headers) for audience in audiences}
    return changeable("token", JWT, providers=providers, rules=[*lets, *asks, anywhere])


def _asked_for(plans: Sequence[Plan]) -> dict[str, str]:
    """The claims that contexts are about: nobody pays for one that no grant asks for."""
    kinds = {type(atom) for plan in plans for atom in plan.conditions}
    return (ASSURANCE_HEADERS if kinds & {Mfa, Recent} else {}) | (DEVICE_HEADERS if Device in kinds else {})


def _any_of(audiences: list[str], *more: Json) -> Json:
    requirements = [*({"provider_name": audience} for audience in audiences), *more]
    return requirements[0] if len(requirements) == 1 else {"requires_any": {"requirements": requirements}}


def _rule(start: str, requires: Json) -> Json:
    chosen = {"name": resource.CLASS_HEADER, "string_match": {"prefix": start}}
    return {"match": {"prefix": "/", "headers": [chosen]}, "requires": requires}


def _provider(audience: str, keys: str, edge: Edge, headers: Mapping[str, str]) -> Json:
    return {
        **FIXED["provider"],
        "issuer": edge.issuer,
        "audiences": [audience],
        "from_headers": [{"name": "authorization", "value_prefix": scheme} for scheme in SCHEMES],
        "local_jwks": {"inline_string": keys},
        "claim_to_headers": [{"header_name": name, "claim_name": claim} for claim, name in headers.items()],
    }


def _es256_only(jwks: Mapping[str, Any]) -> str:
    """The one algorithm of access tokens (RFC 8725 section 3.1: the verifier chooses, not the token)."""
    keys = [{**key, "alg": "ES256"} for key in jwks["keys"] if key.get("kty") == "EC" and key.get("crv") == "P-256"]
    return msgspec.json.encode({"keys": keys}, order="deterministic").decode()


def key_filter(edge: Edge) -> Json:
    """Exchanges an API key for a short token, so that every later filter sees a token.

    After its answer a request goes on behind all of this (measured), so nothing that is told here can be taken back: not
    by the header that `bare` goes by.
    """
    who = {"x-gw-key-decision": edge.decision, "x-gw-source": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"}
    mutations = [{"append": header(name, value)} for name, value in who.items()]
    tell = extension("asks", matcher.MUTATION, mutations={"request_mutations": mutations})
    told = ("authorization", resource.CLASS_HEADER, DEVICE_HEADER, *who)
    only = {"patterns": [{"exact": "authorization"}]}
    answer = {"allowed_upstream_headers": only, "allowed_client_headers": only}
    service = {"server_uri": FIXED["identity"], "path_prefix": PLACE, "authorization_response": answer}
    asked = {"patterns": [{"exact": name} for name in told]}
    exchanged = extension("key", EXT_AUTHZ, http_service=service, allowed_headers=asked, **FIXED["unanswered"])
    steps = matcher.execute_all([tell, exchanged])
    shown = {f"{scheme}{KEY_PREFIX}": steps for scheme, bound in SCHEMES.items() if not bound}
    return matcher.always_excepting("key", matcher.prefix("authorization", shown, matcher.skip()))


def bound_filter(limit: Json) -> tuple[str, Json]:
    """`limit` comes before each look at a proof, which costs the guard a quarter of a millisecond."""
    refused = matcher.refuse(Reason.TOKEN_UNBOUND)
    same = matcher.first([(_certified(), matcher.skip())], refused)

    def no_proof(otherwise: Json) -> Json:
        # the token filter finds its words anywhere
        told = {scheme: refused if bound else otherwise for scheme, bound in SCHEMES.items()}
        return matcher.prefix(
            "authorization", told, matcher.first([(matcher.without(resource.SUBJECT_HEADER), otherwise)], refused)
        )

    kinds = {"jkt:": matcher.execute_all([limit, _proof()]), "x5t:": no_proof(same)}
    return matcher.exceptions("bound", matcher.prefix(BOUND_HEADER, kinds, no_proof(matcher.skip())))


def _certified() -> Json:
    """The token names the connection's certificate; every text ends with an empty one, hence its size (CEL adds no texts)."""
    headers = cel.attribute("request.headers")
    shown = cel.index(headers, DEVICE_HEADER)
    whole = cel.call("_==_", cel.call("size", shown), cel.number(SHA256_CHARS))
    return cel.predicate(cel.call("_&&_", whole, cel.method(cel.index(headers, BOUND_HEADER), "endsWith", shown)))


def _proof() -> Json:
    asked = {"patterns": [{"exact": name} for name in SHOWN]}
    service = guard_service("/proof", allowed_client_headers={"patterns": [{"exact": "dpop-nonce"}]})
    return extension("proof", EXT_AUTHZ, http_service=service, allowed_headers=asked, **FIXED["unanswered"])


def device_filter(plans: Sequence[Plan], devices: Mapping[str, str], edge: Edge) -> Sequence[tuple[str, Json]]:
    """`devices`: fingerprint -> the principal that it is registered for, "" for everybody."""
    if edge.client_ca is None:
        return ()
    if not devices or not any(Device() in plan.conditions for plan in plans):
        return [matcher.nothing("device")]
    told = _told(devices, TOKEN_DEVICE_HEADER, None)
    judged = matcher.whole(_told(devices, DEVICE_HEADER, told))
    prefix = "device_"
    return [changeable("device", matcher.RBAC, shadow_rules_stat_prefix=prefix, shadow_matcher=judged)]


def _told(devices: Mapping[str, str], name: str, otherwise: Json | None) -> Json:
    """Where a device is somebody else's, `otherwise` is asked."""
    registered = {"action": matcher.named(REGISTERED)}
    entries = {
        fingerprint: matcher.exact(resource.SUBJECT_HEADER, {principal: registered}, None) if principal else registered
        for fingerprint, principal in sorted(devices.items())
    }
    return matcher.exact(name, entries, otherwise)


def country_filter(plans: Sequence[Plan], edge: Edge) -> Sequence[tuple[str, Json]]:
    """A look into the database for every request, as soon as one grant asks for a country."""
    if edge.geoip is None:
        return ()
    if not any(isinstance(atom, Countries) for plan in plans for atom in plan.conditions):
        return [matcher.nothing("country")]
    names = {"geo_field_keys": {"country": COUNTRY_HEADER}}
    fields = {"country_db_path": str(edge.geoip), "common_provider_config": names}
    return [changeable("country", GEOIP, provider=extension("envoy.geoip_providers.maxmind", MAXMIND, **fields))]


def is_database(path: Path) -> bool:
    """Envoy would take nothing else, and then answer nobody."""
    if path.suffix != ".mmdb" or not path.is_file():
        return False
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - METADATA_MAX_BYTES))
        return MARKER in file.read()


def _origin(mask: str = "") -> Json:
    """The key of a bucket: an address of a network that stands for many hosts; with a mask, what any other's holder owns."""
    ranges = {"ranges": WHOLE, "invert_match": bool(mask)}
    value = f"%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT{mask}%"  # a mask longer than the address leaves it whole
    return {"remote_address_match": {"descriptor_key": "origin", "descriptor_value": value, "address_matcher": ranges}}


ORIGINS: Final = (_origin(), _origin(f"({OWNED_PREFIX})"))


def address_filter(plan: Plan) -> tuple[str, Json]:
    """Requests that show no token are anonymous, and so are those of people signing in, whatever they show.

    Where clients show who they are, any text may be shown: the authorization server's own limit holds for each address,
    right or wrong. Paths of a system that look like its own are not meant. The wide limit holds for all, forged tokens
    included.
    """
    identity = _header(resource.CALL_HEADER, IDENTITY)
    machine = _header(resource.CALL_HEADER, MACHINES)
    ours = _header(resource.CLASS_HEADER, {"prefix": "-"})  # no system's
    known = [{"name": one, "present_match": True, "invert_match": True} for one in ("authorization", *own_keys([plan]))]
    strange = [_not(_header("authorization", {"prefix": scheme})) for scheme in SCHEMES]
    observed = _header(resource.CLASS_HEADER, {"safe_regex": {"regex": place("[^:]*", observed=True) + ".*"}})
    counted = [
        _matches([*strange, _not(ours), _not(observed)]),
        _matches([*known, observed]),
        _matches([*strange, ours, _not(identity)]),
        _matches([ours, identity, _not(machine)]),
        _matches([ours, machine, known[0]]),
        _matches([ours, machine, {"name": "authorization", "present_match": True}], "identity"),
    ]
    wide = {"generic_key": {"descriptor_value": "address"}}
    made = _limiter(
        "address-limit",
        [[one, origin] for one in (*counted, wide) for origin in ORIGINS],
        [
            _descriptor("header_match", "anonymous", ("origin",), plan.limits.anonymous),
            _descriptor("header_match", "identity", ("origin",), plan.limits.identity),
            _descriptor("generic_key", "address", ("origin",), ADDRESS_LIMIT),
        ],
        ADDRESSES_MAX,
    )
    return changeable("address-limit", LOCAL, **made)


def _matches(headers: list[Json], limit: str = "anonymous") -> Json:
    return {"header_value_match": {"descriptor_value": limit, "headers": headers}}


def _header(name: str, text: Json) -> Json:
    return {"name": name, "string_match": text}


def _not(header: Json) -> Json:
    return {**header, "invert_match": True, "treat_missing_header_as_empty": True}


def caller_filter(plan: Plan, role_sets: RoleSets, callers: int) -> tuple[str, Json]:
    """One bucket for each subject, its size by the most generous limit that the token's role set names."""
    return changeable("caller-limit", LOCAL, **_by_caller("caller-limit", plan, role_sets, callers))


def proof_filter(plan: Plan, role_sets: RoleSets, callers: int) -> Json:
    """The same for each subject at each address, before a proof is looked at: who has stolen a token, and not its key,
    uses up nothing of its owner's.
    """
    return extension("proof-limit", LOCAL, **_by_caller("proof-limit", plan, role_sets, callers, *ORIGINS))


def _by_caller(name: str, plan: Plan, role_sets: RoleSets, callers: int, *origins: Json) -> dict[str, Json]:
    by_limit: dict[str, list[str]] = defaultdict(list)
    limits = {plan.limits.default.name: plan.limits.default}
    for role_set in sorted(role_sets):
        limit = limit_of(plan, role_sets[role_set])
        if limit != plan.limits.default:
            limits[limit.name] = limit
            by_limit[limit.name].append(role_set)
    named = sorted(name for held in by_limit.values() for name in held)
    actions = [_caller(name, held, invert=False) for name, held in sorted(by_limit.items())]
    actions.append(_caller(plan.limits.default.name, named, invert=True))
    each = ("sub", "origin") if origins else ("sub",)
    actions = [[*action, origin] for action in actions for origin in origins] or actions
    kind = "header_match" if named else "generic_key"
    descriptors = [_descriptor(kind, chosen, each, limit) for chosen, limit in sorted(limits.items())]
    return _limiter(name, actions, descriptors, _room(callers))


def _room(callers: int) -> int:
    """Buckets for twice as many, by powers of two: a new principal must not refill everybody's."""
    return int(max(CALLERS_MIN, 2 << callers.bit_length()))


def _caller(limit: str, role_sets: list[str], *, invert: bool) -> list[Json]:
    chosen = {"name": "x-gw-rs", "string_match": {"safe_regex": {"regex": "|".join(role_sets)}}, "invert_match": invert}
    match = {"header_value_match": {"descriptor_value": limit, "headers": [chosen]}}
    return [
        match if role_sets else {"generic_key": {"descriptor_value": limit}},  # all of them
        {"request_headers": {"header_name": "x-gw-sub", "descriptor_key": "sub"}},
    ]


def _descriptor(key: str, value: str, each: Sequence[str], limit: Limit) -> Json:
    """An entry without a value stands for every value: a bucket for each."""
    bucket = {"max_tokens": limit.requests, "tokens_per_fill": limit.requests, "fill_interval": f"{limit.seconds}s"}
    return {"entries": [{"key": key, "value": value}, *({"key": one} for one in each)], "token_bucket": bucket}


def _limiter(name: str, actions: list[list[Json]], descriptors: list[Json], most: int) -> dict[str, Json]:
    return dict(
        stat_prefix=name,
        rate_limits=[{"actions": action} for action in actions],
        descriptors=descriptors,
        max_dynamic_descriptors=most,
        enable_x_ratelimit_headers="DRAFT_VERSION_03" if name == "caller-limit" else "OFF",
        **FIXED["limiter"],
    )
