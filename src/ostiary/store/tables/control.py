"""Revisions of the policy: every one that was ever applied, kept whole."""

from typing import Final

from sqlalchemy import BigInteger, Column, Integer, String, Table, Text

from ostiary.store.database import METADATA

REVISION: Final = Table(
    "revision",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("revision", String(40), nullable=False),  # the plan's content hash
    Column("file", String(500), nullable=False),
    Column("text", Text, nullable=False),
    Column("files", Text, nullable=False, server_default="{}"),  # what it includes: path -> text, as JSON
    Column("plan", Text, nullable=False),  # plan.model.to_json
    Column("actor", String(200), nullable=False),
    Column("reason", String(1000), nullable=False),
    Column("at_us", BigInteger, nullable=False),
)
