"""Revisions of the policy: every one that was ever applied, kept whole; and what waits for a second person."""

from typing import Final

from sqlalchemy import BigInteger, Column, Integer, String, Text

from ostiary.store.database import table

FAILED_MAX_CHARS: Final = 100
REVISION: Final = table(
    "revision",
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("revision", String(40), nullable=False),  # the plan's content hash
    Column("file", String(500), nullable=False),
    Column("text", Text, nullable=False),
    Column("files", Text, nullable=False, server_default="{}"),  # that belong to it: path -> text, as JSON
    Column("plan", Text, nullable=False),  # plan.model.to_json
    Column("actor", String(200), nullable=False),
    Column("reason", String(1000), nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("approvals", Text, nullable=False, server_default="[]"),  # JSON: who else said yes
    Column("proof", Text, nullable=False, server_default="{}"),  # JSON: what was checked before it came into force
    Column("failed", String(FAILED_MAX_CHARS)),  # why it did not come into force; NULL where it did
)

PROPOSAL: Final = table(  # what waits for a second person, and what became of it; a role for a time is one too
    "proposal",
    Column("id", String(40), primary_key=True),
    Column("kind", String(20), nullable=False),  # "policy", "break-glass"
    Column("actor", String(200), nullable=False),
    Column("reason", String(1000), nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("content", Text, nullable=False),  # JSON: all that was shown
    Column("approvals", Text, nullable=False),  # JSON: who else said yes
    Column("state", String(20), nullable=False, index=True),  # "open", "done", "rejected", "renewed"; "begun", "ended"
    Column("principal", String(200), nullable=False, index=True),  # who has a role more, or ""
    Column("role", String(200), nullable=False),
    Column("until_s", BigInteger, nullable=False),  # so long; 0 before it begins
)
