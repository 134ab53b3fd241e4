"""How much a caller may ask: for each address before any token is verified, for each caller after.

Both are filter-level buckets: a bucket in a route's configuration is a separate one for each route (measured 5 + 5).
Any change to a limit filter refills its buckets, so neither holds the revision.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from ostiary.envoy.caller import SCHEMES
from ostiary.envoy.edge import FIXED, Json
from ostiary.envoy.message import CALL_HEADER, CLASS_HEADER, changeable, extension, place
from ostiary.envoy.upstream import own_keys
from ostiary.plan.decide import RoleSets, limit_of
from ostiary.plan.model import Limit, Plan

LOCAL: Final = "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit"
ADDRESSES_MAX: Final = 100_000  # an evicted bucket comes back full: keep more than a flood brings in a fill
CALLERS_MIN: Final = 10_000
# An office behind one address; a flood is not.
ADDRESS_LIMIT: Final = Limit(name="address", requests=60_000, seconds=60)
# Where something shown is looked at.
MACHINES: Final = {"safe_regex": {"regex": "/identity/(token|revoke|userinfo|introspect|scim/v2/[^ ]*) [A-Z]+"}}


def address_filter(plan: Plan) -> tuple[str, Json]:
    """Requests that show no token are anonymous, and so are those of people signing in, whatever they show.

    The wide limit holds for all, forged tokens included.
    """
    identity = _header(CALL_HEADER, {"prefix": "/identity/"})
    machine = _header(CALL_HEADER, MACHINES)
    own = own_keys([plan])
    known = [{"name": name, "present_match": True, "invert_match": True} for name in ("authorization", *own)]
    strange = [*(_not(_header("authorization", {"prefix": scheme})) for scheme in SCHEMES.values()), _not(identity)]
    observed = _header(CLASS_HEADER, {"safe_regex": {"regex": place("[^:]*", observed=True) + ".*"}})
    anonymous = [
        *([_matches([*strange, _not(observed)]), _matches([observed, *known])] if own else [_matches(strange)]),
        _matches([identity, _not(machine)]),
        _matches([identity, machine, {"name": "authorization", "present_match": True, "invert_match": True}]),
    ]
    wide = {"generic_key": {"descriptor_value": "address"}}
    made = _limiter(
        "address-limit",
        [[one, {"remote_address": {}}] for one in (*anonymous, wide)],
        [
            _descriptor("header_match", "anonymous", ("remote_address",), plan.limits.anonymous),
            _descriptor("generic_key", "address", ("remote_address",), ADDRESS_LIMIT),
        ],
        ADDRESSES_MAX,
    )
    return changeable("address-limit", LOCAL, **made)


def _matches(headers: list[Json]) -> Json:
    return {"header_value_match": {"descriptor_value": "anonymous", "headers": headers}}


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
    return extension(
        "proof-limit", LOCAL, **_by_caller("proof-limit", plan, role_sets, callers, {"remote_address": {}})
    )


def _by_caller(name: str, plan: Plan, role_sets: RoleSets, callers: int, *more: Json) -> dict[str, Json]:
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
    each = ("sub", *(key for one in more for key in one))
    kind = "header_match" if named else "generic_key"
    descriptors = [_descriptor(kind, chosen, each, limit) for chosen, limit in sorted(limits.items())]
    return _limiter(name, [[*action, *more] for action in actions], descriptors, _room(callers))


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
