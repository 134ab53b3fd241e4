"""Every refusal that the gate writes itself: problem details (RFC 9457) with reason and decision.

Who refused is told by the details that Envoy keeps of its answer: a decision's name, or jwt_authn's. The first mapper
that fits writes the answer; a refusal that the guard wrote passes as it is.
"""

from typing import Final

from ostiary.envoy import matcher
from ostiary.envoy.edge import HSTS, Edge, Json
from ostiary.envoy.message import extension, header
from ostiary.foundation.api_key import WRONG
from ostiary.plan.decide import HEADER, Reason, problem

# What the guard says for it: of any 5xx Envoy takes the status alone (measured).
GUARD_SAYS: Final = {Reason.UNAVAILABLE: 424, Reason.ERP_REFUSES: 423}
UNPROVED: Final = 421  # what the guard says of a proof: it knows neither decision nor revision of the request then
# What is made of an ERP's 401: no answer of the gate's own has it, and its mapper makes 502 of it.
ERP_REFUSES: Final = 511
EXPRESSION: Final = "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter"
ASKED_ANEW: Final = "%CEL(xds.route_metadata.filter_metadata['ostiary']['step-up'][response.code_details])%"
WHY: Final = "The decision id tells the operator of this gate why."
# By the gate's own decision; of this reason `inject` alone has one.
DETAIL: Final = {Reason.UNAVAILABLE: "The system has no account for this caller; an administrator can give one."}
RENEW: Final = "Your token is good. The key or password that the gate has for the system is wrong or was withdrawn there: an administrator gives another one with `account`."
KEY: Final = "The API key is wrong, has ended or was taken back: its owner gets another one from an administrator."
TOKEN: Final = "jwt_authn_access_denied"  # noqa: S105  the beginning of jwt_authn's own details


def local_replies(edge: Edge) -> Json:
    """The guard's word first; then the gate's own decisions by name; then whatever is left."""
    named = [one for one in Reason if one is not Reason.ALLOWED]
    return {
        "mappers": [
            _refuse(Reason.ERP_REFUSES, _status(ERP_REFUSES), edge, RENEW),
            _refuse(Reason.TOO_LARGE, _status(413), edge),
            _refuse(Reason.RATE_LIMITED, _status(429), edge),
            _refuse(Reason.UNAVAILABLE, _all([_flag("UAEX"), _any([_range(100, 399), _status(503)])]), edge),
            _refuse(Reason.TOKEN_UNBOUND, _all([_flag("UAEX"), _status(UNPROVED)]), edge),
            _refuse(
                Reason.CREDENTIAL_INVALID,
                _all([_flag("UAEX"), _status(WRONG)]),
                edge,
                KEY,
                Reason.TOKEN_INVALID.challenge,
            ),
            *(
                _pass(_all([_flag("UAEX"), _status(said)]), edge) | {"status_code": reason.status}
                for reason, said in GUARD_SAYS.items()
            ),
            _pass(_flag("UAEX"), edge),
            _refuse(Reason.TOKEN_MISSING, _details(f"{TOKEN}{{Jwt_is_missing}}"), edge),
            _refuse(Reason.TOKEN_INVALID, _details(TOKEN), edge),
            *(_refuse(one, _details(matcher.denied_by(one, "")), edge, DETAIL.get(one, WHY)) for one in named),
            _refuse(Reason.INVALID, _range(400, 499), edge),
            _refuse(Reason.UNAVAILABLE, _range(500, 599), edge),
        ]
    }


def _refuse(reason: Reason, when: Json, edge: Edge, detail: str = WHY, challenge: str = "") -> Json:
    body = problem(reason, detail=detail, decision=edge.decision)
    headers = [*on_every_answer(edge), header(HEADER, str(reason))]
    if challenge := challenge or reason.challenge:
        headers.append(header("www-authenticate", ASKED_ANEW if reason is Reason.STEP_UP else challenge))
    return {
        "filter": when,
        "status_code": reason.status,
        "headers_to_add": headers,
        "body_format_override": {"json_format": body, "content_type": "application/problem+json"},
    }


def _pass(when: Json, edge: Edge) -> Json:
    kept = {"text_format_source": {"inline_string": "%LOCAL_REPLY_BODY%"}, "content_type": "application/problem+json"}
    return {"filter": when, "headers_to_add": on_every_answer(edge), "body_format_override": kept}


def on_every_answer(edge: Edge) -> list[Json]:
    """The ERP's answers and our own."""
    security = [] if edge.plain else [header("strict-transport-security", HSTS)]
    return [header("ostiary-decision", edge.decision), *security]


def _details(start: str) -> Json:
    """Of what Envoy notes about its own answer, with which `start` it begins."""
    expression = f"response.code_details.startsWith('{start}')"
    return {"extension_filter": extension("details", EXPRESSION, expression=expression)}


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
