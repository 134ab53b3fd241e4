"""Every version of the store is to the letter what it was when it was made: older stores and backups are in that form."""

from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import inspect

from ostiary.store import migrations
from ostiary.store.database import connect

KEPT = Path(__file__).with_name("versions")


def versions():
    config = Config()
    config.set_main_option("script_location", next(iter(migrations.__path__)))
    return sorted(script.revision for script in ScriptDirectory.from_config(config).walk_revisions())


def shape(connection):
    """Each column, constraint and index as one line."""
    about = inspect(connection)
    lines = set()
    for table in set(about.get_table_names()) - {"alembic_version"}:
        lines |= {f"{table}.{one['name']} {column(one)}" for one in about.get_columns(table)}
        primary = about.get_pk_constraint(table)
        lines.add(f"{table} primary {primary['name']}: {', '.join(primary['constrained_columns'])}")
        for one in about.get_foreign_keys(table):
            to = f"{one['referred_table']}({', '.join(one['referred_columns'])})"
            lines.add(f"{table} foreign {one['name']}: {', '.join(one['constrained_columns'])} to {to}")
        for one in about.get_unique_constraints(table):
            lines.add(f"{table} unique {one['name']}: {', '.join(one['column_names'])}")
        for one in about.get_indexes(table):
            lines.add(f"{table} index {one['name']}: {', '.join(one['column_names'])}{' unique' * bool(one['unique'])}")
    return lines


def column(told):
    default = "" if told["default"] is None else f" default {told['default']}"
    counted = " counted" if told.get("autoincrement") is True else ""
    return f"{told['type']}{' or null' * told['nullable']}{default}{counted}"


def told(kind, folder):
    """What each version adds to the one before, and what it takes away."""
    engine, before = connect(folder), set()
    for version in versions():
        with engine.execution_options(writes=True).begin() as connection:
            migrations.upgrade(connection, version)
            now = shape(connection)
        yield f"{kind} {version}"
        yield from (f"- {line}" for line in sorted(before - now))
        yield from (f"+ {line}" for line in sorted(now - before))
        before = now
    engine.dispose()


def test_every_version_is_what_it_was(databases, database_kind):
    with databases.one(database_kind, empty=True) as url:
        found = list(told(database_kind, url))
    assert found == (KEPT / f"{database_kind}.txt").read_text("utf-8").splitlines()


@pytest.mark.parametrize("version", versions())
def test_a_store_of_any_version_is_brought_to_this_one(databases, database_kind, version):
    with databases.one(database_kind, empty=True) as stepwise, databases.one(database_kind, empty=True) as whole:
        shapes = []
        for url, steps in ((stepwise, [version, versions()[-1]]), (whole, [versions()[-1]])):
            engine = connect(url)
            with engine.execution_options(writes=True).begin() as connection:
                for step in steps:
                    migrations.upgrade(connection, step)
                shapes.append(shape(connection))
            engine.dispose()
    assert shapes[0] == shapes[1]
