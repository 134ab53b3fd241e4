"""Secrets of ours that are shown as they are: how each begins, and where the gate shows an API key."""

import base64
from typing import Final

SECRET_PREFIX: Final = "ostiary_secret_"  # noqa: S105  by these scanners find one where none should be
KEY_PREFIX: Final = "ostiary_key_"
PLACE: Final = "/key"  # at the identity server's socket: no route of the gate leads there
WRONG: Final = 420  # what is answered there to one that opens nothing; the gate says it in its own words


def shown_in(text: str) -> bool:
    """Whether a key or secret of ours stands in it, or in a part of it that is base64 (HTTP Basic)."""
    texts = [text, *(_decoded(part) for part in text.split())]
    return any(prefix in one for one in texts for prefix in (SECRET_PREFIX, KEY_PREFIX))


def _decoded(part: str) -> str:
    try:
        return base64.b64decode(part + "=" * (-len(part) % 4)).decode("latin-1")
    except ValueError:
        return ""
