"""Parameters as they arrive: bounded, each at most once (RFC 6749 section 3.1); a refusal in OAuth's words."""

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, unquote_plus

from ostiary.foundation.origin import named

PARAMETERS_MAX: Final = 40
TEXT_MAX_BYTES: Final = 16_384
QUERY_MAX_BYTES: Final = 6_000  # of an authorization request: its form carries it back in base64
VALUE_MAX_CHARS: Final = 8_192


class Refused(Exception):
    """An OAuth error answer (RFC 6749 sections 4.1.2.1 and 5.2); says nothing that was sent.

    `guessed`: a credential was shown and is wrong. `facts` are for the journal alone.
    """

    def __init__(self, error: str, description: str, *, status: int = 400, guessed: bool = False, **facts: str) -> None:
        super().__init__(description)
        self.error = error
        self.description = description
        self.status = status
        self.guessed = guessed
        self.facts = facts


def parse(text: bytes, *, max_bytes: int = TEXT_MAX_BYTES) -> dict[str, str]:
    """The parameters of a query or a form; an empty value counts as absent."""
    if len(text) > max_bytes:
        raise Refused("invalid_request", "the request is too long")
    try:
        pairs = parse_qsl(text.decode("ascii"), keep_blank_values=True, max_num_fields=PARAMETERS_MAX, errors="strict")
    except (ValueError, UnicodeError):
        raise Refused("invalid_request", "the parameters cannot be read") from None
    found: dict[str, str] = {}
    for name, value in pairs:
        if name in found:
            raise Refused("invalid_request", "a parameter is given twice")
        if len(value) > VALUE_MAX_CHARS or "\0" in value:
            raise Refused("invalid_request", "a parameter is too long or not text")
        found[name] = value
    return {name: value for name, value in found.items() if value}


def client_credentials(authorization: str, form: Mapping[str, str]) -> tuple[str, str]:
    """(client id, secret or "") by client_secret_basic or _post, never both (RFC 6749 section 2.3)."""
    if not authorization:
        return form.get("client_id", ""), form.get("client_secret", "")
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic" or "client_secret" in form:
        raise Refused("invalid_client", "authenticate in one way", status=401)
    try:
        name, colon, secret = base64.b64decode(encoded, validate=True).decode("ascii").partition(":")
    except (binascii.Error, UnicodeError, ValueError):
        raise Refused("invalid_client", "the credentials cannot be read", status=401) from None
    client = unquote_plus(name)
    if not colon or form.get("client_id", client) != client:
        raise Refused("invalid_client", "the credentials cannot be read", status=401)
    return client, unquote_plus(secret)


def call(request: Any) -> str:
    """The last part of the path, as the journal names it."""
    return str(request.scope["path"]).rpartition("/")[2]


def query(request: Any) -> bytes:
    """As it came: Starlette's own `url` fails on a strange host or query."""
    return bytes(request.scope["query_string"])


def source(request: Any) -> str:
    """The caller's address as the gate saw it; only the gate reaches our socket."""
    return str(request.headers.get("x-gw-source", "-"))


def site(request: Any) -> str:
    """The caller's address, or the network that he can choose addresses from."""
    return named(source(request))
