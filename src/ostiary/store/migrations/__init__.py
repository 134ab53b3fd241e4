"""Brings a store to the present version: each version is one file in `versions`, all of a migration or nothing."""

from pathlib import Path
from typing import Any, Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, inspect

from ostiary.foundation.errors import OperatorFault
from ostiary.store.database import VERSION, take_turns

WAIT_MS: Final = 120_000  # for another process that migrates


def migrate(engine: Engine) -> None:
    """Safe when several processes do it at once: the first migrates, the others wait and find it done."""
    with engine.execution_options(writes=True).connect() as connection:
        _wait_longer(connection)
        with connection.begin():
            take_turns(connection, "migration")
            upgrade(connection)
    engine.dispose()  # of the connection that waits longer


def upgrade(connection: Connection, to: str = VERSION) -> None:
    """To the version `to`, in the caller's write transaction; refuses what is newer, and what is not Ostiary's."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    known = {revision.revision for revision in ScriptDirectory.from_config(config).walk_revisions()}
    found = MigrationContext.configure(connection).get_current_revision()
    if found is None and (names := sorted(inspect(connection).get_table_names())):
        told = f"the store holds tables that are not Ostiary's: {', '.join(names[:5])}"
        raise OperatorFault("store-foreign", told, hint="give Ostiary a database of its own")
    for version in filter(None, (found, to)):
        if version not in known:
            raise _newer(version)
    if found != to:
        config.attributes["connection"] = connection
        command.upgrade(config, to)


def _wait_longer(connection: Connection) -> None:
    """For another process's migration, longer than for its transactions."""
    driver: Any = connection.connection.dbapi_connection
    postgresql = connection.dialect.name == "postgresql"
    driver.execute(f"SET lock_timeout = {WAIT_MS}" if postgresql else f"PRAGMA busy_timeout = {WAIT_MS}")
    driver.commit()


def _newer(version: str) -> OperatorFault:
    if version < VERSION:
        told = f"its version is {version}: it was made before anything was released"
        return OperatorFault("store-old", told, hint="make it anew: `ostiary init` in another folder")
    told = f"it was made by a newer Ostiary: its version is {version}, this Ostiary knows up to {VERSION}"
    hint = "install the newer Ostiary again, or restore a backup from before the update"
    return OperatorFault("store-newer", told, hint=hint)
