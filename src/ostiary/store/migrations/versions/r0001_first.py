"""The first version: every table as it was at the start. Never edited once it has been released."""

from typing import Final

from alembic import op
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

from ostiary.store.database import NAMES

revision = "0001"
down_revision = None
FIRST: Final = MetaData(naming_convention=NAMES)


def upgrade() -> None:
    FIRST.create_all(op.get_bind(), checkfirst=False)


Table(
    "alert",
    FIRST,
    Column("id", String(40), primary_key=True),
    Column("rule", String(100), nullable=False),
    Column("key", String(300), nullable=False),
    Column("open_key", String(410), unique=True),
    Column("severity", String(20), nullable=False),
    Column("state", String(20), nullable=False),
    Column("first_us", BigInteger, nullable=False),
    Column("last_us", BigInteger, index=True, nullable=False),
    Column("count", Integer, nullable=False),
    Column("evidence", Text, nullable=False),
    Column("actor", String(200), nullable=False),
    Column("note", String(1000), nullable=False),
)

Table(
    "audit_leaf",
    FIRST,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("action", String(100), index=True, nullable=False),
    Column("entry", Text, nullable=False),
)

Table(
    "audit_tree",
    FIRST,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("size", BigInteger, nullable=False),
    Column("frontier", LargeBinary, nullable=False),
)

Table(
    "guard_history",
    FIRST,
    Column("id", Integer, primary_key=True),
    Column("system", String(100), nullable=False),
    Column("object", String(200), nullable=False),
    Column("record", String(200), nullable=False),
    Column("permission", String(300), nullable=False),
    Column("person", String(200), nullable=False),
    Column("at_us", BigInteger, index=True, nullable=False),
    Index("guard_history_record", "system", "object", "record", "at_us"),
)

Table(
    "guard_key",
    FIRST,
    Column("system", String(100), primary_key=True),
    Column("login", String(200), primary_key=True),
    Column("sealed_key", LargeBinary, nullable=False),
)

Table(
    "identity_pepper",
    FIRST,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("sealed", LargeBinary, nullable=False),
)

Table(
    "measure",
    FIRST,
    Column("id", String(40), primary_key=True),
    Column("kind", String(20), nullable=False),
    Column("target", String(300), nullable=False),
    Column("reason", String(1000), nullable=False),
    Column("rule", String(100), nullable=False),
    Column("alert", String(40), nullable=False),
    Column("made_at_us", BigInteger, nullable=False),
    Column("expires_at_us", BigInteger, index=True, nullable=False),
    Column("undone_by", String(200), nullable=False),
    Index("measure_target", "target", "made_at_us"),
)

Table(
    "principal",
    FIRST,
    Column("id", String(200), primary_key=True),
    Column("name", String(200), nullable=False),
    Column("person", String(200), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("made_at_us", BigInteger, nullable=False),
)

Table(
    "revision",
    FIRST,
    Column("number", Integer, primary_key=True),
    Column("revision", String(40), nullable=False),
    Column("file", String(500), nullable=False),
    Column("text", Text, nullable=False),
    Column("plan", Text, nullable=False),
    Column("actor", String(200), nullable=False),
    Column("reason", String(1000), nullable=False),
    Column("at_us", BigInteger, nullable=False),
)

Table(
    "revocation",
    FIRST,
    Column("key", String(300), primary_key=True),
    Column("expires_at_s", BigInteger, index=True, nullable=False),
    Column("reason", String(300), nullable=False),
    Column("at_us", BigInteger, nullable=False),
)

Table(
    "role_set",
    FIRST,
    Column("id", String(20), primary_key=True),
    Column("roles", Text, nullable=False),
)

Table(
    "sign_in_throttle",
    FIRST,
    Column("key", String(64), primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("expires_at_s", BigInteger, index=True, nullable=False),
)

Table(
    "signing_key",
    FIRST,
    Column("kid", String(100), primary_key=True),
    Column("purpose", String(20), nullable=False),
    Column("state", String(20), nullable=False),
    Column("public_jwk", Text, nullable=False),
    Column("sealed_private", LargeBinary, nullable=False),
    Column("made_at_us", BigInteger, nullable=False),
    Column("since_us", BigInteger, nullable=False),
)

Table(
    "watch_state",
    FIRST,
    Column("name", String(40), primary_key=True),
    Column("value", LargeBinary, nullable=False),
)

Table(
    "assignment",
    FIRST,
    Column("principal", ForeignKey("principal.id"), primary_key=True),
    Column("role", String(200), primary_key=True),
)

Table(
    "erp_account",
    FIRST,
    Column("principal", ForeignKey("principal.id"), primary_key=True),
    Column("system", String(100), primary_key=True),
    Column("login", String(200), nullable=False),
    Column("uid", String(100), nullable=False),
    Column("sealed_secret", LargeBinary, nullable=False),
)

Table(
    "identity_session",
    FIRST,
    Column("digest", String(64), primary_key=True),
    Column("sid", String(100), nullable=False),
    Column("principal", ForeignKey("principal.id"), index=True, nullable=False),
    Column("authenticated_at_s", BigInteger, nullable=False),
    Column("expires_at_s", BigInteger, index=True, nullable=False),
)

Table(
    "oauth_client",
    FIRST,
    Column("principal", ForeignKey("principal.id"), primary_key=True),
    Column("public", Boolean, nullable=False),
    Column("redirects", Text, nullable=False),
    Column("scopes", Text, nullable=False),
)

Table(
    "oauth_client_secret",
    FIRST,
    Column("digest", String(64), primary_key=True),
    Column("principal", ForeignKey("principal.id"), index=True, nullable=False),
    Column("made_at_us", BigInteger, nullable=False),
)

Table(
    "oauth_grant",
    FIRST,
    Column("id", String(100), primary_key=True),
    Column("client", ForeignKey("principal.id"), index=True, nullable=False),
    Column("principal", ForeignKey("principal.id"), index=True, nullable=False),
    Column("sid", String(100), nullable=False),
    Column("audience", String(500), nullable=False),
    Column("scopes", Text, nullable=False),
    Column("nonce", Text, nullable=False),
    Column("authenticated_at_s", BigInteger, nullable=False),
    Column("expires_at_s", BigInteger, index=True, nullable=False),
    Column("revoked", Boolean, nullable=False),
)

Table(
    "password",
    FIRST,
    Column("principal", ForeignKey("principal.id"), primary_key=True),
    Column("hash", String(300), nullable=False),
)

Table(
    "oauth_code",
    FIRST,
    Column("digest", String(64), primary_key=True),
    Column("grant", ForeignKey("oauth_grant.id"), index=True, nullable=False),
    Column("redirect", Text, nullable=False),
    Column("challenge", String(43), nullable=False),
    Column("used", Boolean, nullable=False),
    Column("expires_at_s", BigInteger, index=True, nullable=False),
)

Table(
    "oauth_refresh",
    FIRST,
    Column("digest", String(64), primary_key=True),
    Column("grant", ForeignKey("oauth_grant.id"), index=True, nullable=False),
    Column("superseded_at_s", BigInteger, nullable=False),
    Column("retried", Boolean, nullable=False),
    Column("expires_at_s", BigInteger, index=True, nullable=False),
)
