"""What others sign: proofs that they hold a key (DPoP, RFC 9449), who they are (RFC 7523), and the ID tokens and logout
tokens of OpenID Connect providers, held to every check of their specifications.

The header is held to an exact list of names, so that no `crit`, `jku`, `x5u` or `x5c` is ever followed (RFC 8725).
RS256 counts of providers alone: they must offer it (Core section 15.1), and a client has better.
"""

import base64
import hashlib
import hmac
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any, Final, NamedTuple
from urllib.parse import unquote, urlsplit

import msgspec
from cryptography.hazmat.primitives import serialization
from joserfc import jws
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import ECKey, JWKRegistry, Key, OKPKey, RSAKey
from joserfc.jws import JWSRegistry
from msgspec import Meta, Struct

from ostiary.foundation.jose import TokenRefused

Algorithms = Mapping[str, tuple[type[Key], tuple[str, ...]]]  # and the curves of each
ALGORITHMS: Final[Algorithms] = {
    "ES256": (ECKey, ("P-256",)),
    "EdDSA": (OKPKey, ("Ed25519",)),
    "Ed25519": (OKPKey, ("Ed25519",)),  # RFC 9864
    "PS256": (RSAKey, ()),
}
RSA_MIN_BITS: Final = 2048
RSA_MAX_BITS: Final = 4096  # what a signature costs to look at grows with it
RSA_CHARS: Final = range(RSA_MIN_BITS // 6, RSA_MAX_BITS // 6 + 3)  # of the modulus in base64url
KEYS_MAX: Final = 10  # of a client: each may be tried
PROOF_MAX_BYTES: Final = 4096
ID_MAX_CHARS: Final = 200
JWKS_MAX_BYTES: Final = 16_384
AHEAD_S: Final = 10  # of our clock; so much must be borne, a minute must not
PROOF_LIFE_S: Final = 60
ASSERTION_LIFE_MAX_S: Final = 3600
NONCE_LIFE_S: Final = 300  # a nonce is good until the one after the next
USE_NONCE: Final = "use_dpop_nonce"
PORTS: Final = {"https": 443, "http": 80}

warnings.filterwarnings("ignore", category=SecurityWarning, message="EdDSA is deprecated")  # clients still say so
OF_PROVIDERS: Final[Algorithms] = {"RS256": (RSAKey, ()), **ALGORITHMS}
TOKEN_MAX_BYTES: Final = 32_768  # two hundred groups, each by an id
# Beside `alg`: none that brings a key, none that is critical.
HEADER_NAMES: Final = frozenset({"typ", "kid", "x5t", "x5t#S256"})
MEMBERS: Final = frozenset({"kty", "crv", "x", "y", "n", "e"})  # of a public key; what else stands there says nothing
ID_TYPES: Final = frozenset({"", "jwt"})
LOGOUT_TYPES: Final = frozenset({"logout+jwt", *ID_TYPES})  # some providers give it no type of its own
LOGOUT: Final = "http://schemas.openid.net/event/backchannel-logout"
SKEW_S: Final = 30
OLD_S: Final = 600  # since it was issued: what is signed for us just now comes at once

Keys = Callable[[str], Sequence[Mapping[str, Any]]]  # the provider's keys with this id; all of them for ""
Text = Annotated[str, Meta(max_length=255, pattern=r"\A[^\x00-\x1f\x7f]*\Z")]


class Proof(NamedTuple):
    """A good DPoP proof: `key` is the RFC 7638 thumbprint of the key that signed it; `jti` may be seen once."""

    key: str
    jti: str
    nonce: str
    issued_at: float


class Nonces(NamedTuple):
    """What proofs bear, to show that they were made of late (RFC 9449 sections 8 and 9): the same for everybody at token
    endpoint and gate, and nobody has to keep them. `demanded` of every proof; else right where there is one.
    """

    key: bytes
    demanded: bool

    def at(self, now: datetime) -> list[str]:
        """The one to bear now, and the one before it."""
        period = int(now.timestamp()) // NONCE_LIFE_S
        return [hmac.digest(self.key, str(one).encode(), "sha256").hex() for one in (period, period - 1)]

    def lacks(self, proof: Proof, now: datetime) -> bool:
        return (self.demanded or proof.nonce != "") and proof.nonce not in self.at(now)


class _Registry(JWSRegistry):  # an RSA key alone takes more than the library's own bound
    max_header_length = PROOF_MAX_BYTES


Moment = Annotated[float, Meta(ge=0, le=1e11)]  # seconds since 1970


class _DpopClaims(Struct):
    jti: str
    htm: str
    htu: str
    iat: Moment
    ath: str = ""
    nonce: str = ""


class Assertion(Struct):
    """What a client states; `jti` may be seen once until `exp`."""

    iss: str
    sub: str
    aud: str | tuple[str, ...]
    jti: str
    exp: Moment
    iat: Moment = 0
    nbf: Moment = 0


def verify_proof(text: str, *, method: str, urls: Sequence[str], now: datetime, token: str = "") -> Proof:
    """What a DPoP proof for this request proves (RFC 9449 section 4.3); with a `token`, for that one too.

    `urls` all name the place it was sent to. Raises TokenRefused. Whether its `jti` was seen before is the caller's to ask.
    """
    header = header_of(text, {"typ", "alg", "jwk"})
    if header["typ"] != "dpop+jwt":
        raise TokenRefused("the proof is not of type dpop+jwt")
    key = public_key(header["jwk"])
    told = claims_of(text, header["alg"], key, _DpopClaims)
    if told.htm != method or _place(told.htu) not in map(_place, urls):
        raise TokenRefused("the proof is for another request")
    if not -AHEAD_S <= now.timestamp() - told.iat <= PROOF_LIFE_S:
        raise TokenRefused("the proof is too old, or from the future: set the clock")
    if token and not hmac.compare_digest(told.ath.encode(), hashed(token).encode()):
        raise TokenRefused("the proof is for another token")
    _refuse_id(told.jti)
    return Proof(str(key.thumbprint()), told.jti, told.nonce, told.iat)


def verify_assertion(text: str, jwks: str, *, client: str, audiences: Sequence[str], now: datetime) -> Assertion:
    """What a client's own statement proves (RFC 7523 section 3, with one audience); raises TokenRefused."""
    header = header_of(text, {"alg"}, {"typ", "kid"})
    keys = [public_key(one) for one in json.loads(jwks)["keys"] if header.get("kid", one.get("kid")) == one.get("kid")]
    fitting = [key for key in keys if isinstance(key, ALGORITHMS[header["alg"]][0])]
    if not fitting:
        raise TokenRefused("none of the client's keys has this id and algorithm")
    told: Assertion = _by_one_of(text, header["alg"], fitting)
    if not told.iss == told.sub == client:
        raise TokenRefused("the assertion is another client's")
    if told.aud not in audiences:
        raise TokenRefused("the assertion's audience is not this server's issuer")
    at = now.timestamp()
    if not at < told.exp <= at + ASSERTION_LIFE_MAX_S or max(told.iat, told.nbf) > at + AHEAD_S:
        raise TokenRefused("the assertion has expired, lives too long, or is not yet valid: set the clock")
    _refuse_id(told.jti)
    return told


def _by_one_of(text: str, algorithm: str, keys: Sequence[Key]) -> Any:
    """The claims, by whichever key they were signed with: an assertion need not name it."""
    *others, last = keys
    for key in others:
        with suppress(TokenRefused):
            return claims_of(text, algorithm, key, Assertion)
    return claims_of(text, algorithm, last, Assertion)


def speaker(text: str) -> str:
    """Who an assertion says it is from: nothing is proved yet."""
    header_of(text, {"alg"}, {"typ", "kid"})
    with suppress(ValueError, TypeError, KeyError, RecursionError):
        return str(json.loads(jws.extract_compact(text.encode(), registry=_Registry()).payload or b"")["sub"])
    raise TokenRefused("the assertion has no `sub`")


def usable_jwks(text: str) -> str:
    """The public keys in `text`, as they are kept; raises TokenRefused for a private or a weak one, or none."""
    try:
        keys = [_named(one) for one in json.loads(text[:JWKS_MAX_BYTES])["keys"]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise TokenRefused('this is no JWKS: write {"keys": [{"kty": "EC", ...}]}') from None
    if not 0 < len(keys) <= KEYS_MAX:
        raise TokenRefused(f"a client has 1 to {KEYS_MAX} keys")
    return json.dumps({"keys": keys})


def with_key(jwks: str, key: Any, most: int) -> str:
    """The public key added to these, the last `most` of them."""
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    new = ECKey.import_key(pem).as_dict(private=False)
    return json.dumps({"keys": [*json.loads(jwks or '{"keys": []}')["keys"], new][-most:]})


def registered(key: Any, jwks: str) -> bool:
    """Whether a certificate's public key is one of these."""
    return any(public_key(one).public_key == key for one in json.loads(jwks or '{"keys": []}')["keys"])


def hashed(token: str) -> str:
    """As a proof names a token (`ath`), and a challenge its verifier: base64url of its SHA-256."""
    return base64.urlsafe_b64encode(hashlib.sha256(token.encode()).digest()).rstrip(b"=").decode()


def _named(told: dict[str, Any]) -> dict[str, Any]:
    key = public_key({name: value for name, value in told.items() if name not in {"kid", "use", "alg", "x5c"}})
    return {**key.as_dict(private=False), "kid": str(told.get("kid", key.thumbprint()))}


def header_of(
    text: str, required: AbstractSet[str], allowed: AbstractSet[str] = frozenset(),
    *, algorithms: Algorithms = ALGORITHMS, max_bytes: int = PROOF_MAX_BYTES,
) -> dict[str, Any]:  # fmt: skip
    """The header of what was signed, with these names and no others; raises TokenRefused."""
    if len(text) > max_bytes or not text.isascii():
        raise TokenRefused("what was signed is too long or not ASCII")
    try:
        header: dict[str, Any] = jws.extract_compact(text.encode(), registry=_Registry()).headers()
    except (JoseError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as problem:
        raise TokenRefused("what was signed cannot be read") from problem
    if not required <= set(header) <= required | allowed:
        raise TokenRefused("the header has other names than it may")
    if not isinstance(header["alg"], str) or header["alg"] not in algorithms:
        raise TokenRefused(f"the algorithm is none of {', '.join(algorithms)}")
    return header


def public_key(told: Any) -> Key:
    """A key that is public, and neither weak nor slow; raises TokenRefused."""
    if isinstance(told, dict) and told.get("kty") == "RSA" and len(str(told.get("n"))) not in RSA_CHARS:
        raise TokenRefused(f"an RSA key has {RSA_MIN_BITS} to {RSA_MAX_BITS} bits")
    try:
        key = JWKRegistry.import_key({name: value for name, value in told.items() if name != "key_ops"})
    except (JoseError, ValueError, TypeError, KeyError, AttributeError) as problem:
        raise TokenRefused("the key cannot be read") from problem
    fits = (isinstance(key, kind) and told.get("crv") in (curves or (None,)) for kind, curves in ALGORITHMS.values())
    if key.is_private or not any(fits):
        raise TokenRefused("the key is private" if key.is_private else "the key is of a kind that is not accepted")
    if isinstance(key, RSAKey) and key.public_key.key_size not in range(RSA_MIN_BITS, RSA_MAX_BITS + 1):
        raise TokenRefused(f"an RSA key has {RSA_MIN_BITS} to {RSA_MAX_BITS} bits")
    return key


def claims_of(text: str, algorithm: str, key: Key, kind: Any, *, algorithms: Algorithms = ALGORITHMS) -> Any:
    """What was signed with this key by this algorithm; raises TokenRefused."""
    if not isinstance(key, algorithms[algorithm][0]):
        raise TokenRefused("the key is not one for this algorithm")
    try:
        payload = jws.deserialize_compact(text.encode(), key, registry=_Registry(algorithms=[algorithm])).payload
        return msgspec.convert(msgspec.json.decode(payload), kind)
    except (JoseError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as problem:
        raise TokenRefused("the claims or the signature are wrong") from problem


def _place(url: str) -> tuple[str, str, int, str]:
    """A URL without query and fragment, in its normal form (RFC 3986 section 6.2)."""
    try:
        found = urlsplit(url)
        port = found.port or PORTS[found.scheme]
    except (ValueError, KeyError):
        raise TokenRefused("the proof names no address") from None
    return found.scheme, (found.hostname or "").lower(), port, unquote(found.path) or "/"


def _refuse_id(text: str) -> None:
    if not 0 < len(text) <= ID_MAX_CHARS:
        raise TokenRefused(f"a `jti` has 1 to {ID_MAX_CHARS} characters")


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
    header = header_of(text, {"alg"}, HEADER_NAMES, algorithms=OF_PROVIDERS, max_bytes=TOKEN_MAX_BYTES)
    algorithm, kid = header["alg"], header.get("kid", "")
    if str(header.get("typ", "")).lower() not in types:
        raise TokenRefused("this is a token of another kind")
    signs = (one for one in keys(str(kid)) if one.get("use", "sig") == "sig")
    fitting = [one for one in signs if one.get("alg", algorithm) == algorithm]
    if len(fitting) != 1:  # one without an id is good only where there is one key
        raise TokenRefused("the provider has no such key, or several")
    key = public_key({name: value for name, value in fitting[0].items() if name in MEMBERS})
    told: dict[str, Any] = claims_of(text, algorithm, key, dict[str, Any], algorithms=OF_PROVIDERS)
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
