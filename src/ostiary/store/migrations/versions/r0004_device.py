"""Devices that are registered. Never edited once it has been released."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "device",
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("principal", sa.String(200), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_device"),
        sa.UniqueConstraint("fingerprint", name="uq_device_fingerprint"),
    )
