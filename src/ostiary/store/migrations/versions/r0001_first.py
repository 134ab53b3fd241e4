"""The first version. A table that never changed is taken from where it stands; one that did is here as it was.

`tests/store/versions` holds each version to what it was: a change of a table has to begin here, with its old form.
"""

from typing import Final

from alembic import op
from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Integer, MetaData, String, Table, Text

from ostiary.store.database import METADATA
from ostiary.store.tables import audit, directory, guard, identity, monitor

revision = "0001"
down_revision = None
UNCHANGED: Final = (
    monitor.ALERT, monitor.MEASURE, monitor.WATCH_STATE, audit.AUDIT_LEAF, audit.AUDIT_TREE, guard.GUARD_HISTORY,
    guard.GUARD_KEY, directory.PRINCIPAL, directory.ASSIGNMENT, directory.ROLE_SET, directory.ERP_ACCOUNT,
    directory.REVOCATION, directory.SIGNING_KEY, identity.CLIENT_SECRET, identity.PASSWORD, identity.PEPPER,
    identity.SESSION, identity.GRANT, identity.REFRESH, identity.THROTTLE,
)  # fmt: skip
LATER: Final = (("oauth_grant", "bound"), ("oauth_grant", "amr"), ("identity_session", "amr"))
THEN: Final = MetaData(naming_convention=METADATA.naming_convention)
PRINCIPAL: Final = directory.PRINCIPAL.to_metadata(THEN)
GRANT: Final = identity.GRANT.to_metadata(THEN)
REVISION: Final = Table(
    "revision",
    THEN,
    Column("number", Integer, primary_key=True),
    Column("revision", String(40), nullable=False),
    Column("file", String(500), nullable=False),
    Column("text", Text, nullable=False),
    Column("plan", Text, nullable=False),
    Column("actor", String(200), nullable=False),
    Column("reason", String(1000), nullable=False),
    Column("at_us", BigInteger, nullable=False),
)
CLIENT: Final = Table(
    "oauth_client",
    THEN,
    Column("principal", ForeignKey("principal.id"), primary_key=True),
    Column("public", Boolean, nullable=False),
    Column("redirects", Text, nullable=False),
    Column("scopes", Text, nullable=False),
)
CODE: Final = Table(
    "oauth_code",
    THEN,
    Column("digest", String(64), primary_key=True),
    Column("grant", ForeignKey("oauth_grant.id"), nullable=False, index=True),
    Column("redirect", Text, nullable=False),
    Column("challenge", String(43), nullable=False),
    Column("used", Boolean, nullable=False),
    Column("expires_at_s", BigInteger, nullable=False, index=True),
)


def upgrade() -> None:
    METADATA.create_all(op.get_bind(), UNCHANGED, checkfirst=False)
    THEN.create_all(op.get_bind(), (REVISION, CLIENT, CODE), checkfirst=False)
    for table, column in LATER:
        op.drop_column(table, column)
