"""Secrets at rest: AES-256-GCM under the master key, bound to what they are for."""

import os
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ostiary.foundation.errors import OperatorFault
from ostiary.foundation.files import write_once
from ostiary.foundation.secret import Secret

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12


class Sealer:
    """Seals and opens; a value sealed for one purpose does not open for another."""

    def __init__(self, master_key: bytes) -> None:
        self._cipher = AESGCM(master_key)

    def seal(self, secret: Secret, purpose: str) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, secret.reveal().encode(), purpose.encode())

    def open(self, sealed: bytes, purpose: str) -> Secret:
        try:
            clear = self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], purpose.encode())
        except (InvalidTag, ValueError) as problem:
            told = f"a secret for {purpose} does not open with this master key"
            hint = "restore the master key that belongs to this database, or set the secret again"
            raise OperatorFault("seal-broken", told, hint=hint) from problem
        return Secret(clear.decode())


def load_sealer(path: Path, *, make: bool = False) -> Sealer:
    """The sealer of the master key in `path`; `make` it (0600) for a new installation, and only then."""
    if not make and not path.exists():
        told = f"there is no {path}: what is sealed does not open without it"
        raise OperatorFault("master-key-missing", told, hint="mount or restore it; another key would open nothing")
    key = write_once(path, os.urandom(KEY_BYTES))
    if len(key) != KEY_BYTES:
        told = f"{path} does not hold {KEY_BYTES} bytes"
        raise OperatorFault("master-key-invalid", told, hint="restore it from backup")
    return Sealer(key)
