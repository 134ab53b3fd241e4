"""What can be wrong before a start: one clear message with what to do, the right exit code, nothing lost."""

import socket
import tomllib

import pytest

from running import APART, OF_A_FILE, installed

pytestmark = APART
OLD_ENVOY = "#!/bin/sh\necho 'envoy  version: 0000/1.39.9/Clean/RELEASE/BoringSSL'\n"


@pytest.fixture
def made():
    """An installation that was never started, as `init` made it."""
    with installed() as one:
        yield one


def refused(done, code, word):
    """One error of this exit code and word, that says what to do."""
    assert done.code == code, done
    errors = done.err[done.err.index("error: ") :]
    assert errors.count("error: ") == 1
    assert f"[{word}]" in errors
    assert "what to do: " in errors
    assert "Traceback" not in done.out + done.err
    return errors


def listener(port=0):
    taken = socket.socket()
    taken.bind(("127.0.0.1", port))
    taken.listen()
    return taken


def test_a_taken_port(made):
    with listener(made.port):
        assert f"127.0.0.1:{made.port}" in refused(made.ostiary("up"), 4, "port-taken")


def test_a_taken_port_for_the_figures(made):
    with listener() as taken:
        port = taken.getsockname()[1]
        made.settings(metrics_port=port)
        assert str(port) in refused(made.ostiary("up"), 4, "port-taken")


def test_no_envoy(made):
    made.settings(envoy="/nowhere/envoy")
    assert "/nowhere/envoy" in refused(made.ostiary("up"), 2, "envoy-missing")


def test_an_envoy_older_than_what_is_safe(made):
    old = made.root / "envoy"
    old.write_text(OLD_ENVOY)
    old.chmod(0o700)
    made.settings(envoy=str(old))
    assert "Envoy 1.39" in refused(made.ostiary("up"), 2, "envoy-missing")


@OF_A_FILE
def test_a_corrupt_database_is_left_as_it_is(made):
    data = b"this was a database" + made.home.database.read_bytes()[19:]
    made.home.database.write_bytes(data)
    refused(made.ostiary("up"), 4, "store-damaged")
    assert made.home.database.read_bytes() == data


def test_an_unknown_setting(made):
    made.settings(colour="green")
    assert "colour" in refused(made.ostiary("up"), 2, "settings-invalid")


def test_a_settings_file_that_is_none(made):
    made.home.settings.write_text("port = = 7")
    assert str(made.home.settings) in refused(made.ostiary("up"), 2, "settings-invalid")


def test_a_key_that_others_may_read(made):
    key = made.home.keys / "master.key"
    key.chmod(0o644)
    assert f"chmod 600 {key}" in refused(made.ostiary("up"), 2, "key-open-to-others")


@OF_A_FILE
@pytest.mark.parametrize("emptied", [True, False])
def test_an_emptied_database(made, emptied):
    for file in made.home.root.glob("ostiary.db*"):
        file.unlink()
    if emptied:
        made.home.database.touch(0o600)
    for _ in range(2):  # the second time it has tables
        assert "ostiary restore" in refused(made.ostiary("up"), 4, "policy-unrecorded")


def test_another_master_key_opens_all_that_the_one_before_did(made):
    made.start()
    token = made.client("shop", "visitor")
    made.ask("account.set", principal="client:shop", system="shop", login="anna", password="hunter2 hunter2")
    new, old = made.root / "new.key", made.home.keys / "master.key"
    while_up = made.ostiary("reseal", str(new))
    assert (while_up.code, "runs already" in while_up.err) == (2, True)
    assert "Ctrl-C, or systemctl stop" in while_up.err
    made.stop()
    done = made.ostiary("reseal", str(new))
    assert done.code == 0, done.err
    secrets = int(done.out.split()[0])
    assert secrets >= 6
    assert made.ask("audit.list", action="key.reseal")[0]["after"] == {"secrets": secrets}
    assert tomllib.loads(done.out.splitlines()[-1]) == {"master_key_file": str(new)}
    assert "(`master_key_file`: the file of `ostiary reseal`)" in refused(made.ostiary("up"), 2, "seal-broken")
    again = made.ostiary("reseal", str(new))
    assert (again.code, "does not open with this master key" in again.err) == (2, True)
    old.unlink()
    made.settings(master_key_command=["/bin/cat", str(new)])
    made.start()
    assert made.once("GET", "/shop/stock", token=token).status == 200
    assert made.once("GET", "/shop/stock", token=made.fresh("shop")).status == 200
    assert made.ostiary("doctor").code == 0
    made.stop()


def test_a_master_key_of_another_installation(made):
    (made.home.keys / "master.key").write_bytes(bytes(32))
    refused(made.ostiary("up"), 2, "seal-broken")
    assert "NOT OK  keys" in made.ostiary("doctor").out


def test_a_plan_that_neither_its_folder_nor_the_store_holds(made):
    (made.home.plans / "current").write_text("rev-other")
    assert "restore a backup" in refused(made.ostiary("up"), 4, "no-plan")


def test_a_webhook_that_is_not_safe(made):
    made.settings(webhook="http://example.com/alerts")
    refused(made.ostiary("up"), 2, "webhook-address")


def test_a_list_of_stolen_passwords_that_is_not_there(made):
    made.settings(breached_passwords="stolen.txt")
    assert str(made.home.root / "stolen.txt") in refused(made.ostiary("up"), 2, "breached-unfit")


def test_a_folder_without_an_installation(made):
    told = refused(made.ostiary("up", "--home", str(made.root / "empty")), 2, "no-installation")
    assert "ostiary init" in told
    assert not (made.root / "empty").exists()


@pytest.mark.parametrize("command", [["status"], ["policy", "apply"]])
def test_commands_without_a_running_installation(made, command):
    assert "ostiary up" in refused(made.ostiary(*command), 4, "not-running")


@pytest.mark.parametrize(
    "options, word",
    [
        (["--upstream", "no address at all"], "options-invalid"),
        (["--upstream", "http://127.0.0.1:8000", "--database", "a/b"], "options-invalid"),
        (["--upstream", "http://127.0.0.1:8000", "--port", "99999"], "options-invalid"),
        (["--upstream", "http://127.0.0.1:8000", "--listen", "300.1.1.1"], "options-invalid"),
        (["--upstream", "http://127.0.0.1:8000", "--store", "nowhere"], "store-url"),
        (["--upstream", "http://127.0.0.1:8000", "--host", "not a host"], "options-invalid"),
    ],
)
def test_init_with_something_wrong_leaves_nothing(made, options, word):
    home = made.root / "new"
    refused(made.ostiary("init", "--erp", "tryton", *options, "--home", str(home)), 2, word)
    assert not home.exists()


def test_init_with_a_document_that_is_not_there(made):
    options = ["--erp", "openapi", "--upstream", "http://127.0.0.1:8000", "--spec", "missing.yaml"]
    assert "missing.yaml" in refused(made.ostiary("init", *options, "--home", str(made.root / "new")), 2, "usage")
    assert not (made.root / "new").exists()


def test_init_for_an_openapi_system_needs_its_document(made):
    done = made.ostiary("init", "--erp", "openapi", "--upstream", "http://127.0.0.1:8000", "--home", "new")
    assert (done.code, "--spec" in done.err) == (2, True)


def test_init_over_something(made):
    refused(made.ostiary("init", "--erp", "tryton", "--upstream", "http://127.0.0.1:8000"), 2, "home-not-empty")


def test_init_in_a_path_too_long_for_a_socket(made):
    home = made.root / ("long" * 30)
    options = ["--erp", "tryton", "--upstream", "http://127.0.0.1:8000", "--home", str(home)]
    assert "shorter folder" in refused(made.ostiary("init", *options), 2, "home-path-too-long")
    assert not home.exists()
