"""A child process that ends with its parent: a program, or a copy of ourselves, which is at work at once."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any, Final, Protocol

from ostiary.foundation.errors import OstiaryError

PR_SET_PDEATHSIG: Final = 1  # prctl(2)
PR_SET_NAME: Final = 15
PRIVATE_UMASK: Final = 0o077  # what no code of ours gives a mode, Envoy's log among it, is for the owner alone
POLL_S: Final = 0.02
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


class Child(Protocol):
    """What a started process can be asked: the exit code as `subprocess` tells it, negative for a signal."""

    def poll(self) -> int | None: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...


def stop(children: Sequence[Child], timeout_s: float) -> None:
    """All are told to end, in this order; whatever has not ended within the time is killed."""
    for child in children:
        child.terminate()
    until = time.monotonic() + timeout_s
    for child in children:
        if not _ended(child, until - time.monotonic()):
            child.kill()
            _ended(child, timeout_s)


def _ended(child: Child, timeout_s: float) -> bool:
    """Whether it ends within the time."""
    until = time.monotonic() + timeout_s
    while child.poll() is None:
        if time.monotonic() > until:
            return False
        time.sleep(POLL_S)
    return True


def end_with_parent(parent: int) -> None:
    """From now on; a parent that has gone already can't be noticed any more, so then it ends here."""
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(1)


@contextmanager
def signals_wait(numbers: Iterable[signal.Signals]) -> Iterator[None]:
    """Blocked, they are heard where this process can act on them, and lost nowhere."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def program(
    command: Sequence[str | Path], environment: Mapping[str, str] | None = None, **more: Any
) -> subprocess.Popen[bytes]:
    """`more`: where its words go and what stays open for it, as `subprocess` has it."""
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is ours to pass on
        umask=PRIVATE_UMASK,
        env=environment,
        **more,
        preexec_fn=partial(_hear_signals, os.getpid()),  # noqa: PLW1509  this process has one thread
    )


def _hear_signals(parent: int) -> None:
    end_with_parent(parent)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


class Copy(ForkProcess):
    """`run` in a copy of this process: nothing has to be imported again, so one that died is back in a moment.

    This process has one thread and holds nothing open that two must not share.
    """

    def __init__(self, name: str, run: Callable[[], None]) -> None:
        super().__init__(name=name, target=_become, args=(name, run, os.getpid()))
        self.start()

    def poll(self) -> int | None:
        return self.exitcode


def _become(name: str, run: Callable[[], None], parent: int) -> None:
    os.setsid()
    os.umask(PRIVATE_UMASK)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    _LIBC.prctl(PR_SET_NAME, name.encode())
    _hear_signals(parent)
    try:
        run()
    except OstiaryError as problem:
        sys.stderr.write(f"{name}: {problem}\n")
        sys.exit(problem.exit_code)
