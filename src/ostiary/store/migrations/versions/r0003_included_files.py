"""The files that a policy includes are kept with it."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("revision", sa.Column("files", sa.Text(), nullable=False, server_default="{}"))
