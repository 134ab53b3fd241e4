"""The policy's files on a disk, as the commands read and write them: nothing needs to run."""

import pytest

from ostiary.cli.main import run
from ostiary.cli.policy import _request

MAIN = """\
policy: acme
include: roles/*.yaml
systems:
    erp: {kind: tryton, at: erp.example.com, upstream: "http://127.0.0.1:8000", database: acme}
departments:
    sales: {}
"""
ROLES = 'roles:\n    clerk: {level: user, of: sales, may: "party.party: read"}\n'


@pytest.fixture
def policy(tmp_path):
    """Of two files, none of them in its one form."""
    (tmp_path / "roles").mkdir()
    (tmp_path / "roles" / "roles.yaml").write_text(ROLES)
    (tmp_path / "policy.yaml").write_text(MAIN)
    return tmp_path / "policy.yaml"


def test_all_files_of_a_policy_are_formatted_wherever_they_lie(policy):
    roles = policy.parent / "roles" / "roles.yaml"
    roles.chmod(0o640)
    assert run(["policy", "fmt", str(policy)]) == 0
    assert (policy.read_text(), roles.read_text()) == (MAIN.replace("    ", "  "), ROLES.replace("    ", "  "))
    assert roles.stat().st_mode & 0o777 == 0o640
    assert run(["policy", "fmt", "--check", str(policy)]) == 0


def test_where_one_of_them_can_not_be_written_none_is(policy, monkeypatch, capsys):
    from ostiary.foundation import home

    write = home._write_beside

    def full(path, *rest, **more):
        if path.name == "roles.yaml":
            raise OSError(28, "No space left on device", str(path))
        return write(path, *rest, **more)

    monkeypatch.setattr(home, "_write_beside", full)
    assert run(["policy", "fmt", str(policy)]) == 4
    assert "No space left on device" in capsys.readouterr().err
    assert policy.read_text() == MAIN
    assert sorted(one.name for one in policy.parent.iterdir()) == ["policy.yaml", "roles"]


def test_no_policy_is_well_while_one_of_its_controls_has_ended(policy, capsys):
    rule = 'apart: [{id: A-1, name: n, permissions: ["party.party: write", "account.payment: execute"]}]\n'
    control = "controls: [{rules: A-1, roles: clerk, what: w, owner: o, reason: r, until: 2020-12-31}]\n"
    policy.write_text(MAIN + rule + control)
    for command, code in (("check", 2), ("diff", 0)):
        assert run(["policy", command, str(policy), "--home", str(policy.parent)]) == code
        told = capsys.readouterr()
        assert "the control of policy.yaml:8 ended on 2020-12-31" in told.out + told.err


def test_a_file_that_another_policy_includes_is_told_as_a_part_of_that(policy, capsys):
    assert run(["policy", "check", str(policy.parent / "roles" / "roles.yaml")]) == 2
    told = capsys.readouterr().err
    assert f"roles.yaml is part of {policy}, which includes it [policy-part]" in told
    assert f"`ostiary policy check {policy}`" in told
    draft = policy.with_name("draft.yaml")
    draft.write_text(MAIN)
    assert run(["policy", "check", str(draft), "--home", str(policy.parent)]) == 0


def test_hours_the_wrong_way_round_are_noted_as_what_they_mean(policy, capsys):
    policy.write_text(
        MAIN + 'contexts:\n  a: {hours: "22:00-06:00", zone: UTC}\n  b: {hours: "18:00-00:00", zone: UTC}\n'
    )
    assert run(["policy", "check", str(policy), "--home", str(policy.parent)]) == 0
    notes = [line for line in capsys.readouterr().out.splitlines() if "midnight" in line]
    assert notes == ["note: policy.yaml:8:3: context a crosses midnight: 22:00 to 06:00 of the next day"]


def test_a_test_whose_names_nobody_could_check_is_noted_though_it_holds(policy, capsys):
    does = 'tests: [{who: clerk, does: "party.adress: read", at: "2026-03-03T10:00Z", expect: deny}]\n'
    policy.write_text(MAIN + does)
    assert run(["policy", "test", str(policy), "--home", str(policy.parent)]) == 0
    told = capsys.readouterr().out
    assert told.startswith("1 test, all as expected\nnote: policy.yaml:4:5: what erp offers is not known yet")


NEVER_BOTH = """\
contexts:
  early: {hours: "06:00-08:00", zone: UTC}
  late: {hours: "20:00-22:00", zone: UTC}
roles:
  clerk: {level: user, of: sales, when: [early, late], may: ["party.party: read", "party.party: write"]}
  other: {level: user, of: sales, when: early, may: "party.party: read"}
"""


def test_contexts_that_hold_at_no_time_and_place_are_noted_once_with_their_line(policy, capsys):
    policy.write_text(MAIN.replace("include: roles/*.yaml\n", "") + NEVER_BOTH)
    assert run(["policy", "check", str(policy), "--home", str(policy.parent)]) == 0
    notes = [line for line in capsys.readouterr().out.splitlines() if "granted" in line]
    assert notes == ["note: policy.yaml:10:62: nothing is granted when early + late: that is at no time and place"]


def test_a_command_of_another_level_is_the_one_that_was_meant(capsys):
    assert run(["policy", "explain", "x"]) == 2
    assert "did you mean `ostiary explain`?" in capsys.readouterr().err
    assert run(["policy", "chek", "x"]) == 2
    assert "did you mean `ostiary policy check`?" in capsys.readouterr().err


def test_a_file_that_is_not_there_is_told_with_the_folder_that_was_searched(policy, capsys):
    policy.write_text(MAIN.replace("roles/*.yaml", "rolls/*.yaml"))
    assert run(["policy", "check", str(policy)]) == 2
    assert f"policy.yaml:2:10: include: there is no file {policy.parent}/rolls/*.yaml" in capsys.readouterr().err


@pytest.mark.parametrize("reason, answer", [("allowed", "allowed"), ("context", "refused (context)")])
def test_an_example_of_prove_says_whether_it_is_allowed_or_refused(reason, answer):
    told = {"when": "at any time", "roles": ["clerk"], "operation": "erp/a:read", "reason": reason}
    assert _request(told) == f"at any time: clerk doing erp/a:read is {answer}"
