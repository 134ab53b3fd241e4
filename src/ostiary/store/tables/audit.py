"""The audit log: its leaves, and the one row whose update makes writers take turns."""

from typing import Final

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, String, Text

from ostiary.store.database import table

AUDIT_LEAF: Final = table(
    "audit_leaf",
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),  # from 0
    Column("action", String(100), nullable=False, index=True),
    Column("entry", Text, nullable=False),  # canonical JSON: the bytes that are hashed
)

AUDIT_TREE: Final = table(
    "audit_tree",
    Column("id", Integer, primary_key=True, autoincrement=False),  # always 1
    Column("size", BigInteger, nullable=False),
    Column("frontier", LargeBinary, nullable=False),  # subtrees, each 8 bytes of size and 32 of root
)
