"""A real ERP to try things on: Tryton from PyPI, pinned by hash, in a folder of its own, seeded, on loopback only."""

import fcntl
import json
import os
import platform
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import httpx
from uv import find_uv_bin

from ostiary.control import child
from ostiary.control.process import listen_on_loopback
from ostiary.foundation.errors import SystemFault
from ostiary.foundation.files import PRIVATE, write_atomically
from ostiary.foundation.secret import Secret

DATABASE = "erp"
# A template is a folder with an installed Tryton and its seeded database, to be copied and never served itself.
VENV = "venv"
PYTHON = "venv/bin/python"
FILE = f"{DATABASE}.sqlite"
USERS = "users.json"
REQUIREMENTS = Path(__file__).with_name("erp-requirements.txt")
SEED = Path(__file__).with_name("seed.py")  # a script of the ERP's interpreter, not a module of ours
INSTALL_TIMEOUT_S = 600
BUILD_TIMEOUT_S = 600
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 5
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


def prepare(cache: Path, progress: Progress) -> Path:
    """The template for this release, built once; a second process waits for the first instead of building too."""
    template = cache / f"tryton-{_fingerprint()}"
    cache.mkdir(parents=True, exist_ok=True, mode=0o700)
    with template.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not template.exists():
            _publish(template, progress)
    return template


def _fingerprint() -> str:
    """Changes with anything the template is made from."""
    about = f"{platform.python_version()} {platform.machine()} {platform.libc_ver()}"
    parts = (REQUIREMENTS.read_bytes(), SEED.read_bytes(), about.encode())
    return sha256(b"\0".join(parts)).hexdigest()[:16]


def _publish(template: Path, progress: Progress) -> None:
    """Builds beside `template` and renames: it exists whole or not at all."""
    beside = template.with_name(f".{template.name}.{secrets.token_hex(4)}")
    beside.mkdir(mode=0o700)
    try:
        progress("installing Tryton 8.2 from PyPI (pinned, hashes checked)")
        _install(beside)
        progress("activating party, product, account, stock, sale, purchase, payment; seeding (half a minute)")
        _run([beside / PYTHON, SEED, "build", beside], BUILD_TIMEOUT_S)
        beside.rename(template)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    progress("the demo ERP is ready to start")


def _install(template: Path) -> None:
    uv = find_uv_bin()
    pinned = ("--require-hashes", "--only-binary", ":all:", "-r", REQUIREMENTS)
    _run([uv, "venv", "-q", "--python", sys.executable, template / VENV], INSTALL_TIMEOUT_S)
    _run([uv, "pip", "install", "-q", "--python", template / PYTHON, *pinned], INSTALL_TIMEOUT_S)


def _run(command: Sequence[str | Path], timeout_s: int) -> None:
    """In a session of its own: Ctrl-C is ours to pass on, or its last words would look like a failure."""
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        try:
            _, said = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            said = f"{command[0]} was stopped after {timeout_s} s".encode()
        finally:
            child.stop([process], STOP_TIMEOUT_S)
    if process.returncode:
        told = f"the demo ERP could not be built:\n{said[-LOG_TAIL_BYTES:].decode(errors='replace')}"
        hint = "see the text above; a package index must be reachable, and 150 MB of disk free"
        raise SystemFault("demo-erp-build", told, hint=hint)


def start(template: Path, folder: Path, port: int = 0) -> DemoErp:
    """Serves the database of `folder`, a copy of the template's unless it is there; returns when it answers."""
    database = folder / "db" / FILE
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    database.parent.mkdir(exist_ok=True)
    if not database.exists():
        write_atomically(database, (template / FILE).read_bytes())
    with listen_on_loopback(port) as listener:  # bound here, so that a free port stays ours until the server has it
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        process = _serve(template, folder, listener)
    known = json.loads((template / USERS).read_bytes())
    erp = DemoErp(
        url=url,
        database=DATABASE,
        users={login: Secret(user["password"]) for login, user in known.items()},
        uids={login: user["uid"] for login, user in known.items()},
        folder=folder,
        process=process,
    )
    _wait_for_answer(erp)
    return erp


def _serve(template: Path, folder: Path, listener: socket.socket) -> subprocess.Popen[bytes]:
    """The server dies with the thread that started it (prctl(2), PR_SET_PDEATHSIG)."""
    conf = folder / "trytond.conf"
    text = CONFIGURATION.format(path=folder / "db", port=listener.getsockname()[1])
    write_atomically(conf, text.encode())
    arguments = ["serve", str(conf), str(listener.fileno()), str(os.getpid())]
    return spawn([template / PYTHON, SEED, *arguments], folder / "server.log", [listener.fileno()])


def spawn(command: Sequence[str | Path], log: Path, kept: Sequence[int] = ()) -> subprocess.Popen[bytes]:
    """In a session of its own, for Ctrl-C is ours to pass on; its words go to `log` (0600), `kept` stay open for it."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, PRIVATE)
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
