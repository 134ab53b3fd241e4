"""Parameters as they arrive: bounded, each at most once (RFC 6749 section 3.1); a refusal in OAuth's words."""

import base64
import binascii
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, unquote, unquote_plus

import msgspec
from cryptography import x509
from starlette.requests import Request

from ostiary.foundation import strict_json
from ostiary.foundation.api_key import PLACE
from ostiary.foundation.jose import TokenRefused
from ostiary.foundation.origin import named
from ostiary.foundation.proof import speaker

PARAMETERS_MAX: Final = 40
TEXT_MAX_BYTES: Final = 16_384
QUERY_MAX_BYTES: Final = 6_000  # of an authorization request: its form carries it back in base64
VALUE_MAX_CHARS: Final = 8_192
ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
CERTIFICATE: Final = re.compile(r'(?:^|;)Cert="([^"]*)"')  # in the words of x-forwarded-client-cert


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

    @property
    def told(self) -> dict[str, Any]:
        """As it travels from one of our processes to another."""
        named = ("error", "description", "status", "guessed")
        return {name: getattr(self, name) for name in named}


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


class Shown(NamedTuple):
    """What a client proves itself by, as far as it stands in header and form."""

    client: str
    secret: str = ""
    assertion: str = ""


def shown(request: Request, form: Mapping[str, str]) -> Shown:
    """By client_secret_basic or _post or private_key_jwt, one of them alone (RFC 6749 section 2.3)."""
    authorization = request.headers.get("authorization", "")
    secret, assertion = form.get("client_secret", ""), form.get("client_assertion", "")
    if sum(map(bool, (authorization, secret, assertion))) > 1:
        raise Refused("invalid_client", "authenticate in one way", status=401)
    if authorization:
        return _basic(authorization, form)
    if not assertion:
        return Shown(form.get("client_id", ""), secret)
    if form.get("client_assertion_type") != ASSERTION_TYPE:
        raise Refused("invalid_client", f"the client_assertion_type is {ASSERTION_TYPE}", status=401)
    try:
        name = speaker(assertion)
    except TokenRefused:
        raise _unreadable() from None
    if form.get("client_id", name) != name:
        raise _unreadable()
    return Shown(name, assertion=assertion)


def _basic(authorization: str, form: Mapping[str, str]) -> Shown:
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        raise _unreadable()
    try:
        name, colon, secret = base64.b64decode(encoded, validate=True).decode("ascii").partition(":")
    except (binascii.Error, UnicodeError, ValueError):
        raise _unreadable() from None
    client = unquote_plus(name)
    if not colon or form.get("client_id", client) != client:
        raise _unreadable()
    return Shown(client, unquote_plus(secret))


def _unreadable() -> Refused:
    return Refused("invalid_client", "the credentials cannot be read", status=401)


def read_json(body: bytes, kind: Any, error: str) -> Any:
    """The body as that type; raises Refused with where it is not."""
    try:
        return converted(strict_json.parse(body), kind, error, strict=True)
    except strict_json.NotStrict as problem:
        raise Refused(error, str(problem)) from None


def converted(told: Any, kind: Any, error: str, *, strict: bool = False) -> Any:
    """As that type: a number may be a text, unless `strict`."""
    try:
        return msgspec.convert(told, kind, strict=strict)
    except msgspec.ValidationError as problem:
        raise Refused(error, f"not as it must be: {str(problem).rpartition(' - at ')[2]}") from None


def bearer(request: Request) -> str:
    """The token in the header, which is no client's own credential."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.isascii():
        raise Refused("invalid_token", "show the token as a bearer's (RFC 6750)", status=401)
    return token


def form(request: Request, body: bytes) -> dict[str, str]:
    """The parameters of a form, which no other web page sent."""
    refuse_foreign(request)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if query(request) or kind != "application/x-www-form-urlencoded":
        raise Refused("invalid_request", "send a form, and nothing in the query")
    return parse(body)


def refuse_foreign(request: Request) -> None:
    """Wrong tries block an address: another web page must not make its visitors' browsers try."""
    if request.headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}:
        raise Refused("invalid_request", "another web page sent this", status=403)


def certificate(request: Request) -> x509.Certificate | None:
    """What the caller's TLS connection showed and proved the key of, as the gate tells it."""
    found = CERTIFICATE.search(request.headers.get("x-gw-client-cert", ""))
    with suppress(ValueError):
        return x509.load_pem_x509_certificate(unquote(found[1]).encode()) if found else None
    return None


def fingerprint(request: Request) -> str:
    """SHA-256 of that certificate, hex; "" where there is none."""
    return str(request.headers.get("x-gw-device", ""))


def call(request: Any) -> str:
    """The last part of the path, as the journal names it; "key" where an API key is shown: then it is the system's."""
    path = str(request.scope["path"])
    return "key" if path.startswith(f"{PLACE}/") else path.rpartition("/")[2]


def query(request: Any) -> bytes:
    """As it came: Starlette's own `url` fails on a strange host or query."""
    return bytes(request.scope["query_string"])


def source(request: Any) -> str:
    """The caller's address as the gate saw it; only the gate reaches our socket."""
    return str(request.headers.get("x-gw-source", "-"))


def site(request: Any) -> str:
    """The caller's address, or the network that he can choose addresses from."""
    return named(source(request))
