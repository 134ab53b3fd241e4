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
from ostiary.erp.route import GIVEN, OWN_KEYS
from ostiary.plan.model import HandOver, Kind, Plan, Route, System
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
SENT: Final = "ostiary.sent."  # and a header's name: where the injector leaves what it holds
FILE: Final = "envoy.extensions.formatter.file_content.v3.FileContent"


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
                nobody = matcher.first([(matcher.without(SUBJECT_HEADER), matcher.skip())], nobody)
            decisions[place(system.name)] = matcher.exact(SUBJECT_HEADER, chosen, nobody)
    if not decisions:
        return matcher.nothing("inject")
    return matcher.exceptions("inject", matcher.prefix(CLASS_HEADER, decisions, matcher.skip()))


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
