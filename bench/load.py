"""The load: wrk, which sends prepared requests as fast as they are answered, or at a pace."""

import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from bench import tools
from bench.process import CORES, on

SCRIPT: Final = Path(__file__).with_name("rotate.lua")
CONNECTIONS: Final = 32
PACED_CONNECTIONS: Final = 64
GRACE_S: Final = 30


class Line(Struct, frozen=True, kw_only=True):
    """One prepared request. `address` is the caller's, as the one proxy in front would tell it."""

    method: str
    path: str
    token: str = ""
    address: str = ""
    body: str = ""


class Load(Struct, frozen=True, kw_only=True):
    """What came back. `refused` counts statuses of 400 and above, `broken` connections and time-outs."""

    requests: int
    us: int
    refused: int
    broken: int
    p50_us: int
    p99_us: int

    @property
    def rate(self) -> float:
        return self.requests / self.us * 1e6

    @property
    def errors(self) -> int:
        return self.refused + self.broken


def write(lines: Iterable[Line], path: Path) -> Path:
    path.write_text("".join("\t".join(msgspec.structs.astuple(line)) + "\n" for line in lines), "ascii")
    return path


def send(url: str, host: str, requests: Path, *, seconds: int, think_ms: float = 0.0, connections: int = 0) -> Load:
    """Runs wrk on its own core for `seconds`."""
    chosen = connections or (PACED_CONNECTIONS if think_ms else CONNECTIONS)
    command = [tools.path("wrk"), "-t1", f"-c{chosen}", f"-d{seconds}s", "--timeout", "5s", "-s", str(SCRIPT), url]
    command += ["--", str(requests), f"{think_ms:.3f}", host]
    with on(CORES.load):
        told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + GRACE_S).stdout
    return msgspec.json.decode(told.strip().splitlines()[-1], type=Load)
