"""A store that does not open says so, and shows no password."""

import pytest
from sqlalchemy import inspect

from ostiary.foundation.errors import SystemFault
from ostiary.store.database import METADATA, open_store


def test_a_new_store_has_every_table(tmp_path):
    store = open_store(f"sqlite:///{tmp_path}/a.db")
    with store.read() as connection:
        assert set(inspect(connection).get_table_names()) == set(METADATA.tables)
    store.close()
    assert {"audit_leaf", "principal", "revision", "guard_history"} <= set(METADATA.tables)


def test_a_file_that_is_no_database_is_named(tmp_path):
    (tmp_path / "a.db").write_bytes(b"not a database" * 1000)
    with pytest.raises(SystemFault, match="not a database"):
        open_store(f"sqlite:///{tmp_path}/a.db")


def test_an_unreachable_server_is_named_without_its_password():
    with pytest.raises(SystemFault) as caught:
        open_store("postgresql+psycopg://me:hunter2-secret@127.0.0.1:1/none")
    assert "127.0.0.1" in str(caught.value)
    assert "hunter2" not in str(caught.value)
