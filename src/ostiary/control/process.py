"""A process: a child that ends with its parent, and the applications that one of our own has on its sockets."""

import asyncio
import ctypes
import gc
import math
import os
import signal
import socket
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import msgspec
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ostiary.control.installation import opened
from ostiary.foundation.errors import OstiaryError, SystemFault, told
from ostiary.foundation.home import Home

SOCKET_MODE: Final = 0o600
BACKLOG: Final = 1024
HEAD_MAX_BYTES: Final = 64 * 1024
REFUSED: Final = b"HTTP/1.1 403 -\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
# A policy of 10,000 operations is half a million objects and no cycle: with Python's own thresholds a third of the time
# that `policy apply` takes goes into looking for one, and the guard stands still meanwhile.
COLLECT_AFTER: Final = (50_000, 20, 100)
PR_SET_PDEATHSIG: Final = 1  # prctl(2)
PR_SET_NAME: Final = 15
PRIVATE_UMASK: Final = 0o077  # what no code of ours gives a mode, Envoy's log among it, is for the owner alone
POLL_S: Final = 0.02
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


class PeerProtocol(HttpToolsProtocol):
    """Tells the application who is at the other end of the socket: its user id, from the kernel (SO_PEERCRED).

    Who is not admitted is told so and let go, before anything is read of him: he holds nothing of ours.
    """

    refuse: Callable[[str], None] = staticmethod(lambda _: None)  # raises with why
    _head: float = 0  # bytes of a head that has not ended

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        connected = transport.get_extra_info("socket")
        peer = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid, uid, _ = struct.unpack("3i", peer)
        self.client = (f"uid:{uid}", pid)
        try:
            self.refuse(self.client[0])
        except OstiaryError as problem:
            answer = msgspec.json.encode({"error": told(problem)})
            transport.write(REFUSED % (len(answer), answer))
            transport.close()

    def data_received(self, data: bytes) -> None:
        self._head += len(data)
        super().data_received(data)
        if self._head > HEAD_MAX_BYTES:
            self.transport.abort()

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._head = -math.inf  # its body is bounded by who reads it

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._head = 0


def listen(path: Path) -> socket.socket:
    """A UNIX socket at `path` that only our own user can open."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    path.chmod(SOCKET_MODE)
    if stat.S_IMODE(path.stat().st_mode) != SOCKET_MODE:
        raise PermissionError(f"{path} is open to others")
    listener.listen(BACKLOG)
    return listener


class _Server(uvicorn.Server):
    """Leaves signals to `serve`: uvicorn ends the process by the signal, before anything of ours is closed."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Served(NamedTuple):
    """An application on a socket; `refuse` raises where that actor may not even ask."""

    app: Any
    listener: socket.socket
    refuse: Callable[[str], None] = PeerProtocol.refuse


def server(one: Served) -> uvicorn.Server:
    return _Server(
        uvicorn.Config(
            one.app,
            interface="asgi3",
            http=type("Peer", (PeerProtocol,), {"refuse": staticmethod(one.refuse)}),
            proxy_headers=False,  # else X-Forwarded-For would choose the actor
            lifespan="off",
            ws="none",
            access_log=False,
            log_config=None,
            server_header=False,
            date_header=False,
            timeout_keep_alive=3600,
        )
    )


def listen_on_loopback(port: int) -> socket.socket:
    """A TCP socket for those who can't read a UNIX socket; on this machine only."""
    try:
        return socket.create_server(("127.0.0.1", port), backlog=BACKLOG)
    except OSError as taken:
        why = f"port {port} on 127.0.0.1: {os.strerror(taken.errno or 0)}"
        raise SystemFault("port-taken", why, hint="choose another") from taken


async def serve(*apps: Served) -> None:
    """Serves each application on its socket until the process is told to stop, or one of them ends."""
    servers = [(server(one), one.listener) for one in apps]

    def stop() -> None:
        for one, _ in servers:
            one.should_exit = True

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    tasks = [asyncio.create_task(one.serve(sockets=[listener])) for one, listener in servers]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    stop()
    await asyncio.gather(*tasks)


def run(name: str, home: Home) -> None:
    """The process called `name`, from start to end."""
    from ostiary.control import members

    gc.freeze()  # what was imported stays; nor is it copied for being looked at
    gc.set_threshold(*COLLECT_AFTER)
    runs = {"control": members.run_control, "identity": members.run_identity, "guard": members.run_guard}
    with opened(home) as on:
        asyncio.run(runs[name](on))


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
        super().__init__(name=name, target=_become, args=(name, run, os.getpid()), daemon=True)
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
