"""Programs that run while something is measured: on one core each, stopped by their id, their CPU time counted."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

PATIENCE_S: Final = 20.0
STOP_S: Final = 10.0


class NotUp(Exception):
    """A program under test did not come up; the message ends with its own last words."""


class Cores:
    """One core for what is measured, another for what measures: then the first is the bottleneck."""

    def __init__(self) -> None:
        free = sorted(os.sched_getaffinity(0))
        self.tested = {free[0]}
        self.load = {free[1 % len(free)]}
        self.upstream = {free[2 % len(free)]} if len(free) > 2 else self.load


CORES: Final = Cores()


@contextmanager
def on(cores: set[int]) -> Iterator[None]:
    """Programs started inside run on these cores; a child has the cores of the thread that started it."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def pin(pid: int, cores: set[int]) -> None:
    """All threads of a running process, and those they start, run on these cores from now on."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), cores)


@contextmanager
def running(
    command: Sequence[str | Path], log: Path, *, env: Mapping[str, str] | None = None, cores: set[int] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """The program while the block runs; it is gone afterwards."""
    with log.open("wb") as out, on(cores or os.sched_getaffinity(0)):
        process = subprocess.Popen(list(command), stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env)
    try:
        yield process
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)
    raise NotUp(f"{process.args!r} does not listen:\n{log.read_text('utf-8', 'replace')[-2000:]}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cpu_s(pid: int) -> float:
    """CPU time that all threads of `pid` have used, from the scheduler's own nanoseconds."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            total += int((task / "schedstat").read_text("ascii").split()[0])
        except FileNotFoundError:
            continue  # the thread ended meanwhile
    return total / 1e9
