"""What an OpenID Connect provider signs: ID tokens and logout tokens, held to every check of their specifications.

RS256, which nothing of our own is signed with, counts here alone: providers must offer it (Core section 15.1).
"""

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
from joserfc.jwk import RSAKey
from msgspec import Meta, Struct

from ostiary.foundation import proof
from ostiary.foundation.jose import TokenRefused
from ostiary.foundation.proof import Moment, claims_of, header_of, public_key

ALGORITHMS: Final[proof.Algorithms] = {"RS256": (RSAKey, ()), **proof.ALGORITHMS}
TOKEN_MAX_BYTES: Final = 32_768  # two hundred groups, each by an id
NAMES: Final = frozenset(
    {"typ", "kid", "x5t", "x5t#S256"}
)  # beside `alg`: none that brings a key, none that is critical
MEMBERS: Final = frozenset({"kty", "crv", "x", "y", "n", "e"})  # of a public key; what else stands there says nothing
ID_TYPES: Final = frozenset({"", "jwt"})
LOGOUT_TYPES: Final = frozenset({"logout+jwt", *ID_TYPES})  # some providers give it no type of its own
LOGOUT: Final = "http://schemas.openid.net/event/backchannel-logout"
SKEW_S: Final = 30
OLD_S: Final = 600  # since it was issued: what is signed for us just now comes at once

Keys = Callable[[str], Sequence[Mapping[str, Any]]]  # the provider's keys with this id; all of them for ""
Text = Annotated[str, Meta(max_length=255, pattern=r"\A[^\x00-\x1f\x7f]*\Z")]


class _Said(Struct, frozen=True, kw_only=True):
    iss: str
    aud: str | tuple[str, ...]
    azp: str | None = None
    exp: Moment
    iat: Moment
    sub: Text = ""
    sid: Text = ""


class IdToken(_Said, frozen=True, kw_only=True):
    """Who somebody is, by his provider; `auth_time`: since when, 0 where it does not say."""

    sub: Annotated[Text, Meta(min_length=1)]
    nonce: str = ""
    at_hash: str = ""
    auth_time: Moment = 0
    acr: str = ""
    amr: tuple[str, ...] = ()


class LogoutToken(_Said, frozen=True, kw_only=True):
    """Whose sessions have ended at the provider, or which one."""

    jti: Annotated[Text, Meta(min_length=1)]
    events: dict[str, dict[str, Any]]


def verify_id_token(  # noqa: PLR0917  what it must say
    text: str, keys: Keys, issuer: str, client: str, nonce: str, access_token: str, now: datetime
) -> tuple[IdToken, dict[str, Any]]:
    """What the ID token says, as read and in full (OpenID Connect Core section 3.1.3.7); raises TokenRefused."""
    told, algorithm = _signed(text, keys, ID_TYPES)
    one = _held(told, IdToken, issuer, client, now)
    if "events" in told:
        raise TokenRefused("a logout token is no ID token")
    if not hmac.compare_digest(one.nonce.encode(), nonce.encode()):  # 11
        raise TokenRefused("the ID token is not for this sign-in: its nonce is missing or another")
    if one.at_hash and not hmac.compare_digest(one.at_hash.encode(), _half(algorithm, access_token)):  # 3.1.3.8
        raise TokenRefused("the ID token is for another access token")
    return one, told


def verify_logout_token(text: str, keys: Keys, issuer: str, client: str, now: datetime) -> LogoutToken:
    """What the logout token says (OpenID Connect Back-Channel Logout section 2.6); its `jti` is the caller's to ask for."""
    told, _ = _signed(text, keys, LOGOUT_TYPES)
    one: LogoutToken = _held(told, LogoutToken, issuer, client, now)
    if not one.sub and not one.sid:  # 4
        raise TokenRefused("the logout token names neither person nor session")
    if LOGOUT not in one.events or "nonce" in told:  # 5, 6
        raise TokenRefused("this is no logout token")
    return one


def _signed(text: str, keys: Keys, types: frozenset[str]) -> tuple[dict[str, Any], str]:
    """The claims, once their signature holds (6 to 8), and the algorithm; no key is tried that is not for it."""
    header = header_of(text, {"alg"}, NAMES, algorithms=ALGORITHMS, max_bytes=TOKEN_MAX_BYTES)
    algorithm, kid = header["alg"], header.get("kid", "")
    if str(header.get("typ", "")).lower() not in types:
        raise TokenRefused("this is a token of another kind")
    signs = (one for one in keys(str(kid)) if one.get("use", "sig") == "sig")
    fitting = [one for one in signs if one.get("alg", algorithm) == algorithm]
    if len(fitting) != 1:  # one without an id is good only where there is one key
        raise TokenRefused("the provider has no such key, or several")
    key = public_key({name: value for name, value in fitting[0].items() if name in MEMBERS})
    told: dict[str, Any] = claims_of(text, algorithm, key, dict[str, Any], algorithms=ALGORITHMS)
    return told, algorithm


def _held(told: dict[str, Any], kind: Any, issuer: str, client: str, now: datetime) -> Any:
    """The claims as this kind of token has them, for us and in time."""
    try:
        one = msgspec.convert(told, kind)
    except msgspec.ValidationError as problem:
        raise TokenRefused(f"a claim is missing or wrong: {problem}") from None
    if one.iss != issuer:  # 2
        raise TokenRefused("the token is of another issuer")
    if one.aud not in (client, (client,)) or one.azp not in (None, client):  # 3 to 5: no other audience is trusted
        raise TokenRefused("the token is for another client")
    at = now.timestamp()
    if not at - SKEW_S < one.exp:  # 9
        raise TokenRefused("the token has expired: is the clock right?")
    if not at - OLD_S <= one.iat <= at + SKEW_S:  # 10
        raise TokenRefused("the token is too old, or from the future: is the clock right?")
    return one


def _half(algorithm: str, token: str) -> bytes:
    """Half of the token's hash, by the algorithm's own: as ES256 says SHA-256, Ed25519 is of SHA-512."""
    found = hashlib.new("sha256" if algorithm.endswith("256") else "sha512", token.encode()).digest()
    return base64.urlsafe_b64encode(found[: len(found) // 2]).rstrip(b"=")
