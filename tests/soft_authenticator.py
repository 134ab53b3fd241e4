"""A device with passkeys, in software: what a browser would answer (WebAuthn Level 3), and what an attacker could."""

import base64
import hashlib
import json
import secrets
from typing import Any

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

AT, BE, UP, UV = 0x40, 0x08, 0x01, 0x04


def text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def data(told: str) -> bytes:
    return base64.urlsafe_b64decode(f"{told}===")


class Authenticator:
    """One device; `counter` is None where it does not count, as those whose passkeys are synced."""

    def __init__(self, *, algorithm: int = -7, counter: int | None = 0, flags: int = UP | UV) -> None:
        self.algorithm, self.counter, self.flags = algorithm, counter, flags
        self.credential, self.handle = secrets.token_bytes(32), b""
        self.key: Any = {-7: lambda: ec.generate_private_key(ec.SECP256R1()), -8: ed25519.Ed25519PrivateKey.generate,
                         -257: lambda: rsa.generate_private_key(65_537, 2048)}[algorithm]()  # fmt: skip

    def copy(self) -> "Authenticator":
        """With the same key: a clone."""
        made = Authenticator(algorithm=self.algorithm, counter=self.counter, flags=self.flags)
        made.credential, made.handle, made.key = self.credential, self.handle, self.key
        return made

    def create(self, options: str, **changed: Any) -> str:
        """What `navigator.credentials.create` gives, as JSON."""
        asked = json.loads(options)
        self.handle = data(asked["user"]["id"])
        client = _client("webauthn.create", asked["challenge"], changed)
        key = cbor2.dumps(self._public())
        attested = bytes(16) + len(self.credential).to_bytes(2, "big") + self.credential + key
        told = self._data(asked["rp"]["id"], AT, changed) + attested
        attestation = cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": told, **changed.get("attestation", {})})
        return self._credential({"clientDataJSON": text(client), "attestationObject": text(attestation)})

    def get(self, options: str, **changed: Any) -> str:
        """What `navigator.credentials.get` gives, as JSON."""
        asked = json.loads(options)
        client = _client("webauthn.get", asked["challenge"], changed)
        told = self._data(asked["rpId"], 0, changed)
        signature = self._sign(told + hashlib.sha256(client).digest())
        handle = changed.get("handle", self.handle)
        answer = {"clientDataJSON": text(client), "authenticatorData": text(told), "signature": text(signature)}
        return self._credential(answer | ({"userHandle": text(handle)} if handle is not None else {}))

    def _credential(self, response: dict[str, str]) -> str:
        name = text(self.credential)
        return json.dumps(
            {"id": name, "rawId": name, "type": "public-key", "response": response, "clientExtensionResults": {}}
        )

    def _data(self, rp: str, more: int, changed: dict[str, Any]) -> bytes:
        self.counter = None if self.counter is None else self.counter + 1
        counter = changed.get("counter", self.counter or 0)
        flags = changed.get("flags", self.flags) | more
        return hashlib.sha256(changed.get("rp", rp).encode()).digest() + bytes([flags]) + counter.to_bytes(4, "big")

    def _public(self) -> dict[int, Any]:
        if self.algorithm == -7:
            at = self.key.public_key().public_numbers()
            return {1: 2, 3: -7, -1: 1, -2: at.x.to_bytes(32, "big"), -3: at.y.to_bytes(32, "big")}
        if self.algorithm == -8:
            return {1: 1, 3: -8, -1: 6, -2: self.key.public_key().public_bytes_raw()}
        at = self.key.public_key().public_numbers()
        return {1: 3, 3: -257, -1: at.n.to_bytes(256, "big"), -2: at.e.to_bytes(3, "big")}

    def _sign(self, told: bytes) -> bytes:
        if self.algorithm == -8:
            return bytes(self.key.sign(told))
        way = (ec.ECDSA(hashes.SHA256()),) if self.algorithm == -7 else (padding.PKCS1v15(), hashes.SHA256())
        return bytes(self.key.sign(told, *way))


def _client(kind: str, challenge: str, changed: dict[str, Any]) -> bytes:
    told = {"type": kind, "challenge": challenge, "origin": "https://localhost:8443", "crossOrigin": False}
    return json.dumps({**told, **changed.get("client", {})}).encode()
