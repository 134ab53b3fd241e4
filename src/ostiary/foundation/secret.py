"""A secret is a type whose text form gives nothing away; an id is as hard to guess as one."""

import hmac
import secrets
from typing import Final, final

REDACTED: Final = "[redacted]"


@final
class Secret:
    """Holds a secret text; only `reveal()` shows it, and comparison takes constant time."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return REDACTED

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __reduce__(self) -> str:
        raise TypeError("a Secret is not to be pickled")


def new_id(prefix: str) -> str:
    """A fresh identifier of 128 random bits, such as `al-3f9c...`."""
    return f"{prefix}-{secrets.token_hex(16)}"
