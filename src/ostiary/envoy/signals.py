"""What changes on its own between two policies: revocations, blocked addresses, the lease. Each is a file of its own."""

from collections import defaultdict
from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from typing import Final

from msgspec import Struct

from ostiary.envoy import clock, matcher
from ostiary.envoy.condition import ranges
from ostiary.envoy.edge import Json, Resources
from ostiary.envoy.message import extension
from ostiary.envoy.token import CLAIM_HEADERS
from ostiary.foundation.errors import OurFault
from ostiary.plan.reason import Reason

# Kind of revocation key -> the header that jwt_authn sets from the claim of that name.
REVOCABLE: Final = {kind: CLAIM_HEADERS[kind] for kind in ("jti", "grant", "sid", "gen", "cgen")}
RANGES_MAX: Final = 262_144  # the cap of Envoy's address trie; a network of version 4 takes two


class Signals(Struct, frozen=True, kw_only=True):
    """Revocation keys are "kind:value"; `blocked` are CIDR texts; `lease_until` None keeps the gate open."""

    revoked_hot: tuple[str, ...] = ()
    revoked_cold: tuple[str, ...] = ()
    blocked: tuple[str, ...] = ()
    lease_until: int | None = None


def signal_resources(signals: Signals) -> Resources:
    """The files of the three filters; pure."""
    hot = hot_filter(signals.revoked_hot, signals.lease_until)
    return dict([blocked_filter(signals.blocked), cold_filter(signals.revoked_cold), hot])


def blocked_filter(blocked: Collection[str]) -> tuple[str, Json]:
    if not blocked:
        return matcher.nothing("blocked")
    listed = ranges(sorted(set(blocked)))
    if len(listed) > RANGES_MAX:
        raise OurFault(
            "too-many-blocks", f"{len(blocked)} blocked networks: in {len(listed)} ranges, over {RANGES_MAX}"
        )
    chosen = [{"ranges": listed, "on_match": matcher.refuse(Reason.ADDRESS_BLOCKED)}]
    trie = extension("blocked", "xds.type.matcher.v3.IPMatcher", range_matchers=chosen)
    tree = {"matcher_tree": {"input": matcher.source_address(), "custom_match": trie}}
    return matcher.exceptions("blocked", {"matcher": {**tree, "on_no_match": matcher.skip()}})


def cold_filter(keys: Collection[str]) -> tuple[str, Json]:
    """A decision's entry is small; one that makes an exception is a filter, ten thousand times (measured: slow to load)."""
    if not keys:
        return matcher.nothing("revoked-cold")
    return matcher.decides("revoked-cold", _revoked(keys, matcher.deny(Reason.TOKEN_REVOKED), matcher.allow()))


def hot_filter(keys: Collection[str], lease_until: int | None) -> tuple[str, Json]:
    """With the lease, which is renewed every few seconds: both files are small."""
    open_ = _lease(lease_until)
    if not keys and open_ == matcher.skip():
        return matcher.nothing("revoked-hot")
    refused = matcher.refuse(Reason.TOKEN_REVOKED)
    return matcher.exceptions("revoked-hot", _revoked(keys, refused, open_))


def _revoked(keys: Iterable[str], refused: Json, otherwise: Json) -> Json:
    """One exact map for each kind of key, each falling through to the next; an empty map is left out."""
    by_kind: dict[str, set[str]] = defaultdict(set)
    for key in keys:
        kind, _, value = key.partition(":")
        if kind not in REVOCABLE:
            raise OurFault("revocation-kind", f"a revocation of kind {kind!r} can't be told to the gate")
        by_kind[kind].add(value)
    for kind in sorted(by_kind, reverse=True):
        entries = dict.fromkeys(sorted(by_kind[kind]), refused)
        otherwise = matcher.exact(REVOCABLE[kind], entries, otherwise)
    return otherwise


def _lease(until: int | None) -> Json:
    """The gate closes by itself when nobody renews the lease: fail closed without anyone acting."""
    if until is None:
        return matcher.skip()
    in_time = clock.before(datetime.fromtimestamp(until, UTC))
    return matcher.first([(in_time, matcher.skip())], matcher.refuse(Reason.CLOSED))
