"""What waits for a second person, and what a revision was proved by."""

import sqlalchemy as sa
from alembic import op

from ostiary.store.tables.control import PROPOSAL

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("revision", sa.Column("approvals", sa.Text(), nullable=False, server_default="[]"))
    op.add_column("revision", sa.Column("proof", sa.Text(), nullable=False, server_default="{}"))
    PROPOSAL.create(op.get_bind())
