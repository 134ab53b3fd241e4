"""A whole installation, as `ostiary up` runs it, and callers who speak to it over connections that stay open."""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tools.caller import Caller, basic

from bench.process import NotUp, free_port, running
from ostiary.cli.terminal import ask
from ostiary.control.evidence import back_up, restore_from
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

    def pid(self, name: str) -> int:
        """The process `name` (envoy, control, identity, guard) of this home."""
        own = str(self.home.root).encode()
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if (path / "comm").read_text("utf-8").strip() == name and own in (path / "cmdline").read_bytes():
                    return int(path.name)
            except OSError:
                continue  # it ended meanwhile
        raise NotUp(f"{name} does not run")


@contextmanager
def new_home() -> Iterator[Home]:
    """An empty folder with a path short enough for sockets."""
    folder = Path(tempfile.mkdtemp(prefix="ob-", dir="/tmp"))
    try:
        yield Home(root=folder / "h")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def standing(home: Home, text: str, spec: Path, *, store: str = "") -> Iterator[Stand]:
    """The installation `home` with the policy `text` in force, all of its processes up; SQLite without a `store`.

    `spec` is the OpenAPI document that the policy names as `specs/NAME`.
    """
    port = free_port()
    first = Home(root=home.root.parent / "first") if store else home
    initialise(first, text=text, spec=spec, port=port)
    if store:
        _move(first, home, store)
    with home.settings.open("a", encoding="utf-8") as settings:
        settings.write(SETTINGS)
    with up(home, port) as stand:
        yield stand


def _move(first: Home, home: Home, store: str) -> None:
    """To another database, as an operator does it."""
    file = home.root.parent / "moved.backup"
    back_up(first, file)
    restore_from(home, file, store)


@contextmanager
def up(home: Home, port: int) -> Iterator[Stand]:
    log = home.root / "ostiary.log"
    with running(
        [sys.executable, "-m", "ostiary.control.up", home.root, "--with-parent", str(os.getpid())], log
    ) as process:
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
