"""Appends to the audit log inside the transaction of the change it records."""

from datetime import datetime
from typing import Any

from msgspec import Struct
from sqlalchemy import Connection


class Entry(Struct, frozen=True, kw_only=True):
    """One administrative act. `before` and `after` hold no secrets."""

    at: datetime
    actor: str  # "uid:1000", "user:anna", "client:shop", "ostiary" for itself
    action: str  # "policy.apply", "client.add", "token.revoke", ...
    object: str  # what it was done to
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    reason: str = ""


def append(connection: Connection, entry: Entry) -> int:
    """Adds `entry` as the next leaf, in the caller's transaction; returns its index from 0."""
    raise NotImplementedError
