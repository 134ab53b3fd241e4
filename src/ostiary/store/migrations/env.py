"""Alembic runs this file: the migration goes through the connection, and the transaction, of `migrate`."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
