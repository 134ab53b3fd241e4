"""One store, SQLite or PostgreSQL, reached through transactions only."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import Connection, Engine, MetaData, create_engine, event
from sqlalchemy.exc import DBAPIError

from ostiary.foundation.errors import SystemFault

METADATA: Final = MetaData()
BUSY_TIMEOUT_MS: Final = 10_000


class Store:
    """Hands out transactions; safe to share between threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """A write transaction: commits at the end of the block, rolls back when it raises."""
        with self._engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads."""
        with self._engine.connect() as connection:
            yield connection

    def close(self) -> None:
        self._engine.dispose()


def open_store(url: str) -> Store:
    """The store at a SQLAlchemy URL (`sqlite:///path` or `postgresql+psycopg://...`), its tables up to date."""
    engine = create_engine(url, pool_pre_ping=True)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
    importlib.import_module("ostiary.store.tables")  # registers every table; at the top it would be a circle
    try:
        METADATA.create_all(engine)
    except DBAPIError as problem:
        where = engine.url.render_as_string(hide_password=True)
        raise SystemFault(
            "store-unavailable",
            f"the store {where} does not open: {problem.orig}",
            hint="check that it runs, that its disk has room, and that this user may read and write it",
        ) from problem
    return Store(engine)


def _prepare_sqlite(connection: Any, _: object) -> None:
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={BUSY_TIMEOUT_MS}"):
        connection.execute(f"PRAGMA {pragma}")
