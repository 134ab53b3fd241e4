"""Tokens that are bound to a key are good for nobody who does not hold it (RFC 8705 section 3, RFC 9449 section 7).

A certificate's fingerprint is compared natively; a DPoP proof is signed anew for each request, so the guard looks at it.
What the token filter verified has the claim `bnd` in a header: without it, the caller may not call his token bound.
"""

from typing import Final

from ostiary.envoy import cel, matcher
from ostiary.envoy.device import DEVICE_HEADER
from ostiary.envoy.edge import FIXED, Json
from ostiary.envoy.guard_call import EXT_AUTHZ, guard_service
from ostiary.envoy.message import SUBJECT_HEADER, extension
from ostiary.envoy.token import CLAIM_HEADERS, SCHEMES
from ostiary.plan.reason import Reason

SHA256_CHARS: Final = 64  # in hex
BOUND_HEADER: Final = CLAIM_HEADERS["bnd"]
SHOWN: Final = ("authorization", "dpop", "host", BOUND_HEADER)


def bound_filter(limit: Json) -> tuple[str, Json]:
    """`limit` comes before each look at a proof, which costs the guard a quarter of a millisecond."""
    refused = matcher.refuse(Reason.TOKEN_UNBOUND)
    same = matcher.first([(_certified(), matcher.skip())], refused)

    def no_proof(otherwise: Json) -> Json:
        told = {SCHEMES[""]: otherwise, SCHEMES["jkt"]: refused}  # the token filter finds its words anywhere
        return matcher.prefix(
            "authorization", told, matcher.first([(matcher.without(SUBJECT_HEADER), otherwise)], refused)
        )

    kinds = {"jkt:": matcher.execute_all([limit, _proof()]), "x5t:": no_proof(same)}
    return matcher.exceptions("bound", matcher.prefix(BOUND_HEADER, kinds, no_proof(matcher.skip())))


def _certified() -> Json:
    """The token names the connection's certificate; every text ends with an empty one, hence its size (CEL adds no texts)."""
    headers = cel.attribute("request.headers")
    shown = cel.index(headers, DEVICE_HEADER)
    whole = cel.call("_==_", cel.call("size", shown), cel.number(SHA256_CHARS))
    return cel.predicate(cel.call("_&&_", whole, cel.method(cel.index(headers, BOUND_HEADER), "endsWith", shown)))


def _proof() -> Json:
    asked = {"patterns": [{"exact": name} for name in SHOWN]}
    service = guard_service("/proof")
    return extension("proof", EXT_AUTHZ, http_service=service, allowed_headers=asked, **FIXED["unanswered"])
