"""What names, roles, scopes and redirect addresses may look like; everything else is refused where it comes in."""

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from ostiary.erp.operation import Verb
from ostiary.foundation.errors import CallerFault
from ostiary.policy import words

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,99}")  # no ":" or "#": they part ids and generations
ROLE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
GRANT: Final = re.compile(r"gr-[0-9a-f]{32}")
SCOPE: Final = re.compile(
    rf"{words.NAME.pattern}/{words.OBJECT.pattern}:(?:{'|'.join(Verb)})(?:\.{words.ACTION.pattern})?"
)
REDIRECT: Final = re.compile(r"https?://[!-~]+")  # printable ASCII, no space
# A fragment (RFC 6749 section 3.1.2), a user, what browsers bend, what stands for anything elsewhere.
NOT_IN_REDIRECT: Final = re.compile(r'[#@\\"<>^`{|}*]')
LOOPBACK: Final = re.compile(r"http://(127\.0\.0\.1|\[::1\])(?::[0-9]{1,5})?([/?][!-~]*)?")
SHUT: Final = "the account is disabled"  # why a person does not sign in: in the journal
DISABLED, ENDED = "the client is disabled", "the client has ended"  # why no client proves itself: in the journal
TEXT_MAX_CHARS: Final = 200
REDIRECT_MAX_CHARS: Final = 1_000
LISTED_MAX: Final = 100


def refuse_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise CallerFault("name-invalid", f"{name!r} is no name", hint="letters, digits and . _ @ + -, at most 100")


def refuse_text(**texts: str) -> None:
    """Raises for what would not fit, or could not be shown."""
    for what, text in texts.items():
        if len(text) > TEXT_MAX_CHARS or not (text.isprintable() or not text):
            hint = f"at most {TEXT_MAX_CHARS} characters on one line"
            raise CallerFault("text-invalid", f"the {what} is too long, or not plain text", hint=hint)


def refuse_roles(roles: Iterable[str]) -> None:
    if odd := [role for role in roles if not ROLE.fullmatch(role)]:
        raise CallerFault("role-invalid", f"{odd[0]!r} is no role's name", hint="name a role of the policy")


def refuse_scopes(scopes: Iterable[str]) -> None:
    listed = list(scopes)
    if odd := [scope for scope in listed if not SCOPE.fullmatch(scope)] or listed[LISTED_MAX:]:
        hint = f"write it like erp/party.party:read; {LISTED_MAX} at most"
        raise CallerFault("scope-invalid", f"{odd[0]!r} is no scope, or one too many", hint=hint)


def refuse_redirects(redirects: Iterable[str]) -> None:
    listed = list(redirects)
    if odd := [address for address in listed if not safe(address)] or listed[LISTED_MAX:]:
        hint = f"https, or http://127.0.0.1 for an app on the person's own machine; {LISTED_MAX} at most"
        raise CallerFault("redirect-invalid", f"{odd[0]!r} is no safe redirect, or one too many", hint=hint)


def same_redirect(registered: str, asked: str) -> bool:
    """Exactly as registered; a loopback address may choose its port (RFC 8252 section 7.3)."""
    if registered == asked:
        return True
    left, right = LOOPBACK.fullmatch(registered), LOOPBACK.fullmatch(asked)
    return left is not None and right is not None and left.groups() == right.groups()


def safe(redirect: str) -> bool:
    """https, or the loopback address of a native app."""
    if len(redirect) > REDIRECT_MAX_CHARS or not REDIRECT.fullmatch(redirect) or NOT_IN_REDIRECT.search(redirect):
        return False
    try:
        place = urlsplit(redirect)
        return bool(place.hostname and place.port != 0 and (place.scheme == "https" or LOOPBACK.fullmatch(redirect)))
    except ValueError:
        return False
