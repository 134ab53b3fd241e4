"""What a client with keys of its own sends: assertions, DPoP proofs, pushed requests; each part can be made wrong."""

import base64
import hashlib
import json
from urllib.parse import parse_qs, urlsplit

from joserfc import jwt
from joserfc.jwk import ECKey, OKPKey, RSAKey

KEYS = {
    "ES256": lambda: ECKey.generate_key("P-256"),
    "PS256": lambda: RSAKey.generate_key(2048),
    "RS256": lambda: RSAKey.generate_key(2048),
    "EdDSA": lambda: OKPKey.generate_key("Ed25519"),
}
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def signed(key, header, claims):
    return jwt.encode(header, {k: v for k, v in claims.items() if v is not None}, key, algorithms=[header["alg"]])


def jwks(*keys, private=False):
    return json.dumps({"keys": [key.as_dict(private=private) for key in keys]})


class Keyed:
    """A client of the world with a key of its own, and one for its proofs."""

    def __init__(self, world, client_id="bank", *, alg="ES256", **told):
        self.world, self.id, self.alg = world, client_id, alg
        self.key, self.proof_key, self.count = KEYS[alg](), ECKey.generate_key("P-256"), 0
        told = {"auth": "private_key_jwt", "jwks": jwks(self.key), "redirects": [world.back], **told}
        world.register(client_id, roles=["bot"], **told)

    def _jti(self):
        self.count += 1
        return f"id-{self.count}"

    def assertion(self, *, alg=None, key=None, header=None, **changed):
        now = int(self.world.clock.now().timestamp())
        issuer = self.world.settings.issuer
        claims = {"iss": self.id, "sub": self.id, "aud": issuer, "jti": self._jti(), "iat": now, "exp": now + 60}
        return signed(key or self.key, {"alg": alg or self.alg, **(header or {})}, {**claims, **changed})

    def proof(self, path="/identity/token", *, method="POST", token="", key=None, header=None, **changed):
        key, now = key or self.proof_key, int(self.world.clock.now().timestamp())
        head = {"typ": "dpop+jwt", "alg": "ES256", "jwk": key.as_dict(private=False), **(header or {})}
        claims = {"jti": self._jti(), "htm": method, "htu": f"{self.world.settings.origin}{path}", "iat": now}
        if token:
            claims["ath"] = base64.urlsafe_b64encode(hashlib.sha256(token.encode()).digest()).rstrip(b"=").decode()
        return signed(key, {k: v for k, v in head.items() if v is not None}, {**claims, **changed})

    def post(self, path, form, *, proof=None, assertion=None):
        body = {"client_assertion_type": ASSERTION, "client_assertion": assertion or self.assertion(), **form}
        headers = [("dpop", one) for one in ([proof] if isinstance(proof, str) else proof or [])]
        return self.world.ask("POST", f"/identity/{path}", data=body, headers=headers)

    def token(self, *, proof=None, assertion=None, **form):
        return self.post("token", {"grant_type": "client_credentials", **form}, proof=proof, assertion=assertion)

    def push(self, *, proof=None, **changed):
        form = {
            "response_type": "code", "redirect_uri": self.world.back, "scope": "openid erp/sale.*:read", "state": "s",
            "nonce": "n", "code_challenge": self.world.challenge, "code_challenge_method": "S256", **changed,
        }  # fmt: skip
        return self.post("par", {name: value for name, value in form.items() if value is not None}, proof=proof)

    def page(self, uri, client_id=None):
        asked = {"client_id": client_id or self.id, "request_uri": uri}
        return self.world.ask("GET", "/identity/authorize", params=asked)

    def code(self, uri):
        return self.world.sent_back(self.world.answer(self.page(uri)))["code"]

    def redeem(self, code, *, proof=None):
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": self.world.back}
        return self.post("token", {**form, "code_verifier": self.world.verifier}, proof=proof)

    @staticmethod
    def sent(answer):
        return {name: value for name, (value,) in parse_qs(urlsplit(answer.headers["location"]).query).items()}
