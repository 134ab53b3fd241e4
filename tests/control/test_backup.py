"""A backup of a running installation, restored into an empty folder, is that installation."""

import stat
from contextlib import closing
from datetime import UTC, datetime

import msgspec
import pytest
from sqlalchemy import delete, insert, inspect, select

from ostiary.cli.demo.stand import free_port
from ostiary.control.documents import read_policy
from ostiary.control.evidence import back_up, restore_from
from ostiary.control.installation import opened
from ostiary.control.prepare import initialise
from ostiary.event.tail import Cursor
from ostiary.foundation.errors import OperatorFault
from ostiary.foundation.home import Home
from ostiary.monitor.rules import State, Tries
from ostiary.monitor.watch import Memory
from ostiary.store import backup
from ostiary.store.database import connect, open_store
from ostiary.store.tables import AUDIT_LEAF, WATCH_STATE
from running import RUNNING, SPEC, installed

pytestmark = RUNNING
AT = datetime(2026, 3, 3, tzinfo=UTC)


@pytest.fixture
def saved(site, tmp_path):
    """The file that the command wrote while all was running."""
    file = tmp_path / "saved"
    done = site.ostiary("backup", str(file))
    assert done.code == 0, done.err
    return file


def test_it_is_private_and_never_written_over(site, saved):
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600
    again = site.ostiary("backup", str(saved))
    assert (again.code, "[backup-exists]" in again.err) == (2, True)


def test_restored_it_verifies_starts_and_knows_what_the_first_one_knew(site, saved):
    site.client("kept", "clerk")
    site.apply(site.policy(("stock: read", "invoice: read")), reason="before the backup")
    revision = (site.home.plans / "current").read_text()
    saved.unlink()
    site.ostiary("backup", str(saved))
    known = {one["id"] for one in site.ask("alert.list")}
    with installed() as other:
        other.home = Home(root=other.root / "restored")
        done = site.ostiary("restore", str(saved), "--home", str(other.home.root))
        assert done.code == 0, done.err
        assert "ostiary up" in done.out
        assert "without the events" in done.out
        assert f"token rotate --compromised --home {other.home.root}" in done.out
        verified = site.ostiary("audit", "verify", "--home", str(other.home.root))
        assert (verified.code, "holds" in verified.out) == (0, True)
        other.port = free_port()
        text = other.home.settings.read_text().replace(f"port = {site.port}\n", f"port = {other.port}\n", 1)
        kept = [line for line in text.splitlines() if not line.startswith(("metrics_port", "webhook"))]
        other.home.settings.write_text("\n".join(kept) + "\n")
        other.begin()
        other.wait_until_up(without=["watch"])  # which tells of alerts that are open there, too
        assert [one for one in other.ask("alert.list") if one["id"] not in known] == []
        other.secrets = site.secrets
        assert other.once("GET", "/shop/invoices", token=other.fresh("kept")).status == 200
        assert (other.home.plans / "current").read_text() == revision
        entry = other.ask("audit.list", action="policy.apply", limit=1)[0]
        assert entry["reason"] == "before the backup"


def test_a_folder_that_holds_something_is_not_restored_into(site, saved, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter").write_text("mine")
    done = site.ostiary("restore", str(saved), "--home", str(tmp_path / "home"))
    assert (done.code, "[home-not-empty]" in done.err) == (2, True)
    assert (tmp_path / "home" / "letter").read_text() == "mine"


def test_a_damaged_backup_is_refused_and_leaves_nothing(site, saved, tmp_path):
    saved.write_bytes(saved.read_bytes().replace(b"first start", b"first theft"))
    done = site.ostiary("restore", str(saved), "--home", str(tmp_path / "home"))
    assert (done.code, "[backup-damaged]" in done.err) == (2, True)
    assert not (tmp_path / "home").exists() or not any((tmp_path / "home").iterdir())


def cut(home):
    """The last entry of the audit log is taken away."""
    with opened(home) as on, on.store.begin() as connection:
        connection.execute(delete(AUDIT_LEAF))


@pytest.fixture
def made(folder, chosen_url):
    home = Home(root=folder / "home")
    initialise(home, upstream="http://127.0.0.1:9", store=chosen_url)
    return home


def test_an_audit_log_that_does_not_hold_is_not_backed_up(made, tmp_path):
    cut(made)
    with pytest.raises(OperatorFault, match="audit log does not hold"):
        back_up(made, tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


NAMING = """policy: acme
include: [roles/*.yaml, extra.yaml]
systems: {shop: {kind: openapi, at: localhost/shop, upstream: "http://127.0.0.1:9", spec: shop.yaml}}
"""
NAMED = {
    "policy.yaml": NAMING, "shop.yaml": SPEC, "extra.yaml": "departments: {sales: {}}\n",
    "roles/clerk.yaml": 'roles: {clerk: {level: user, of: sales, may: ["shop/invoices: read"]}}\n',
}  # fmt: skip


def write(home, texts):
    for name, text in texts.items():
        (home.root / name).parent.mkdir(exist_ok=True)
        (home.root / name).write_text(text)


def test_all_files_that_the_policy_names_come_back(made, tmp_path):
    write(made, {**NAMED, "letter.yaml": "mine"})
    assert back_up(made, tmp_path / "saved")["warnings"] == []
    new = Home(root=tmp_path / "new")
    restore_from(new, tmp_path / "saved")
    assert {name: (new.root / name).read_text() for name in NAMED} == NAMED
    assert read_policy(new.policy) == msgspec.structs.replace(read_policy(made.policy), file=str(new.policy))
    assert not (new.root / "letter.yaml").exists()


@pytest.mark.parametrize(
    ("text", "why"),
    [(NAMING.replace("roles/*", "none"), "none.yaml"), (f"{NAMING}rolls: {{}}\n", "rolls"), (None, "can't be read")],
)
def test_a_policy_that_can_not_be_read_stops_no_backup_and_is_told(made, tmp_path, text, why):
    write(made, NAMED)
    made.policy.unlink() if text is None else made.policy.write_text(text)
    (warning,) = back_up(made, tmp_path / "saved")["warnings"]
    assert "may be missing" in warning
    assert why in warning
    restore_from(Home(root=tmp_path / "new"), tmp_path / "saved")


def test_nor_is_it_restored_and_nothing_is_left(made, tmp_path, databases, database_kind):
    cut(made)
    with opened(made) as on:
        backup.backup(made, on.store, tmp_path / "saved")
    with databases.one(database_kind, empty=True) as place:
        for url in ("", place):
            with pytest.raises(OperatorFault, match="audit log does not hold"):
                restore_from(Home(root=tmp_path / "new"), tmp_path / "saved", url)
            assert not list((tmp_path / "new").glob("*"))
        engine = connect(place)
        assert inspect(engine).get_table_names() == []
        engine.dispose()


def test_a_restored_watch_begins_anew_and_still_knows_what_is_usual(made, tmp_path):
    state = State(tries={"address:203.0.113.9": Tries(told=7)})
    memory = Memory(cursor=Cursor(inode=7, offset=8, written_ns=9), state=state)
    with opened(made) as on, on.store.begin() as connection:
        for name, value in (("tail", memory), ("alive", AT)):
            connection.execute(insert(WATCH_STATE).values(name=name, value=msgspec.json.encode(value)))
    back_up(made, tmp_path / "saved")
    new = Home(root=tmp_path / "new")
    restore_from(new, tmp_path / "saved")
    with closing(open_store(f"sqlite:///{new.database}")) as store, store.read() as connection:
        (row,) = connection.execute(select(WATCH_STATE)).all()
    assert msgspec.json.decode(row.value, type=Memory) == Memory(state=state)
