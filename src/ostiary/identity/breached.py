"""Passwords that were stolen elsewhere: lines of `SHA1:count` in the order of the hashes, as Have I Been Pwned gives them.

The file may have tens of gigabytes: a line is found by halving, and nothing else is read.
"""

import hashlib
import os
import re
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from ostiary.foundation.errors import OperatorFault, plainly
from ostiary.foundation.home import Home, Settings
from ostiary.foundation.secret import Secret

HASH_CHARS: Final = 40
LINE: Final = re.compile(rb"[0-9A-Fa-f]{40}:[0-9]{1,12}\r?\n?")
LINE_MAX_BYTES: Final = 64
BEHIND: Final = b"G"  # after every hash
SAMPLES: Final = 1_000
HINT: Final = (
    "get the SHA-1 list of Have I Been Pwned, ordered by hash, or leave breached_passwords out of settings.toml"
)


def listed(home: Home, settings: Settings) -> Path | None:
    """The file of stolen passwords, where the settings name one."""
    return home.root / settings.breached_passwords if settings.breached_passwords else None


def contains(path: Path, password: Secret) -> bool:
    """Whether the password is in the list; raises OperatorFault where there is none, or what was met is no list."""
    wanted = hashlib.sha1(password.reveal().encode(), usedforsecurity=False).hexdigest().upper().encode()
    with _opened(path) as (file, size):
        place = bisect_left(range(size), wanted, key=lambda at: _hash_after(file, at))
        return _hash_after(file, place) == wanted


def refuse_unfit(path: Path) -> None:
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
