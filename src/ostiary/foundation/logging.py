"""Structured log lines on standard error that never hold a secret."""

import json
import logging
import re
import sys
from typing import Any

from ostiary.foundation.secret import REDACTED

# What a token, a session header or a password field looks like when it slips into a text.
TELLTALE = re.compile(
    r"(eyJ[\w-]{5,}\.[\w-]+\.[\w-]*)"
    r"|((?i:bearer|session|basic|dpop)\s+[\w\-.~+/]{8,}=*)"
    r"|((?i:password|secret|token|key)[\"']?\s*[=:]\s*[\"']?[^\s\"',&]{6,})"
)
MESSAGE_MAX_CHARS = 4_000


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
            fields["traceback"] = redact(self.formatException(record.exc_info))[:MESSAGE_MAX_CHARS]
        return json.dumps(fields, ensure_ascii=False)


def log_to_stderr(level: str = "INFO") -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)
