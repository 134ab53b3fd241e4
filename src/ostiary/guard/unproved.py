"""Who calls by the ERP's own credential, while a system is observed: as it names him, and nobody here has proved it."""

import base64
from collections.abc import Collection
from typing import Final
from urllib.parse import quote

from ostiary.erp.operation import Verb
from ostiary.foundation.ids import role_set_id
from ostiary.foundation.jose import Claims
from ostiary.guard.knowledge import Caller

LOGIN_MAX_CHARS: Final = 60


def login(authorization: str) -> str:
    """The login in it; "" where it names none. What stands alone may be the secret itself."""
    scheme, _, text = authorization.partition(" ")
    if scheme.lower() not in {"basic", "session"}:
        return ""
    try:
        name, _, secret = base64.b64decode(text).decode().partition(":")
    except ValueError:
        return ""
    return name if secret else ""


def caller(system: str, name: str, roles: Collection[str]) -> Caller:
    """With the roles of whoever is mapped to this ERP user, and a token's widest scopes: for a judgement without effect."""
    return Caller(
        claims=Claims(
            issuer="", audience="", subject=f"unproved:{quote(name[:LOGIN_MAX_CHARS], safe='@+') or '-'}", client="", jti="",
            grant="", generation="", role_set=role_set_id(roles) if roles else "", expires_at=0, issued_at=0,
            scopes=frozenset(f"{system}/*:{verb}" for verb in Verb),
        ),
        keys=frozenset(),
    )  # fmt: skip
