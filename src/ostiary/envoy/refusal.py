"""Every refusal that the gate writes itself: problem details (RFC 9457) with reason, rule, decision and revision.

Which filter refused is read from the metadata that each RBAC filter leaves under its own prefix. The first mapper
that fits writes the answer; a refusal that the guard wrote passes as it is.
"""

from typing import Final

from ostiary.envoy.access import CLASS_HEADER, UNKNOWN
from ostiary.envoy.access_log import REVISION, rule
from ostiary.envoy.edge import HSTS, Edge, Json
from ostiary.envoy.message import header
from ostiary.envoy.token import PAYLOAD
from ostiary.plan.reason import STATUS, TITLE, Reason

GUARD_UNAVAILABLE: Final = 424  # what the guard says for 503: of any 5xx Envoy takes the status alone (measured)
RBAC_METADATA: Final = "envoy.filters.http.rbac"
CHALLENGE: Final = {
    Reason.TOKEN_MISSING: "Bearer",  # RFC 6750 section 3.1: no error code where no token was shown
    Reason.TOKEN_INVALID: 'Bearer error="invalid_token"',
    Reason.TOKEN_REVOKED: 'Bearer error="invalid_token"',
    Reason.SCOPE: 'Bearer error="insufficient_scope"',
}


def local_replies(edge: Edge) -> Json:
    """The guard's word first; then who refused, told by how far the request came; then whatever is left.

    An RBAC filter that denies leaves its own verdict only after the answer is written (measured), one that allows
    leaves it in time, and so does the access table, which only speaks.
    """
    refused_late = _all([_denied(), _passed("scope")])
    return {
        "mappers": [
            _refuse(Reason.TOO_LARGE, _status(413), edge),
            _refuse(Reason.RATE_LIMITED, _status(429), edge),
            _refuse(Reason.UNAVAILABLE, _all([_flag("UAEX"), _any([_range(100, 399), _status(503)])]), edge),
            _pass(_all([_flag("UAEX"), _status(GUARD_UNAVAILABLE)]), edge)
            | {"status_code": STATUS[Reason.UNAVAILABLE]},
            _pass(_flag("UAEX"), edge),
            _refuse(Reason.UNAVAILABLE, refused_late, edge),  # no key of his own for the ERP
            _refuse(Reason.SCOPE, _all([_denied(), _table("allowed")]), edge),
            _refuse(Reason.UNKNOWN_OPERATION, _all([_denied(), _table("denied"), _class_unknown()]), edge),
            _refuse(Reason.ROLE, _all([_denied(), _table("denied"), _no_rule()]), edge),
            _refuse(Reason.CONTEXT, _all([_denied(), _table("denied")]), edge),
            _refuse(Reason.CLOSED, _all([_denied(), _passed("revoked-cold")]), edge),
            _refuse(Reason.TOKEN_REVOKED, _all([_denied(), _verified(edge)]), edge),
            _refuse(Reason.TOKEN_INVALID, _all([_denied(), _passed("blocked"), _shown()]), edge),
            _refuse(Reason.TOKEN_MISSING, _all([_denied(), _passed("blocked")]), edge),
            _refuse(Reason.ADDRESS_BLOCKED, _all([_denied(), _marked()]), edge),
            _refuse(Reason.INVALID, _range(400, 499), edge),
            _refuse(Reason.UNAVAILABLE, _range(500, 599), edge),
        ]
    }


def _refuse(reason: Reason, when: Json, edge: Edge) -> Json:
    status = STATUS[reason]
    body = {
        "type": f"urn:ostiary:reason:{reason}",
        "title": TITLE[reason],
        "status": status,
        "detail": "The decision id tells the operator of this gate why.",
        "reason": str(reason),
        "rule": rule(),
        "decision": edge.decision,
        "revision": REVISION,
    }
    headers = [*_always(edge), header("ostiary-reason", str(reason))]
    if reason in CHALLENGE:
        headers.append(header("www-authenticate", CHALLENGE[reason]))
    return {
        "filter": when,
        "status_code": status,
        "headers_to_add": headers,
        "body_format_override": {"json_format": body, "content_type": "application/problem+json"},
    }


def _pass(when: Json, edge: Edge) -> Json:
    kept = {"text_format_source": {"inline_string": "%LOCAL_REPLY_BODY%"}, "content_type": "application/problem+json"}
    return {
        "filter": when,
        "headers_to_add": _always(edge),
        "body_format_override": kept,
    }


def _always(edge: Edge) -> list[Json]:
    """What a route adds to an answer that passes it."""
    security = [] if edge.plain else [header("strict-transport-security", HSTS)]
    return [header("ostiary-decision", edge.decision), *security]


def _denied() -> Json:
    return _any([_status(401), _status(403)])


def _passed(name: str) -> Json:
    return _metadata(RBAC_METADATA, [f"{name}_enforced_engine_result"], "allowed")


def _table(result: str) -> Json:
    return _metadata(RBAC_METADATA, ["policy_shadow_engine_result"], result)


def _no_rule() -> Json:
    return _metadata(RBAC_METADATA, ["policy_shadow_effective_policy_id"], "-")


def _verified(edge: Edge) -> Json:
    return _metadata("envoy.filters.http.jwt_authn", [PAYLOAD, "iss"], edge.issuer)


def _metadata(space: str, path: list[str], text: str) -> Json:
    keys = [{"key": key} for key in path]
    found = {"filter": space, "path": keys, "value": {"string_match": {"exact": text}}}
    return {"metadata_filter": {"matcher": found, "match_if_key_not_found": False}}


def _class_unknown() -> Json:
    """A route for what is no operation, or no route: a query where none is taken."""
    absent = {"header_filter": {"header": {"name": CLASS_HEADER, "present_match": True, "invert_match": True}}}
    return _any([_header(CLASS_HEADER, {"safe_regex": {"regex": f"{UNKNOWN}|-"}}), absent])


def _marked() -> Json:
    """The filters were reached at all."""
    return {"header_filter": {"header": {"name": "x-gw-source", "present_match": True}}}


def _shown() -> Json:
    return _header("authorization", {"contains": "Bearer "})


def _header(name: str, text: Json) -> Json:
    return {"header_filter": {"header": {"name": name, "string_match": text}}}


def _flag(flag: str) -> Json:
    return {"response_flag_filter": {"flags": [flag]}}


def _status(code: int) -> Json:
    return _compared("EQ", code)


def _range(low: int, high: int) -> Json:
    return _all([_compared("GE", low), _compared("LE", high)])


def _compared(operator: str, code: int) -> Json:
    value = {"default_value": code, "runtime_key": "ostiary.none"}
    return {"status_code_filter": {"comparison": {"op": operator, "value": value}}}


def _all(filters: list[Json]) -> Json:
    return {"and_filter": {"filters": filters}}


def _any(filters: list[Json]) -> Json:
    return {"or_filter": {"filters": filters}}
