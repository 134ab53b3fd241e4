"""What `status` says of one part: in order, or what is wrong and what to do."""

import json
import re
import socket
import sqlite3
from datetime import UTC, date, datetime
from types import SimpleNamespace

import msgspec
import pytest
from click.testing import CliRunner
from sqlalchemy import delete
from sqlalchemy.exc import OperationalError

from guard_world import small_catalogue
from ostiary.audit.log import Change
from ostiary.cli.main import cli
from ostiary.control.board import Board
from ostiary.control.health import _from_inside, applied, as_started, examine, lasting, looked, quiet
from ostiary.control.installation import administrators, open_installation, opened
from ostiary.control.prepare import initialise
from ostiary.control.revisions import Kind, Proposal, State, note_act, propose
from ostiary.foundation.errors import SystemFault
from ostiary.foundation.home import Home
from ostiary.monitor.alerts import fire
from ostiary.monitor.rules import Finding
from ostiary.plan.model import Limit, Limits, Plan
from ostiary.store.plans import plan_in_force
from ostiary.store.tables import AUDIT_LEAF
from ostiary.tls import authority
from policy.compiled import plan_of
from running import AS_ROOT, RUNNING, SECOND
from upstream import Echo, UnixServer

LIMIT = Limit(name="default", requests=1, seconds=1)


def test_a_store_that_knows_no_policy_is_told_with_the_way_to_another_database(store):
    plan = Plan(policy="p", systems=(), roles=(), grants=(), limits=Limits(anonymous=LIMIT, default=LIMIT))
    with pytest.raises(SystemFault, match="not the one") as problem:
        applied(store, plan)
    assert "restore --store" in problem.value.hint


@pytest.fixture
def home(folder, chosen_url):
    made = Home(root=folder / "home")
    initialise(made, upstream="http://127.0.0.1:9", store=chosen_url)
    return made


def found(home, name):
    (one,) = [one for one in examine(home) if one["check"] == name]
    return one


@pytest.mark.parametrize("name", ["geoip_database", "upstream_authorities", "breached_passwords"])
def test_a_file_that_the_settings_name_and_nobody_can_use_is_told_before_a_start_fails_by_it(home, name):
    assert found(home, "settings")["text"] == "what they name can be used"
    with home.settings.open("a") as file:
        file.write(f'\n{name} = "nope"\n')
    told = found(home, "settings")
    assert not told["ok"]
    assert "nope" in told["text"]


@pytest.mark.parametrize("without_head", [False, True])
def test_an_audit_log_that_was_cut_is_told_by_doctor_and_status(home, without_head):
    on = open_installation(home)
    try:
        board = Board(
            on=on,
            gate=None,
            reconciler=SimpleNamespace(plan=plan_in_force(home)),
            watch=None,
            outbox=None,
            administrators=administrators(home, on.settings),
        )
        assert found(home, "audit log")["ok"]
        assert part(board, "audit log")["ok"]
        with on.store.begin() as connection:
            connection.execute(delete(AUDIT_LEAF))
        if without_head:
            home.audit_head.unlink()
        told = found(home, "audit log")
        assert (told["ok"], "restore" in told["hint"]) == (False, True)
        assert not part(board, "audit log")["ok"]
    finally:
        on.store.close()


def test_settings_that_wait_for_a_restart_are_a_note(home):
    with opened(home) as on:
        assert not looked("settings", lambda: as_started(on))["note"]
        home.settings.write_text(home.settings.read_text() + "token_life_s = 1800\n")
        told = looked("settings", lambda: as_started(on))
    assert (told["ok"], told["note"]) == (True, True)
    assert "end `ostiary up` and start it again" in told["text"]


def part(board, name):
    return next(looked(name, check) for one, check in _from_inside(board) if one == name)


def test_what_status_can_not_look_at_is_told_in_words_and_without_the_statement():
    def gone():
        raise FileNotFoundError(2, "No such file or directory")

    def locked():
        raise OperationalError("SELECT secret", {}, sqlite3.OperationalError("database is locked"))

    assert looked("disk", gone)["text"] == "it can't be looked at: no such file or directory"
    assert looked("policy", locked)["text"] == "it can't be looked at: database is locked"


def test_a_system_that_nobody_asked_yet_what_it_offers_is_told_by_doctor_too(folder):
    home = Home(root=folder / "home")
    with socket.create_server(("127.0.0.1", 0)) as erp:
        initialise(home, upstream=f"http://127.0.0.1:{erp.getsockname()[1]}")
        told = found(home, "erp")
        assert (told["ok"], told["hint"]) == (False, "`ostiary system account erp --login LOGIN`")
        home.catalogue("erp").parent.mkdir(exist_ok=True)
        home.catalogue("erp").write_text('{"models": {"party.party": {"name": ["char", ""]}}, "methods": {}}')
        told = found(home, "erp")
        assert (told["ok"], told["hint"]) == (False, "`ostiary system learn erp`")
        assert "which of its fields write others was not learned" in told["text"]
        home.catalogue("erp").write_bytes(msgspec.json.encode(small_catalogue()))
        assert found(home, "erp")["ok"]


def test_a_system_that_does_not_let_the_gate_in_is_told_by_doctor_too(folder):
    home = Home(root=folder / "home")
    answer = json.dumps({"result": {"troubles": {"erp": "it does not let gateway in"}}})
    with socket.create_server(("127.0.0.1", 0)) as erp:
        initialise(home, upstream=f"http://127.0.0.1:{erp.getsockname()[1]}")
        home.catalogue("erp").parent.mkdir(exist_ok=True)
        home.catalogue("erp").write_text('{"models": {}, "methods": {}}')
        guard = UnixServer(str(home.socket("guard-control")), Echo).start(lambda _: (200, {}, answer))
        try:
            assert "does not let gateway in" in found(home, "erp")["text"]
        finally:
            guard.stop()


def test_open_alerts_and_a_missing_key_of_the_authority_are_told_by_doctor_too(home):
    authority.ensure(home, "localhost")
    assert found(home, "certificate")["ok"]
    assert found(home, "watch")["ok"]
    (home.keys / "ca.key").unlink()
    with opened(home) as on, on.store.begin() as connection:
        fire(connection, Finding(rule="audit-broken", key="audit", at=datetime.now(UTC), evidence={}))
    assert "ca.key is missing" in found(home, "certificate")["text"]
    assert found(home, "watch")["hint"] == "see `ostiary alert list`"


def test_an_emergency_hides_no_other_alert_and_neither_that_nobody_outside_is_told(store):
    at, untold = datetime.now(UTC), "https://alerts.example does not take alerts (status 500)"
    assert (looked("watch", lambda: quiet(store))["text"], quiet(store, untold)) == ("no alert", f"no alert; {untold}")
    assert looked("watch", lambda: quiet(store, untold))["note"]
    content = {"principal": "client:shop", "role": "clerk", "minutes": 5}
    with store.begin() as connection:
        change = Change(connection, "uid:0", at)
        asked = Proposal(kind=Kind.BREAK_GLASS, actor="uid:0", reason="fire", at=at, content=content)
        note_act(change, propose(change, asked), "begin", state=State.BEGUN, until_s=2_000_000_000)
        for rule, key in (("break-glass", "client:shop"), ("audit-broken", "audit")):
            fire(connection, Finding(rule=rule, key=key, at=at, evidence={}))
    told = looked("watch", lambda: quiet(store, untold))
    assert told["text"].startswith("client:shop has role clerk until 2033-05-18")
    assert told["text"].endswith(f"fire; 1 alert open; {untold}")
    assert told["hint"] == "see `ostiary break-glass list` and `ostiary alert list`"


@RUNNING
def test_a_policy_file_that_is_not_in_force_is_told_with_what_to_do(site):
    same, part = site.home.policy.read_text(), site.home.root / "part.yaml"
    assert "policy.yaml is what is in force" in policy(site)
    assert "differs" not in policy(site)
    try:
        site.home.policy.write_text(same + "# to be reviewed\n")
        assert "differs" in policy(site)
        assert "ostiary policy apply" in policy(site)
        assert "policy.yaml differs" in site.ostiary("doctor").out
        shown = site.ostiary("status")
        assert re.search("^note +policy file +policy.yaml differs", shown.out, re.MULTILINE)
        taken, number = site.root / "taken", site.ostiary("policy", "list", "--json").json[0]["number"]
        undone = site.ostiary("policy", "restore", str(number), "--reason", "as it was").out
        assert "note: policy.yaml differs from what is in force: " in undone
        assert "note: to put policy.yaml in force as it is would undo this" in undone
        assert f" policy show --out FOLDER --home {site.home.root}` writes what is in force" in undone
        assert site.ostiary("policy", "show", "--out", str(taken)).code == 0
        assert site.ostiary("policy", "show", "--out", str(taken)).code == 2
        assert (taken / "policy.yaml").read_text() == site.policy()
        assert site.ostiary("policy", "check", str(taken / "policy.yaml")).code == 0
        site.apply(site.home.policy.read_text())
        assert "differs" not in policy(site)
        part.write_text("departments: {more: {}}\n")
        site.home.policy.write_text(same + "include: part.yaml\n")
        assert site.ostiary("policy", "apply").code == 0
        assert "differs" not in policy(site)
        part.write_text("departments: {less: {}}\n")
        assert "differs" in policy(site)
        part.unlink()
        assert "part.yaml" in policy(site, ok=False)
    finally:
        part.unlink(missing_ok=True)
        site.home.policy.write_text(same)
        site.apply(same)


@RUNNING
@pytest.mark.parametrize(
    ("before", "after", "told"),
    [("policy: test", "policy: test\nrolls: {}", "rolls"), ("specs/", "specs/no-", "specs/no-"), ("policy: ", "policy: [", "policy.yaml")],
)  # fmt: skip
def test_a_policy_file_that_could_not_be_applied_is_not_ok(site, before, after, told):
    same = site.home.policy.read_text()
    try:
        site.home.policy.write_text(same.replace(before, after))
        assert told in policy(site, ok=False)
        assert site.ostiary("status").code == 1
        assert "NOT OK  policy file" in site.ostiary("doctor").out
    finally:
        site.home.policy.write_text(same)


@RUNNING
@AS_ROOT
def test_where_others_must_say_yes_a_policy_file_is_proposed(site):
    same = site.home.policy.read_text()
    site.apply(site.policy(("limits:", "approvals: {policy: 1}\n\nlimits:")))
    try:
        assert "`ostiary policy propose`, once others say yes, puts it in force" in policy(site)
        assert "apply" not in policy(site)
    finally:
        made = site.ask("policy.propose", **site.document(same), reason="back")
        site.ask_as(SECOND, "policy.approve", proposal=made["proposal"])


def test_what_is_wrong_with_the_settings_is_told_line_by_line(home):
    home.settings.write_text("prot = 8443\nhots = 'x'\n")
    done = CliRunner().invoke(cli, ["doctor", "--home", str(home.root)])
    assert "is wrong: prot: there is no such setting; is port meant?\n            hots: " in done.output
    assert "\ufffd" not in done.output


def policy(site, *, ok=True):
    (part,) = [part for part in site.ask("status")["parts"] if part["name"] == "policy file"]
    assert part["ok"] is ok
    assert part["note"] is (ok and "differs" in part["text"])
    return part["text"]


def test_a_control_that_has_ended_is_a_fault_from_the_day_after_its_last():
    plan = plan_of(
        'apart: [{id: A-1, name: n, permissions: ["erp/a: write", "erp/b: execute"]}]\n'
        "controls: [{rules: A-1, roles: clerk, what: w, owner: o, reason: r, until: 2026-03-31}]\n"
        "roles: {clerk: {level: system}}\n"
    )
    assert lasting(plan, date(2026, 3, 31)) == "1 control in place of a rule"
    with pytest.raises(SystemFault, match=r"the control of acme.yaml:[0-9]+ ended on 2026-03-31"):
        lasting(plan, date(2026, 4, 1))
