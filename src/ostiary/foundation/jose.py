"""Our own tokens: how they are signed, how they are verified, and every check between, in order.

With `proof`, which verifies what others sign, the only module that touches the library for JOSE.
"""

import base64
import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

import msgspec
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet, RSAKey
from msgspec import Struct, field

from ostiary.foundation.errors import CallerFault
from ostiary.foundation.secret import Secret

ALGORITHM: Final = "ES256"
RS256: Final = "RS256"  # for clients that ask for it (OpenID Connect Core section 15.1), and never of an access token
RSA_BITS: Final = 2048
TOKEN_MAX_BYTES: Final = 4096
HEADER_NAMES: Final = frozenset({"alg", "typ", "kid"})  # no crit, jku, x5u, jwk (RFC 8725 section 3.10)
ID_TOKEN: Final = "JWT"  # noqa: S105
ACCESS_TOKEN: Final = "at+jwt"  # noqa: S105  RFC 9068 section 2.1, the type and not a token
LOGOUT_TOKEN: Final = "logout+jwt"  # noqa: S105  OpenID Connect Back-Channel Logout section 2.4
# RFC 8725 section 3.1: chosen here and never by the token.
ALGORITHMS: Final[Mapping[str, tuple[str, ...]]] = {ACCESS_TOKEN: (ALGORITHM,), ID_TOKEN: (ALGORITHM, RS256)}
SKEW_S: Final = 1
REVOCABLE: Final = ("jti", "grant", "sid", "gen", "cgen")  # the claims under which a token can be revoked
OBJECT: Final = re.compile(r"eyJ[\w-]*", re.ASCII)  # how the base64url of a JSON object begins


class Claims(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What an access token of ours says (RFC 9068), each claim once; one more or one less is no token of ours."""

    issuer: str = field(name="iss")
    audience: str = field(name="aud")
    subject: str = field(name="sub")
    client: str = field(name="client_id")
    jti: str
    grant: str
    generation: str = field(name="gen")
    role_set: str = field(name="rs")
    scopes: frozenset[str] = field(name="scope")  # on the wire one text, parted by spaces (RFC 8693 section 4.2)
    expires_at: int = field(name="exp")
    issued_at: int = field(name="iat")
    session: str = field(name="sid", default="")  # of a person
    client_generation: str = field(name="cgen", default="")  # of the client that acts for another; else `generation` is
    authenticated_at: int | None = field(name="auth_time", default=None)
    acr: str = ""
    amr: tuple[str, ...] = ()
    # "jkt:<thumbprint>", "x5t:<hex>": as `cnf` says it, for the gate to read
    bound: str = field(name="bnd", default="")
    actor: dict[str, Any] | None = field(name="act", default=None)  # who acts for the subject, and before him who
    device: str = field(name="dev", default="")  # the fingerprint of the registered one that it was issued to


class Hint(Struct, frozen=True, kw_only=True):
    """Whose session an ID token was given in, and to which client."""

    issuer: str = field(name="iss")
    client: str = field(name="aud")
    subject: str = field(name="sub")
    session: str = field(name="sid")


class TokenRefused(CallerFault):
    """The token is not valid here; its text is never in the message."""

    def __init__(self, why: str) -> None:
        super().__init__("token-refused", why, hint="ask the authorization server for a new one")


class SigningKey:
    """A private key, P-256 or RSA; signs by the one algorithm of its kind, and shows its public half."""

    def __init__(self, key: ECKey | RSAKey) -> None:
        self._key, self.algorithm = key, RS256 if isinstance(key, RSAKey) else ALGORITHM

    @classmethod
    def generate(cls, algorithm: str = ALGORITHM) -> "SigningKey":
        return cls(RSAKey.generate_key(RSA_BITS) if algorithm == RS256 else ECKey.generate_key("P-256"))

    @classmethod
    def load(cls, secret: Secret) -> "SigningKey":
        told = json.loads(secret.reveal())
        return cls((RSAKey if told["kty"] == "RSA" else ECKey).import_key(told))

    @property
    def kid(self) -> str:
        """The key's thumbprint (RFC 7638)."""
        return str(self._key.thumbprint())

    def private(self) -> Secret:
        return Secret(json.dumps(self._key.as_dict(private=True)))

    def public(self) -> dict[str, Any]:
        return {**self._key.as_dict(private=False), "kid": self.kid, "use": "sig", "alg": self.algorithm}

    def sign(self, claims: Mapping[str, Any], *, type_: str) -> str:
        header = {"alg": self.algorithm, "typ": type_, "kid": self.kid}
        return str(jwt.encode(header, dict(claims), self._key, algorithms=[self.algorithm]))


def sign_access_token(key: SigningKey, claims: Claims) -> str:
    return key.sign(signed(claims), type_=ACCESS_TOKEN)


def signed(claims: Claims) -> dict[str, Any]:
    """The claims as the token says them, by the names of the standards and our own."""
    scope = " ".join(sorted(claims.scopes))
    cnf = {"cnf": confirmation(claims.bound)} if claims.bound else {}
    return {**msgspec.to_builtins(claims), "scope": scope, "sc": _spaced(scope), **cnf}


def confirmation(bound: str) -> dict[str, str]:
    """What the bearer must hold, in the standard's words (RFC 7800, 8705 section 3.1, 9449 section 6.1)."""
    kind, _, value = bound.partition(":")
    if kind == "x5t":
        return {"x5t#S256": base64.urlsafe_b64encode(bytes.fromhex(value)).rstrip(b"=").decode()}
    return {kind: value} if bound else {}


def _spaced(scope: str) -> str:
    """The claim that the gate reads: it can look for one scope as a text between spaces, and finds none within another."""
    return f" {scope} "


def verify_access_token(text: str, jwks: Mapping[str, Any], *, issuer: str, audience: str, now: datetime) -> Claims:
    """The claims of an access token valid here and now, in the order of RFC 9068 section 4; raises TokenRefused."""
    claims: Claims = _verified(text, jwks, ACCESS_TOKEN, lambda told: msgspec.convert(_read(told), Claims))
    if claims.issuer != issuer:
        raise TokenRefused("the token is of another issuer")
    if claims.audience != audience:
        raise TokenRefused("the token is for another system")
    at = int(now.timestamp())
    if not claims.issued_at - SKEW_S <= at < claims.expires_at + SKEW_S:
        raise TokenRefused("the token has expired or is not yet valid")
    return claims


def verify_hint(text: str, jwks: Mapping[str, Any], *, issuer: str) -> Hint:
    """What an ID token of ours said once, though it may have expired; raises TokenRefused."""
    hint: Hint = _verified(text, jwks, ID_TOKEN, lambda told: msgspec.convert(told, Hint))
    if hint.issuer != issuer:
        raise TokenRefused("the token is of another issuer")
    return hint


def issued_by(issuer: str, text: str) -> bool:
    """Whether anything in `text` is, or pretends to be, a token of this issuer."""
    for found in OBJECT.findall(text):
        with suppress(ValueError, RecursionError):  # no base64url, or no JSON
            told = json.loads(base64.urlsafe_b64decode(found + "=" * (-len(found) % 4)))
            if isinstance(told, dict) and told.get("iss") == issuer:
                return True
    return False


def revocation_keys(claims: Claims) -> tuple[str, ...]:
    """The names under which this token can have been revoked."""
    told = msgspec.to_builtins(claims)
    return tuple(f"{claim}:{told[claim]}" for claim in REVOCABLE if claim in told)


def _read(told: dict[str, Any]) -> dict[str, Any]:
    """The claims as our own fields have them; the two lists of scopes must be one."""
    if told.pop("sc") != _spaced(told["scope"]):
        raise ValueError("two lists of scopes")
    if told.pop("cnf", {}) != confirmation(told.get("bnd", "")):
        raise ValueError("bound in two ways")
    return {**told, "scope": told["scope"].split()}


def _verified(text: str, jwks: Mapping[str, Any], type_: str, read: Callable[[dict[str, Any]], Any]) -> Any:
    if len(text) > TOKEN_MAX_BYTES or not text.isascii():
        raise TokenRefused("the token is too long or not ASCII")
    try:
        header = jws.extract_compact(text.encode()).headers()
        if set(header) != HEADER_NAMES or header["typ"] != type_ or header["alg"] not in ALGORITHMS[type_]:
            raise TokenRefused("the token's header is not that of such a token")
        fitting = [key for key in jwks["keys"] if (key["kid"], key["alg"]) == (header["kid"], header["alg"])]
        if not fitting:
            raise TokenRefused("the token is signed with a key that is not ours")
        key = KeySet.import_key_set({"keys": fitting}).keys[0]
        payload = jws.deserialize_compact(text.encode(), key, algorithms=[header["alg"]]).payload
        return read(msgspec.json.decode(payload))
    except (JoseError, ValueError, TypeError, KeyError, AttributeError) as problem:
        raise TokenRefused("the token's form or signature is wrong") from problem
