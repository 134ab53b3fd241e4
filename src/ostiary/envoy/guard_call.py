"""How Envoy asks the guard, where a request needs a look inside: whole bodies only, and no answer is a refusal."""

from typing import Final

from ostiary.envoy.edge import Json
from ostiary.envoy.handover import TRYTON, described_headers
from ostiary.envoy.message import changeable
from ostiary.plan.model import Plan

EXT_AUTHZ: Final = "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz"
GUARD_TIMEOUT: Final = "10s"
ASKED: Final = ("authorization", "content-type", "content-encoding", "host", "range", "user-agent", *TRYTON)
ANSWERED: Final = ("ostiary-operation", "ostiary-reason", "ostiary-rule", "ostiary-guard-us")
REFUSED: Final = ("content-type", "retry-after", "www-authenticate")


def guard_filter(plan: Plan) -> tuple[str, Json]:
    """A part of a body is never shown: an attacker pads the head (hence `allow_partial_message` is off)."""
    asked = [{"exact": name} for name in dict.fromkeys([*ASKED, *sorted(described_headers(plan))])]
    return changeable(
        "guard",
        EXT_AUTHZ,
        http_service={
            "server_uri": {"uri": "http://guard", "cluster": "guard", "timeout": GUARD_TIMEOUT},
            "path_prefix": "/check",
            "authorization_response": {
                "dynamic_metadata_from_headers": _exactly(("authorization", *ANSWERED)),
                "allowed_client_headers": _exactly((*ANSWERED, *REFUSED)),
            },
        },
        allowed_headers={"patterns": [*asked, {"prefix": "x-gw-"}]},
        with_request_body={"max_request_bytes": plan.limits.body_bytes, "allow_partial_message": False},
        failure_mode_allow=False,
        status_on_error={"code": "ServiceUnavailable"},
    )


def body_filter(plan: Plan) -> tuple[str, Json]:
    """The whole body is here before the ERP sees a byte, or the request is refused as too large."""
    buffer = "envoy.extensions.filters.http.buffer.v3.Buffer"
    return changeable("body", buffer, max_request_bytes=plan.limits.body_bytes)


def _exactly(names: tuple[str, ...]) -> Json:
    return {"patterns": [{"exact": name, "ignore_case": True} for name in names]}
