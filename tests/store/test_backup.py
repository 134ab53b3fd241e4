"""A backup comes back as it was, on either database, or not at all."""

import io
import json
import tarfile
from contextlib import closing
from datetime import UTC, datetime

import pytest
from sqlalchemy import insert, select

from databases import KINDS
from ostiary.audit.log import Change, Entry, append, sign_head, verify
from ostiary.foundation.errors import OperatorFault
from ostiary.foundation.home import Home, load_settings
from ostiary.identity import keys, principals, registration
from ostiary.store import backup as module
from ostiary.store.backup import backup, restore
from ostiary.store.database import METADATA, load_sealer, open_store
from ostiary.store.tables import ALERT, GUARD_HISTORY, REVISION, WATCH_STATE

AT = datetime(2026, 3, 3, tzinfo=UTC)
HISTORY = {"system": "erp", "object": "o", "permission": "p", "person": "user:anna", "at_us": 1 << 50}
ALERT_ROW = {
    "id": "al-1", "rule": "r", "key": "k", "open_key": None, "severity": "low", "state": "resolved", "first_us": 1,
    "last_us": 2, "count": 3, "evidence": "{}", "actor": "", "note": "ümläut \U0001f511",
}  # fmt: skip
REVISION_ROW = {
    "revision": "r",
    "file": "p.yaml",
    "text": "policy: acme\n",
    "plan": "{}",
    "actor": "uid:0",
    "reason": "",
}


@pytest.fixture
def home(tmp_path):
    made = Home(root=tmp_path / "home")
    made.create()
    made.policy.write_text("policy: acme\n")
    made.settings.write_text('port = 9000\nstore = "elsewhere"\nhost = "a.example"\n')
    return made


def fill(store, home):
    """Something in most tables, of every kind of column."""
    sealer = load_sealer(home.keys / "master.key", make=True)
    with store.begin() as connection:
        change = Change(connection, "uid:0", AT)
        keys.ensure(connection, sealer, AT)
        principals.add_user(change, login="anna", hashed="hash", roles=["clerk"])
        registration.add_client(change, sealer=sealer, client_id="shop", scopes=["erp/sale.*:read"])
        principals.disable(change, principal="client:shop")
        connection.execute(insert(GUARD_HISTORY), [{**HISTORY, "record": str(n)} for n in range(3)])
        connection.execute(insert(ALERT).values(ALERT_ROW))
        connection.execute(insert(WATCH_STATE).values(name="tail", value=bytes(range(256))))
        connection.execute(insert(REVISION).values(**REVISION_ROW, at_us=1 << 50))
    sign_head(store, home, AT)


def everything(store):
    with store.read() as connection:
        return {
            table.name: sorted(map(tuple, connection.execute(select(table)).all()), key=str)
            for table in METADATA.sorted_tables
        }


def backed_up(store, home, file):
    fill(store, home)
    backup(home, store, file)
    return file


@pytest.fixture
def file(store, home, tmp_path):
    """A backup of a store on either database."""
    return backed_up(store, home, tmp_path / "all.tar")


@pytest.fixture
def one_file(databases, home, tmp_path):
    """A backup, for tests of the file alone."""
    with databases.one("sqlite") as url, closing(open_store(url)) as store:
        return backed_up(store, home, tmp_path / "all.tar")


@pytest.mark.parametrize("into", KINDS)
def test_everything_comes_back_on_either_database_and_the_audit_log_holds(file, store, databases, into, tmp_path):
    before = everything(store)
    assert sum(map(bool, before.values())) > 10
    new = Home(root=tmp_path / "new")
    with databases.one(into, empty=True) as url:
        restored = restore(file, new, url)
        assert everything(restored) == before
        assert verify(restored, new).size == len(before["audit_leaf"])
        assert load_settings(new.settings).store == url
        assert load_settings(new.settings).host == "a.example"
        with restored.begin() as connection:  # numbers go on after the last restored
            assert connection.execute(insert(GUARD_HISTORY).values(**HISTORY, record="x")).inserted_primary_key == (4,)
            append(connection, Entry(at=AT, actor="uid:0", action="test", object="after"))
        sign_head(restored, new, AT)
        restored.close()


def test_without_a_place_it_is_restored_into_the_home(file, tmp_path):
    assert file.stat().st_mode & 0o777 == 0o600
    new = Home(root=tmp_path / "new")
    restore(file, new).close()
    assert new.database.exists()
    assert new.policy.read_text() == "policy: acme\n"
    assert load_settings(new.settings).store == ""
    assert load_settings(new.settings).port == 9000
    assert (new.keys / "audit.key").stat().st_mode & 0o777 == 0o600


def test_a_store_with_anything_in_it_is_left_alone(file, store, database_url, tmp_path):
    before = everything(store)
    with pytest.raises(OperatorFault, match="tables already"):
        restore(file, Home(root=tmp_path / "new"), database_url)
    assert everything(store) == before


def test_a_restore_that_fails_leaves_an_empty_database(file, databases, database_kind, tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError

    with databases.one(database_kind, empty=True) as url:
        with monkeypatch.context() as patched:
            patched.setattr(module, "_continue_numbers", fail)
            with pytest.raises(RuntimeError):
                restore(file, Home(root=tmp_path / "new"), url)
        restore(file, Home(root=tmp_path / "new"), url).close()


@pytest.mark.parametrize("broken", ["_continue_numbers", "open_store", "write_atomically"])
def test_a_restore_that_fails_leaves_an_empty_home(one_file, tmp_path, monkeypatch, broken):
    new = Home(root=tmp_path / "new")

    def fail(*_, **__):
        raise OSError("no room")

    with monkeypatch.context() as patched:
        patched.setattr(module, broken, fail)
        with pytest.raises(OSError, match="no room"):
            restore(one_file, new)
    assert list(new.root.iterdir()) == []
    restore(one_file, new).close()


def test_a_home_in_use_is_not_overwritten(one_file, home):
    with pytest.raises(OperatorFault, match="not empty"):
        restore(one_file, home)


def test_a_changed_byte_is_found_before_anything_is_written(one_file, tmp_path):
    one_file.write_bytes(one_file.read_bytes().replace(b"policy: acme", b"policy: evil"))
    with pytest.raises(OperatorFault, match="manifest"):
        restore(one_file, Home(root=tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def repacked(file, **changed):
    """The same parts under another manifest."""
    with tarfile.open(file) as tar:
        parts = {member.name: tar.extractfile(member).read() for member in tar}
    parts["manifest.json"] = json.dumps({**json.loads(parts["manifest.json"]), **changed}).encode()
    with tarfile.open(file, "w") as tar:
        for name, data in parts.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def test_a_backup_of_a_newer_ostiary_is_refused(one_file, tmp_path):
    repacked(one_file, version="9999")
    with pytest.raises(OperatorFault, match="newer Ostiary"):
        restore(one_file, Home(root=tmp_path / "new"))


@pytest.mark.parametrize("changed", [{"format": "other/1"}, {"parts": []}, {"parts": {}}])
def test_another_manifest_is_refused(one_file, tmp_path, changed):
    repacked(one_file, **changed)
    with pytest.raises(OperatorFault, match="can't be restored"):
        restore(one_file, Home(root=tmp_path / "new"))


@pytest.mark.parametrize("name", ["../escape", "keys/../../escape", "/etc/escape", "unknown"])
def test_a_name_that_leads_outside_is_refused(one_file, tmp_path, name):
    with tarfile.open(one_file, "a") as tar:
        tar.addfile(tarfile.TarInfo(name), io.BytesIO(b""))
    with pytest.raises(OperatorFault, match="can't be restored"):
        restore(one_file, Home(root=tmp_path / "new"))
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "escape").exists()


def test_what_would_not_fit_in_memory_is_refused_unread(one_file, tmp_path, monkeypatch):
    with tarfile.open(one_file) as tar:
        large = sum(member.size for member in tar)
    monkeypatch.setattr(module, "BYTES_MAX", large - 1)
    with pytest.raises(OperatorFault, match="can't be restored"):
        restore(one_file, Home(root=tmp_path / "new"))
    monkeypatch.setattr(module, "BYTES_MAX", large)
    restore(one_file, Home(root=tmp_path / "new")).close()


@pytest.mark.parametrize("limit", ["BYTES_MAX", "FILES_MAX"])
def test_what_could_not_be_restored_is_not_backed_up(home, tmp_path, monkeypatch, limit):
    with closing(open_store(f"sqlite:///{home.database}")) as store:
        fill(store, home)
        backup(home, store, tmp_path / "sized.tar")
        with tarfile.open(tmp_path / "sized.tar") as tar:
            sizes = [member.size for member in tar]
        holds = {"FILES_MAX": len(sizes), "BYTES_MAX": sum(sizes)}[limit]
        monkeypatch.setattr(module, limit, holds - 1)
        with pytest.raises(OperatorFault, match="a backup holds"):
            backup(home, store, tmp_path / "again.tar")
        assert not (tmp_path / "again.tar").exists()
        monkeypatch.setattr(module, limit, holds)
        backup(home, store, tmp_path / "again.tar")
    restore(tmp_path / "again.tar", Home(root=tmp_path / "new")).close()


def test_a_link_is_refused(one_file, tmp_path):
    link = tarfile.TarInfo("keys/link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with tarfile.open(one_file, "a") as tar:
        tar.addfile(link)
    with pytest.raises(OperatorFault, match="not a backup"):
        restore(one_file, Home(root=tmp_path / "new"))


def test_a_file_that_is_no_backup_is_refused(tmp_path):
    (tmp_path / "x").write_bytes(b"x" * 10_000)
    for path in (tmp_path / "x", tmp_path / "missing", tmp_path):
        with pytest.raises(OperatorFault, match="not a backup"):
            restore(path, Home(root=tmp_path / "new"))


def test_an_existing_file_is_not_overwritten(file, home, store):
    with pytest.raises(OperatorFault, match="exists already"):
        backup(home, store, file)
