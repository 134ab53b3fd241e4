"""`--json`: every command speaks JSON, on standard output when it did what it was asked, on standard error else."""

import json

import click
import pytest

from cli.transcript import ostiary
from ostiary.cli.main import cli
from ostiary.control.commands import TABLE
from running import RUNNING

pytestmark = RUNNING
NOT_HERE = {"demo", "up"}  # they run until they are told to stop
PASSWORD = "a good long phrase"
# What each command is asked, in an order in which each finds what it needs; ID is what the request before was called.
ASKED = {
    "init": "--erp tryton --upstream http://127.0.0.1:8000 --home new",
    "status": "",
    "doctor": "",
    "policy check": "",
    "policy diff": "",
    "policy test": "",
    "policy apply": "--dry-run",
    "policy schema": "",
    "policy packs": "sod/tryton",
    "policy draft": "--from shop",
    "policy replay": "",
    "policy prove": "--since 1",
    "policy who-can": "shop/stock:read",
    "policy what-can": "clerk",
    "policy report": "--out report",
    "device add": "till",
    "device list": "",
    "provider list": "",
    "device remove": "till",
    "policy list": "",
    "policy show": "1",
    "policy compare": "1 1",
    "break-glass list": "",
    "review list": "",
    "review waiting": "",
    "client add": "js --role visitor",
    "client list": "",
    "client show": "js",
    "client change": "js --scope shop/stock:read",
    "client rotate": "js",
    "client certificate": "js",
    "review keep": "client:js visitor --reason why",
    "client roles": "js clerk",
    "client disable": "js",
    "client enable": "js",
    "client account": "js --system shop --login js --password-file -",
    "registration open": "js --scope shop/stock:read",
    "registration list": "",
    "registration close": "js",
    "provisioning allow": "js --role visitor",
    "provisioning list": "",
    "provisioning stop": "js",
    "user add": "js --role visitor --password-file -",
    "user list": "",
    "user show": "js",
    "user forget-factors": "js",
    "user password": "js --password-file -",
    "user roles": "js",
    "user disable": "js",
    "user enable": "js",
    "user account": "js --system shop --login js --password-file -",
    "token revoke": "--principal client:js",
    "explain": "ID",
    "event list": "",
    "event usage": "",
    "client remove": "js --yes",
    "user remove": "js --yes",
    "audit list": "",
    "audit verify": "",
    "alert list": "",
    "measure list": "",
    "backup": "saved",
    "restore": "saved --home restored",
    "reseal": "another.key --home restored",
}
FAILING = {
    "token rotate": "",
    "provider add": "acme --issuer https://localhost:1 --client-id x --secret-file -",
    "provider change": "nothing --title x",
    "provider map": "nothing groups sales clerk",
    "provider unmap": "nothing groups sales clerk",
    "provider link": "nothing 0f-a1 --principal user:js",
    "provider unlink": "nothing 0f-a1",
    "provider remove": "nothing",
    "policy shadow": "",
    "policy fmt": "--check",
    "policy propose": "nowhere.yaml --reason why",
    "policy approve": "nothing",
    "policy reject": "nothing",
    "policy restore": "999999 --reason why",
    "break-glass start": "client:nobody clerk --reason why",
    "break-glass approve": "nothing",
    "break-glass end": "nothing",
    "system account": "shop --login js --password-file -",
    "system learn": "shop",
    "alert show": "al-0",
    "alert ack": "al-0",
    "alert resolve": "al-0",
    "measure block": "127.0.0.1 --for 1d --reason why",
    "measure undo": "me-0",
    "review remove": "client:nobody clerk --reason why",
    "review approve": "nothing",
    "review reject": "nothing",
}


def leaves(group, path=()):
    for name in group.list_commands(click.Context(group)):
        found = group.get_command(click.Context(group), name)
        yield from leaves(found, (*path, name)) if isinstance(found, click.Group) else [" ".join((*path, name))]


def test_every_command_is_asked_here():
    assert set(leaves(cli)) - NOT_HERE == {*ASKED, *FAILING}
    assert set(TABLE) >= NOT_HERE


def test_every_command_answers_in_json(site, tmp_path):
    decision = site.once("GET", "/shop/stock").decision
    for command, arguments in ASKED.items():
        words = [*command.split(), *arguments.replace("ID", decision).split(), "--json"]
        code, out = ostiary(site.home.root, words, given=PASSWORD, folder=tmp_path)
        assert code in {0, 1}, (words, out)
        json.loads(out)


@pytest.mark.parametrize("command", FAILING)
def test_every_failure_is_json_too(site, tmp_path, command):
    words = [*command.split(), *FAILING[command].split(), "--json"]
    code, out = ostiary(site.home.root, words, given=PASSWORD, folder=tmp_path)
    assert code in {2, 3, 4}
    error = json.loads(out)["error"]
    assert set(error) == {"code", "message", "hint", "problems"}
    assert error["hint"]


def test_results_and_errors_go_to_their_own_streams(site):
    good, bad = site.ostiary("measure", "list", "--json"), site.ostiary("measure", "undo", "me-0", "--json")
    assert (good.code, good.json, good.err) == (0, [], "")
    assert (bad.code, bad.out, json.loads(bad.err)["error"]["code"]) == (3, "", "measure-unknown")


@pytest.mark.parametrize("command", [["check"], ["apply"]])
def test_each_problem_of_a_policy_is_told_with_its_place_also_by_the_running_installation(site, command):
    draft = site.root / "draft.yaml"
    draft.write_text(site.policy(("roles:", "rolls:")))
    error = json.loads(site.ostiary("policy", "check", str(draft), "--json").err)["error"]
    assert error["code"] == "policy-invalid"
    assert all(one["file"] == "draft.yaml" and one["line"] and one["column"] for one in error["problems"])
    (meant,) = [one for one in error["problems"] if "no key 'rolls'" in one["message"]]
    assert meant["hint"] == "roles"
    draft.write_text(site.policy(("roles:", 'never:\n  - {name: no, level: user, may: "order: read"}\nroles:')))
    error = json.loads(site.ostiary("policy", *command, str(draft), "--json").err)["error"]
    (refused, *_) = error["problems"]
    assert error["code"] == "policy-refused"
    assert (refused["file"], refused["hint"][:4], len(refused["where"])) == ("draft.yaml", "take", 2)
    assert refused["line"] == refused["where"][0]["line"]


@pytest.mark.parametrize("arguments", [["--help"], ["policy", "--help"], ["client", "add", "--help"]])
def test_help_needs_no_installation(tmp_path, arguments):
    code, out = ostiary(tmp_path, arguments)
    assert (code, "Usage: ostiary" in out) == (0, True)


def test_every_command_has_a_sentence_and_every_option_its_help():
    for path in leaves(cli):
        command = cli
        for name in path.split():
            command = command.get_command(click.Context(command), name)
        assert command.get_short_help_str(), path
        bare = [option.name for option in command.params if isinstance(option, click.Option) and not option.help]
        assert bare == [], path
