"""Who may operate an installation, and whose yes counts: named users of the machine, told apart by the kernel."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from ostiary.control.installation import administrators
from ostiary.foundation.errors import CallerFault, OperatorFault
from ostiary.foundation.home import Home, Settings
from running import AS_ROOT, RUNNING, SECOND, THIRD, installed, until

STRANGER = 65_532


def named(tmp_path, *users):
    return administrators(Home(root=tmp_path), Settings(administrators=users))


def test_where_nobody_is_named_owner_and_root_are_the_administrators(tmp_path):
    who = named(tmp_path)
    assert who.approvers == {"uid:0", f"uid:{os.getuid()}"}
    who.refuse_other("uid:0")
    with pytest.raises(OperatorFault, match="uid:7 is no administrator"):
        who.refuse_other("uid:7")


def test_named_ones_alone_say_yes_and_root_may_still_operate(tmp_path):
    who = named(tmp_path, "root", "7")
    assert who.approvers == {"uid:0", "uid:7"}
    who = named(tmp_path, "7", "8")
    who.refuse_other("uid:0")
    with pytest.raises(OperatorFault, match="does not count"):
        who.refuse_silent("uid:0")


def test_a_user_that_the_machine_does_not_know_is_told(tmp_path):
    with pytest.raises(OperatorFault, match="names nobody-here, which is no user"):
        named(tmp_path, "nobody-here")


@RUNNING
@AS_ROOT
class TestRunning:
    """On a running installation, whose administrators are we and two others."""

    def test_settings_that_were_changed_since_the_start_count_from_the_next_one(self, site):
        """Else a policy could ask for the yes of more people than the running control takes one from."""
        before, three = site.home.settings.read_text(), site.policy(("limits:", "approvals: {policy: 3}\n\nlimits:"))
        try:
            site.home.settings.write_text(re.sub(r"administrators = \[", 'administrators = ["7", "8", ', before))
            assert "was changed since the start" in part(site, "settings")
            with pytest.raises(OperatorFault, match="asks for 3 other persons, more than"):
                site.apply(three)
            site.home.settings.write_text("port = = 7")
            assert "is no TOML" in part(site, "settings")
            with pytest.raises(OperatorFault, match="asks for 3 other persons, more than"):
                site.apply(three)
        finally:
            site.home.settings.write_text(before)
        assert part(site, "settings") == "as they were at the start"

    def test_whoever_is_named_nowhere_may_do_nothing(self, site):
        for operation in ("status", "policy.list", "client.list"):
            with pytest.raises(OperatorFault, match=f"uid:{STRANGER} is no administrator"):
                site.ask_as(STRANGER, operation)
        assert site.ask_as(SECOND, "status")["parts"]

    def test_what_our_own_processes_tell_is_not_taken_from_an_administrator(self, site):
        """A revocation is recorded by who makes it; told to control alone it would leave no trace."""
        asked = f"""
import ctypes, os
from pathlib import Path
from ostiary.foundation import unix
os.seteuid({SECOND})
ctypes.CDLL(None).setfsuid(0)
print(unix.ask(Path({str(site.home.socket("control"))!r}), "POST", "/internal/revoked", b"{{}}").body)
"""
        done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
        assert "only our own processes tell that" in done.stdout

    def test_a_stranger_holds_nothing_of_ours_however_often_he_connects(self, site):
        """He is told and let go before he has asked: OWASP API4:2023."""
        (control,) = (pid for name, pid in site.children().items() if "control" in name)
        held = Path(f"/proc/{control}/fd")
        before = len(list(held.iterdir()))
        asked = f"""
import ctypes, os, socket, sys
os.seteuid({STRANGER})
ctypes.CDLL(None).setfsuid(0)
held = [socket.socket(socket.AF_UNIX) for _ in range(300)]
for one in held:
    one.connect({str(site.home.socket("control"))!r})
print("held", held[0].recv(300).decode().splitlines()[0], flush=True)
sys.stdin.read()
"""
        with subprocess.Popen([sys.executable, "-c", asked], stdin=-1, stdout=-1, text=True) as stranger:
            assert stranger.stdout.readline() == "held HTTP/1.1 403 -\n"
            until(lambda: len(list(held.iterdir())) < before + 30)
            assert site.ask("status")["parts"]
            stranger.stdin.close()

    def test_a_head_without_an_end_is_not_read_on(self, site):
        with socket.socket(socket.AF_UNIX) as one:
            one.connect(str(site.home.socket("control")))
            one.sendall(b"POST /operations/status HTTP/1.1\r\nx-long: ")
            with pytest.raises(ConnectionError):
                one.sendall(b"a" * 10_000_000)

    def test_more_approvals_than_there_are_people_to_give_them_are_refused(self, site):
        with pytest.raises(OperatorFault, match="policy asks for 3 other persons, more than"):
            site.apply(site.policy(("limits:", "approvals: {policy: 3}\n\nlimits:")))


@AS_ROOT
@RUNNING
def test_a_second_user_of_the_machine_reads_what_is_proposed_and_approves_it_with_the_command_alone():
    with installed(administrators=["root", str(SECOND)]) as site:
        site.root.chmod(0o711)
        site.start()
        asks = site.document(site.policy(("limits:", "approvals: {policy: 1}\n\nlimits:")))
        site.ask("policy.apply", **asks)
        made = site.ask("policy.propose", **site.document(site.policy()), reason="back")["proposal"]
        assert as_user(site, STRANGER, "policy", "list").returncode == 2
        assert "no administrator" in as_user(site, STRANGER, "policy", "show", made).stderr
        shown = as_user(site, SECOND, "policy", "show", made)
        assert "+ widens approvals for a change of the policy: 0 instead of 1" in shown.stdout
        assert as_user(site, SECOND, "policy", "approve", made).returncode == 0
        (newest, *_) = json.loads(as_user(site, SECOND, "policy", "list", "--json").stdout)
        assert (newest["state"], newest["approvals"]) == ("in force", [f"uid:{SECOND}"])
        own = site.root / "policy.yaml"
        own.write_text(site.policy())
        own.chmod(0o644)
        for command in (["check"], ["check", str(own)], ["diff"], ["who-can", "shop/stock:read"]):
            refused = as_user(site, SECOND, "policy", *command)
            assert refused.returncode in {2, 4}
            assert "what to do: only its owner reads it; an administrator uses `ostiary status`" in refused.stderr, (
                command
            )
        for name in ("settings.toml", "keys/master.key", *(() if site.store else ("ostiary.db",))):
            assert "PermissionError" in as_user(site, SECOND, "read", str(site.home.root / name)).stderr


COMMAND = """
import os, sys
import ostiary.cli.main, ostiary.cli.policy, ostiary.foundation.unix, ostiary.control.revisions, ostiary.control.questions  # before: others may not read where they are
uid = int(sys.argv[1])
os.setgroups([]), os.setgid(uid), os.setuid(uid)
if sys.argv[2] == "read":
    open(sys.argv[3]).read()
else:
    ostiary.cli.main.main(sys.argv[2:])
"""


def as_user(site, uid, *arguments):
    """The command, as that user, with nothing of ours."""
    environment = {"OSTIARY_HOME": str(site.home.root), "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", COMMAND, str(uid), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd="/")


def part(site, name):
    (one,) = (one for one in site.ask("status")["parts"] if one["name"] == name)
    return one["text"]


@pytest.fixture
def asking(site):
    """The shop, where a role in an emergency needs the yes of one other."""
    site.apply(site.policy(("limits:", "approvals: {break-glass: 1}\n\nlimits:")))
    made = SimpleNamespace(name=f"r{os.urandom(3).hex()}", site=site)
    site.ask("client.add", client_id=made.name, scopes=[])
    yield made
    for one in site.ask("roles.list"):
        site.ask("roles.reject", proposal=one["id"])


def ask_for(asking, *roles, reason="moves to sales"):
    return asking.site.ask("principal.roles", principal=f"client:{asking.name}", roles=list(roles), reason=reason)


def held(asking):
    return asking.site.ask("principal.show", principal=f"client:{asking.name}")["roles"]


@RUNNING
@AS_ROOT
class TestRoles:
    """An emergency that needs a second person has no way around it: neither has a role for good."""

    def test_nobody_gives_a_role_alone(self, asking):
        made = ask_for(asking, "clerk")
        assert (made["missing"], held(asking)) == (1, [])
        with pytest.raises(OperatorFault, match="somebody else"):
            asking.site.ask("roles.approve", proposal=made["id"])
        with pytest.raises(CallerFault, match="no roles proposal") as refused:
            asking.site.ask("roles.approve", proposal="nothing")
        assert refused.value.hint == "see `ostiary review waiting`"
        with pytest.raises(OperatorFault, match="asks for 1 approval of a role"):
            asking.site.ask("client.add", client_id=f"{asking.name}-2", roles=["clerk"])
        with pytest.raises(OperatorFault, match="asks for 1 approval of a role"):
            asking.site.ask("user.add", login=f"{asking.name}-3", password="seven green lanterns", roles=["clerk"])
        assert held(asking) == []

    def test_that_one_alone_may_change_what_the_role_may_is_told(self, asking):
        file = asking.site.root / "lone.yaml"
        file.write_text(asking.site.policy(("limits:", "approvals: {roles: 1}\n\nlimits:")))
        assert (
            "one alone may change what it may do; add policy: 1"
            in asking.site.ostiary("policy", "check", str(file)).out
        )

    def test_a_second_persons_yes_gives_it_and_the_log_names_both(self, asking):
        made = ask_for(asking, "clerk")
        waiting = asking.site.ostiary("review", "waiting").out
        assert made["id"] in waiting
        assert "moves to sales" in waiting
        assert "1 in `ostiary review waiting`" in str(asking.site.ask("status")["parts"])
        assert asking.site.ask_as(SECOND, "roles.approve", proposal=made["id"])["missing"] == 0
        assert held(asking) == ["clerk"]
        (entry,) = asking.site.ask("audit.list", action="roles.done", limit=1)
        assert (entry["before"]["by"], entry["actor"]) == (f"uid:{os.getuid()}", f"uid:{SECOND}")
        assert entry["after"]["roles"] == ["clerk"]
        with pytest.raises(CallerFault, match="no roles proposal"):
            asking.site.ask_as(THIRD, "roles.approve", proposal=made["id"])

    def test_a_role_is_taken_away_without_asking_anybody(self, asking):
        made = ask_for(asking, "clerk", "visitor")
        asking.site.ask_as(SECOND, "roles.approve", proposal=made["id"])
        assert ask_for(asking, "visitor", reason="")["missing"] == 0
        assert held(asking) == ["visitor"]

    def test_what_was_asked_for_when_other_roles_were_held_is_not_given(self, asking):
        first, second = ask_for(asking, "clerk"), ask_for(asking, "visitor")
        asking.site.ask_as(SECOND, "roles.approve", proposal=first["id"])
        with pytest.raises(OperatorFault, match="others now than when"):
            asking.site.ask_as(SECOND, "roles.approve", proposal=second["id"])
        assert held(asking) == ["clerk"]

    def test_what_was_asked_for_under_another_policy_is_not_given(self, asking):
        """What the role may do was another thing when somebody looked."""
        made, before = ask_for(asking, "visitor"), (asking.site.home.plans / "current").read_text()
        asking.site.apply(
            asking.site.policy(
                ("limits:", "approvals: {break-glass: 1}\n\nlimits:"),
                ('may: ["stock: read"]', 'may: ["stock: read", "order: read"]'),
            )
        )
        assert (asking.site.home.plans / "current").read_text() != before
        with pytest.raises(OperatorFault, match="the policy, are others now"):
            asking.site.ask_as(SECOND, "roles.approve", proposal=made["id"])
        assert held(asking) == []

    def test_what_is_asked_for_is_shown_in_full_and_what_is_new_first(self, asking):
        """A table cuts its cells, and the role that matters may stand behind the cut."""
        long = [f"harmless-reader-of-a-long-name-{n}" for n in range(4)]
        roles = "".join(f"  {name}: {{level: user, of: sales, may: []}}\n" for name in long)
        asking.site.apply(
            asking.site.policy(("limits:", "approvals: {break-glass: 1}\n\nlimits:"), ("roles:\n", f"roles:\n{roles}"))
        )
        ask_for(asking, *long, "visitor")
        assert f"is to gain {', '.join([*long, 'visitor'])}\n" in asking.site.ostiary("review", "waiting").out

    def test_it_needs_a_reason_and_roles_that_may_be_held(self, asking):
        with pytest.raises(OperatorFault, match="reason"):
            ask_for(asking, "clerk", reason="")
        with pytest.raises(OperatorFault, match="no role boss"):
            ask_for(asking, "boss")

    def test_what_was_rejected_is_given_by_nobody(self, asking):
        made = ask_for(asking, "clerk")
        asking.site.ask_as(SECOND, "roles.reject", proposal=made["id"], reason="not his work")
        with pytest.raises(CallerFault, match="no roles proposal"):
            asking.site.ask_as(THIRD, "roles.approve", proposal=made["id"])
        until(lambda: held(asking) == [])
