"""A backup of a running installation, restored into an empty folder, is that installation."""

import stat

import pytest

from ostiary.cli.demo.stand import free_port
from ostiary.foundation.home import Home
from running import RUNNING, installed

pytestmark = RUNNING


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
    with installed() as other:
        other.home = Home(root=other.root / "restored")
        done = site.ostiary("restore", str(saved), "--home", str(other.home.root))
        assert done.code == 0, done.err
        assert "ostiary up" in done.out
        verified = site.ostiary("audit", "verify", "--home", str(other.home.root))
        assert (verified.code, "holds" in verified.out) == (0, True)
        other.port = free_port()
        text = other.home.settings.read_text().replace(f"port = {site.port}\n", f"port = {other.port}\n", 1)
        kept = [line for line in text.splitlines() if not line.startswith(("metrics_port", "webhook"))]
        other.home.settings.write_text("\n".join(kept) + "\n")
        other.begin()
        other.wait_until_up(without=["watch"])
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
