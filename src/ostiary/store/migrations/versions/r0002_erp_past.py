"""Who stood behind an ERP account that is gone. Never edited once it has been released."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "erp_past",
        sa.Column("system", sa.String(100), nullable=False),
        sa.Column("uid", sa.String(100), nullable=False),
        sa.Column("login", sa.String(200), nullable=False),
        sa.Column("person", sa.String(200), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("system", "uid", "login", "person", name="pk_erp_past"),
    )
