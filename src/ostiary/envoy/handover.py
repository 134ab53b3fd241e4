"""What reaches the ERP: the headers listed here and the ERP's own credential, nothing else.

Measured on live Tryton: `Authorization` of A beside `Cookie: tryton_session` of B acted as B. RE2 knows no
"all but these", so the complement of the list is spelled out as a regular expression from its trie.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from ostiary.envoy import matcher
from ostiary.envoy.edge import Json
from ostiary.envoy.message import CLASS_HEADER, SUBJECT_HEADER, changeable, extension, header, place
from ostiary.erp.route import GIVEN
from ostiary.plan.model import OWN_KEYS, HandOver, Kind, Plan, Route
from ostiary.plan.reason import Reason

PASSED: Final = (
    "accept", "accept-charset", "accept-encoding", "accept-language", "cache-control", "content-disposition",
    "content-encoding", "content-language", "content-length", "content-type", "date", "expect", "if-match",
    "if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "prefer", "range", "te", "traceparent",
    "tracestate", "transfer-encoding", "user-agent", "x-request-id", "host",
    "odata-version", "odata-maxversion",
)  # fmt: skip
TRYTON: Final = ("x-tryton-context", "x-tryton-usage")
GUARD: Final = "envoy.filters.http.ext_authz"  # where its answers are found
CREDENTIAL_HEADER: Final = "x-gw-credential"  # what the injector gives


def strip_filter(plans: Sequence[Plan]) -> tuple[str, Json]:
    """The caller's token goes first and for good; a credential comes only from the guard or the injector.

    The guard's credential is taken from the metadata of its answer, so a guard that gave none leaves none.
    """
    own = own_keys(plans)
    passed = {*PASSED, "authorization", *own}
    if any(system.kind is Kind.TRYTON for plan in plans for system in plan.systems):
        passed |= {*TRYTON}
    mutations = [
        *({"remove": name} for name in ("authorization", *own)),
        {"append": header("authorization", f"%REQ({CREDENTIAL_HEADER})%")},
        *({"append": header(name, f"%DYNAMIC_METADATA({GUARD}:{name})%")} for name in ("authorization", *own)),
        {"remove_on_match": {"key_matcher": {"prefix": "x-gw-"}}},  # most of what goes, at less than the expression
        {"remove_on_match": {"key_matcher": {"safe_regex": {"regex": all_but(passed)}}}},
    ]
    return changeable("strip", matcher.MUTATION, mutations={"request_mutations": mutations})


def inject_filter(plan: Plan, credentials: Mapping[tuple[str, str], str]) -> tuple[str, Json]:
    """Static ERP keys, put on natively: without one of his own a caller is denied.

    `credentials`: (system, principal) -> the value of Authorization. A credential_injector with a secret file, delivered
    within a changed filter, never fetches its secret (measured: every request refused until a restart). So the keys
    stand in the filter's own file, which only its owner may read; Envoy's admin socket, which shows filters, is as
    private.
    """
    decisions: dict[str, Json] = {}
    for system in plan.systems:
        if system.hand_over is HandOver.STATIC:
            own = {principal: text for (name, principal), text in credentials.items() if name == system.name}
            chosen = {principal: _inject(own[principal]) for principal in sorted(own)}
            nobody = matcher.refuse(Reason.UNAVAILABLE)
            if system.observe_until:
                nobody = matcher.first([(matcher.without(SUBJECT_HEADER), matcher.skip())], nobody)
            decisions[place(system.name)] = matcher.exact(SUBJECT_HEADER, chosen, nobody)
    if not decisions:
        return matcher.nothing("inject")
    return matcher.exceptions("inject", matcher.prefix(CLASS_HEADER, decisions, matcher.skip()))


def _inject(text: str) -> Json:
    """The strip filter moves it to Authorization, once the caller's is gone; a value is a format, hence `%%`."""
    mutation = {"append": header(CREDENTIAL_HEADER, text.replace("%", "%%"))}
    return matcher.execute(extension("inject", matcher.MUTATION, mutations={"request_mutations": [mutation]}))


def own_keys(plans: Sequence[Plan]) -> tuple[str, ...]:
    """Headers by which the guard hands over a caller's own key, where a system is observed."""
    observed = any(system.observe_until for plan in plans for system in plan.systems)
    return OWN_KEYS if observed else ()


def given(route: Route) -> list[Json]:
    """The described headers: stripped as all others are, and set again on this route to what the guard has found."""
    named = (name for name in route.headers if name not in PASSED)
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
