"""One file with everything an installation is: rows, keys, policy, settings, plans and the audit log's signed head.

It holds the keys, so whoever has the file has the installation: it is written 0600 and belongs in a safe place.
"""

import base64
import hashlib
import io
import json
import os
import re
import shutil
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import Any, Final

from sqlalchemy import Connection, LargeBinary, MetaData, Table, func, insert, inspect, select

import ostiary.store.tables  # noqa: F401 - registers every table
from ostiary.foundation.errors import OperatorFault
from ostiary.foundation.home import PRIVATE, Home, write_atomically
from ostiary.store.database import METADATA, VERSION, Store, clearly, connect, open_store

FORMAT: Final = "ostiary-backup/1"
MANIFEST: Final = "manifest.json"
ROWS: Final = "rows.jsonl"  # one line for each row: portable between SQLite and PostgreSQL
KEPT: Final = ("settings.toml", "policy.yaml", "specs", "keys", "plans", "audit", "catalogue")
BYTES_MAX: Final = 8 << 30  # of all parts together: they are held in memory
FILES_MAX: Final = 10_000
BATCH_ROWS: Final = 1_000

Finish = Callable[[Connection], object]


def backup(home: Home, store: Store, out: Path, named: Iterable[str] = ()) -> None:
    """Writes `out` (0600), which must not exist yet, with the files `named` too; the rows are those of one moment."""
    paths = (*_files(home), *(home.root / name for name in named))
    parts = {os.path.relpath(path, home.root): path.read_bytes() for path in paths}
    with store.read() as connection:
        parts[ROWS] = b"".join(_rows(connection))
    manifest = {"format": FORMAT, "version": VERSION, "parts": {name: _digest(data) for name, data in parts.items()}}
    parts = {MANIFEST: json.dumps(manifest).encode(), **parts}
    _refuse_too_large(parts)
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as tar:
        for name, data in parts.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), PRIVATE
            tar.addfile(member, io.BytesIO(data))
    if out.exists():
        raise OperatorFault("backup-exists", f"{out} exists already", hint="choose another name")
    write_atomically(out, whole.getvalue(), durable=True)


def restore(file: Path, home: Home, url: str = "", *, finish: Finish = lambda _: None) -> Store:
    """Fills an empty home and an empty store (`url`; SQLite in the home where there is none) from a backup.

    Nothing is written before every part was held against the manifest, and nothing is left where it fails later, also
    in `finish`: it has the caller's last word, when all is there and nothing is committed.
    """
    if home.root.exists() and any(home.root.iterdir()):
        raise OperatorFault("home-not-empty", f"{home.root} is not empty", hint="restore into a new folder")
    version, parts = _checked(file)
    rows = parts.pop(ROWS)
    place = url or f"sqlite:///{home.database}"
    parts[home.settings.name] = _pointed(parts.get(home.settings.name, b""), url)
    try:
        _fill_home(home, parts)
        _fill_store(place, version, rows, finish)
        return open_store(place)
    except BaseException:
        _clear(home.root)  # or the next try would find it in use
        raise


def _fill_home(home: Home, parts: Mapping[str, bytes]) -> None:
    home.create()
    for name, data in parts.items():
        path = home.root / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(path, data, durable=True)


def _clear(folder: Path) -> None:
    for path in folder.glob("*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _fill_store(url: str, version: str, rows: bytes, finish: Finish) -> None:
    """All of it or nothing: the tables as they were at the backup's version, the rows, and then up to this version."""
    from ostiary.store.migrations import upgrade  # Alembic takes half a second to import

    engine = connect(url)
    with closing(Store(engine)) as store, clearly(engine), store.begin() as connection:
        if inspect(connection).get_table_names():
            raise OperatorFault("store-not-empty", "the store has tables already", hint="restore into an empty store")
        upgrade(connection, version)
        _fill(connection, rows)
        upgrade(connection)
        finish(connection)


def _refuse_too_large(parts: Mapping[str, bytes]) -> None:
    """What `restore` would not take."""
    size = sum(map(len, parts.values()))
    if size > BYTES_MAX or len(parts) > FILES_MAX:
        told = f"{len(parts)} parts of {size} bytes; a backup holds {FILES_MAX} and {BYTES_MAX}"
        hint = "keep the rows in PostgreSQL and use its own backup, beside a copy of the home"
        raise OperatorFault("backup-too-large", told, hint=hint)


def _pointed(settings: bytes, url: str) -> bytes:
    """The settings with `store` naming the store that was restored into; without `url`, the one in the home."""
    kept = [line for line in settings.decode().splitlines() if not re.match(r"\s*store\s*=", line)]
    return "\n".join([*kept, *([f"store = {json.dumps(url)}"] if url else []), ""]).encode()


def _files(home: Home) -> Iterator[Path]:
    for name in KEPT:
        path = home.root / name
        found = sorted(path.rglob("*")) if path.is_dir() else [path]
        yield from (each for each in found if each.is_file() and not each.is_symlink())


def _rows(connection: Connection) -> Iterator[bytes]:
    for table in METADATA.sorted_tables:
        for row in connection.execute(select(table)).mappings():
            yield json.dumps({"table": table.name, "row": dict(row)}, default=_text).encode() + b"\n"


def _fill(connection: Connection, rows: bytes) -> None:
    tables = MetaData()
    tables.reflect(connection)
    waiting: dict[str, list[dict[str, Any]]] = {}
    for line in rows.splitlines():
        record = json.loads(line)
        waiting.setdefault(record["table"], []).append(record["row"])
    for table in tables.sorted_tables:
        made = [_from_json(table, row) for row in waiting.get(table.name, [])]
        for at in range(0, len(made), BATCH_ROWS):
            connection.execute(insert(table), made[at : at + BATCH_ROWS])
        _continue_numbers(connection, table)


def _continue_numbers(connection: Connection, table: Table) -> None:
    """PostgreSQL counts numbers apart from the rows: the next one follows the last restored."""
    column = table.autoincrement_column
    if connection.dialect.name == "postgresql" and column is not None:
        last = select(func.coalesce(func.max(column), 0) + 1).scalar_subquery()
        sequence = func.pg_get_serial_sequence(table.name, column.name)
        connection.execute(select(func.setval(sequence, last, False)))


def _checked(file: Path) -> tuple[str, dict[str, bytes]]:
    """The version of the store, and every part."""
    try:
        with tarfile.open(file, mode="r:") as tar:
            parts = dict(_parts(tar))
        manifest = json.loads(parts.pop(MANIFEST))
        expected = manifest["parts"] if manifest["format"] == FORMAT else None
        version = str(manifest["version"])
    except (OSError, tarfile.TarError, KeyError, ValueError, TypeError) as problem:
        raise _damaged(file, "it is not a backup of this format") from problem
    if expected != {name: _digest(data) for name, data in parts.items()} or ROWS not in parts:
        raise _damaged(file, "its parts are not those its manifest lists")
    return version, parts


def _parts(tar: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
    """Each by its name; raises ValueError for one that no backup has."""
    seen, left = set[str](), BYTES_MAX
    for member in tar:
        path = PurePosixPath(member.name)
        inside = path.parts and not path.is_absolute() and ".." not in path.parts
        if not member.isreg() or not inside or member.name in seen or len(seen) >= FILES_MAX:
            raise ValueError(member.name)
        if (left := left - member.size) < 0:
            raise ValueError("too large")
        seen.add(member.name)
        file = tar.extractfile(member)
        yield member.name, b"" if file is None else file.read()


def _damaged(file: Path, why: str) -> OperatorFault:
    return OperatorFault("backup-damaged", f"{file} can't be restored: {why}", hint="take another backup file")


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _from_json(table: Table, row: dict[str, Any]) -> dict[str, Any]:
    binary = [column.name for column in table.columns if isinstance(column.type, LargeBinary)]
    return row | {name: base64.b64decode(row[name]) for name in binary if row[name] is not None}
