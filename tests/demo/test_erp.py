"""The demo's ERP is a real one: built once, copied, served, stopped."""

import json
import signal
import stat
import threading

import pytest

from ostiary.cli.demo import stand
from ostiary.cli.demo.stand import USERS, prepare, running, serving
from ostiary.foundation.errors import SystemFault
from real_tryton import ErpError, begin, end, template

pytestmark = pytest.mark.xdist_group("tryton")


def test_it_answers_and_knows_its_users(tryton):
    rows = tryton.call("admin", "model.res.user.search_read", [], 0, None, None, ["login"])
    assert {row["login"]: row["id"] for row in rows} == dict(tryton.erp.uids)
    assert set(tryton.erp.uids) == {"admin", "clerk", "buyer", "payer", "approver", "treasurer", "acct", "gateway"}
    assert len(tryton.call("clerk", "model.party.party.search", [])) >= 5


def test_a_second_preparation_builds_nothing(tmp_path):
    said = []
    assert prepare(template().parent, said.append) == template()
    assert said == []


def test_two_servers_on_one_template_do_not_share_records(tryton, tmp_path):
    other = begin(tmp_path / "erp")
    try:
        made = other.call("admin", "model.party.party.create", [{"name": "Only here"}])
        assert tryton.select("select count(*) from party_party where name = 'Only here'") == [(0,)]
        assert other.select("select id from party_party where name = 'Only here'") == [(made[0],)]
    finally:
        end(other)
    assert other.erp.process.returncode is not None


def test_it_listens_on_loopback_only_and_its_files_are_private(tryton):
    assert tryton.erp.url.startswith("http://127.0.0.1:")
    assert stat.S_IMODE((template() / USERS).stat().st_mode) == 0o600
    assert stat.S_IMODE(tryton.erp.folder.stat().st_mode) == 0o700


def test_a_taken_port_is_a_clear_fault(tryton, tmp_path):
    port = int(tryton.erp.url.rpartition(":")[2])
    with pytest.raises(SystemFault, match=f"port {port}"), serving(template(), tmp_path, port):
        pass


def test_ctrl_c_between_the_start_of_a_process_and_our_knowing_it_ends_it_too(monkeypatch):
    begun, start = [], stand.program

    def interrupted(*command, **more):
        begun.append(start(*command, **more))
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)  # the workers of these tests have other threads
        return begun[0]

    monkeypatch.setattr(stand, "program", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), running(["sleep", "60"]):
            pass
    finally:
        signal.signal(signal.SIGINT, before)
    assert begun[0].returncode == -signal.SIGTERM


def test_a_wrong_password_does_not_come_in(tryton):
    with pytest.raises(ErpError, match="401"):
        tryton.post("common.db.login", "admin", {"password": "guess"}, "en")


def test_no_password_is_in_a_log_or_a_repr(tryton):
    passwords = [user["password"] for user in json.loads((template() / USERS).read_bytes()).values()]
    told = repr(tryton.erp) + (tryton.erp.folder / "server.log").read_text()
    assert not any(password in told for password in passwords)


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("model.party.party.write", [[1], {"name": "x"}]),
        ("model.res.user.write", [[1], {"name": "x"}]),
        ("model.account.payment.create", [[{}]]),
        ("model.res.user.application.search", [[]]),
    ],
)
def test_the_gates_own_user_changes_nothing_and_sees_no_key(tryton, method, params):
    with pytest.raises(ErpError, match="not allowed"):
        tryton.call("gateway", method, *params)


def test_the_gates_own_user_sees_no_password(tryton):
    (row,) = tryton.call("gateway", "model.res.user.read", [1], ["password", "password_hash", "login"])
    assert (row["password"].strip("x"), row["password_hash"], row["login"]) == ("", None, "admin")
