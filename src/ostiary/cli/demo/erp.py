"""A real ERP to try things on: Tryton from PyPI, pinned by hash, in a folder of its own, seeded, on loopback only."""

import fcntl
import json
import platform
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
from uv import find_uv_bin

from ostiary.control.process import listen_on_loopback, program, signals_wait, stop
from ostiary.foundation.errors import SystemFault
from ostiary.foundation.home import write_atomically
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
STOP_TIMEOUT_S = 15
STOP = (signal.SIGINT, signal.SIGTERM)
LOG_TAIL_BYTES = 2000
CONFIGURATION = Path(__file__).with_name("trytond.conf")

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
    with running(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            _, said = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            said = f"{command[0]} was stopped after {timeout_s} s".encode()
    if process.returncode:
        told = f"the demo ERP could not be built:\n{said[-LOG_TAIL_BYTES:].decode(errors='replace')}"
        hint = "see the text above; a package index must be reachable, and 150 MB of disk free"
        raise SystemFault("demo-erp-build", told, hint=hint)


@contextmanager
def running(command: Sequence[str | Path], **more: Any) -> Iterator[subprocess.Popen[bytes]]:
    """While the block runs; afterwards it has ended, also where Ctrl-C came while it was being started."""
    with ExitStack() as after:
        with signals_wait(STOP):
            process = after.enter_context(program(command, **more))
            after.callback(stop, [process], STOP_TIMEOUT_S)
        yield process


@contextmanager
def serving(template: Path, folder: Path, port: int = 0) -> Iterator[DemoErp]:
    """Serves the database of `folder`, a copy of the template's unless it is there; it answers, and ends with the block."""
    database, conf = folder / "db" / FILE, folder / "trytond.conf"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    database.parent.mkdir(exist_ok=True)
    if not database.exists():
        write_atomically(database, (template / FILE).read_bytes())
    known = json.loads((template / USERS).read_bytes())
    with listen_on_loopback(port) as listener, (folder / "server.log").open("ab") as out:
        port, kept = listener.getsockname()[1], listener.fileno()
        write_atomically(conf, CONFIGURATION.read_text("utf-8").format(path=database.parent, port=port).encode())
        command = (template / PYTHON, SEED, "serve", conf, str(kept))
        with running(command, stdout=out, stderr=out, pass_fds=[kept]) as process:
            listener.close()  # it was ours until the server had it, so that nobody else got the port
            erp = DemoErp(
                url=f"http://127.0.0.1:{port}",
                database=DATABASE,
                users={login: Secret(user["password"]) for login, user in known.items()},
                uids={login: user["uid"] for login, user in known.items()},
                folder=folder,
                process=process,
            )
            _wait_for_answer(erp)
            yield erp


def _wait_for_answer(erp: DemoErp) -> None:
    """One question waits in the socket's queue until the server takes it: no polling."""
    question = {"id": 0, "method": "common.server.version", "params": []}
    try:
        with httpx.Client(trust_env=False, timeout=START_TIMEOUT_S) as client:
            client.post(f"{erp.url}/rpc/", json=question).raise_for_status()
    except httpx.HTTPError as failed:
        tail = (erp.folder / "server.log").read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")
        told = f"the demo ERP did not answer:\n{tail}"
        raise SystemFault("demo-erp-start", told, hint="try a new folder") from failed
