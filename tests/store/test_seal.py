"""What is sealed opens under its key, for its purpose, unchanged, or not at all."""

import base64
import json
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.foundation.errors import OperatorFault
from ostiary.foundation.home import load_settings
from ostiary.foundation.secret import Secret
from ostiary.store import database
from ostiary.store.database import METADATA, Sealer, load_sealer, named_sealer

SEALER = Sealer(b"k" * 32)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@given(TEXT, TEXT, TEXT)
def test_it_opens_for_its_purpose_only(text, purpose, other):
    sealed = SEALER.seal(Secret(text), purpose)
    assert SEALER.open(sealed, purpose).reveal() == text
    if other != purpose:
        with pytest.raises(OperatorFault, match="does not open"):
            SEALER.open(sealed, other)
    with pytest.raises(OperatorFault, match="does not open"):
        Sealer(b"x" * 32).open(sealed, purpose)


@given(st.text("abc", max_size=20), st.integers(0, 10_000), st.integers(1, 255))
def test_no_bit_of_it_can_be_changed(text, at, flipped):
    sealed = bytearray(SEALER.seal(Secret(text), "p"))
    sealed[at % len(sealed)] ^= flipped
    with pytest.raises(OperatorFault, match="does not open"):
        SEALER.open(bytes(sealed), "p")


@given(st.binary(max_size=40))
def test_any_bytes_are_refused(data):
    with pytest.raises(OperatorFault, match="does not open"):
        SEALER.open(data, "p")


def test_the_same_secret_never_looks_the_same():
    assert len({SEALER.seal(Secret("x"), "p") for _ in range(100)}) == 100


def test_the_master_key_is_made_once_however_many_start(tmp_path):
    path, sealed, barrier = tmp_path / "master.key", [], threading.Barrier(6)

    def start():
        barrier.wait()
        sealed.append(load_sealer(path, make=True).seal(Secret("x"), "p"))

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [load_sealer(path, make=True).open(one, "p").reveal() for one in sealed] == ["x"] * 6
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_master_key_that_is_none_or_open_to_others_is_refused(tmp_path):
    path = tmp_path / "master.key"
    load_sealer(path, make=True)
    path.chmod(0o640)
    with pytest.raises(OperatorFault, match="others may read"):
        load_sealer(path, make=True)
    path.chmod(0o600)
    path.write_bytes(b"short")
    with pytest.raises(OperatorFault, match="does not hold 32 bytes"):
        load_sealer(path, make=True)


def test_a_master_key_that_is_gone_is_told_and_never_replaced(tmp_path):
    with pytest.raises(OperatorFault, match="does not open without it"):
        load_sealer(tmp_path / "master.key")
    assert not (tmp_path / "master.key").exists()


KEY = bytes(range(200, 232))
TEXTUAL = base64.b64encode(KEY).decode()


def named(tmp_path, **told):
    """The sealer that such a settings.toml names."""
    file = tmp_path / "settings.toml"
    file.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in told.items()))
    return named_sealer(load_settings(file), tmp_path / "master.key")


def prints(text):
    return [sys.executable, "-c", f"import sys; sys.stderr.write('busy'); print({text!r})"]


def test_the_master_key_is_where_the_settings_say(tmp_path, monkeypatch):
    monkeypatch.setenv("MASTER", TEXTUAL)
    (tmp_path / "elsewhere").write_bytes(KEY)
    (tmp_path / "textual").write_text(f"{TEXTUAL}\n")
    for file in ("elsewhere", "textual"):
        (tmp_path / file).chmod(0o600)
    load_sealer(tmp_path / "master.key", make=True)
    sealed = Sealer(KEY).seal(Secret("x"), "p")
    for told in (
        {"master_key_file": str(tmp_path / "elsewhere")},
        {"master_key_file": str(tmp_path / "textual")},
        {"master_key_variable": "MASTER"},
        {"master_key_command": prints(TEXTUAL)},
    ):
        assert named(tmp_path, **told).open(sealed, "p").reveal() == "x"
    with pytest.raises(OperatorFault, match="does not open"):
        named(tmp_path).open(sealed, "p")


def test_the_command_is_called_by_no_shell(tmp_path):
    with pytest.raises(OperatorFault, match="does not hold"):
        named(tmp_path, master_key_command=["/bin/echo", f"{TEXTUAL[:4]}; touch {tmp_path}/made; `id`"])
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("ends", ["sys.exit(1)", "time.sleep(60)", "os.kill(os.getpid(), 9)"])
def test_a_command_that_fails_is_told_without_what_it_said(tmp_path, monkeypatch, ends):
    monkeypatch.setattr(database, "COMMAND_TIMEOUT_S", 1.0)
    said = f"import os, sys, time; print({TEXTUAL!r}, flush=True); sys.stderr.write({TEXTUAL!r}); {ends}"
    with pytest.raises(OperatorFault, match="did not print the master key") as raised:
        named(tmp_path, master_key_command=[sys.executable, "-c", said])
    assert TEXTUAL not in str(raised.value)
    assert raised.value.__context__ is None
    with pytest.raises(OperatorFault, match="did not print the master key"):
        named(tmp_path, master_key_command=[str(tmp_path / "nothing")])


def test_what_is_no_key_is_refused_and_not_repeated(tmp_path, monkeypatch):
    for text in ("", "hunter2-hunter2", TEXTUAL[:-4], TEXTUAL + "AAAA", "ä" * 15):
        monkeypatch.setenv("MASTER", text)
        with pytest.raises(OperatorFault, match="MASTER of the environment does not hold 32 bytes") as raised:
            named(tmp_path, master_key_variable="MASTER")
        assert not text or text not in str(raised.value)


def test_where_the_variable_is_not_set_the_hint_says_to_set_it_in_this_shell(tmp_path, monkeypatch):
    monkeypatch.delenv("MASTER", raising=False)
    with pytest.raises(OperatorFault, match="MASTER") as raised:
        named(tmp_path, master_key_variable="MASTER")
    assert "set it in this shell too" in raised.value.hint


def test_of_two_places_for_the_key_none_is_chosen(tmp_path):
    with pytest.raises(OperatorFault, match="more than one place"):
        named(tmp_path, master_key_variable="MASTER", master_key_file="x")


def test_every_sealed_column_says_what_it_is_sealed_for():
    sealed = {
        f"{table.name}.{column.name}": column
        for table in METADATA.tables.values()
        for column in table.columns
        if column.name.startswith("sealed")
    }
    assert len(sealed) >= 5
    for name, column in sealed.items():
        assert column.info.get(database.SEALED_FOR), name
        column.info[database.SEALED_FOR].format(**dict.fromkeys(column.table.columns.keys(), "x"))
