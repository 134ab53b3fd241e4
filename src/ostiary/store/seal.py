"""Secrets at rest: AES-256-GCM under the master key, bound to what they are for."""

import base64
import os
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Connection, func, select, update

from ostiary.foundation.errors import OperatorFault
from ostiary.foundation.files import write_once
from ostiary.foundation.secret import Secret
from ostiary.foundation.settings import Settings
from ostiary.store.database import METADATA

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
COMMAND_TIMEOUT_S: Final = 10.0
SEALED_FOR: Final = "sealed_for"  # in a column's `info`: what its rows are sealed for, in their own words


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


def named_sealer(settings: Settings, default: Path) -> Sealer:
    """The sealer of the master key where the settings say it is: printed, in the environment, or in a file."""
    command, variable, file = settings.master_key_command, settings.master_key_variable, settings.master_key_file
    if sum(map(bool, (command, variable, file))) > 1:
        told = "settings.toml names more than one place for the master key"
        raise OperatorFault("master-key-twice", told, hint="keep the one that it is in")
    if command:
        return Sealer(_key(_printed(command), f"what {command[0]} prints"))
    if variable:
        return Sealer(_key(os.environb.get(variable.encode(), b""), f"the variable {variable} of the environment"))
    return load_sealer(Path(file) if file else default)


def load_sealer(path: Path, *, make: bool = False) -> Sealer:
    """The sealer of the master key in `path`; `make` it (0600) for a new installation, and only then."""
    if not make and not path.exists():
        told = f"there is no {path}: what is sealed does not open without it"
        raise OperatorFault("master-key-missing", told, hint="mount or restore it; another key would open nothing")
    return Sealer(_key(write_once(path, os.urandom(KEY_BYTES)), str(path)))


def _printed(command: Sequence[str]) -> bytes:
    """By no shell. What it says is told to nobody, not even where it fails: the key may be in it."""
    with suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=COMMAND_TIMEOUT_S
        ).stdout
    told = f"{command[0]} did not print the master key within {COMMAND_TIMEOUT_S:.0f} s and end with 0"
    raise OperatorFault("master-key-silent", told, hint="call it by hand, as the user who runs `ostiary up`")


def _key(told: bytes, where: str) -> bytes:
    with suppress(ValueError):
        key = told if len(told) == KEY_BYTES else base64.b64decode(told.strip(), validate=True)
        if len(key) == KEY_BYTES:
            return key
    why = f"{where} does not hold {KEY_BYTES} bytes, or their base64"
    raise OperatorFault("master-key-invalid", why, hint="restore it from backup")


def reseal(connection: Connection, before: Sealer, after: Sealer) -> int:
    """Every secret in the store is sealed under another master key; how many these are. What did not open does not yet."""
    count = 0
    for table in METADATA.sorted_tables:
        for column in (one for one in table.columns if SEALED_FOR in one.info):
            for row in connection.execute(select(table).where(func.length(column) > 0)).mappings().all():
                purpose, this = (
                    column.info[SEALED_FOR].format(**row),
                    [key == row[key.name] for key in table.primary_key],
                )
                with suppress(OperatorFault):
                    sealed = after.seal(before.open(row[column.name], purpose), purpose)
                    count += connection.execute(update(table).where(*this).values({column.name: sealed})).rowcount
    return count
