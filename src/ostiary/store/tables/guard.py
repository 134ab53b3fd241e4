"""What passed the guard and may matter to duties kept apart later."""

from typing import Final

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, String

from ostiary.store.database import table

GUARD_HISTORY: Final = table(
    "guard_history",
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("system", String(100), nullable=False),
    Column("object", String(200), nullable=False),
    Column("record", String(200), nullable=False),  # the ERP's id of the record
    Column("permission", String(300), nullable=False),  # Operation.permission: the intent, allowed and sent on
    Column("person", String(200), nullable=False),  # the human behind the caller
    Column("at_us", BigInteger, nullable=False, index=True),
    Index("guard_history_record", "system", "object", "record", "at_us"),
)

GUARD_KEY: Final = table(
    "guard_key",
    Column("system", String(100), primary_key=True),
    Column("login", String(200), primary_key=True),  # the ERP user whose key it is
    Column("sealed_key", LargeBinary, nullable=False, info={"sealed_for": "erp-key:{system}:{login}"}),
)
