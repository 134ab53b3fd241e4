"""Settings and the home folder: what cannot be right is refused with the file, the key and what to do."""

import stat
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ostiary.foundation.errors import CallerFault, OperatorFault, OstiaryError, OurFault, SystemFault
from ostiary.foundation.home import SOCKET_PATH_MAX_BYTES, Home, Settings, load_settings
from ostiary.foundation.ids import role_set_id
from ostiary.foundation.secret import new_id


@pytest.fixture
def file(tmp_path):
    return tmp_path / "settings.toml"


def test_without_a_file_the_defaults_hold(file):
    assert load_settings(file) == Settings()
    assert Settings().issuer == "https://localhost:8443/identity"


def test_the_usual_port_is_left_out_of_the_issuer(file):
    file.write_text('port = 443\nhost = "gate.example.com"\n')
    assert load_settings(file).issuer == "https://gate.example.com/identity"


@pytest.mark.parametrize("name", ["master_key_file", "geoip_database", "breached_passwords", "upstream_authorities"])
def test_a_file_named_without_its_folder_lies_in_the_installation_wherever_it_is_started(
    file, name, tmp_path_factory, monkeypatch
):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    for text, path in [("keys/new", file.parent / "keys/new"), ("/srv/new", "/srv/new"), ("", "")]:
        file.write_text(f'{name} = "{text}"\n')
        assert getattr(load_settings(file), name) == str(path)
    monkeypatch.chdir(file.parent)
    file.write_text(f'{name} = "new"\n')
    assert getattr(load_settings(file.relative_to(file.parent)), name) == str(file.parent / "new")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("prot = 1", "prot"), ('port = "8443"', "port"), ("port = 70000", "port"), ("port = -1", "port"), ('tls_minimum = "1.1"', "tls_minimum"),
        ("token_life_s = 7201", "token_life_s"), ("token_life_s = 59", "token_life_s"), ('host = "Gate"', "host"), ('host = "a b"', "host"),
        ('host = "a\\n"', "host"), ('host = ""', "host"), ("envoy_workers = -1", "envoy_workers"), ("a = \n", "line 1"), ("= 1", "line 1"),
        ("port = 1\nport = 2\nhost = 1", "line 2"), ("[x]\n", "x"), ("\x00", "line 1"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_named_with_its_file(file, text, named):
    file.write_text(text)
    with pytest.raises(OperatorFault) as caught:
        load_settings(file)
    assert caught.value.code == "settings-invalid"
    assert str(file) in caught.value.message
    assert named in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("name", Settings.__struct_fields__)
def test_every_setting_says_what_may_be_written(file, name):
    file.write_text(f"{name} = 1979-05-27\n")
    with pytest.raises(OperatorFault, match=f"{name}: write .+"):
        load_settings(file)


def test_every_mistake_is_told_at_once_and_the_setting_that_was_meant(file):
    file.write_text('prot = 1\nlisten = "300.1.1.1"\ntls_minimum = "1.1"\n')
    with pytest.raises(OperatorFault) as caught:
        load_settings(file)
    assert caught.value.message.splitlines() == [
        f"{file} is wrong: prot: there is no such setting; is port meant?",  # who looks for one line finds a key in it
        "  listen: write an IP address of this machine, such as 127.0.0.1 or 0.0.0.0",
        '  tls_minimum: write "1.2" or "1.3", in quotes',
    ]


def test_a_file_that_cannot_be_read_is_named(file):
    file.mkdir()
    with pytest.raises(OperatorFault, match="directory"):
        load_settings(file)


def test_no_value_is_repeated(file):
    file.write_text('store = 12345678\nwebhook = ["hunter2"]\n')
    with pytest.raises(OperatorFault) as caught:
        load_settings(file)
    assert "hunter2" not in str(caught.value)


@given(st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_file_is_read_or_refused(file, data):
    file.write_bytes(data)
    try:
        load_settings(file)
    except OperatorFault as refused:
        assert refused.code == "settings-invalid"  # noqa: PT017 - reading it is fine too


def test_every_folder_of_a_home_is_for_its_owner(tmp_path):
    home = Home(root=tmp_path / "deep" / "home")
    home.create()
    home.create()
    folders = [path for path in home.root.rglob("*") if path.is_dir()]
    assert len(folders) >= 7
    for folder in (home.root, *folders):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_folder_too_deep_for_a_socket_is_refused_before_anything_listens(tmp_path):
    name = "x" * (SOCKET_PATH_MAX_BYTES - len("/run/guard.sock") - 1)
    assert len(str(Home(root="/" / tmp_path.__class__(name)).socket("guard"))) == SOCKET_PATH_MAX_BYTES
    with pytest.raises(OperatorFault, match="longer than") as caught:
        Home(root="/" / tmp_path.__class__(name + "x")).socket("guard")
    assert "--home" in caught.value.hint


def test_a_home_cannot_be_changed(tmp_path):
    with pytest.raises(FrozenInstanceError):
        Home(root=tmp_path).root = tmp_path / "x"


def test_every_error_says_what_to_do_and_whose_fault_it_is():
    kinds = {OperatorFault: 2, CallerFault: 3, SystemFault: 4, OurFault: 5}
    for kind, exit_code in kinds.items():
        problem = kind("code", "it broke", hint="mend it")
        assert str(problem) == "it broke [code]\n  what to do: mend it"
        assert problem.exit_code == exit_code
        assert isinstance(problem, OstiaryError)


@given(st.sets(st.text("abc,", min_size=1, max_size=3), max_size=4))
def test_a_role_set_has_one_id_in_any_order(roles):
    plain = {role.replace(",", "-") for role in roles}
    assert role_set_id(sorted(plain)) == role_set_id(sorted(plain, reverse=True)) == role_set_id([*plain, *plain])
    assert len(role_set_id(plain)) == 12


def test_ids_do_not_repeat():
    assert len({new_id("gr") for _ in range(1000)}) == 1000
