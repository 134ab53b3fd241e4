"""A backup comes back as it was, or not at all."""

import io
import tarfile
from datetime import UTC, datetime

import pytest
from sqlalchemy import select

from ostiary.audit.head import sign_head, verify
from ostiary.audit.log import Entry, append
from ostiary.foundation.errors import OperatorFault
from ostiary.foundation.home import Home
from ostiary.store.backup import backup, restore
from ostiary.store.database import open_store
from ostiary.store.tables.audit import AUDIT_LEAF

AT = datetime(2026, 3, 3, tzinfo=UTC)


@pytest.fixture
def home(tmp_path):
    made = Home(root=tmp_path / "home")
    made.create()
    made.policy.write_text("policy: acme\n")
    return made


@pytest.fixture
def file(home, tmp_path):
    store = open_store(f"sqlite:///{home.database}")
    for number in range(5):
        with store.begin() as connection:
            append(connection, Entry(at=AT, actor="uid:0", action="test", object=str(number)))
    sign_head(store, home, AT)
    backup(home, store, tmp_path / "all.tar")
    store.close()
    return tmp_path / "all.tar"


def test_everything_comes_back_and_the_audit_log_holds(file, tmp_path):
    assert file.stat().st_mode & 0o777 == 0o600
    new = Home(root=tmp_path / "new")
    store = restore(file, new)
    assert new.policy.read_text() == "policy: acme\n"
    assert verify(store, new).size == 5
    with store.read() as connection:
        assert len(connection.execute(select(AUDIT_LEAF)).all()) == 5
    assert (new.keys / "audit.key").stat().st_mode & 0o777 == 0o600
    store.close()


def test_a_home_in_use_is_not_overwritten(file, home):
    with pytest.raises(OperatorFault, match="not empty"):
        restore(file, home)


def test_a_changed_byte_is_found_before_anything_is_written(file, tmp_path):
    file.write_bytes(file.read_bytes().replace(b"policy: acme", b"policy: evil"))
    with pytest.raises(OperatorFault, match="manifest"):
        restore(file, Home(root=tmp_path / "new"))
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["../escape", "keys/../../escape", "/etc/escape", "unknown"])
def test_a_name_that_leads_outside_is_refused(file, tmp_path, name):
    with tarfile.open(file, "a") as tar:
        tar.addfile(tarfile.TarInfo(name), io.BytesIO(b""))
    with pytest.raises(OperatorFault, match="not a backup"):
        restore(file, Home(root=tmp_path / "new"))


def test_a_link_is_refused(file, tmp_path):
    link = tarfile.TarInfo("keys/link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with tarfile.open(file, "a") as tar:
        tar.addfile(link)
    with pytest.raises(OperatorFault, match="not a backup"):
        restore(file, Home(root=tmp_path / "new"))


def test_an_existing_file_is_not_overwritten(file, home):
    store = open_store(f"sqlite:///{home.database}")
    with pytest.raises(OperatorFault, match="exists already"):
        backup(home, store, file)
    store.close()
