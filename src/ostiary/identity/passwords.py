"""Passwords of people: kept as slow hashes; what is easily guessed, or was stolen elsewhere, becomes none.

What was stolen stands in lines of `SHA1:count` in the order of the hashes, as Have I Been Pwned gives them. The file may
have tens of gigabytes: a line is found by halving, and nothing else is read.
"""

import hashlib
import os
import re
import secrets
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import BinaryIO, Final

from nacl.exceptions import InvalidkeyError
from nacl.pwhash import argon2id

from ostiary.foundation.errors import CallerFault, OperatorFault, plainly
from ostiary.foundation.home import Home, Settings
from ostiary.foundation.secret import Secret

PASSWORD_MIN_CHARS: Final = 12  # NIST SP 800-63B-4 asks for 15 where it stands alone, 8 with a second factor
PASSWORD_MAX_CHARS: Final = 256
GUESSED: Final = (resources.files("ostiary.identity") / "guessed.txt").read_text("ascii").split()
GUESSED_MIN_CHARS: Final = 2
DISTINCT_MIN_CHARS: Final = 6  # of what is left
HASH_CHARS: Final = 40
LINE: Final = re.compile(rb"[0-9A-Fa-f]{40}:[0-9]{1,12}\r?\n?")
LINE_MAX_BYTES: Final = 64
BEHIND: Final = b"G"  # after every hash
SAMPLES: Final = 1_000
HINT: Final = "get Have I Been Pwned's SHA-1 list, ordered by hash, or leave breached_passwords out of settings.toml"
PASSES, MEMORY_BYTES = 2, 19 * 1024 * 1024  # one lane: OWASP's figures for argon2id


def hash_password(password: Secret, *, login: str, breached: Path | None = None) -> str:
    """The argon2id hash; raises CallerFault when the password is too easily guessed, or stands in the list `breached`."""
    text = password.reveal()
    if not PASSWORD_MIN_CHARS <= len(text) <= PASSWORD_MAX_CHARS:
        told = f"a password has {PASSWORD_MIN_CHARS} to {PASSWORD_MAX_CHARS} characters"
        raise CallerFault("password-length", told, hint="use a sentence or a password manager")
    if easily_guessed(text, login):
        hint = "leave out the login, keyboard rows and words like 'password'; repeat less"
        raise CallerFault("password-weak", "the password is easily guessed", hint=hint)
    if breached and stolen(breached, password):
        told = "the password was stolen elsewhere, and is tried first"
        raise CallerFault("password-breached", told, hint="use one that stands nowhere else")
    return _hashed(text)


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
        return argon2id.verify((hashed or _NOBODY).encode(), text.encode()) and hashed is not None
    except InvalidkeyError:
        return False


def _hashed(text: str) -> str:
    return argon2id.str(text.encode(), opslimit=PASSES, memlimit=MEMORY_BYTES).decode()


_NOBODY: Final = _hashed(secrets.token_hex())  # an unknown account takes as long as a known one


def stolen_list(home: Home, settings: Settings) -> Path | None:
    """The file of stolen passwords, where the settings name one."""
    return home.root / settings.breached_passwords if settings.breached_passwords else None


def stolen(path: Path, password: Secret) -> bool:
    """Whether the password is in the list; raises OperatorFault where there is none, or what was met is no list."""
    wanted = hashlib.sha1(password.reveal().encode(), usedforsecurity=False).hexdigest().upper().encode()
    with _opened(path) as (file, size):
        place = bisect_left(range(size), wanted, key=lambda at: _hash_after(file, at))
        return _hash_after(file, place) == wanted


def refuse_unfit_list(path: Path) -> None:
    """Raises OperatorFault for what is no such list, or in another order, as far as lines all over it show."""
    with _opened(path) as (file, size):
        some = [_hash_after(file, at) for at in range(0, size, size // SAMPLES + 1)]
        if not some or some != sorted(some):
            raise ValueError("it is empty, or not in the order of the hashes")


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    try:
        with path.open("rb") as file:
            yield file, file.seek(0, os.SEEK_END)
    except (OSError, ValueError) as problem:
        why = plainly(problem) if isinstance(problem, OSError) else str(problem)
        raise OperatorFault("breached-unfit", f"breached_passwords names {path}: {why}", hint=HINT) from problem


def _hash_after(file: BinaryIO, place: int) -> bytes:
    """Of the first line that begins there or later."""
    file.seek(max(0, place - 1))
    if place:
        file.readline(LINE_MAX_BYTES)
    line = file.readline(LINE_MAX_BYTES)
    if line and not LINE.fullmatch(line):
        raise ValueError(f"what stands after byte {place} is no line of SHA1:count")
    return line[:HASH_CHARS].upper() or BEHIND
