"""Who exists, what they hold, which ERP user stands for them, and what was revoked: read by more than one package."""

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Integer, LargeBinary, String, Text

from ostiary.store.database import table

REASON_MAX_CHARS: Final = 300

PRINCIPAL: Final = table(
    "principal",
    Column("id", String(200), primary_key=True),  # "user:anna" or "client:shop"
    Column("name", String(200), nullable=False),
    Column("person", String(200), nullable=False),  # the human behind it; a user's own id unless said otherwise
    Column("generation", Integer, nullable=False),  # goes up with every change of roles: older tokens are revoked
    Column("active", Boolean, nullable=False),
    Column("made_at_us", BigInteger, nullable=False),
)

ASSIGNMENT: Final = table(
    "assignment",
    Column("principal", ForeignKey("principal.id"), primary_key=True),
    Column("role", String(200), primary_key=True),
)

ROLE_SET: Final = table(
    "role_set",
    Column("id", String(20), primary_key=True),  # foundation.ids.role_set_id
    Column("roles", Text, nullable=False),  # sorted, joined by ","
)

ERP_ACCOUNT: Final = table(
    "erp_account",
    Column("principal", ForeignKey("principal.id"), primary_key=True),
    Column("system", String(100), primary_key=True),
    Column("login", String(200), nullable=False),
    Column("uid", String(100), nullable=False),  # the ERP's own id of that user; "" until it is known
    Column("sealed_secret", LargeBinary, nullable=False, info={"sealed_for": "erp-account:{system}:{principal}"}),
)

ERP_PAST: Final = table(  # who stood behind an account that is gone: his hand in the ERP's records is still his
    "erp_past",
    Column("system", String(100), primary_key=True),
    Column("uid", String(100), primary_key=True),
    Column("login", String(200), primary_key=True),
    Column("person", String(200), primary_key=True),
    Column("at_us", BigInteger, nullable=False),  # when it went
)

DEVICE: Final = table(
    "device",
    Column("name", String(200), primary_key=True),
    Column("fingerprint", String(64), nullable=False, unique=True),  # SHA-256 of its certificate, hex
    Column("principal", String(200), nullable=False),  # whom it is registered for; "" for everybody
)

REVOCATION: Final = table(
    "revocation",
    Column("key", String(300), primary_key=True),  # "jti:...", "grant:...", "sid:...", "gen:user:anna#3", "cgen:..."
    Column("expires_at_s", BigInteger, nullable=False, index=True),  # when no token it names can be alive any more
    Column("reason", String(REASON_MAX_CHARS), nullable=False),
    Column("at_us", BigInteger, nullable=False),
)

SIGNING_KEY: Final = table(
    "signing_key",
    Column("kid", String(100), primary_key=True),
    Column("purpose", String(20), nullable=False),  # "access", "id", "logout": never one key for two
    Column("state", String(20), nullable=False),  # "next", "active", "retiring"
    Column("public_jwk", Text, nullable=False),
    Column("sealed_private", LargeBinary, nullable=False, info={"sealed_for": "signing-key:{purpose}"}),
    Column("made_at_us", BigInteger, nullable=False),  # and published since
    Column("since_us", BigInteger, nullable=False),  # in this state
)
