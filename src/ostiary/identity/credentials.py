"""Passwords of people (slow hashes) and generated secrets of machines (keyed digests); neither is kept."""

import base64
import hmac
import secrets
from importlib import resources
from pathlib import Path
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import Connection, insert, select

from ostiary.foundation.errors import CallerFault
from ostiary.foundation.secret import Secret
from ostiary.identity.breached import contains
from ostiary.store.database import Sealer, take_turns
from ostiary.store.tables import PEPPER

SECRET_BYTES: Final = 32
PASSWORD_MIN_CHARS: Final = 12  # NIST SP 800-63B-4 asks for 15 where it stands alone, 8 with a second factor
PASSWORD_MAX_CHARS: Final = 256
GUESSED: Final = (resources.files("ostiary.identity") / "guessed.txt").read_text("ascii").split()
GUESSED_MIN_CHARS: Final = 2
DISTINCT_MIN_CHARS: Final = 6  # of what is left
PEPPER_PURPOSE: Final = "identity-pepper"
ONLY: Final = 1

_HASHER: Final = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
_NOBODY: Final = _HASHER.hash(secrets.token_hex(SECRET_BYTES))  # an unknown account takes as long as a known one


def pepper(connection: Connection, sealer: Sealer) -> bytes:
    """The key of every digest; made at first use, in the caller's write transaction."""
    stored = select(PEPPER.c.sealed)
    sealed = connection.execute(stored).scalar_one_or_none()
    if sealed is None:
        take_turns(connection, PEPPER_PURPOSE)
        sealed = connection.execute(stored).scalar_one_or_none()
    if sealed is None:
        sealed = sealer.seal(new_secret(), PEPPER_PURPOSE)
        connection.execute(insert(PEPPER).values(id=ONLY, sealed=sealed))
    return sealer.open(sealed, PEPPER_PURPOSE).reveal().encode()


def new_secret() -> Secret:
    return Secret(secrets.token_urlsafe(SECRET_BYTES))


def digest(key: bytes, *parts: str) -> str:
    """HMAC-SHA-256 over the parts, each with its length, in hex."""
    return _mac(key, *parts).hex()


def derived(key: bytes, *parts: str) -> Secret:
    """A secret that can be made again from the parts, and from nothing else."""
    return Secret(base64.urlsafe_b64encode(_mac(key, *parts)).rstrip(b"=").decode())


def _mac(key: bytes, *parts: str) -> bytes:
    told = b"".join(len(part.encode()).to_bytes(4) + part.encode() for part in parts)
    return hmac.digest(key, told, "sha256")


def hash_password(password: Secret, *, login: str, breached: Path | None = None) -> str:
    """The argon2id hash; raises CallerFault when the password is too easily guessed, or stands in the list `breached`."""
    text = password.reveal()
    if not PASSWORD_MIN_CHARS <= len(text) <= PASSWORD_MAX_CHARS:
        told = f"a password has {PASSWORD_MIN_CHARS} to {PASSWORD_MAX_CHARS} characters"
        raise CallerFault("password-length", told, hint="use a sentence or a password manager")
    if easily_guessed(text, login):
        hint = "leave out the login, keyboard rows and words like 'password'; repeat less"
        raise CallerFault("password-weak", "the password is easily guessed", hint=hint)
    if breached and contains(breached, password):
        told = "the password was stolen elsewhere, and is tried first"
        raise CallerFault("password-breached", told, hint="use one that stands nowhere else")
    return _HASHER.hash(text)


def easily_guessed(text: str, login: str) -> bool:
    """Whether little is left of it without the login and what everybody writes."""
    rest = text.casefold()
    for known in sorted({login.casefold(), *GUESSED}, key=len, reverse=True):
        rest = rest.replace(known, " ") if len(known) >= GUESSED_MIN_CHARS else rest
    return len(set(rest)) < DISTINCT_MIN_CHARS


def password_matches(hashed: str | None, password: Secret) -> bool:
    """Takes the same time whether the account exists or not."""
    text = password.reveal()
    if len(text) > PASSWORD_MAX_CHARS:
        return False
    try:
        return _HASHER.verify(hashed or _NOBODY, text) and hashed is not None
    except (VerificationError, InvalidHashError):
        return False
