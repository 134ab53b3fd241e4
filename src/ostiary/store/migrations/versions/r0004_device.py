"""Devices that are registered."""

from alembic import op

from ostiary.store.tables.directory import DEVICE

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    DEVICE.create(op.get_bind())
