"""A real Envoy in front of a real upstream, an identity stub and a guard whose answers a test chooses."""

import http.client
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from ostiary.envoy.access import Signals, signal_resources
from ostiary.envoy.daemon import environment
from ostiary.envoy.listener import CERTIFICATE, bootstrap, certificate_file
from ostiary.envoy.resource import Edge
from ostiary.envoy.translate import Population, translate
from ostiary.event.record import read, shape
from ostiary.foundation.home import Home
from ostiary.foundation.ids import role_set_id
from ostiary.plan.model import Plan
from upstream import Echo, Server, UnixServer

BINARY = next(Path(path) for path in sys.path if (Path(path) / "envoy/_bin/envoy").exists()) / "envoy/_bin/envoy"
ISSUER = "https://gate.test/identity"
PATIENCE_S = 10.0


class AdminConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("envoy", timeout=5)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(str(self.path))


class Gate:
    """`apply` writes files and waits until Envoy reports them; `ask` sends one request over one open connection."""

    def __init__(self, *, plain: bool = True, **edge: Any) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="ost-", dir="/tmp"))
        home = Home(root=self.root)
        home.create()
        (home.envoy / "ecds").mkdir()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        nothing = self.root / "none"
        edge = {"certificate": nothing, "key": nothing, **edge}
        self.edge = Edge(listen="127.0.0.1", port=port, host="gate.test", issuer=ISSUER, home=home, plain=plain, **edge)
        self.key = ECKey.generate_key("P-256", parameters={"kid": "k1"})
        self.jwks = {"keys": [{**self.key.as_dict(private=False), "kid": "k1"}]}
        self.guard_reply: Any = lambda _: (200, {"authorization": "Session erp"}, "")
        self.erp_reply: Any = lambda _: (200, {}, None)
        self.upstream = Server(("127.0.0.1", 0), Echo).start(lambda seen: self.erp_reply(seen))  # noqa: PLW0108  a test replaces it later
        self.guard = UnixServer(str(home.socket("guard")), Echo).start(lambda seen: self.guard_reply(seen))  # noqa: PLW0108
        self.identity = UnixServer(str(home.socket("identity")), Echo).start(
            lambda _: (200, {"set-cookie": "sign-in=1"}, None)
        )
        self.process: subprocess.Popen[bytes] | None = None
        self.connections: dict[str, http.client.HTTPConnection] = {}  # by source address, kept open

    @property
    def upstream_url(self) -> str:
        return f"http://127.0.0.1:{self.upstream.server_port}"

    def write(self, resources: Mapping[str, Any]) -> None:
        order = ["cds.json", "lds.json", "ecds/", "rds.json"]  # what is named must be there first
        for name in sorted(resources, key=lambda name: [not name.startswith(kind) for kind in order]):
            path = self.edge.home.envoy / name
            beside = path.with_suffix(".new")
            beside.write_bytes(msgspec.json.encode(resources[name]))
            beside.replace(path)

    def files(self, plan: Plan, role_sets: Any = (), **more: Any) -> dict[str, Any]:
        sets = {role_set_id(names): frozenset(names) for names in role_sets}
        return dict(translate(plan, Population(role_sets=sets, jwks=self.jwks, **more), self.edge))

    def start(self, resources: Mapping[str, Any], signals: Signals | None = None) -> None:
        resources = {**resources, **signal_resources(signals or Signals())}
        self.write(resources)
        (self.edge.home.envoy / CERTIFICATE).write_bytes(msgspec.json.encode(certificate_file(self.edge)))
        config = self.edge.home.envoy / "bootstrap.json"
        config.write_text(json.dumps(bootstrap(self.edge)))
        arguments = [str(BINARY), "-c", str(config), "--concurrency", "1", "--disable-hot-restart", "-l", "warning"]
        arguments += ["--file-flush-interval-msec", "1"]
        with (self.root / "envoy.log").open("wb") as log:
            self.process = subprocess.Popen(arguments, stderr=log, stdout=log, env=environment(self.edge.zone))
        self.wait_for(resources)

    def apply(self, resources: Mapping[str, Any]) -> None:
        self.write(resources)
        self.wait_for(resources)

    def wait_for(self, resources: Mapping[str, Any]) -> None:
        wanted = {
            name: value["version_info"]
            for name, value in resources.items()
            if name.startswith("ecds/") or name == "rds.json"
        }
        until = time.monotonic() + PATIENCE_S
        while True:
            have = self.versions()
            missing = {name for name, version in wanted.items() if have.get(name) != version}
            if not missing:
                return
            if time.monotonic() > until:
                raise AssertionError(f"not live: {missing}\n{(self.root / 'envoy.log').read_text()[-12000:]}")
            time.sleep(0.01)

    def versions(self) -> dict[str, str]:
        """By file, from the statistics: a dump of a large configuration stops Envoy for seconds."""
        try:
            found = self.admin("/stats?format=json&filter=version_text$")["stats"]
        except (OSError, http.client.HTTPException):
            return {}
        names = {one["name"].removesuffix(".version_text"): one["value"] for one in found if "name" in one}
        ecds = "extension_config_discovery.http_filter."
        live = {f"ecds/{n.removeprefix(ecds)}.json": value for n, value in names.items() if n.startswith(ecds)}
        return live | {"rds.json": names.get("http.gate.rds.routes", "")}

    def admin(self, path: str) -> Any:
        connection = AdminConnection(self.edge.home.socket("envoy"))
        try:
            connection.request("GET", path)
            return json.loads(connection.getresponse().read() or b"{}")
        finally:
            connection.close()

    def token(self, roles: Any = (), *, system: str = "shop", scope: str = "", key: Any = None, **claims: Any) -> str:
        now = datetime.now(UTC)
        header = {"alg": "ES256", "typ": "at+jwt", "kid": "k1"}
        payload = {
            "iss": ISSUER,
            "aud": f"https://{system}.test",
            "iat": int(now.timestamp()),
            "exp": int((now + timedelta(minutes=10)).timestamp()),
            "jti": "j1",
            "sub": "client:shop",
            "client_id": "shop",
            "scope": scope,
            "sc": f" {scope} ",
            "grant": "g1",
            "gen": "client:shop#1",
            "rs": role_set_id(roles),
            **claims,
        }
        payload = {name: value for name, value in payload.items() if value is not None}
        return jwt.encode(header, payload, key or self.key, algorithms=["ES256"])

    def ask(
        self, path: str, *, method: str = "GET", host: str = "shop.test", token: str = "", body: Any = None,
        headers: Mapping[str, str] | None = None, source: str = "127.0.0.1",
    ) -> "Answer":  # fmt: skip
        connection = self.connections.get(source)
        if connection is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.edge.port, timeout=10, source_address=(source, 0))
            self.connections[source] = connection
        sent = {"host": host, **(headers or {})}
        if token:
            sent["authorization"] = f"Bearer {token}"
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in sent.items():
                connection.putheader(name, value)
            if body is not None and not {"content-length", "transfer-encoding"} & set(sent):
                connection.putheader("content-length", str(len(body)))
            connection.endheaders(body)
            reply = connection.getresponse()
            return Answer(reply)
        except (OSError, http.client.HTTPException):
            connection.close()
            raise

    def log(self, decision: str) -> Any:
        """The access log's line for this decision."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            for line in reversed(self.edge.home.access_log.read_bytes().splitlines()):
                event = read(line) if decision.encode() in line else None
                if event is not None and event.decision == decision:
                    return shape(event)
            time.sleep(0.005)
        raise AssertionError(f"no line for {decision}")

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)
        for connection in self.connections.values():
            connection.close()
        for server in (self.upstream, self.guard, self.identity):
            server.shutdown()
            server.server_close()
        shutil.rmtree(self.root)


class Answer:
    def __init__(self, reply: http.client.HTTPResponse) -> None:
        self.status = reply.status
        self.headers = {name.lower(): value for name, value in reply.getheaders()}
        self.text = reply.read().decode("latin-1")

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def decision(self) -> str:
        return self.headers["ostiary-decision"]

    @property
    def reason(self) -> str:
        return str(self.json["reason"]) if self.headers.get("content-type") == "application/problem+json" else "allowed"


@pytest.fixture(scope="module")
def gate() -> Iterator[Gate]:
    one = Gate()
    try:
        yield one
    finally:
        one.stop()


@pytest.fixture(scope="session")
def make_gate() -> Any:
    return Gate
