"""The access log: one JSON line for each request, with the keys that `event.record` reads."""

from typing import Final

from ostiary.envoy.edge import Edge, Json
from ostiary.envoy.message import extension
from ostiary.envoy.token import PAYLOAD

GUARD: Final = "envoy.filters.http.ext_authz"
TEXT_MAX: Final = 200
METHOD_MAX: Final = 20  # HTTP/2 takes any token of up to the header limit
REVISION: Final = "%METADATA(VIRTUAL_HOST:ostiary:revision)%%REQ(:METHOD):0%"


def _command(name: str, parameter: str) -> str:
    return f'{{"command":"{name}","param":"{parameter}"}}'


REASONS: Final = (
    _command("RESP", "ostiary-reason"),
    _command("DYNAMIC_METADATA", f"{GUARD}:ostiary-reason"),
    _command("DYNAMIC_METADATA", "envoy.filters.http.rbac:scope_enforced_engine_result"),
)


def access_log(edge: Edge) -> list[Json]:
    return [
        extension(
            "file",
            "envoy.extensions.access_loggers.file.v3.FileAccessLog",
            path=str(edge.home.access_log),
            log_format={"json_format": _fields(edge), "omit_empty_values": False},
        )
    ]


def rule() -> str:
    """The rule that decided: the guard's word where it was asked, else the gate's own."""
    return _word(
        _first_of(
            _command("DYNAMIC_METADATA", f"{GUARD}:ostiary-rule"),
            _command("RESP", "ostiary-rule"),
            _command("DYNAMIC_METADATA", "envoy.filters.http.rbac:policy_shadow_effective_policy_id"),
        )
    )


def _fields(edge: Edge) -> Json:
    return {
        "at": "%START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)%",
        "decision": edge.decision,
        "revision": REVISION,
        "node": edge.node,
        "source": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
        "method": f"%REQ(:METHOD):{METHOD_MAX}%",
        "path": f"%PATH(NQ:ORIG_OR_PATH):{TEXT_MAX}%",
        "operation": _word(
            _first_of(
                _command("DYNAMIC_METADATA", f"{GUARD}:ostiary-operation"),
                _command("RESP", "ostiary-operation"),
                _command("METADATA", "ROUTE:ostiary:operation"),
            )
        ),
        "system": _word("%METADATA(ROUTE:ostiary:system)%"),
        "subject": _claim("sub"),
        "client": _claim("client_id"),
        "grant": _claim("grant"),
        "role_set": _claim("rs"),
        "status": "%RESPONSE_CODE%",
        "reason": _word(_first_of(*REASONS)),  # a caller who left got no answer, but was let in or not
        "rule": rule(),
        "flags": "%RESPONSE_FLAGS%",
        "details": "%RESPONSE_CODE_DETAILS%",
        "bytes_in": "%BYTES_RECEIVED%",
        "bytes_out": "%BYTES_SENT%",
        "duration_ms": "%DURATION%",
        "upstream_ms": "%COMMON_DURATION(US_TX_BEG:US_RX_BEG:ms)%",
        "guard_us": _word(
            f"%DYNAMIC_METADATA({GUARD}:ostiary-guard-us)%"
        ),  # alone it would be typed, at ten times the cost
        "tls": "%DOWNSTREAM_TLS_VERSION%",
        "agent": _word(f"%REQ(USER-AGENT):{TEXT_MAX}%"),
    }


def _claim(name: str) -> str:
    return _word(f"%DYNAMIC_METADATA(envoy.filters.http.jwt_authn:{PAYLOAD}:{name})%")


def _word(command: str) -> str:
    """A dash instead of null where there is none: Envoy does so for more than one command; the second adds nothing."""
    return f"{command}%REQ(:METHOD):0%"


def _first_of(*commands: str) -> str:
    return '%COALESCE({"operators":[' + ",".join(commands) + "]})%"
