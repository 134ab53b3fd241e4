"""Identifiers that can't differ for equal content."""

import base64
import hashlib
from collections.abc import Iterable

ROLE_SET_ID_CHARS = 12  # 60 bits: two of a million role sets collide with a chance below 1 in 10^6


# The id of a role set with one role more for a time begins so: an event tells by it that there was an emergency.
EMERGENCY = "bg-"


def content_hash(data: bytes, *, chars: int = 16) -> str:
    """The first `chars` base32 characters (lower case) of the SHA-256 of `data`."""
    return base64.b32encode(hashlib.sha256(data).digest()).decode().lower()[:chars]


def role_set_id(roles: Iterable[str]) -> str:
    """The id of a set of directly assigned role names: the same set has the same id everywhere."""
    return content_hash(",".join(sorted(set(roles))).encode(), chars=ROLE_SET_ID_CHARS)
