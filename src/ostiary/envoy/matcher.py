"""Envoy's generic matcher: predicates, lists, maps, and what is done at the end.

Maps are flat at any size, lists are linear: a list here has a handful of entries.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from ostiary.envoy.resource import Json, changeable, extension
from ostiary.plan.decide import Reason

RBAC: Final = "envoy.extensions.filters.http.rbac.v3.RBAC"
RBAC_METADATA: Final = "envoy.filters.http.rbac"  # where its decisions are found
RBAC_ACTION: Final = "envoy.config.rbac.v3.Action"
MUTATION: Final = "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation"
FILTER_STATE: Final = "envoy.extensions.filters.http.set_filter_state.v3.Config"
NOTHING: Final = "envoy.extensions.filters.http.filter_chain.v3.FilterChainConfig"  # none in it
WITH_MATCHER: Final = "envoy.extensions.common.matching.v3.ExtensionWithMatcher"
COMPOSITE: Final = "envoy.extensions.filters.http.composite.v3.Composite"
EXECUTE: Final = "envoy.extensions.filters.http.composite.v3.ExecuteFilterAction"
SKIP: Final = "envoy.extensions.filters.common.matcher.action.v3.SkipFilter"


def decides(name: str, judged: Json, shadow: Json = None) -> tuple[str, Json]:
    """A filter that allows or denies every request. It leaves its decision in the metadata, at twice the cost of `exceptions`.

    What `shadow` would decide is left beside it, and has no effect.
    """
    beside = {"shadow_rules_stat_prefix": f"{name}_", "shadow_matcher": whole(shadow)} if shadow else {}
    return changeable(name, RBAC, rules_stat_prefix=f"{name}_", matcher=whole(judged), **beside)


def exceptions(name: str, judged: Json) -> tuple[str, Json]:
    """A filter that becomes another for some requests and is nothing to the rest."""
    return changeable(name, WITH_MATCHER, **_excepting(judged))


def always_excepting(name: str, judged: Json) -> Json:
    """The same, where no policy changes it."""
    return extension(name, WITH_MATCHER, **_excepting(judged))


def _excepting(judged: Json) -> Json:
    return {"extension_config": extension("composite", COMPOSITE), "xds_matcher": whole(judged)}


def nothing(name: str) -> tuple[str, Json]:
    """A filter that lets everything pass, the cheapest there is."""
    return changeable(name, NOTHING)


def allow(rule: str = "-") -> Json:
    return {"action": extension("allow", RBAC_ACTION, name=said(Reason.ALLOWED, rule), action="ALLOW")}


def deny(reason: Reason, rule: str = "-") -> Json:
    return {"action": extension("deny", RBAC_ACTION, name=said(reason, rule), action="DENY")}


def named(word: str) -> Json:
    """What decides nothing, and leaves its name in the metadata."""
    return extension("named", RBAC_ACTION, name=word, action="ALLOW")


def refuse(reason: Reason) -> Json:
    """What `exceptions` do to a request that may not pass."""
    return execute(decider(deny(reason)))


def decider(decision: Json) -> Json:
    """A filter that allows or denies what came to it, within one of `exceptions`."""
    return extension("refuse", RBAC, rules_stat_prefix="refuse_", matcher=whole(decision))


def said(reason: Reason, rule: str) -> str:
    """How a decision is named in the metadata and in the details of a refusal."""
    return f"{reason}:{rule}"


def denied_by(reason: Reason, rule: str) -> str:
    """The details that Envoy keeps of such a refusal, from their beginning; the whole of them where `rule` is one."""
    return f"rbac_access_denied_matched_policy[{said(reason, rule)}" + ("]" if rule else "")


def skip() -> Json:
    return {"action": extension("skip", SKIP)}


def execute(filter_config: Json) -> Json:
    return {"action": extension("execute", EXECUTE, typed_config=filter_config)}


def execute_all(filter_configs: Sequence[Json]) -> Json:
    """One after the other."""
    return {"action": extension("execute", EXECUTE, filter_chain={"typed_config": list(filter_configs)})}


def source_address() -> Json:
    return extension("source", "envoy.extensions.matching.common_inputs.network.v3.SourceIPInput")


def exact(header: str, entries: Mapping[str, Json], otherwise: Json | None) -> Json:
    """Chooses by the exact value of `header`; Envoy refuses an empty map, so no entries is just `otherwise`."""
    return _tree(header, "exact_match_map", entries, otherwise)


def among(header: str, lists: Iterable[tuple[Collection[str], Json]], otherwise: Json | None) -> Json:
    """As `exact`, for long lists of values that share a decision: Envoy reads one many times sooner than a map (measured).

    A value is in one list at most, and no `*` in it.
    """
    chosen = [{"domains": sorted(values), "on_match": decision} for values, decision in lists if values]
    if not chosen:
        return otherwise
    named = extension("among", "xds.type.matcher.v3.ServerNameMatcher", domain_matchers=chosen)
    return _nested({"matcher_tree": {"input": _value(header), "custom_match": named}}, otherwise)


def prefix(header: str, entries: Mapping[str, Json], otherwise: Json | None) -> Json:
    """Chooses by the longest prefix of `header`."""
    return _tree(header, "prefix_match_map", entries, otherwise)


def first(cases: Sequence[tuple[Json, Json]], otherwise: Json | None) -> Json:
    """What the first case leads to whose predicate holds."""
    if not cases:
        return otherwise
    matchers = [{"predicate": predicate, "on_match": decision} for predicate, decision in cases]
    return _nested({"matcher_list": {"matchers": matchers}}, otherwise)


def regex(header: str, pattern: str) -> Json:
    """A predicate: the whole of `header` matches `pattern` (RE2)."""
    return predicate(_value(header), value_match={"safe_regex": {"google_re2": {}, "regex": pattern}})


def contains(header: str, part: str) -> Json:
    """A predicate: `part` stands in `header`."""
    return predicate(_value(header), value_match={"contains": part})


def without(header: str) -> Json:
    """A predicate: there is no such header."""
    return {"not_matcher": regex(header, "(?s).*")}


def predicate(by: Json, **match: Json) -> Json:
    """A predicate: what `by` finds in the request is a match."""
    return {"single_predicate": {"input": by, **match}}


def whole(decision: Json) -> Json:
    """The top of a filter's matcher."""
    nested: Json = decision.get("matcher")
    return nested if nested is not None else {"on_no_match": decision}


def both(parts: Sequence[Json]) -> Json:
    return parts[0] if len(parts) == 1 else {"and_matcher": {"predicate": list(parts)}}


def either(parts: Sequence[Json]) -> Json:
    return parts[0] if len(parts) == 1 else {"or_matcher": {"predicate": list(parts)}}


def _value(header: str) -> Json:
    return extension("header", "envoy.type.matcher.v3.HttpRequestHeaderMatchInput", header_name=header)


def _tree(header: str, kind: str, entries: Mapping[str, Json], otherwise: Json | None) -> Json:
    if not entries:
        return otherwise
    return _nested({"matcher_tree": {"input": _value(header), kind: {"map": dict(entries)}}}, otherwise)


def _nested(matcher: dict[str, Json], otherwise: Json | None) -> Json:
    return {"matcher": matcher if otherwise is None else {**matcher, "on_no_match": otherwise}}
