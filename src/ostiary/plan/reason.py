"""The words for why: one list for the gate, the guard, the evaluator, the events and the answers to callers."""

from enum import StrEnum
from typing import Any, Final

from ostiary.plan.formula import MFA, Formula, Mfa, Recent, atoms

HEADER: Final = "ostiary-reason"  # of an answer, by which the gate notes it
UNCLEAR: Final = "unclear"  # what a draft would say, where that turns on what is not kept, or was not asked


class Reason(StrEnum):
    """In the order in which they are checked."""

    ALLOWED = "allowed"
    ADDRESS_BLOCKED = "address-blocked"
    RATE_LIMITED = "rate-limited"
    TOKEN_MISSING = "token-missing"  # noqa: S105  the word, not a token
    TOKEN_INVALID = "token-invalid"  # noqa: S105
    TOKEN_REVOKED = "token-revoked"  # noqa: S105
    CREDENTIAL_INVALID = "credential-invalid"  # said by the identity server alone
    CLOSED = "closed"
    UNKNOWN_OPERATION = "unknown-operation"
    ROLE = "role"
    CONTEXT = "context"
    SCOPE = "scope"
    FIELD = "field"
    STEP_UP = "step-up"
    TOO_LARGE = "too-large"
    INVALID = "invalid"
    RECORD = "record"
    APART = "apart"
    UNAVAILABLE = "unavailable"


STATUS: dict[Reason, int] = {
    Reason.ALLOWED: 200,
    Reason.ADDRESS_BLOCKED: 403,
    Reason.RATE_LIMITED: 429,
    Reason.TOKEN_MISSING: 401,
    Reason.TOKEN_INVALID: 401,
    Reason.TOKEN_REVOKED: 401,
    Reason.CREDENTIAL_INVALID: 401,
    Reason.CLOSED: 503,
    Reason.UNKNOWN_OPERATION: 403,
    Reason.ROLE: 403,
    Reason.CONTEXT: 403,
    Reason.SCOPE: 403,
    Reason.FIELD: 403,
    Reason.STEP_UP: 401,
    Reason.TOO_LARGE: 413,
    Reason.INVALID: 400,
    Reason.RECORD: 403,
    Reason.APART: 403,
    Reason.UNAVAILABLE: 503,
}

TITLE: dict[Reason, str] = {
    Reason.ALLOWED: "Allowed",
    Reason.ADDRESS_BLOCKED: "This address is blocked for a time",
    Reason.RATE_LIMITED: "Too many requests",
    Reason.TOKEN_MISSING: "An access token is needed",
    Reason.TOKEN_INVALID: "The access token is not valid here",
    Reason.TOKEN_REVOKED: "The access token was revoked",
    Reason.CREDENTIAL_INVALID: "The password, client secret, code or refresh token is wrong",
    Reason.CLOSED: "The gate is closed: its control side is silent",
    Reason.UNKNOWN_OPERATION: "No such operation is open here",
    Reason.ROLE: "No role of the caller grants this operation",
    Reason.CONTEXT: "Granted, but not at this time or from this place",
    Reason.SCOPE: "The token's scope does not cover this operation",
    Reason.FIELD: "Granted, but not all the fields that the request names",
    Reason.STEP_UP: "Granted, once the person has signed in anew or with another factor",
    Reason.TOO_LARGE: "The request is too large",
    Reason.INVALID: "The request is not valid",
    Reason.RECORD: "Granted, but not for this record as it is, or would be",
    Reason.APART: "Duties kept apart: another person must do this",
    Reason.UNAVAILABLE: "The request can't be judged or served now",
}

CHALLENGE: dict[Reason, str] = {  # `WWW-Authenticate` (RFC 6750 section 3); no error code where no token was shown
    Reason.TOKEN_MISSING: 'Bearer realm="ostiary"',
    Reason.TOKEN_INVALID: 'Bearer realm="ostiary", error="invalid_token"',
    Reason.TOKEN_REVOKED: 'Bearer realm="ostiary", error="invalid_token"',
    Reason.SCOPE: 'Bearer realm="ostiary", error="insufficient_scope"',
    Reason.STEP_UP: 'Bearer realm="ostiary", error="insufficient_user_authentication"',
}


def step_up(formula: Formula) -> str:
    """The challenge that tells a client how its person is to sign in (RFC 9470 section 3)."""
    found = list(atoms(formula))
    ages = [atom.seconds for atom in found if isinstance(atom, Recent)]
    told = [f'acr_values="{MFA}"'] * (Mfa() in found) + ([f'max_age="{min(ages)}"'] if ages else [])
    return ", ".join([CHALLENGE[Reason.STEP_UP], *told])


def problem(reason: Reason, *, detail: str, decision: str) -> dict[str, Any]:
    """The body of a refusal (RFC 9457): nothing of the policy, which the decision id leads its operator to."""
    return {
        "type": f"urn:ostiary:reason:{reason}",
        "title": TITLE[reason],
        "status": STATUS[reason],
        "detail": detail,
        "reason": str(reason),
        "decision": decision,
    }
