"""A running installation for tests: the real processes and the real Envoy, before a shop that echoes.

A start takes seconds: `site` is one for all tests of a worker that leave it as it was but for clients and events;
`installed()` is for a test that spoils its own. Tests of `site` are RUNNING, those of their own APART: one worker each.
"""

import atexit
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tools.caller import Answer, Caller, machine_token

import mmdb
from databases import CHOSEN, chosen
from ostiary.cli import terminal
from ostiary.cli.demo.stand import free_port
from ostiary.control import evidence, grounds
from ostiary.control.documents import files_of
from ostiary.control.prepare import initialise
from ostiary.foundation.errors import OstiaryError, retold
from ostiary.foundation.home import Home
from ostiary.foundation.secret import Secret
from upstream import Echo, Server, UnixServer

RUNNING = pytest.mark.xdist_group("running")
APART = pytest.mark.xdist_group("apart")  # tests with an installation of their own, one after the other
OF_A_FILE = pytest.mark.skipif(CHOSEN != "sqlite", reason="of the file that SQLite writes")
PATIENCE_S = 40.0
SECOND, THIRD = 65_534, 65_533  # users that act beside us
ADMINISTRATORS = [str(os.getuid()), str(SECOND), str(THIRD)]
LOOK_EVERY_S = 0.02
READS = {"explain": grounds.explain, "audit.list": evidence.list_entries}  # what nothing needs to run for
STOLEN = "seven stolen lanterns"  # the password that is on the list
CLOSE = {"connection": "close"}  # else the gate would go on with its open connection to a stub that is gone
SPEC = """\
openapi: 3.1.0
info: {title: Shop, version: "1"}
paths:
  /orders:
    get:
      tags: [Order]
      parameters:
        - {name: limit, in: query, schema: {type: integer, maximum: 100}}
        - {name: mail, in: query, schema: {type: string, format: email}}
    post:
      tags: [Order]
      requestBody:
        required: true
        content: {application/json: {schema: {$ref: "#/components/schemas/Order"}}}
  /orders/{id}:
    parameters: [{name: id, in: path, required: true, schema: {type: integer, minimum: 1}}]
    get: {tags: [Order]}
    delete: {tags: [Order]}
  /invoices: {get: {tags: [Invoice]}}
  /stock: {get: {tags: [Stock]}}
  /reports: {post: {x-ostiary: {object: report, verb: execute, action: run}}}
components:
  schemas:
    Order:
      type: object
      required: [lines]
      additionalProperties: false
      properties:
        customer: {type: string, maxLength: 40}
        due: {type: string, format: date}
        lines: {type: array, items: {type: object, properties: {qty: {type: integer, minimum: 1, maximum: 1000}}}}
"""
POLICY = """\
policy: test

systems:
  shop: {{kind: openapi, at: localhost/shop, upstream: "{upstream}", spec: "{spec}"}}

departments:
  sales: {{}}

contexts:
  never-open: {{networks: [198.51.100.0/24]}}

roles:
  clerk: {{level: user, of: sales, may: ["order: read, write", "stock: read"]}}
  packer: {{level: user, of: sales, may: {{do: "order: write", fields: [lines]}}}}
  visitor: {{level: user, of: sales, may: ["stock: read"]}}
  elsewhere: {{level: user, of: sales, may: ["invoice: read"], when: never-open}}

limits:
  anonymous: {{requests: {anonymous}/minute}}
  default: {{requests: {default}/hour, body: 1 MB}}
"""
AS_ROOT = pytest.mark.skipif(os.getuid() != 0, reason="only root can act as somebody else")
AS_ANOTHER = """
import ctypes, json, os, sys
from pathlib import Path
from ostiary.cli import terminal
from ostiary.foundation.errors import OstiaryError, told
from ostiary.foundation.home import Home

os.seteuid(int(sys.argv[1]))  # the peer's user, as the kernel tells it
ctypes.CDLL(None).setfsuid(0)  # whose files may be used
root, operation, parameters = json.load(sys.stdin)
try:
    print(json.dumps({"result": terminal.ask(Home(root=Path(root)), operation, **parameters)}))
except OstiaryError as problem:
    print(json.dumps({"error": told(problem)}))
"""


class Done(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Running:
    """One installation in a short folder of its own; `log` holds what all its processes say."""

    def __init__(self, *, root: Path | None = None, **settings: Any) -> None:
        self.root = root or Path(tempfile.mkdtemp(prefix="ost-", dir="/tmp"))
        self.home, self.log = Home(root=self.root / "home"), self.root / "log"
        self.upstream = Server(("127.0.0.1", 0), Echo).start(lambda _: (200, {}, None))
        given = self.root / "specs" / "shop.openapi.yaml"  # for policies beside the installation, too
        given.parent.mkdir()
        given.write_text(SPEC)
        self.spec = self.home.specs / given.name
        self.secrets: dict[str, Secret] = {}
        self.process: subprocess.Popen[bytes] | None = None
        self._callers: list[Caller] = []
        self._tokens: dict[str, str] = {}
        self.port = free_port()
        self.after = ExitStack()
        self.store = self.after.enter_context(chosen())
        initialise(self.home, text=self.policy(), spec=given, port=self.port, store=self.store)
        self.revision = (self.home.plans / "current").read_text()
        self.hooks: Server | None = None  # who gets the alerts
        self.settings(envoy_workers=1, **settings)

    @property
    def origin(self) -> str:
        return f"https://localhost:{self.port}"

    @property
    def authority(self) -> Path:
        return self.home.keys / "ca.crt"

    def policy(self, *changes: tuple[str, str], anonymous: int = 60_000, default: int = 600_000) -> str:
        """The policy it starts with, with words exchanged."""
        upstream = f"http://127.0.0.1:{self.upstream.server_port}"
        text = POLICY.format(upstream=upstream, spec=f"specs/{self.spec.name}", anonymous=anonymous, default=default)
        for before, after in changes:
            assert before in text, before
            text = text.replace(before, after)
        return text

    def settings(self, **settings: Any) -> None:
        """Adds to settings.toml; counts from the next start."""
        lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items())
        self.home.settings.write_text(self.home.settings.read_text() + lines)

    def begin(self, first: str = "pass") -> subprocess.Popen[bytes]:
        """Starts `ostiary up`, and does not wait. `first`: a statement that shortens what it waits for."""
        code = (
            f"import sys; from ostiary.control import members, reconcile, up; {first}; sys.exit(up.main(sys.argv[1:]))"
        )
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code, self.home.root, "--with-parent", str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self.process

    def start(self, first: str = "pass") -> "Running":
        self.begin(first)
        self.wait_until_up()
        return self

    def wait_until_up(self, *, without: Sequence[str] = ()) -> None:
        """Until every part is in order, but those of `without`."""

        def up() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, self.tail()
            with suppress(OstiaryError):
                return all(part["ok"] for part in self.ask("status")["parts"] if part["name"] not in without)
            return False

        until(up, self.tail)

    def stop(self) -> int:
        """Ends it as Ctrl-C would; its exit code."""
        for caller in self._callers:
            caller.close()
        self._callers.clear()
        if self.process is None:
            return 0
        self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def remove(self) -> None:
        try:
            self.stop()
        finally:
            self.upstream.stop()
            shutil.rmtree(self.root, ignore_errors=True)
            self.after.close()

    def tail(self) -> str:
        return self.log.read_text("utf-8", "replace")[-3_000:] if self.log.exists() else ""

    def ask(self, operation: str, **parameters: Any) -> Any:
        if read := READS.get(operation):
            return read(self.home, **parameters)
        return terminal.ask(self.home, operation, **parameters)

    def ask_as(self, uid: int, operation: str, **parameters: Any) -> Any:
        """As another user, to whom our folders are open all the same: root alone can do that."""
        told = json.dumps([str(self.home.root), operation, parameters])
        command = [sys.executable, "-c", AS_ANOTHER, str(uid)]
        done = subprocess.run(command, input=told, capture_output=True, text=True, check=True)
        answer = json.loads(done.stdout)
        if "error" in answer:
            raise retold(answer["error"])
        return answer["result"]

    def apply(self, text: str, **parameters: Any) -> Any:
        return self.ask("policy.apply", **self.document(text), **parameters)

    def document(self, text: str) -> dict[str, Any]:
        """The text as the policy's file, with what belongs to it."""
        path = self.home.policy
        return {"document": {"text": text, "file": str(path), "files": files_of(path.parent, path.name, text)}}

    def ostiary(self, *arguments: str, given: str = "", environment: Mapping[str, str] = {}) -> Done:
        """The command in a process of its own."""
        command = [sys.executable, "-c", "from ostiary.cli.main import main; main()", *arguments]
        done = subprocess.run(
            command,
            input=given,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            cwd=self.root,
            env={**os.environ, "OSTIARY_HOME": str(self.home.root), **environment},
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def caller(self, token: str = "") -> Caller:
        """A connection that stays open, closed with the installation."""
        self._callers.append(Caller(self.origin, self.authority, token))
        return self._callers[-1]

    def once(self, method: str, path: str, body: bytes = b"", *, token: str = "", **headers: str) -> Answer:
        """One request on a connection of its own."""
        caller = Caller(self.origin, self.authority, token)
        try:
            return caller.send(method, path, body, **headers)
        finally:
            caller.close()

    def client(self, name: str, *roles: str, **more: Any) -> str:
        """A new client, and a token of it."""
        made = self.ask("client.add", client_id=name, roles=list(roles), **more)
        self.secrets[name] = Secret(made["client_secret"])
        return self.fresh(name)

    def fresh(self, name: str) -> str:
        """A new token for a client."""
        caller = Caller(self.origin, self.authority)
        try:
            answer = machine_token(caller, name, self.secrets[name])
        finally:
            caller.close()
        assert answer.status == 200, answer
        return str(answer.json()["access_token"])

    def token(self, role: str) -> str:
        """A token of the client `role-client`, which holds just this role; the same one each time."""
        if role not in self._tokens:
            self._tokens[role] = self.client(f"{role}-client", role)
        return self._tokens[role]

    @contextmanager
    def instead_of(self, name: str) -> Iterator[Server]:
        """A stub that sees what the gate sends to one of our processes, which is killed and comes back afterwards."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)  # it would start another one
        os.kill(self.children()[name], signal.SIGKILL)
        self.home.socket(name).unlink()
        stub = UnixServer(str(self.home.socket(name)), Echo).start(lambda _: (200, CLOSE, None))
        try:
            yield stub
        finally:
            stub.stop()
            self.process.send_signal(signal.SIGCONT)
            self.wait_until_up(without=["watch"])

    def children(self) -> dict[str, int]:
        """Process ids of what `up` started, by name."""
        assert self.process is not None
        found = {}
        for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split():
            with suppress(OSError):
                found[Path(f"/proc/{pid}/comm").read_text().strip()] = int(pid)
        return found


@contextmanager
def installed(**settings: Any) -> Iterator[Running]:
    """Made and removed, not started."""
    made = Running(**settings)
    try:
        yield made
    finally:
        made.remove()


@cache
def shared() -> Running:
    """The one of this worker, with all that a setting turns on; gone with it."""
    hooks = Server(("127.0.0.1", 0), Echo).start(lambda _: (204, {}, ""))
    places = mmdb.write(Path(tempfile.mkdtemp(prefix="ost-", dir="/tmp")) / "places.mmdb", {"203.0.113.0/24": "DE"})
    atexit.register(shutil.rmtree, places.parent)
    stolen = places.with_name("stolen.txt")
    stolen.write_text(f"{hashlib.sha1(STOLEN.encode()).hexdigest().upper()}:3\n")
    made = Running(
        geoip_database=str(places),
        breached_passwords=str(stolen),
        trusted_hops=1,
        ask_client_certificate=True,
        metrics_port=free_port(),
        webhook=f"http://127.0.0.1:{hooks.server_port}/alerts",
        administrators=ADMINISTRATORS,
    )
    made.hooks = hooks
    atexit.register(hooks.stop)
    atexit.register(made.remove)
    return made.start()


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short enough for the sockets of an installation."""
    made = Path(tempfile.mkdtemp(prefix="ost-", dir="/tmp"))
    yield made
    shutil.rmtree(made)


@pytest.fixture
def site() -> Iterator[Running]:
    """Running, with the policy it started with."""
    made = shared()
    yield made
    if (made.home.plans / "current").read_text() != made.revision:
        made.apply(made.policy())


def until(holds: Callable[[], Any], told: Callable[[], str] = str, patience_s: float = PATIENCE_S) -> Any:
    """What `holds` answers as soon as it is true; fails with what is `told` when it never is."""
    last = time.monotonic() + patience_s
    while not (found := holds()):
        assert time.monotonic() < last, f"it never came true: {told()}"
        time.sleep(LOOK_EVERY_S)
    return found
