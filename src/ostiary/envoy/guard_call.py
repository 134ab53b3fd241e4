"""How Envoy asks the guard, where a request needs a look inside: whole bodies only, and no answer is a refusal."""

from collections.abc import Sequence
from typing import Final

from ostiary.envoy import matcher
from ostiary.envoy.edge import FIXED, Json
from ostiary.envoy.handover import TRYTON, own_keys
from ostiary.envoy.message import changeable, header, typed
from ostiary.erp.route import GIVEN
from ostiary.plan.model import Plan
from ostiary.plan.reason import Reason

EXT_AUTHZ: Final = "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz"
NO_BODY_BYTES: Final = 1  # of a body whose length is not told beforehand: Envoy knows no 0
TOOK_HEADER: Final = "x-gw-took"  # milliseconds from a request's first byte to its last
LATE: Final = "[5-9][0-9]{3}|[0-9]{5,}"  # longer than `guard.knowledge.ON_THEIR_WAY_S`
BUFFER: Final = "envoy.extensions.filters.http.buffer.v3"
BODY_MAX_BYTES: Final = 100 * 1024 * 1024  # no policy may say more
TELL: Final = "tell"  # the filter that says what a request is about to our own servers
ON: Final = typed("envoy.config.route.v3.FilterConfig", config={})
SHOWN: Final = ("authorization", "content-type", "content-encoding", "host", "range", "user-agent", *TRYTON)
REFUSED: Final = ("ostiary-reason", "content-type", "retry-after", "www-authenticate")


def guard_filter(plans: Sequence[Plan]) -> tuple[str, Json]:
    """A part of a body is never shown: an attacker pads the head (hence `allow_partial_message` is off)."""
    own = own_keys(plans)
    described = {name for plan in plans for route in plan.routes for name in route.headers}
    asked = [{"exact": name} for name in dict.fromkeys([*SHOWN, *own, *sorted(described)])]
    passed_on = _exactly(("authorization", *own, "ostiary-decided"), {"prefix": GIVEN})
    service = guard_service("/check", dynamic_metadata_from_headers=passed_on, allowed_client_headers=_exactly(REFUSED))
    shown = {"patterns": [*asked, {"prefix": "x-gw-"}]}
    told = {"http_service": service, "allowed_headers": shown, "with_request_body": _whole(BODY_MAX_BYTES)}
    return changeable("guard", EXT_AUTHZ, **told, **FIXED["unanswered"])


def guard_service(prefix: str, **answer: Json) -> Json:
    """The guard's own paths below `prefix`, and what of its `answer` counts."""
    return {"server_uri": FIXED["guard"], "path_prefix": prefix, "authorization_response": answer}


def body_filter() -> tuple[str, Json]:
    """The whole body is here before the ERP sees a byte, or the request is refused as too large."""
    return changeable("body", f"{BUFFER}.Buffer", max_request_bytes=BODY_MAX_BYTES)


def bare_filters() -> dict[str, Json]:
    """Behind `body`, which tells a length to what came without: a request of which nobody looks at the inside has none.

    Who says at once what he wants, and keeps the end of it back, would be judged by what was so before (measured: each
    filter is the one of the request's beginning).
    """
    took = matcher.mutated([{"append": header(TOOK_HEADER, "%REQUEST_DURATION%")}])
    refused = matcher.refuse(Reason.INVALID)
    ended = matcher.exact("content-length", {"0": took, str(NO_BODY_BYTES): refused}, matcher.skip())
    bare = matcher.first([(matcher.without("x-gw-decision"), ended)], matcher.skip())
    late = matcher.first([(matcher.regex(TOOK_HEADER, LATE), refused)], matcher.skip())
    return {name: matcher.always_excepting(name, judged) for name, judged in (("bare", bare), ("late", late))}


def looked_into(body_bytes: int) -> Json:
    """What switches the guard on for a route. The policy's own limit stands there, so that it changes with the routes."""
    asked = {"with_request_body": _whole(body_bytes)}
    return {TELL: ON, "guard": typed(f"{EXT_AUTHZ}PerRoute", check_settings=asked), "body": body_limit(body_bytes)}


def _whole(most_bytes: int) -> Json:
    return {"max_request_bytes": most_bytes, "allow_partial_message": False}


def body_limit(most_bytes: int) -> Json:
    return typed(f"{BUFFER}.BufferPerRoute", buffer={"max_request_bytes": most_bytes})


def _exactly(names: tuple[str, ...], *more: Json) -> Json:
    return {"patterns": [*({"exact": name, "ignore_case": True} for name in names), *more]}
