"""The access log: one JSON line for each request, which `event.record` reads.

A field of several words costs Envoy little more than a field of one (measured: a field of one command alone is
typed, at ten times the cost), so what belongs together stands together.
"""

from typing import Final

from ostiary.envoy.condition import DEVICE_METADATA
from ostiary.envoy.edge import Edge, Json
from ostiary.envoy.matcher import RBAC_METADATA
from ostiary.envoy.message import TEXT_MAX, extension
from ostiary.envoy.token import KEPT

GUARD: Final = "envoy.filters.http.ext_authz"
DECIDED: Final = "ostiary-decided"  # what the guard says of a request, for the log
METHOD_MAX: Final = 20  # HTTP/2 takes any token of up to the header limit


def access_log(edge: Edge) -> list[Json]:
    return [
        extension(
            "file",
            "envoy.extensions.access_loggers.file.v3.FileAccessLog",
            path=str(edge.home.access_log),
            log_format={"json_format": _fields(edge), "omit_empty_values": False},
        )
    ]


def _fields(edge: Edge) -> Json:
    answer = (
        "%RESPONSE_CODE%",
        "%RESPONSE_FLAGS%",
        "%BYTES_RECEIVED%",
        "%BYTES_SENT%",
        "%DURATION%",
        "%COMMON_DURATION(DS_RX_BEG:US_TX_BEG:us)%",  # there where the request was passed on
        "%COMMON_DURATION(US_TX_BEG:US_RX_BEG:us)%",  # none is no 0: the ERP has answered where there is one
        "%DOWNSTREAM_TLS_VERSION%",
        f"%REQ(USER-AGENT):{TEXT_MAX}%",
    )
    return {
        "decision": f"%START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)% {edge.node} {edge.decision}",
        "route": "%METADATA(VIRTUAL_HOST:ostiary:revision)% %ROUTE_NAME%",
        "caller": f"%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %FILTER_STATE({KEPT}:PLAIN)%",
        "call": f"%REQ(:METHOD):{METHOD_MAX}% %PATH(NQ:PATH):{TEXT_MAX}%",
        "decided": f"%RESP(ostiary-reason)% {_left(RBAC_METADATA, 'policy_enforced_effective_policy_id')}"
        f" {_left(RBAC_METADATA, DEVICE_METADATA)} %RESPONSE_CODE_DETAILS%"
        f" {_left(RBAC_METADATA, 'policy_shadow_effective_policy_id')} {_left(GUARD, DECIDED)}",
        "answer": " ".join(answer),
    }


def _left(by: str, name: str) -> str:
    """What a filter left in its metadata."""
    return f"%DYNAMIC_METADATA({by}:{name})%"
