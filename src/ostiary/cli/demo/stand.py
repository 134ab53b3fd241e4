"""`ostiary demo`: a throw-away folder, Ostiary up at once, the real ERP behind it as soon as it is built."""

import os
import signal
import socket
import subprocess
import sys
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from secrets import token_urlsafe
from tempfile import TemporaryDirectory
from typing import Final
from urllib.parse import urlencode

import click

from ostiary.cli.demo.erp import STOP, DemoErp, Progress, prepare, running, serving
from ostiary.cli.terminal import ask, pasteable
from ostiary.control.prepare import initialise
from ostiary.foundation.errors import OstiaryError, SystemFault
from ostiary.foundation.home import Home, write_atomically
from ostiary.foundation.secret import Secret

POLICY: Final = Path(__file__).with_name("policy.yaml")
UPSTREAM_IN_POLICY: Final = "http://127.0.0.1:8000"
SYSTEM: Final = "erp"
CLIENT: Final = ("shop", "sales", "clerk")  # client, role, and the ERP user it acts as
PEOPLE: Final = (("anna", "payments", "approver"), ("ben", "payments", "treasurer"))
READER: Final = "gateway"  # the ERP user by whom the guard reads links and origins
PORTAL: Final = "portal"  # the public client that people sign in with
PORTAL_REDIRECT: Final = "http://127.0.0.1/back"
COMMANDS: Final = ("explain ID", "event list", "policy diff", "policy apply")  # that it tells of
CACHE: Final = "~/.cache/ostiary"
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


def demo() -> None:
    """A real ERP behind the gate, on loopback, until Ctrl-C."""
    clear_up_when_told_to_stop()
    say = progress()
    with stand(say) as on:
        click.echo(lines("gate", on))
        with real_erp(on, cache(), say):
            click.echo(lines("erp", on))
            with suppress(KeyboardInterrupt):
                signal.pause()
    click.echo("stopped; nothing is left but the cache")


def cache() -> Path:
    """Where the installed ERP is kept between starts (or OSTIARY_CACHE)."""
    return Path(os.environ.get("OSTIARY_CACHE", CACHE)).expanduser().absolute()


def progress() -> Progress:
    """Says what is done and how long it has taken; on standard error, so that results stay clean."""
    began = time.monotonic()
    return lambda text: click.echo(f"  {time.monotonic() - began:5.1f} s  {text}", err=True)


def clear_up_when_told_to_stop() -> None:
    """The first Ctrl-C or SIGTERM ends it: what was started is stopped, the folder removed. More change nothing."""

    def stop(*_: object) -> None:
        for number in STOP:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in STOP:
        signal.signal(number, stop)


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


def lines(about: str, on: Stand) -> str:
    """What can be tried: with the `gate`, while the ERP is still being built; with the `erp`, when that answers."""
    verifier = token_urlsafe(48)
    told = {command.replace(" ", "_"): pasteable(command, on.home.root) for command in COMMANDS}
    # HTTP/1.1: an older curl hides a refusal that comes before the body is sent behind an error of HTTP/2.
    told |= {"curl": f"curl --http1.1 --cacert {on.authority}", "portal": PORTAL, "redirect": PORTAL_REDIRECT}
    told |= {"verifier": verifier, "sign_in": authorization(PORTAL, PORTAL_REDIRECT, verifier)}
    return Path(__file__).with_name(f"{about}.txt").read_text("utf-8").format(on=on, **told)


def authorization(client: str, redirect: str, verifier: str, **more: str) -> str:
    """Where a browser begins to sign in: a path and its query, with PKCE (RFC 7636)."""
    challenge = urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    asked = {"response_type": "code", "client_id": client, "redirect_uri": redirect, "code_challenge": challenge}
    return f"/identity/authorize?{urlencode({**asked, 'code_challenge_method': 'S256', **more})}"
