"""The rules of the watch that everybody has; what they say stands in catalogue.toml."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec
from msgspec import Struct


class Rule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What fires, why it matters, how to look into it."""

    id: str
    severity: Literal["warning", "high", "critical"]
    what: str
    why: str
    investigate: str


_WORDS: Final = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
RULES: Final[Mapping[str, Rule]] = {name: msgspec.convert({"id": name, **told}, Rule) for name, told in _WORDS.items()}
SLOW: Final = RULES["slow-responses"]
FAILURES: Final = RULES["authentication-failures"]
TOKENLESS: Final = RULES["calls-without-token"]
ERRORS: Final = RULES["error-rate"]
AVAILABILITY: Final = RULES["availability"]
VOLUME: Final = RULES["request-volume"]
PAYLOAD: Final = RULES["payload-size"]
UNREADABLE: Final = RULES["events-lost"]
REFUSED: Final = RULES["erp-refuses"]
ENDING: Final = RULES["client-ends"]
DISK: Final = RULES["disk-low"]
SILENT: Final = RULES["control-silent"]
STALE: Final = RULES["store-silent"]
AUDIT: Final = RULES["audit-broken"]
EMERGENCY: Final = RULES["break-glass"]
KEYS: Final = RULES["keys-compromised"]
STAYING: Final = (EMERGENCY.id, KEYS.id)  # until somebody says that it is over
