"""The one place that touches JOSE: what is signed, what is verified, and every check between, in order."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet
from msgspec import Struct

from ostiary.foundation.errors import CallerFault
from ostiary.foundation.secret import Secret

ALGORITHM: Final = "ES256"  # RFC 8725 section 3.1: one algorithm, chosen here and never by the token
TOKEN_MAX_BYTES: Final = 4096
HEADER_NAMES: Final = frozenset({"alg", "typ", "kid"})  # no crit, jku, x5u, jwk (RFC 8725 section 3.10)
ACCESS_TOKEN: Final = "at+jwt"  # noqa: S105  RFC 9068 section 2.1, the type and not a token
SKEW_S: Final = 1


class Claims(Struct, frozen=True, kw_only=True):
    """What an access token of ours says (RFC 9068), each claim by name; one more or one less is no token of ours."""

    issuer: str
    audience: str
    subject: str
    client: str
    jti: str
    grant: str
    session: str
    generation: str
    client_generation: str
    role_set: str
    scopes: frozenset[str]
    expires_at: int
    issued_at: int
    authenticated_at: int | None = None
    acr: str = ""
    amr: tuple[str, ...] = ()


class _Wire(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The claims as they travel."""

    iss: str
    aud: str
    sub: str
    client_id: str
    jti: str
    grant: str
    sid: str
    gen: str
    cgen: str
    rs: str
    scope: str
    exp: int
    iat: int
    auth_time: int | None = None
    acr: str = ""
    amr: tuple[str, ...] = ()


class TokenRefused(CallerFault):
    """The token is not valid here; its text is never in the message."""

    def __init__(self, why: str) -> None:
        super().__init__("token-refused", why, hint="ask the authorization server for a new one")


class SigningKey:
    """A private P-256 key; signs, and shows its public half."""

    def __init__(self, key: ECKey) -> None:
        self._key = key

    @classmethod
    def generate(cls) -> "SigningKey":
        return cls(ECKey.generate_key("P-256"))

    @classmethod
    def load(cls, secret: Secret) -> "SigningKey":
        return cls(ECKey.import_key(json.loads(secret.reveal())))

    @property
    def kid(self) -> str:
        """The key's thumbprint (RFC 7638)."""
        return str(self._key.thumbprint())

    def private(self) -> Secret:
        return Secret(json.dumps(self._key.as_dict(private=True)))

    def public(self) -> dict[str, Any]:
        return {**self._key.as_dict(private=False), "kid": self.kid, "use": "sig", "alg": ALGORITHM}

    def sign(self, claims: Mapping[str, Any], *, type_: str) -> str:
        header = {"alg": ALGORITHM, "typ": type_, "kid": self.kid}
        return str(jwt.encode(header, dict(claims), self._key, algorithms=[ALGORITHM]))


def sign_access_token(key: SigningKey, claims: Claims) -> str:
    wire = _Wire(
        iss=claims.issuer,
        aud=claims.audience,
        sub=claims.subject,
        client_id=claims.client,
        jti=claims.jti,
        grant=claims.grant,
        sid=claims.session,
        gen=claims.generation,
        cgen=claims.client_generation,
        rs=claims.role_set,
        scope=" ".join(sorted(claims.scopes)),
        exp=claims.expires_at,
        iat=claims.issued_at,
        auth_time=claims.authenticated_at,
        acr=claims.acr,
        amr=claims.amr,
    )
    told = {name: value for name in wire.__struct_fields__ if (value := getattr(wire, name)) is not None}
    return key.sign(told, type_=ACCESS_TOKEN)


def verify_access_token(text: str, jwks: Mapping[str, Any], *, issuer: str, audience: str, now: datetime) -> Claims:
    """The claims of an access token valid here and now, in the order of RFC 9068 section 4; raises TokenRefused."""
    wire = _verified(text, jwks, type_=ACCESS_TOKEN)
    if wire.iss != issuer:
        raise TokenRefused("the token is of another issuer")
    if wire.aud != audience:
        raise TokenRefused("the token is for another system")
    at = int(now.timestamp())
    if not wire.iat - SKEW_S <= at < wire.exp + SKEW_S:
        raise TokenRefused("the token has expired or is not yet valid")
    return Claims(
        issuer=wire.iss,
        audience=wire.aud,
        subject=wire.sub,
        client=wire.client_id,
        jti=wire.jti,
        grant=wire.grant,
        session=wire.sid,
        generation=wire.gen,
        client_generation=wire.cgen,
        role_set=wire.rs,
        scopes=frozenset(wire.scope.split()),
        expires_at=wire.exp,
        issued_at=wire.iat,
        authenticated_at=wire.auth_time,
        acr=wire.acr,
        amr=wire.amr,
    )


def revocation_keys(claims: Claims) -> tuple[str, ...]:
    """The names under which this token can have been revoked."""
    kinds = {
        "jti": claims.jti,
        "grant": claims.grant,
        "sid": claims.session,
        "gen": claims.generation,
        "cgen": claims.client_generation,
    }
    return tuple(f"{kind}:{value}" for kind, value in kinds.items() if value)


def _verified(text: str, jwks: Mapping[str, Any], *, type_: str) -> _Wire:
    if len(text) > TOKEN_MAX_BYTES or not text.isascii():
        raise TokenRefused("the token is too long or not ASCII")
    try:
        header = jws.extract_compact(text.encode()).headers()
        if set(header) != HEADER_NAMES or header["typ"] != type_ or header["alg"] != ALGORITHM:
            raise TokenRefused("the token's header is not that of an access token")
        keys = KeySet.import_key_set({"keys": [key for key in jwks["keys"] if key["kid"] == header["kid"]]})
        if not keys.keys:
            raise TokenRefused("the token is signed with a key that is not ours")
        payload = jws.deserialize_compact(text.encode(), keys.keys[0], algorithms=[ALGORITHM]).payload
        return msgspec.json.decode(payload, type=_Wire)
    except (JoseError, ValueError, TypeError, KeyError) as problem:
        raise TokenRefused("the token's form or signature is wrong") from problem
