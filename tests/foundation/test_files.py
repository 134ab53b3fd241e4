"""Files are whole or not there, whenever the writer dies; private ones are for their owner."""

import os
import signal
import subprocess
import sys
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ostiary.foundation.errors import OperatorFault
from ostiary.foundation.home import read_private, write_atomically, write_once

WRITER = """
import sys
from pathlib import Path
from ostiary.foundation.home import write_atomically
print("ready", flush=True)
n = 0
while True:
    n += 1
    write_atomically(Path(sys.argv[1]), bytes([n % 256]) * 50_000, durable=n % 2 == 0)
"""


def test_a_reader_sees_one_whole_file_while_it_is_replaced_and_after_the_writer_was_killed(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"\0" * 50_000)
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE) as writer:
            writer.stdout.readline()
            seen = {bytes(set(data)) for data in (path.read_bytes() for _ in range(100)) if len(data) == 50_000}
            os.kill(writer.pid, signal.SIGKILL)
        data = path.read_bytes()
        assert len(data) == 50_000
        assert len(set(data)) == 1
        assert {len(one) for one in seen} == {1}


@pytest.mark.parametrize("step", ["os.fdopen", "os.fsync", "pathlib.Path.replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, step):
    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    path = tmp_path / "file"
    write_atomically(path, b"old")
    with monkeypatch.context() as patched:
        patched.setattr(step, fail)
        with pytest.raises(OSError, match="No space"):
            write_atomically(path, b"new", durable=True)
    assert path.read_bytes() == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


@given(st.binary(max_size=200), st.binary(max_size=200), st.sampled_from([0o600, 0o644, 0o400]), st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
def test_what_was_written_is_there_with_its_mode(tmp_path, first, second, mode, durable):
    path = tmp_path / "file"
    for data in (first, second):
        write_atomically(path, data, mode=mode, durable=durable)
        assert path.read_bytes() == data
        assert path.stat().st_mode & 0o777 == mode


def test_of_several_that_make_a_file_once_the_first_wins(tmp_path):
    path, results, barrier = tmp_path / "key", [], threading.Barrier(8)

    def make(n):
        barrier.wait()
        results.append(write_once(path, bytes([n]) * 32))

    threads = [threading.Thread(target=make, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(results) == {path.read_bytes()}
    assert write_once(path, b"other") == path.read_bytes() != b"other"
    assert [one.name for one in tmp_path.iterdir()] == ["key"]
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o602, 0o644])
def test_a_private_file_that_others_may_read_or_write_is_refused(tmp_path, mode):
    path = tmp_path / "key"
    path.write_bytes(b"x")
    path.chmod(mode)
    with pytest.raises(OperatorFault, match="others may read") as caught:
        read_private(path)
    assert str(path) in caught.value.hint
