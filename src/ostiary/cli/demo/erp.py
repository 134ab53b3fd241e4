"""A real ERP to try things on: Tryton from PyPI, pinned by hash, in a folder of its own, seeded, on loopback only."""

import fcntl
import json
import os
import platform
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from threading import Event

import httpx

from ostiary.control import child
from ostiary.foundation.errors import SystemFault
from ostiary.foundation.files import write_atomically
from ostiary.foundation.secret import Secret

DATABASE = "erp"
USERS = ("admin", "clerk", "buyer", "payer", "approver", "treasurer", "acct", "gateway")
REQUIREMENTS = Path(__file__).with_name("erp-requirements.txt")
SEED = Path(__file__).with_name("seed.py")  # a script of the ERP's interpreter, not a module of ours
INSTALL_TIMEOUT_S = 600
BUILD_TIMEOUT_S = 600
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 5
LOOK_EVERY_S = 0.1  # whether a build is still wanted
LOG_TAIL_BYTES = 2000
CONFIGURATION = """\
[database]
uri = sqlite://
path = {path}
list = False

[web]
listen = 127.0.0.1:{port}
root =
num_proxies = 1

[session]
timeout = 3600
max_age = 86400
"""

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """An installed Tryton and its seeded database, to be copied and never served itself."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "venv" / "bin" / "python"

    @property
    def database(self) -> Path:
        return self.folder / f"{DATABASE}.sqlite"

    @property
    def users(self) -> Path:
        return self.folder / "users.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoErp:
    """A running Tryton. `url` has no path; the RPC stands at `{url}/{database}/rpc/`."""

    url: str
    database: str
    users: Mapping[str, Secret]
    uids: Mapping[str, int]
    folder: Path
    process: subprocess.Popen[bytes]

    def stop(self) -> None:
        child.stop([self.process], STOP_TIMEOUT_S)


def prepare(cache: Path, progress: Progress, stop: Event | None = None) -> Template:
    """The template for this release, built once; a second process waits for the first instead of building too.

    Once `stop` is set a build is given up: it raises, and what was built so far is removed.
    """
    template = Template(folder=cache / f"tryton-{_fingerprint()}")
    cache.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _locked(cache / f"{template.folder.name}.lock"):
        if not template.folder.exists():
            _publish(template.folder, progress, stop or Event())
    return template


def _fingerprint() -> str:
    """Changes with anything the template is made from."""
    about = f"{platform.python_version()} {platform.machine()} {platform.libc_ver()}"
    parts = (REQUIREMENTS.read_bytes(), SEED.read_bytes(), about.encode())
    return sha256(b"\0".join(parts)).hexdigest()[:16]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _publish(target: Path, progress: Progress, stop: Event) -> None:
    """Builds beside `target` and renames: it exists whole or not at all."""
    beside = Template(folder=target.with_name(f".{target.name}.{secrets.token_hex(4)}"))
    beside.folder.mkdir(mode=0o700)
    try:
        progress("installing Tryton 8.2 from PyPI (pinned, hashes checked)")
        _install(beside.folder / "venv", stop)
        progress("activating party, product, account, stock, sale, purchase, payment; seeding (half a minute)")
        users = {login: {"password": secrets.token_urlsafe(18)} for login in USERS}
        write_atomically(beside.users, json.dumps(users).encode())
        _run([beside.python, SEED, "build", beside.folder], BUILD_TIMEOUT_S, stop)
        beside.folder.rename(target)
    finally:
        shutil.rmtree(beside.folder, ignore_errors=True)
    progress("the demo ERP is ready to start")


def _install(venv: Path, stop: Event) -> None:
    if uv := shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"):
        _run([uv, "venv", "-q", "--python", sys.executable, venv], INSTALL_TIMEOUT_S, stop)
        install: list[str | Path] = [uv, "pip", "install", "-q", "--python", venv / "bin" / "python"]
    else:
        _run([sys.executable, "-m", "venv", venv], INSTALL_TIMEOUT_S, stop)
        install = [venv / "bin" / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    _run([*install, "--require-hashes", "--only-binary", ":all:", "-r", REQUIREMENTS], INSTALL_TIMEOUT_S, stop)


def _run(command: Sequence[str | Path], timeout_s: int, stop: Event) -> None:
    """In a session of its own: Ctrl-C is ours to pass on, or its last words would look like a failure."""
    hint = "see the text above; a package index must be reachable, and 150 MB of disk free"
    until, said = time.monotonic() + timeout_s, b""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        while process.returncode is None:
            try:
                _, said = process.communicate(timeout=LOOK_EVERY_S)
            except subprocess.TimeoutExpired:
                if stop.is_set() or time.monotonic() > until:
                    os.killpg(process.pid, signal.SIGKILL)
    if process.returncode:
        tail = (
            said[-LOG_TAIL_BYTES:].decode(errors="replace") or f"{command[0]} was stopped, after {timeout_s} s at most"
        )
        raise SystemFault("demo-erp-build", f"the demo ERP could not be built:\n{tail}", hint=hint)


def start(template: Template, folder: Path, port: int | None = None) -> DemoErp:
    """Serves the database of `folder`, a copy of the template's unless it is there; returns when it answers."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    (folder / "db").mkdir(exist_ok=True)
    _copy_database(template, folder / "db")
    listener = _listen(port)
    with listener:
        port = listener.getsockname()[1]
        process = _serve(template, folder, listener)
    known = json.loads(template.users.read_bytes())
    erp = DemoErp(
        url=f"http://127.0.0.1:{port}",
        database=DATABASE,
        users={login: Secret(user["password"]) for login, user in known.items()},
        uids={login: user["uid"] for login, user in known.items()},
        folder=folder,
        process=process,
    )
    _wait_for_answer(erp)
    return erp


def _copy_database(template: Template, folder: Path) -> None:
    target = folder / template.database.name
    if not target.exists():
        write_atomically(target, template.database.read_bytes())


def _listen(port: int | None) -> socket.socket:
    """On loopback; bound here, so that a free port stays ours until the server has it."""
    try:
        return socket.create_server(("127.0.0.1", port or 0), backlog=128)
    except OSError as taken:
        told = f"port {port} on loopback: {os.strerror(taken.errno or 0)}"
        raise SystemFault("demo-erp-port", told, hint="name a free port, or none") from taken


def _serve(template: Template, folder: Path, listener: socket.socket) -> subprocess.Popen[bytes]:
    """The server dies with the thread that started it (prctl(2), PR_SET_PDEATHSIG)."""
    conf = folder / "trytond.conf"
    text = CONFIGURATION.format(path=folder / "db", port=listener.getsockname()[1])
    write_atomically(conf, text.encode())
    arguments = ["serve", str(conf), str(listener.fileno()), str(os.getpid())]
    return spawn([template.python, SEED, *arguments], folder / "server.log", [listener.fileno()])


def spawn(command: Sequence[str | Path], log: Path, kept: Sequence[int] = ()) -> subprocess.Popen[bytes]:
    """In a session of its own, for Ctrl-C is ours to pass on; its words go to `log` (0600), `kept` stay open for it."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        return subprocess.Popen(
            command, pass_fds=kept, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )


def _wait_for_answer(erp: DemoErp) -> None:
    """One question waits in the socket's queue until the server takes it: no polling."""
    question = {"id": 0, "method": "common.server.version", "params": []}
    try:
        with httpx.Client(trust_env=False, timeout=START_TIMEOUT_S) as client:
            client.post(f"{erp.url}/rpc/", json=question).raise_for_status()
    except httpx.HTTPError as failed:
        erp.stop()
        tail = (erp.folder / "server.log").read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")
        told = f"the demo ERP did not answer:\n{tail}"
        raise SystemFault("demo-erp-start", told, hint="try a new folder") from failed
