"""What changes on its own between two policies: revocations, blocked addresses, the lease. Each is a file of its own."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from msgspec import Struct

from ostiary.envoy import cel, matcher
from ostiary.envoy.condition import cidr
from ostiary.envoy.edge import Edge, Json, Resources
from ostiary.envoy.message import changeable, extension
from ostiary.foundation.errors import OurFault

RBAC: Final = "envoy.extensions.filters.http.rbac.v3.RBAC"
# Kind of revocation key -> the header that jwt_authn sets from the claim of that name.
REVOCABLE: Final = {
    "jti": "x-gw-jti",
    "grant": "x-gw-grant",
    "sid": "x-gw-sid",
    "gen": "x-gw-gen",
    "cgen": "x-gw-cgen",
}
RANGES_MAX: Final = 262_144  # the cap of Envoy's address trie


class Signals(Struct, frozen=True, kw_only=True):
    """Revocation keys are "kind:value"; `blocked` are CIDR texts; `lease_until` None keeps the gate open."""

    revoked_hot: tuple[str, ...] = ()
    revoked_cold: tuple[str, ...] = ()
    blocked: tuple[str, ...] = ()
    lease_until: int | None = None


def signal_resources(signals: Signals, edge: Edge) -> Resources:  # noqa: ARG001  the same shape as `translate`
    """The files of the four filters; pure."""
    return dict(
        [
            _file("blocked", _blocked(signals.blocked)),
            _file("revoked-hot", _revoked(signals.revoked_hot)),
            _file("revoked-cold", _revoked(signals.revoked_cold)),
            _file("lease", _lease(signals.lease_until)),
        ]
    )


def _file(name: str, verdict: Json) -> tuple[str, Json]:
    return changeable(name, RBAC, rules_stat_prefix=f"{name}_", matcher=matcher.whole(verdict))


def _blocked(ranges: tuple[str, ...]) -> Json:
    if not ranges:
        return matcher.allow()
    if len(ranges) > RANGES_MAX:
        raise OurFault("too-many-blocks", f"{len(ranges)} blocked networks, more than {RANGES_MAX}")
    chosen = [{"ranges": [cidr(text) for text in sorted(set(ranges))], "on_match": matcher.deny()}]
    trie = extension("blocked", "xds.type.matcher.v3.IPMatcher", range_matchers=chosen)
    tree = {"matcher_tree": {"input": matcher.source_address(), "custom_match": trie}}
    return {"matcher": {**tree, "on_no_match": matcher.allow()}}


def _revoked(keys: Iterable[str]) -> Json:
    """One exact map for each kind of key, each falling through to the next; an empty map is left out."""
    by_kind: dict[str, set[str]] = defaultdict(set)
    for key in keys:
        kind, _, value = key.partition(":")
        if kind not in REVOCABLE:
            raise OurFault("revocation-kind", f"a revocation of kind {kind!r} can't be told to the gate")
        by_kind[kind].add(value)
    verdict = matcher.allow()
    for kind in sorted(by_kind, reverse=True):
        denied = {value: matcher.deny() for value in sorted(by_kind[kind])}
        verdict = matcher.exact(matcher.request_header(REVOCABLE[kind]), denied, verdict)
    return verdict


def _lease(until: int | None) -> Json:
    """The gate closes by itself when nobody renews the lease: fail closed without anyone acting."""
    if until is None:
        return matcher.allow()
    deadline = cel.call("timestamp", cel.text(datetime.fromtimestamp(until, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")))
    in_time = cel.predicate(cel.call("_<_", cel.attribute("request.time"), deadline))
    return matcher.first([(in_time, matcher.allow())], matcher.deny())
