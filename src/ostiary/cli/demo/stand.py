"""The demo as a whole: a throw-away folder, Ostiary up at once, the real ERP behind it as soon as it is built."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_urlsafe
from tempfile import TemporaryDirectory
from typing import Final

from ostiary.cli.admin import ask
from ostiary.cli.demo.erp import DemoErp, Progress, prepare, running, serving
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
LOG: Final = "ostiary.log"
POLL_S: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """A running gate; whom the policy lets in is known to it, the ERP is not there yet."""

    home: Home
    origin: str
    gate: subprocess.Popen[bytes]
    erp_port: int
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
def stand(progress: Progress) -> Iterator[Stand]:
    """Ostiary in a throw-away folder; afterwards no process and no file is left."""
    with TemporaryDirectory(prefix="ostiary-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        home, port = Home(root=Path(folder) / "home"), free_port()
        erp_port = free_port(but=port)
        text = POLICY.read_text("utf-8").replace(UPSTREAM_IN_POLICY, f"http://127.0.0.1:{erp_port}")
        initialise(home, text=text, port=port)
        command, log = (sys.executable, "-m", "ostiary.control.up", home.root), home.root / LOG
        with log.open("ab") as out, running(command, stdout=out, stderr=out) as gate:
            _wait_until_up(home, gate)
            origin = f"https://localhost:{port}"
            progress(f"the gate is up at {origin}; without a token nobody passes")
            made = Stand(home=home, origin=origin, gate=gate, erp_port=erp_port, secrets=_principals(home))
            _write_secrets(made)
            yield made


@contextmanager
def real_erp(on: Stand, cache: Path, progress: Progress) -> Iterator[DemoErp]:
    """The real ERP behind the gate, which knows as whom each call arrives there; afterwards only `cache` is left."""
    with serving(prepare(cache, progress), on.home.root.parent / "erp", on.erp_port) as erp:
        accounts = [(f"client:{CLIENT[0]}", CLIENT[2]), *((f"user:{login}", user) for login, _, user in PEOPLE)]
        for principal, login in accounts:
            password = erp.users[login].reveal()
            ask(on.home, "account.set", principal=principal, system=SYSTEM, login=login, password=password)
        ask(on.home, "system.account", system=SYSTEM, login=READER, password=erp.users[READER].reveal())
        _wait_until_up(on.home, on.gate, erp=True)
        progress(f"Tryton answers at {erp.url}, and the gate knows its {len(accounts)} accounts")
        yield erp


def _write_secrets(running: Stand) -> None:
    """Private files (0600) in the throw-away folder, to paste from."""
    shop = f"user = {CLIENT[0]}:{running.secrets[CLIENT[0]].reveal()}\n"
    write_atomically(running.shop_file, shop.encode())
    people = "".join(f"{login} {running.secrets[login].reveal()}\n" for login, _, _ in PEOPLE)
    write_atomically(running.passwords, people.encode())


def free_port(*, but: int = 0) -> int:
    """One at which nobody listens, and not this one: asked again, the kernel may tell the same."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        found = int(probe.getsockname()[1])
        return free_port(but=but) if found == but else found


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
    tail = (home.root / LOG).read_text("utf-8", "replace")[-2000:]
    raise SystemFault("demo-not-up", f"Ostiary did not come up:\n{tail}", hint="the last lines above say why")


def _principals(home: Home) -> dict[str, Secret]:
    name, role, _ = CLIENT
    made = ask(home, "client.add", client_id=name, name="The web shop", roles=[role])
    secrets = {name: Secret(made["client_secret"])}
    ask(home, "client.add", client_id=PORTAL, name="Staff portal", auth="none", redirects=[PORTAL_REDIRECT])
    for login, held, _ in PEOPLE:
        secrets[login] = Secret(token_urlsafe(18))
        ask(home, "user.add", login=login, name=login.title(), password=secrets[login].reveal(), roles=[held])
    return secrets
