"""Who is calling: the access token, verified natively against our own keys.

jwt_authn fails open in several ways (measured): a route without a requirement is not verified, a token without
`exp` is accepted, `?access_token=` is read unless told otherwise, `typ` is ignored. Hence: one rule matches every
path, expiry is required and short, one header is read, and only the access tokens' own keys are known.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from ostiary.envoy.condition import ACR_HEADER, SIGNED_IN_HEADER
from ostiary.envoy.device import TOKEN_DEVICE_HEADER
from ostiary.envoy.edge import FIXED, Edge, Json
from ostiary.envoy.message import CLASS_HEADER, changeable, place
from ostiary.plan.formula import Device, Mfa, Recent
from ostiary.plan.model import Plan

JWT: Final = "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication"
NOTHING: Final = "urn:ostiary:nothing"  # without a system nobody has a token, but one provider must ask for it
OR_NONE: Final[Json] = {"allow_missing_or_failed": {}}
SCHEMES: Final = {"": "Bearer ", "jkt": "DPoP "}  # how a token is shown, by what it is bound to
CLAIM_HEADERS: Final[Mapping[str, str]] = FIXED["claim_headers"]
# What a claim is asked for by a context of the policy, and only then.
ASSURANCE_HEADERS: Final = {"acr": ACR_HEADER, "auth_time": SIGNED_IN_HEADER}
DEVICE_HEADERS: Final = {"dev": TOKEN_DEVICE_HEADER}


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
    chosen = {"name": CLASS_HEADER, "string_match": {"prefix": start}}
    return {"match": {"prefix": "/", "headers": [chosen]}, "requires": requires}


def _provider(audience: str, keys: str, edge: Edge, headers: Mapping[str, str]) -> Json:
    return {
        **FIXED["provider"],
        "issuer": edge.issuer,
        "audiences": [audience],
        "from_headers": [{"name": "authorization", "value_prefix": scheme} for scheme in SCHEMES.values()],
        "local_jwks": {"inline_string": keys},
        "claim_to_headers": [{"header_name": name, "claim_name": claim} for claim, name in headers.items()],
    }


def _es256_only(jwks: Mapping[str, Any]) -> str:
    """The one algorithm of access tokens (RFC 8725 section 3.1: the verifier chooses, not the token)."""
    keys = [{**key, "alg": "ES256"} for key in jwks["keys"] if key.get("kty") == "EC" and key.get("crv") == "P-256"]
    return msgspec.json.encode({"keys": keys}, order="deterministic").decode()
