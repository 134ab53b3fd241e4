"""The policy's files on a disk, as the commands read and write them: nothing needs to run."""

import pytest

from ostiary.cli.main import run

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
    from ostiary.foundation import files

    write = files._write_beside

    def full(path, *rest, **more):
        if path.name == "roles.yaml":
            raise OSError(28, "No space left on device", str(path))
        return write(path, *rest, **more)

    monkeypatch.setattr(files, "_write_beside", full)
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
