"""`ostiary demo`: a throw-away folder, Ostiary up at once, the real ERP behind it as soon as it is built.

That is Tryton from PyPI, pinned by hash, in a folder of its own, seeded, on loopback only.
"""

import fcntl
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from secrets import token_hex, token_urlsafe
from tempfile import TemporaryDirectory
from typing import Any, Final
from urllib.parse import urlencode

import click
import httpx
from uv import find_uv_bin

from ostiary.cli.terminal import ask, pasteable
from ostiary.control.prepare import initialise
from ostiary.control.process import listen_on_loopback, program, signals_wait, stop
from ostiary.foundation.errors import OstiaryError, SystemFault
from ostiary.foundation.home import Home, write_atomically
from ostiary.foundation.proof import hashed
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
DATABASE: Final = "erp"
# A template is a folder with an installed Tryton and its seeded database, to be copied and never served itself.
VENV: Final = "venv"
PYTHON: Final = "venv/bin/python"
FILE: Final = f"{DATABASE}.sqlite"
USERS: Final = "users.json"
REQUIREMENTS: Final = Path(__file__).with_name("erp-requirements.txt")
SEED: Final = Path(__file__).with_name("seed.py")  # a script of the ERP's interpreter, not a module of ours
INSTALL_TIMEOUT_S: Final = 600
BUILD_TIMEOUT_S: Final = 600
START_TIMEOUT_S: Final = 60
STOP_TIMEOUT_S: Final = 15
STOP: Final = (signal.SIGINT, signal.SIGTERM)
LOG_TAIL_BYTES: Final = 2000
CONFIGURATION: Final = Path(__file__).with_name("trytond.conf")

Progress = Callable[[str], None]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoErp:
    """A running Tryton. `url` has no path; the RPC stands at `{url}/{database}/rpc/`."""

    url: str
    database: str
    users: Mapping[str, Secret]
    uids: Mapping[str, int]
    folder: Path
    process: subprocess.Popen[bytes]


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


def _write_secrets(on: Stand) -> None:
    """Private files (0600) in the throw-away folder, to paste from."""
    shop = f"user = {CLIENT[0]}:{on.secrets[CLIENT[0]].reveal()}\n"
    write_atomically(on.shop_file, shop.encode())
    people = "".join(f"{login} {on.secrets[login].reveal()}\n" for login, _, _ in PEOPLE)
    write_atomically(on.passwords, people.encode())


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
        with suppress(OstiaryError):
            parts = ask(home, "status")["parts"]
            if all(part["ok"] for part in parts if erp or not part["name"].startswith("system ")):
                return
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
    asked = {"response_type": "code", "client_id": client, "redirect_uri": redirect, "code_challenge": hashed(verifier)}
    return f"/identity/authorize?{urlencode({**asked, 'code_challenge_method': 'S256', **more})}"


# --- the ERP


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
    beside = template.with_name(f".{template.name}.{token_hex(4)}")
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
