"""Static ERP keys, put on natively: one for each system and principal.

A credential_injector with a secret file, delivered within a changed filter, never fetches its secret (measured:
every request refused until a restart). So the keys stand in the filter's own file, which only its owner may read;
Envoy's admin socket, which shows filters, is as private.
"""

from collections.abc import Mapping

from ostiary.envoy import matcher
from ostiary.envoy.edge import Json
from ostiary.envoy.handover import CREDENTIAL_HEADER
from ostiary.envoy.message import CLASS_HEADER, SUBJECT_HEADER, extension, header, place
from ostiary.plan.model import HandOver, Plan
from ostiary.plan.reason import Reason


def inject_filter(plan: Plan, credentials: Mapping[tuple[str, str], str]) -> tuple[str, Json]:
    """`credentials`: (system, principal) -> the value of Authorization; without one of his own a caller is denied."""
    decisions: dict[str, Json] = {}
    for system in plan.systems:
        if system.hand_over is HandOver.STATIC:
            own = {principal: text for (name, principal), text in credentials.items() if name == system.name}
            chosen = {principal: _inject(own[principal]) for principal in sorted(own)}
            nobody = matcher.refuse(Reason.UNAVAILABLE)
            if system.observe_until:
                nobody = matcher.first([(matcher.without(SUBJECT_HEADER), matcher.skip())], nobody)
            decisions[place(system.name)] = matcher.exact("x-gw-sub", chosen, nobody)
    if not decisions:
        return matcher.nothing("inject")
    return matcher.exceptions("inject", matcher.prefix(CLASS_HEADER, decisions, matcher.skip()))


def _inject(text: str) -> Json:
    """The strip filter moves it to Authorization, once the caller's is gone; a value is a format, hence `%%`."""
    mutation = {"append": header(CREDENTIAL_HEADER, text.replace("%", "%%"))}
    return matcher.execute(extension("inject", matcher.MUTATION, mutations={"request_mutations": [mutation]}))
