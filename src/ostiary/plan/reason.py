"""The words for why: one list for the gate, the guard, the evaluator, the events and the answers to callers."""

from enum import StrEnum
from typing import Any, Final, Self

from ostiary.plan.formula import MFA, Formula, Mfa, Recent, atoms

HEADER: Final = "ostiary-reason"  # of an answer, by which the gate notes it
UNCLEAR: Final = "unclear"  # what a draft would say, where that turns on what is not kept, or was not asked
NO_ACCOUNT: Final = "no ERP user is mapped to"  # of a refusal by the guard
BEARER: Final = 'Bearer realm="ostiary"'
UNBOUND: Final = 'DPoP realm="ostiary", error="invalid_dpop_proof", algs="ES256 EdDSA PS256"'
SIGN_IN_ANEW: Final = f'{BEARER}, error="insufficient_user_authentication"'


class Reason(StrEnum):
    """In the order in which they are checked; each with its answer's status, in what words, and by what challenge.

    The challenge is a `WWW-Authenticate` (RFC 6750 section 3), without an error code where no token was shown.
    """

    status: int
    words: str
    challenge: str

    def __new__(cls, name: str, status: int, words: str, challenge: str = "") -> Self:
        one = str.__new__(cls, name)
        one._value_, one.status, one.words, one.challenge = name, status, words, challenge
        return one

    ALLOWED = "allowed", 200, "Allowed"
    ADDRESS_BLOCKED = "address-blocked", 403, "This address is blocked for a time"
    RATE_LIMITED = "rate-limited", 429, "Too many requests"
    TOKEN_MISSING = "token-missing", 401, "An access token is needed", BEARER
    TOKEN_INVALID = "token-invalid", 401, "The access token is not valid here", f'{BEARER}, error="invalid_token"'
    TOKEN_REVOKED = "token-revoked", 401, "The access token was revoked", f'{BEARER}, error="invalid_token"'
    TOKEN_UNBOUND = "token-unbound", 401, "The caller does not hold the key that the token is bound to", UNBOUND
    # Said by the identity server alone.
    CREDENTIAL_INVALID = "credential-invalid", 401, "The password, client secret, code or refresh token is wrong"
    CLOSED = "closed", 503, "The gate is closed: its control side is silent"
    UNKNOWN_OPERATION = "unknown-operation", 403, "No such operation is open here"
    ROLE = "role", 403, "No role of the caller grants this operation"
    CONTEXT = "context", 403, "Granted, but not at this time or from this place"
    SCOPE = "scope", 403, "The token's scope does not cover this operation", f'{BEARER}, error="insufficient_scope"'
    FIELD = "field", 403, "Granted, but not all the fields that the request names"
    STEP_UP = "step-up", 401, "Granted, once the person has signed in anew or with another factor", SIGN_IN_ANEW
    TOO_LARGE = "too-large", 413, "The request is too large"
    INVALID = "invalid", 400, "The request is not valid"
    RECORD = "record", 403, "Granted, but not for this record as it is, or would be"
    APART = "apart", 403, "Duties kept apart: another person must do this"
    UNAVAILABLE = "unavailable", 503, "The request can't be judged or served now"
    ERP_REFUSES = "erp-refuses", 502, "The system does not take the credential that the gate has for this caller"


def step_up(formula: Formula) -> str:
    """The challenge that tells a client how its person is to sign in (RFC 9470 section 3)."""
    found = list(atoms(formula))
    ages = [atom.seconds for atom in found if isinstance(atom, Recent)]
    told = [f'acr_values="{MFA}"'] * (Mfa() in found) + ([f'max_age="{min(ages)}"'] if ages else [])
    return ", ".join([Reason.STEP_UP.challenge, *told])


def problem(reason: Reason, *, detail: str, decision: str) -> dict[str, Any]:
    """The body of a refusal (RFC 9457): nothing of the policy, which the decision id leads its operator to."""
    return {
        "type": f"urn:ostiary:reason:{reason}",
        "title": reason.words,
        "status": reason.status,
        "detail": detail,
        "reason": str(reason),
        "decision": decision,
    }
