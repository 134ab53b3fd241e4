"""How long a newcomer waits: from `ostiary demo`, with everything installed, to the first protected request."""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tools.caller import Caller, machine_token

from bench.figure import Figure, at_most, middle, plain
from bench.process import NotUp, stop
from bench.rounds import Pace, Say
from ostiary.cli.demo.stand import cache, prepare
from ostiary.foundation.secret import Secret

AREA: Final = "gate"
MOST_S: Final = 10.0
COMMAND: Final = "from ostiary.cli.main import main; main()"
STANDS: Final = re.compile(r"The gate stands at (\S+)\. .*?--cacert (\S+?)/keys/ca\.crt", re.DOTALL)
ERP_STANDS: Final = "The ERP stands behind it"
SEARCH: Final[tuple[Any, ...]] = ([], 0, 3, [["name", "ASC"]], ["name"])
GIVE_UP_S: Final = 120.0
OK: Final = 200
UNAUTHORIZED: Final = 401

Find = Callable[[str], re.Match[str] | None]


def measure(folder: Path, pace: Pace, say: Say) -> Iterator[Figure]:
    prepare(cache(), say)  # what `ostiary demo` installs once
    refused, allowed = [], []
    for number in range(min(pace.rounds, 3)):
        times = _first(folder / "demo.out")
        refused.append(times[0])
        allowed.append(times[1])
        say(f"demo {number + 1}: refused after {times[0]:.1f} s, allowed after {times[1]:.1f} s")
    yield plain(AREA, "first refusal after `ostiary demo`, median", middle(refused), "s")
    title = "first protected request after `ostiary demo`"
    yield at_most(AREA, f"{title}, median", middle(allowed), "s", MOST_S)
    yield plain(AREA, f"{title}, slowest of {len(allowed)}", max(allowed), "s")


def _first(out: Path) -> tuple[float, float]:
    """Seconds to the first refusal without a token, and to the first answer of the real ERP with one."""
    began = time.perf_counter()
    with _demo(out) as process:
        origin, home = _told(out, process, STANDS.search).groups()
        authority = Path(home) / "keys" / "ca.crt"
        if Caller(origin, authority).rpc("model.party.party.search_read", *SEARCH).status != UNAUTHORIZED:
            raise NotUp("the demo's gate does not refuse a call without a token")
        refused = time.perf_counter() - began
        _told(out, process, lambda text: re.search(ERP_STANDS, text))
        name, _, secret = (Path(home) / "shop.curl").read_text("utf-8").split("=", 1)[1].strip().partition(":")
        caller = Caller(origin, authority)
        caller.token = machine_token(caller, name, Secret(secret)).json()["access_token"]
        if (status := caller.rpc("model.party.party.search_read", *SEARCH).status) != OK:
            raise NotUp(f"the demo's gate answers {status}")
        return refused, time.perf_counter() - began


@contextmanager
def _demo(out: Path) -> Iterator[subprocess.Popen[bytes]]:
    with out.open("wb") as file:
        process = subprocess.Popen([sys.executable, "-u", "-c", COMMAND, "demo"], stdout=file, stderr=file)
    try:
        yield process
    finally:
        stop(process)


def _told(out: Path, process: subprocess.Popen[bytes], find: Find) -> re.Match[str]:
    deadline = time.monotonic() + GIVE_UP_S
    while time.monotonic() < deadline and process.poll() is None:
        if found := find(out.read_text("utf-8", "replace")):
            return found
        time.sleep(0.01)
    raise NotUp(f"`ostiary demo` did not get that far:\n{out.read_text('utf-8', 'replace')[-1500:]}")
