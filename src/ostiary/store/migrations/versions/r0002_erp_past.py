"""Who stood behind an ERP account that is gone."""

from alembic import op

from ostiary.store.tables.directory import ERP_PAST

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    ERP_PAST.create(op.get_bind())
