"""The rules of the watch that everybody has: what fires, why it matters, how to look into it."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from msgspec import Struct


class Severity(StrEnum):
    WARNING = "warning"
    HIGH = "high"
    CRITICAL = "critical"


class Rule(Struct, frozen=True, kw_only=True):
    id: str
    severity: Severity
    what: str
    why: str
    investigate: str


SLOW: Final = Rule(
    id="slow-responses",
    severity=Severity.WARNING,
    what="The slowest twentieth of a system's responses took longer than 500 ms within one minute.",
    why="People wait, batch jobs overrun their windows, and time-outs follow.",
    investigate="Compare duration_ms with upstream_us and guard_us of the decisions named: is it the ERP, or the gate?",
)
FAILURES: Final = Rule(
    id="authentication-failures",
    severity=Severity.HIGH,
    what="More than five failed authentications within a minute from one address or by one client.",
    why="Somebody guesses passwords or tries tokens, or a client goes on with a credential that has ended.",
    investigate="`ostiary event list --reason token-invalid`, or `credential-invalid`: one client, or many names? Call its owner "
    "first. Addresses of this machine (127.0.0.1) and those that `response: spare` names are told, and never blocked.",
)
TOKENLESS: Final = Rule(
    id="calls-without-token",
    severity=Severity.WARNING,
    what="More than five calls within a minute from one address that showed no token.",
    why="Somebody looks around, or a client was set up without its credentials. Nothing was guessed, so nobody is blocked.",
    investigate="`ostiary event list --reason token-missing`: which paths, which user agent?",
)
ERRORS: Final = Rule(
    id="error-rate",
    severity=Severity.HIGH,
    what="More than 5 % of a system's answers within a minute were server errors.",
    why="The ERP, its database or the way to it fails.",
    investigate="Look at `flags` and `details` of the decisions named, then at the ERP's own log; run `ostiary doctor`.",
)
AVAILABILITY: Final = Rule(
    id="availability",
    severity=Severity.CRITICAL,
    what="Less than 99.9 % of a system's requests of the last hour were served.",
    why="At this rate a month's allowance of failures is spent long before its end.",
    investigate="`ostiary status` and `ostiary doctor`; refusals by policy do not count, server errors do.",
)
VOLUME: Final = Rule(
    id="request-volume",
    severity=Severity.WARNING,
    what="More than 120 % of the requests that are usual in this hour of the day.",
    why="A loop in an integration, a new job nobody announced, or somebody copying the database.",
    investigate="`ostiary event list`: which principal and operation grew? Month ends and imports are the usual innocents.",
)
PAYLOAD: Final = Rule(
    id="payload-size",
    severity=Severity.WARNING,
    what="More than 120 % of the bytes that are usual in this hour of the day.",
    why="Data leaves, or is loaded, in amounts that nobody saw before.",
    investigate="Look for large bytes_out: who reads, which operation, and was it ever read in this amount?",
)
UNREADABLE: Final = Rule(
    id="events-lost",
    severity=Severity.CRITICAL,
    what="Lines of the access log could not be read, or a part of it was gone.",
    why="What is not recorded can't be shown to an auditor.",
    investigate="Who else writes to, truncates or deletes files in the events folder? Is the disk sound?",
)
DISK: Final = Rule(
    id="disk-low",
    severity=Severity.CRITICAL,
    what="The disk of the home folder is nearly full.",
    why="The gate is closed before an event is lost.",
    investigate="Make room on that disk; the gate opens again by itself.",
)
SILENT: Final = Rule(
    id="control-silent",
    severity=Severity.CRITICAL,
    what="Control ended without being told to, and was away for longer than the gate's lease.",
    why="Meanwhile the gate was closed, or, where the policy says `when-silent: keep`, open without anybody watching.",
    investigate="The output of `ostiary up` at that time; `ostiary event list` from then on shows what passed.",
)
AUDIT: Final = Rule(
    id="audit-broken",
    severity=Severity.CRITICAL,
    what="The audit log is not what was signed, or entries of it are gone.",
    why="Somebody took away or changed what was recorded; no change is made until that is mended.",
    investigate="`ostiary audit verify` says what is wrong. Who could write the database and the home folder?",
)
EMERGENCY: Final = Rule(
    id="break-glass",
    severity=Severity.CRITICAL,
    what="Somebody was given one role more for a time, beyond what he may as a rule.",
    why="It goes round the usual way of giving roles: whoever answers for those should know, and look at what was done.",
    investigate="`ostiary break-glass list`: who, why, until when; `ostiary event list --break-glass`: what was done.",
)
RULES: Final[Mapping[str, Rule]] = {
    rule.id: rule
    for rule in (
        SLOW, FAILURES, TOKENLESS, ERRORS, AVAILABILITY, VOLUME, PAYLOAD, UNREADABLE, DISK, SILENT, AUDIT, EMERGENCY,
    )
}  # fmt: skip
