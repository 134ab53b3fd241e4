"""A whole installation, as `ostiary up` runs it, and callers who speak to it over connections that stay open."""

import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.process import NotUp, free_port, running
from ostiary.cli.admin import ask
from ostiary.cli.demo.caller import Caller, basic
from ostiary.control.prepare import initialise
from ostiary.foundation.errors import OstiaryError
from ostiary.foundation.home import Home
from ostiary.foundation.secret import Secret

READY_S: Final = 60.0
# One worker, and one trusted proxy in front, so that the load can come from many addresses.
SETTINGS: Final = "envoy_workers = 1\ntrusted_hops = 1\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    name: str
    secret: Secret

    @property
    def basic(self) -> str:
        return basic(self.name, self.secret)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    home: Home
    origin: str

    def ask(self, operation: str, **parameters: Any) -> Any:
        return ask(self.home, operation, **parameters)

    def caller(self, token: str = "") -> Caller:
        return Caller(self.origin, self.home.keys / "ca.crt", token)

    def client(self, name: str, roles: Sequence[str], scopes: Sequence[str]) -> Client:
        made = self.ask("client.add", client_id=name, roles=list(roles), scopes=list(scopes))
        return Client(name=name, secret=Secret(made["client_secret"]))

    def token(self, client: Client, caller: Caller, resource: str = "") -> str:
        fields = {"grant_type": "client_credentials", **({"resource": resource} if resource else {})}
        answer = caller.form("/identity/token", basic=client.basic, **fields)
        return str(answer.json()["access_token"])

    @property
    def gate_pid(self) -> int:
        """The Envoy of this home."""
        own = str(self.home.envoy / "bootstrap.json").encode()
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if own in path.read_bytes():
                    return int(path.parent.name)
            except OSError:
                continue  # it ended meanwhile
        raise NotUp("the gate does not run")


@contextmanager
def new_home() -> Iterator[Home]:
    """An empty folder with a path short enough for sockets."""
    folder = Path(tempfile.mkdtemp(prefix="ob-", dir="/tmp"))
    try:
        yield Home(root=folder / "h")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def standing(home: Home, text: str) -> Iterator[Stand]:
    """The installation `home` with the policy `text` in force, all of its processes up."""
    port = free_port()
    initialise(home, text=text, port=port)
    with home.settings.open("a", encoding="utf-8") as settings:
        settings.write(SETTINGS)
    with up(home, port) as stand:
        yield stand


@contextmanager
def up(home: Home, port: int) -> Iterator[Stand]:
    log = home.root / "ostiary.log"
    with running([sys.executable, "-m", "ostiary.control.up", home.root], log) as process:
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline and process.poll() is None:
            if _ready(home):
                break
            time.sleep(0.02)
        else:
            raise NotUp(f"the installation does not come up:\n{log.read_text('utf-8', 'replace')[-2000:]}")
        yield Stand(home=home, origin=f"https://localhost:{port}")


def _ready(home: Home) -> bool:
    """Gate, guard and identity answer; an ERP without a catalogue is no matter here."""
    try:
        parts = ask(home, "status")["parts"]
    except OstiaryError:
        return False
    return all(part["ok"] for part in parts if part["name"] in {"gate", "guard", "identity"})
