"""The demo as a whole: a throw-away folder, Ostiary up at once, the real ERP behind it as soon as it is built."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from secrets import token_urlsafe
from threading import Event
from typing import Final

from ostiary.cli.admin import ask
from ostiary.cli.demo.erp import DemoErp, Template, prepare, spawn, start
from ostiary.control import child
from ostiary.control.prepare import initialise
from ostiary.foundation.errors import OstiaryError, SystemFault
from ostiary.foundation.files import write_atomically
from ostiary.foundation.home import Home
from ostiary.foundation.secret import Secret

POLICY: Final = Path(__file__).with_name("policy.yaml")
UPSTREAM_IN_POLICY: Final = "http://127.0.0.1:8000"
SYSTEM: Final = "erp"
CLIENT: Final = ("shop", "sales", "clerk")  # client, role, and the ERP user it acts as
PEOPLE: Final = (("anna", "payments", "approver"), ("ben", "payments", "treasurer"))
READER: Final = "gateway"  # the ERP user by whom the guard reads links and origins
PORTAL: Final = "portal"  # the public client that people sign in with
PORTAL_REDIRECT: Final = "http://127.0.0.1/back"
READY_TIMEOUT_S: Final = 30
STOP_TIMEOUT_S: Final = 15
POLL_S: Final = 0.05

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """A running demo. `erp` resolves when the ERP answers and the gate knows its accounts."""

    home: Home
    origin: str
    erp: Future[DemoErp]
    secrets: dict[str, Secret]  # client secrets and people's passwords, by name

    @property
    def authority(self) -> Path:
        return self.home.keys / "ca.crt"

    @property
    def shop_file(self) -> Path:
        """The shop's credential as a line for `curl -K`: no secret in an argument list."""
        return self.home.root / "shop.curl"

    @property
    def passwords(self) -> Path:
        return self.home.root / "passwords.txt"


@contextmanager
def stand(cache: Path, progress: Progress) -> Iterator[Stand]:
    """Ostiary with a real ERP behind it; afterwards no process is left, and no file outside `cache`."""
    with ExitStack() as after:
        folder = Path(tempfile.mkdtemp(prefix="ostiary-", dir="/tmp"))
        after.callback(shutil.rmtree, folder, ignore_errors=True)
        home, gate_port, erp_port = Home(root=folder / "home"), free_port(), free_port()
        initialise(home, text=policy_text(erp_port), port=gate_port)
        gate = _start(home)
        after.callback(child.stop, [gate], STOP_TIMEOUT_S)
        _wait_until_up(home, gate)
        progress(f"the gate is up at https://localhost:{gate_port}; without a token nobody passes")
        secrets = _principals(home)
        builder, stop = ThreadPoolExecutor(1), Event()
        build = partial(prepare, cache, progress, stop)
        erp = builder.submit(_erp, home, gate, build, folder / "erp", erp_port, progress)
        after.callback(_stop_erp, builder, erp, stop)
        running = Stand(home=home, origin=f"https://localhost:{gate_port}", erp=erp, secrets=secrets)
        _write_secrets(running)
        yield running


def _write_secrets(running: Stand) -> None:
    """Private files (0600) in the throw-away folder, to paste from."""
    shop = f"user = {CLIENT[0]}:{running.secrets[CLIENT[0]].reveal()}\n"
    write_atomically(running.shop_file, shop.encode())
    people = "".join(f"{login} {running.secrets[login].reveal()}\n" for login, _, _ in PEOPLE)
    write_atomically(running.passwords, people.encode())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def policy_text(erp_port: int) -> str:
    return POLICY.read_text("utf-8").replace(UPSTREAM_IN_POLICY, f"http://127.0.0.1:{erp_port}")


def _start(home: Home) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "ostiary.control.up", str(home.root), "--with-parent", str(os.getpid())]
    return spawn(command, home.root / "ostiary.log")


def _wait_until_up(home: Home, gate: subprocess.Popen[bytes], *, erp: bool = False) -> None:
    """Until all of Ostiary is in order; with `erp`, until the gate reaches the ERP too."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline and gate.poll() is None:
        try:
            parts = ask(home, "status")["parts"]
            if all(part["ok"] for part in parts if erp or not part["name"].startswith("system ")):
                return
        except OstiaryError:
            pass
        time.sleep(POLL_S)
    tail = (home.root / "ostiary.log").read_text("utf-8", "replace")[-2000:]
    raise SystemFault("demo-not-up", f"Ostiary did not come up:\n{tail}", hint="the last lines above say why")


def _principals(home: Home) -> dict[str, Secret]:
    name, role, _ = CLIENT
    made = ask(home, "client.add", client_id=name, name="The web shop", roles=[role])
    secrets = {name: Secret(made["client_secret"])}
    ask(home, "client.add", client_id=PORTAL, name="Staff portal", public=True, redirects=[PORTAL_REDIRECT])
    for login, held, _ in PEOPLE:
        secrets[login] = Secret(token_urlsafe(18))
        ask(home, "user.add", login=login, name=login.title(), password=secrets[login].reveal(), roles=[held])
    return secrets


def _erp(  # noqa: PLR0917  handed to a thread
    home: Home,
    gate: subprocess.Popen[bytes],
    build: Callable[[], Template],
    folder: Path,
    port: int,
    progress: Progress,
) -> DemoErp:
    erp = start(build(), folder, port)
    accounts = [(f"client:{CLIENT[0]}", CLIENT[2]), *((f"user:{login}", user) for login, _, user in PEOPLE)]
    for principal, login in accounts:
        password = erp.users[login].reveal()
        ask(home, "account.set", principal=principal, system=SYSTEM, login=login, password=password)
    ask(home, "system.account", system=SYSTEM, login=READER, password=erp.users[READER].reveal())
    _wait_until_up(home, gate, erp=True)
    progress(f"Tryton answers at {erp.url}, and the gate knows its {len(accounts)} accounts")
    return erp


def _stop_erp(builder: ThreadPoolExecutor, erp: Future[DemoErp], stop: Event) -> None:
    """Gives up a build under way; the cache stays whole."""
    stop.set()
    builder.shutdown(wait=True, cancel_futures=True)
    if not erp.cancelled() and erp.exception() is None:
        erp.result().stop()
