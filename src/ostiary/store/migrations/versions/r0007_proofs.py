"""How clients prove themselves, what tokens are bound to, how people signed in; one table for all one-time things."""

import sqlalchemy as sa
from alembic import op

from ostiary.store.tables.identity import EMPTY, FACTOR, ONE_TIME

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    for table in (ONE_TIME, FACTOR):
        table.create(op.get_bind())
    op.drop_table("oauth_code")  # a code lives for a minute
    for name, default in {
        "auth": "client_secret",
        "profile": "oauth21",
        "bound": "",
        "jwks": "",
        "exchange": "",
    }.items():
        op.add_column("oauth_client", sa.Column(name, sa.Text(), nullable=False, server_default=default or EMPTY))
    op.execute("UPDATE oauth_client SET auth = 'none' WHERE public")
    op.drop_column("oauth_client", "public")
    op.add_column("oauth_grant", sa.Column("bound", sa.Text(), nullable=False, server_default=EMPTY))
    for name in ("oauth_grant", "identity_session"):
        op.add_column(name, sa.Column("amr", sa.Text(), nullable=False, server_default="pwd"))
