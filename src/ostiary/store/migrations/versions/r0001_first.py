"""The first version. A table that never changed is taken from where it stands; one that did is here as it was.

`tests/store/versions` holds each version to what it was: a change of a table has to begin here, with its old form.
"""

from typing import Final

from alembic import op
from sqlalchemy import BigInteger, Column, Integer, MetaData, String, Table, Text

from ostiary.store.database import METADATA, NAMES
from ostiary.store.tables import audit, directory, guard, identity, monitor

revision = "0001"
down_revision = None
UNCHANGED: Final = (
    monitor.ALERT, monitor.MEASURE, monitor.WATCH_STATE, audit.AUDIT_LEAF, audit.AUDIT_TREE, guard.GUARD_HISTORY,
    guard.GUARD_KEY, directory.PRINCIPAL, directory.ASSIGNMENT, directory.ROLE_SET, directory.ERP_ACCOUNT,
    directory.REVOCATION, directory.SIGNING_KEY, identity.CLIENT, identity.CLIENT_SECRET, identity.PASSWORD,
    identity.PEPPER, identity.SESSION, identity.GRANT, identity.CODE, identity.REFRESH, identity.THROTTLE,
)  # fmt: skip
REVISION: Final = Table(
    "revision",
    MetaData(naming_convention=NAMES),
    Column("number", Integer, primary_key=True),
    Column("revision", String(40), nullable=False),
    Column("file", String(500), nullable=False),
    Column("text", Text, nullable=False),
    Column("plan", Text, nullable=False),
    Column("actor", String(200), nullable=False),
    Column("reason", String(1000), nullable=False),
    Column("at_us", BigInteger, nullable=False),
)


def upgrade() -> None:
    METADATA.create_all(op.get_bind(), UNCHANGED, checkfirst=False)
    REVISION.create(op.get_bind())
