"""One store, SQLite or PostgreSQL, reached through transactions only.

Secrets at rest: AES-256-GCM under the master key, bound to what they are for.
"""

import base64
import math
import os
import sqlite3
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Connection, Engine, MetaData, Table, create_engine, event, exc, func, make_url, select, update
from sqlalchemy.dialects import postgresql, sqlite

from ostiary.foundation.errors import OperatorFault, SystemFault
from ostiary.foundation.home import PRIVATE, Settings, write_once
from ostiary.foundation.secret import Secret

VERSION: Final = "0007"  # the newest file in migrations/versions: a store of this version needs no migration
NAMES: Final = {  # one name for each constraint on both databases, so that a migration can speak of it
    "pk": "pk_%(table_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ix": "ix_%(column_0_label)s",
}
METADATA: Final = MetaData(naming_convention=NAMES)
BUSY_TIMEOUT_MS: Final = 10_000  # for writers of other processes
TURN_TIMEOUT_S: Final = 10.0  # for those of this one
CONNECT_TIMEOUT_S: Final = 10
ASK_AFTER_S: Final = 0.5  # of rest: to ask each time would cost every transaction a way to the server and back
IDLE_IN_TRANSACTION_MAX_MS: Final = 60_000  # a process that hangs does not hold the others up for ever
READS: Final[dict[str, Any]] = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
AROUND: Final = (SystemFault, OSError, exc.DBAPIError)  # what fails around us, and is told or tried again
DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
COMMAND_TIMEOUT_S: Final = 10.0
SEALED_FOR: Final = "sealed_for"  # in a column's `info`: what its rows are sealed for, in their own words


P = ParamSpec("P")
T = TypeVar("T")


class Store:
    """Hands out transactions; safe to share between threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._writer = engine.execution_options(writes=True)
        many = engine.dialect.name == "postgresql"  # on SQLite every transaction sees one moment
        self._reader = engine.execution_options(**(READS if many else {}))
        self._turn = None if many else Lock()

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """A write transaction: commits at the end of the block, rolls back when it raises.

        SQLite has one writer at a time and makes others look again and again; here they wake one after the other.
        """
        with _held(self._turn) if self._turn else nullcontext(), self._writer.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads, and sees one moment."""
        with self._reader.connect() as connection:
            yield connection

    def ask(self, read: Callable[Concatenate[Connection, P], T], *what: P.args, **told: P.kwargs) -> T:
        """What `read` finds in a transaction of its own, all of it: nothing is read on once it is told."""
        with self.read() as connection:
            return read(connection, *what, **told)

    def close(self) -> None:
        self._engine.dispose()


@contextmanager
def _held(turn: Lock) -> Iterator[None]:
    if not turn.acquire(timeout=TURN_TIMEOUT_S):
        raise SystemFault("store-busy", "others write to the store all the time", hint="try again in a moment")
    try:
        yield
    finally:
        turn.release()


def open_store(url: str) -> Store:
    """The store at a SQLAlchemy URL (`sqlite:///path` or `postgresql+psycopg://...`), brought to this version."""
    engine = connect(url)
    try:
        with clearly(engine):
            if _version(engine) != VERSION:
                from ostiary.store.migrations import migrate  # Alembic takes half a second to import

                migrate(engine)
    except BaseException:
        engine.dispose()
        raise
    return Store(engine)


def take_turns(connection: Connection, over: str) -> None:
    """Whoever asks for the same `over` waits until this write transaction ends; on SQLite writers do so anyway."""
    if connection.dialect.name == "postgresql":
        number = int.from_bytes(sha256(f"ostiary:{over}".encode()).digest()[:8], signed=True)
        connection.execute(select(func.pg_advisory_xact_lock(number)))


def insert_into(connection: Connection, table: Table) -> Any:
    """The database's own INSERT, which knows what to do about a row that is there already."""
    return insert_of(connection.dialect.name, table)


def insert_of(dialect: str, table: Table) -> Any:
    """The same, for who makes a statement once for all connections."""
    return (postgresql.insert if dialect == "postgresql" else sqlite.insert)(table)


def upsert(connection: Connection, table: Table, place: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """The row whose key is `place` has these values, whether it was there or not."""
    statement = insert_into(connection, table).values(**place, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=list(place), set_=dict(values)))


def connect(url: str) -> Engine:
    """The engine for `url`; nothing is asked of the database yet."""
    try:
        place = make_url(url)
        if place.get_backend_name() == "sqlite":
            engine = create_engine(place, hide_parameters=True)
            event.listen(engine, "connect", _prepare_sqlite)
            event.listen(engine, "begin", _begin_sqlite)
            _make_private(place.database)
            return engine
        engine = create_engine(place, hide_parameters=True, connect_args={"connect_timeout": CONNECT_TIMEOUT_S})
    except (exc.ArgumentError, exc.NoSuchModuleError, ImportError) as problem:
        hint = "write sqlite:////path/to/file or postgresql+psycopg://user:password@host/database"
        raise OperatorFault("store-url", "the setting `store` is no address of a database", hint=hint) from problem
    event.listen(engine, "connect", _prepare_postgresql)
    event.listen(engine, "checkin", _rested)
    event.listen(engine, "checkout", partial(_alive, engine))
    return engine


@contextmanager
def clearly(engine: Engine) -> Iterator[None]:
    """What the database says in its own words becomes one message with what to do, and without a password."""
    try:
        yield
    except exc.DBAPIError as problem:
        where = engine.url.render_as_string(hide_password=True)
        if getattr(problem.orig, "sqlite_errorcode", 0) in DAMAGED:
            hint = "keep the file for a look, and restore the last backup with `ostiary restore`"
            raise SystemFault("store-damaged", f"the store {where} is damaged: {problem.orig}", hint=hint) from problem
        told = f"the store {where} does not open: {problem.orig}"
        hint = "check that it runs, that its disk has room, and that this user may read and write it"
        raise SystemFault("store-unavailable", told, hint=hint) from problem


def _version(engine: Engine) -> str:
    """The store's version by one query; "" where that cannot be asked, for whatever reason."""
    with suppress(exc.OperationalError, exc.ProgrammingError), engine.connect() as connection:
        return str(connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar())
    return ""


def _prepare_sqlite(connection: Any, _: object) -> None:
    connection.isolation_level = None  # `_begin_sqlite` says BEGIN, not the driver
    for pragma in (f"busy_timeout={BUSY_TIMEOUT_MS}", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    """A writer takes its turn before it reads: what it has read still holds when it writes."""
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _prepare_postgresql(connection: Any, _: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SET lock_timeout = {BUSY_TIMEOUT_MS}")
        cursor.execute(f"SET idle_in_transaction_session_timeout = {IDLE_IN_TRANSACTION_MAX_MS}")
    connection.commit()


def _rested(_: object, record: Any) -> None:
    record.info["since_s"] = monotonic()


def _alive(engine: Engine, connection: Any, record: Any, _: object) -> None:
    """The pool opens another one in place of a connection that rested for a while and does not answer."""
    if monotonic() - record.info.get("since_s", math.inf) > ASK_AFTER_S:
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as gone:
            raise exc.DisconnectionError from gone


def _make_private(file: str | None) -> None:
    """SQLite gives its other files the mode of the first; where it cannot be made, opening it says why."""
    with suppress(OSError):
        if file and file != ":memory:" and not Path(file).exists():
            Path(file).touch(PRIVATE)


class Sealer:
    """Seals and opens; a value sealed for one purpose does not open for another."""

    def __init__(self, master_key: bytes) -> None:
        self._cipher = AESGCM(master_key)

    def seal(self, secret: Secret, purpose: str) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, secret.reveal().encode(), purpose.encode())

    def open(self, sealed: bytes, purpose: str) -> Secret:
        try:
            clear = self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], purpose.encode())
        except (InvalidTag, ValueError) as problem:
            told = f"a secret for {purpose} does not open with this master key"
            hint = "have settings.toml name this database's key (`master_key_file`: the file of `ostiary reseal`), or restore it"
            raise OperatorFault("seal-broken", told, hint=hint) from problem
        return Secret(clear.decode())


def named_sealer(settings: Settings, default: Path) -> Sealer:
    """The sealer of the master key where the settings say it is: printed, in the environment, or in a file."""
    command, variable, file = settings.master_key_command, settings.master_key_variable, settings.master_key_file
    if sum(map(bool, (command, variable, file))) > 1:
        told = "settings.toml names more than one place for the master key"
        raise OperatorFault("master-key-twice", told, hint="keep the one that it is in")
    if command:
        return Sealer(_key(_printed(command), f"what {command[0]} prints"))
    if variable:
        held, hint = os.environb.get(variable.encode(), b""), "set it in this shell too, as it is for `ostiary up`"
        return Sealer(_key(held, f"the variable {variable} of the environment", hint))
    return load_sealer(Path(file) if file else default)


def load_sealer(path: Path, *, make: bool = False) -> Sealer:
    """The sealer of the master key in `path`; `make` it (0600) for a new installation, and only then."""
    if not make and not path.exists():
        told = f"there is no {path}: what is sealed does not open without it"
        raise OperatorFault("master-key-missing", told, hint="mount or restore it; another key would open nothing")
    return Sealer(_key(write_once(path, os.urandom(KEY_BYTES)), str(path)))


def _printed(command: Sequence[str]) -> bytes:
    """By no shell. What it says is told to nobody, not even where it fails: the key may be in it."""
    with suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=COMMAND_TIMEOUT_S
        ).stdout
    told = f"{command[0]} did not print the master key within {COMMAND_TIMEOUT_S:.0f} s and end with 0"
    raise OperatorFault("master-key-silent", told, hint="call it by hand, as the user who runs `ostiary up`")


def _key(told: bytes, where: str, hint: str = "restore it from backup") -> bytes:
    with suppress(ValueError):
        key = told if len(told) == KEY_BYTES else base64.b64decode(told.strip(), validate=True)
        if len(key) == KEY_BYTES:
            return key
    why = f"{where} does not hold {KEY_BYTES} bytes, or their base64"
    raise OperatorFault("master-key-invalid", why, hint=hint)


def reseal(connection: Connection, before: Sealer, after: Sealer) -> int:
    """Every secret in the store is sealed under another master key; how many these are. What did not open does not yet."""
    count = 0
    for table in METADATA.sorted_tables:
        for column in (one for one in table.columns if SEALED_FOR in one.info):
            for row in connection.execute(select(table).where(func.length(column) > 0)).mappings().all():
                purpose = column.info[SEALED_FOR].format(**row)
                this = [key == row[key.name] for key in table.primary_key]
                with suppress(OperatorFault):
                    sealed = after.seal(before.open(row[column.name], purpose), purpose)
                    count += connection.execute(update(table).where(*this).values({column.name: sealed})).rowcount
    return count
