"""Envoys under test: the gate as the product configures it, and the same binary plainly proxying."""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct

from bench.process import CORES, NotUp, free_port, running, wait_for_port
from bench.shop import ISSUER, Shop
from ostiary.envoy import daemon
from ostiary.envoy.access import Signals, signal_resources
from ostiary.envoy.condition import zone_of
from ostiary.envoy.daemon import Gate, command, environment
from ostiary.envoy.resource import Edge, Resources
from ostiary.envoy.translate import Population, translate
from ostiary.foundation.home import Home
from ostiary.tls.authority import ensure

Change = Callable[[Resources], Resources]
TYPES: Final = "type.googleapis.com/"
LEASE_S: Final = 3_600
TAKEN_S: Final = 60.0
TRIES: Final = 6
PAUSE_S: Final = 2.0
TRANSPORT: Final = "envoy.extensions.transport_sockets.tls.v3"


class Running(Struct, frozen=True, kw_only=True):
    url: str
    pid: int


Start = Callable[[], AbstractContextManager[Running]]


class Certificates(NamedTuple):
    """Where they lie: of who vouches, the gate's own, and its key."""

    ca: Path
    certificate: Path
    key: Path


def certificates(folder: Path) -> Certificates:
    """The product's own authority vouches for the gate and for the upstream, both at 127.0.0.1."""
    home = Home(root=folder)
    home.create()
    ensure(home, "gate.test")
    return Certificates(home.keys / "ca.crt", home.keys / "gate.crt", home.keys / "gate.key")


def pem_of(chosen: Certificates, folder: Path) -> Path:
    """Certificate and key in one file, as HAProxy wants them."""
    path = folder / "upstream.pem"
    path.touch(mode=0o600)
    path.write_bytes(chosen.certificate.read_bytes() + chosen.key.read_bytes())
    return path


def resources_of(shop: Shop, edge: Edge, signals: Signals) -> Resources:
    population = Population(role_sets=shop.role_sets, jwks=shop.jwks, callers=len(shop.callers))
    return {**translate(shop.plan, population, edge), **signal_resources(signals)}


class Site:
    """The product's gate with one worker, its files written once, started as often as it is measured.

    Not left running: each watches its files with some fifteen of the 128 inotify instances that a user may have.
    """

    def __init__(
        self,
        folder: Path,
        shop: Shop,
        *,
        signals: Signals | None = None,
        tls: Certificates | None = None,
        change: Change | None = None,
    ) -> None:
        self.edge = _edge(folder, tls, zone_of(shop.plan))
        self.edge.home.create()
        self.gate = Gate(daemon.find(), self.edge)
        self.gate.prepare()
        signals = signals or Signals(lease_until=int(time.time()) + LEASE_S)
        resources = resources_of(shop, self.edge, signals)
        resources = change(resources) if change else resources
        self.gate.write(resources)
        self._versions = {name: file["version_info"] for name, file in resources.items()}
        self._log = folder / "envoy.log"

    @contextmanager
    def running(self) -> Iterator[Running]:
        with ExitStack() as after:
            process = self._started(after)
            scheme = "http" if self.edge.plain else "https"
            yield Running(url=f"{scheme}://127.0.0.1:{self.edge.port}", pid=process.pid)

    def _started(self, after: ExitStack) -> subprocess.Popen[bytes]:
        """Tries again where others on this machine hold too many inotify instances just now: Envoy aborts then."""
        envoy = command(daemon.find(), self.edge.home, 1)
        for tries_left in reversed(range(TRIES)):
            with ExitStack() as attempt:
                process = attempt.enter_context(
                    running(envoy, self._log, env=environment(self.edge.zone), cores=CORES.tested)
                )
                try:
                    self._wait(process)
                    wait_for_port(self.edge.port, process, self._log)
                except NotUp as problem:
                    if not tries_left or "inotify" not in str(problem):
                        raise
                else:
                    after.push(attempt.pop_all())
                    return process
            time.sleep(PAUSE_S)
        raise AssertionError  # the last try has raised

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        """Envoy has taken every file."""
        deadline = time.monotonic() + TAKEN_S
        while time.monotonic() < deadline and process.poll() is None:
            state = self.gate.state()
            if all(state.versions.get(name) == version for name, version in self._versions.items()):
                return
            if any(state.rejected.values()):
                break
            time.sleep(0.02)
        raise NotUp(f"the gate has not taken its files:\n{self._log.read_text('utf-8', 'replace')[:3000]}")


def _edge(folder: Path, tls: Certificates | None, zone: str) -> Edge:
    """One proxy in front is trusted, so that the load can come from many addresses, as it would."""
    return Edge(
        listen="127.0.0.1",
        port=free_port(),
        host="gate.test",
        certificate=tls.certificate if tls else folder / "none",
        key=tls.key if tls else folder / "none",
        issuer=ISSUER,
        home=Home(root=folder),
        plain=tls is None,
        zone=zone,
        trusted_hops=1,
        upstream_authorities=tls.ca if tls else folder / "none",
    )


class Plain:
    """The same Envoy, one worker, one route, nothing looked at and nothing written down."""

    def __init__(self, folder: Path, upstream: str, tls: Certificates | None = None) -> None:
        folder.mkdir(exist_ok=True)
        self.port, self._scheme = free_port(), "https" if tls else "http"
        config, self._log = folder / "plain.json", folder / "envoy.log"
        config.write_bytes(msgspec.json.encode(_plain(self.port, upstream, tls)))
        options = ["-c", str(config), "--concurrency", "1", "--disable-hot-restart", "-l", "warning"]
        self.command = [str(daemon.find()), *options]

    @contextmanager
    def running(self) -> Iterator[Running]:
        with running(self.command, self._log, env=environment("UTC"), cores=CORES.tested) as process:
            wait_for_port(self.port, process, self._log)
            yield Running(url=f"{self._scheme}://127.0.0.1:{self.port}", pid=process.pid)


def _plain(port: int, upstream: str, tls: Certificates | None) -> Any:
    where = int(upstream.rpartition(":")[2])
    manager = {
        "@type": f"{TYPES}envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "plain",
        "generate_request_id": False,
        "route_config": {
            "virtual_hosts": [
                {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "erp"}}]}
            ]
        },
        "http_filters": [
            {"name": "router", "typed_config": {"@type": f"{TYPES}envoy.extensions.filters.http.router.v3.Router"}}
        ],
    }
    chain: dict[str, Any] = {"filters": [{"name": "http", "typed_config": manager}]}
    cluster: dict[str, Any] = {
        "name": "erp",
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": "erp",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(where)}}]}],
        },
    }
    if tls:
        chain["transport_socket"] = _served(tls)
        cluster["transport_socket"] = _asked(tls)
    listener = {"name": "plain", "address": _address(port), "filter_chains": [chain]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _address(port: int) -> Any:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _served(tls: Certificates) -> Any:
    pair = {"certificate_chain": {"filename": str(tls.certificate)}, "private_key": {"filename": str(tls.key)}}
    context = {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3"},
        "alpn_protocols": ["h2", "http/1.1"],
        "tls_certificates": [pair],
    }
    return {
        "name": "tls",
        "typed_config": {"@type": f"{TYPES}{TRANSPORT}.DownstreamTlsContext", "common_tls_context": context},
    }


def _asked(tls: Certificates) -> Any:
    name = {"san_type": "IP_ADDRESS", "matcher": {"exact": "127.0.0.1"}}
    context = {"validation_context": {"trusted_ca": {"filename": str(tls.ca)}, "match_typed_subject_alt_names": [name]}}
    return {
        "name": "tls",
        "typed_config": {"@type": f"{TYPES}{TRANSPORT}.UpstreamTlsContext", "common_tls_context": context},
    }
