"""What is sealed opens under its key, for its purpose, unchanged, or not at all."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.foundation.errors import OperatorFault
from ostiary.foundation.secret import Secret
from ostiary.store.seal import Sealer, load_sealer

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
