"""A secret is a type whose text form gives nothing away; an id is as hard to guess as one; and log lines, on standard error,
never hold one.
"""

import hmac
import json
import logging
import re
import secrets
import sys
from typing import Any, Final, final

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


# What a token, a session header, a password field, an address or a key looks like when it slips into a text.
_NAMED: Final = "password|passwd|passwort|secret|token|key|credential|cookie|session|csrf|verifier|assertion"
_VALUE: Final = r"\\\"[^\"\\]*|\"(?:[^\"\\]|\\.)*\"?|'(?:[^'\\]|\\.)*'?|[^\s\"',&;\\]{3,}"
TELLTALE: Final = re.compile(
    r"(-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z))"
    r"|(eyJ[\w-]{5,}\.[\w-]+\.[\w-]*)"
    r"|(\b(?i:bearer|session|basic|dpop)\s+[\w\-.~+/]{8,}=*)"
    rf"|((?i:{_NAMED})[\w-]{{0,30}}\\?[\"']?\s*[=:]\s*(?:{_VALUE}))"
    r"|(\"d\"\s*:\s*\"[\w-]{40,}\")"  # the private part of a JWK
    r"|((?<=://)[^/\s:@]*:[^/\s]+(?=@))"
    r"|(\bcode=[\w-]{20,})"
)
MESSAGE_MAX_CHARS: Final = 4_000
OF_OTHERS: Final = ("httpx", "uvicorn", "alembic")  # what they tell of every call and every start says nothing


def redact(text: str) -> str:
    return TELLTALE.sub(REDACTED, text)


class JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "at": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "from": record.name,
            "message": redact(record.getMessage())[:MESSAGE_MAX_CHARS],
        }
        if record.exc_info:
            fields["traceback"] = redact(self.formatException(record.exc_info))[-MESSAGE_MAX_CHARS:]
        return json.dumps(fields, ensure_ascii=False)


class PlainLines(logging.Formatter):
    """For a person at a terminal: when, what, and how bad where it is bad."""

    def format(self, record: logging.LogRecord) -> str:
        bad = f"{record.levelname.lower()}: " if record.levelno > logging.INFO else ""
        trace = f"\n{self.formatException(record.exc_info)}" if record.exc_info else ""
        told = redact(f"{record.getMessage()}{trace}")[:MESSAGE_MAX_CHARS]
        return f"{self.formatTime(record, '%H:%M:%S')}  {bad}{told}"


def log_to_stderr(level: str = "INFO", *, plain: bool = False) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PlainLines() if plain else JsonLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in OF_OTHERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.raiseExceptions = False  # it would print a record that cannot be formatted, with all its arguments
