"""What the watch noticed, what it did about it, and where it stopped reading."""

from typing import Final

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, String, Text

from ostiary.store.database import table

ALERT: Final = table(
    "alert",
    Column("id", String(40), primary_key=True),
    Column("rule", String(100), nullable=False),
    Column("key", String(300), nullable=False),  # what it is about: "address:203.0.113.9", "system:erp"
    Column("open_key", String(410), unique=True),  # rule and key while it is open, NULL after: one open alert for both
    Column("severity", String(20), nullable=False),
    Column("state", String(20), nullable=False),  # "firing", "acknowledged", "resolved"
    Column("first_us", BigInteger, nullable=False),
    Column("last_us", BigInteger, nullable=False, index=True),
    Column("count", Integer, nullable=False),
    Column("evidence", Text, nullable=False),  # JSON: figures and decision ids; no paths, no bodies, no tokens
    Column("actor", String(200), nullable=False),
    Column("note", String(1000), nullable=False),
)

MEASURE: Final = table(
    "measure",
    Column("id", String(40), primary_key=True),
    Column("kind", String(20), nullable=False),  # "block"
    Column("target", String(300), nullable=False),  # a CIDR
    Column("reason", String(1000), nullable=False),
    Column("rule", String(100), nullable=False),
    Column("alert", String(40), nullable=False),
    Column("made_at_us", BigInteger, nullable=False),
    Column("expires_at_us", BigInteger, nullable=False, index=True),
    Column("undone_by", String(200), nullable=False),  # "" while nobody undid it
    Index("measure_target", "target", "made_at_us"),
)

WATCH_STATE: Final = table(
    "watch_state",
    Column("name", String(40), primary_key=True),  # "tail", "alive"
    Column("value", LargeBinary, nullable=False),
)
