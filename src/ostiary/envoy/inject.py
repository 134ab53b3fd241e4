"""Static ERP keys, put on natively: one for each system and principal.

A credential_injector with a secret file, delivered within a changed filter, never fetches its secret (measured:
every request refused until a restart). So the keys stand in the filter's own file, which only its owner may read;
Envoy's admin socket, which shows filters, is as private.
"""

from collections.abc import Mapping
from typing import Final

from ostiary.envoy import matcher
from ostiary.envoy.edge import Json
from ostiary.envoy.handover import CREDENTIAL_HEADER, MUTATION
from ostiary.envoy.message import changeable, extension, header
from ostiary.envoy.signals import RBAC
from ostiary.plan.model import HandOver, Plan

WITH_MATCHER: Final = "envoy.extensions.common.matching.v3.ExtensionWithMatcher"
COMPOSITE: Final = "envoy.extensions.filters.http.composite.v3.Composite"
EXECUTE: Final = "envoy.extensions.filters.http.composite.v3.ExecuteFilterAction"
SKIP: Final = "envoy.extensions.filters.common.matcher.action.v3.SkipFilter"


def inject_filter(plan: Plan, credentials: Mapping[tuple[str, str], str]) -> tuple[str, Json]:
    """`credentials`: (system, principal) -> the value of Authorization; without one of his own a caller is denied."""
    verdicts: dict[str, Json] = {}
    for system in plan.systems:
        if system.hand_over is HandOver.STATIC:
            own = {principal: text for (name, principal), text in credentials.items() if name == system.name}
            chosen = {principal: _inject(own[principal]) for principal in sorted(own)}
            verdicts[system.name] = matcher.exact(matcher.request_header("x-gw-sub"), chosen, _nobody())
    skip = {"action": extension("skip", SKIP)}
    verdict = matcher.exact(matcher.request_header("x-gw-system"), verdicts, skip)
    composite = extension("composite", COMPOSITE)
    return changeable("inject", WITH_MATCHER, extension_config=composite, xds_matcher=matcher.whole(verdict))


def _inject(text: str) -> Json:
    """The strip filter moves it to Authorization, once the caller's is gone; a value is a format, hence `%%`."""
    mutation = {"append": header(CREDENTIAL_HEADER, text.replace("%", "%%"))}
    return _execute(extension("inject", MUTATION, mutations={"request_mutations": [mutation]}))


def _nobody() -> Json:
    """An empty rule set denies all."""
    return _execute(extension("nobody", RBAC, rules={}, rules_stat_prefix="inject_"))


def _execute(filter_config: Json) -> Json:
    return {"action": extension("execute", EXECUTE, typed_config=filter_config)}
