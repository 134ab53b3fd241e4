"""`python -m bench.gate.instructions [PART...]`: what each part of the native path costs, in instructions, not time.

With `scale` in place of parts: what size costs.

Callgrind counts what Envoy executes, so that a busy machine changes nothing: within about 1 % the same number each
time. It needs valgrind (apt-get install valgrind), takes about ten seconds a line, and does not see the kernel.
"""

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Final

import msgspec

from bench import shop, upstream
from bench.envoys import Change, Plain, Site
from bench.gate.filters import EVERYTHING, SIZE, variants
from bench.gate.scale import DENSITIES, FEW, OPERATIONS, TEN_ROLES
from bench.load import Line
from bench.process import NotUp, running
from ostiary.envoy import daemon
from ostiary.envoy.daemon import command, environment

WARM_UP: Final = 250  # every token has been seen
WARM_UP_AT_SIZE: Final = 4_000
COUNTED: Final = 250
READY_S: Final = 300.0
TOTALS: Final = re.compile(r"^totals: (\d+)", re.MULTILINE)
OK: Final = 200


def main(chosen: Sequence[str]) -> None:
    """Prints a line for each variant, or for those chosen by name; or for each size."""
    with tempfile.TemporaryDirectory(prefix="ob-", dir="/tmp") as folder, upstream.answering(Path(folder)) as erp:
        if "scale" in chosen:
            _sizes(Path(folder), erp.url)
        else:
            _parts(Path(folder), erp.url, chosen)


def _parts(folder: Path, erp: str, chosen: Sequence[str]) -> None:
    made = shop.build(SIZE, erp)
    whole, bare = 0.0, Plain(folder / "plain", erp)
    print(f"plain proxy {counted_of(bare.command, bare.port, folder / 'plain', made):31,.0f}", flush=True)
    for number, (name, change) in enumerate(variants(made).items()):
        if name == EVERYTHING or not chosen or name in chosen:
            found = counted(folder / str(number), made, change)
            whole = whole or found
            print(f"without {name:30} {found:9,.0f} saves {whole - found:8,.0f}", flush=True)


def _sizes(folder: Path, erp: str) -> None:
    many_roles = msgspec.structs.replace(TEN_ROLES, roles=1_000, share=max(DENSITIES))
    for few, many in ((FEW, OPERATIONS), (TEN_ROLES, many_roles)):
        found = [
            counted(folder / f"{size.operations}-{size.roles}", shop.build(size, erp), None, warm_up=WARM_UP_AT_SIZE)
            for size in (few, many)
        ]
        told = f"{few.operations} operations of {few.roles} roles, then {many.operations} of {many.roles}"
        print(f"{told}: {found[0]:,.0f}, {found[1]:,.0f}, {found[1] / found[0]:.3f}", flush=True)


def counted(folder: Path, made: shop.Shop, change: Change | None, warm_up: int = WARM_UP) -> float:
    """Instructions of Envoy for one request."""
    site = Site(folder, made, change=change)
    envoy = command(daemon.find(), site.edge.home, 1)
    return counted_of(envoy, site.edge.port, folder, made, warm_up=warm_up, zone=site.edge.zone)


def counted_of(
    envoy: Sequence[str], port: int, folder: Path, made: shop.Shop, *, warm_up: int = WARM_UP, zone: str = "UTC"
) -> float:
    out = folder / "callgrind.out"
    options = ["--tool=callgrind", "--separate-threads=yes", "--instr-atstart=no", f"--callgrind-out-file={out}"]
    with running(["valgrind", *options, *envoy], folder / "valgrind.log", env=environment(zone)) as process:
        connection = _connected(port, made.lines[0], process)
        _ask(connection, made.lines[:warm_up])
        for switch, lines in (("on", made.lines[:COUNTED]), ("off", ())):
            subprocess.run(["callgrind_control", "-i", switch, str(process.pid)], check=True, capture_output=True)
            _ask(connection, lines)
        subprocess.run(["callgrind_control", "-d", str(process.pid)], check=True, capture_output=True)
        connection.close()
    totals = [int(text) for path in folder.glob("callgrind.out*") for text in TOTALS.findall(path.read_text("utf-8"))]
    return max(totals, default=0) / COUNTED


def _connected(port: int, line: Line, process: subprocess.Popen[bytes]) -> HTTPConnection:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and process.poll() is None:
        connection = HTTPConnection("127.0.0.1", port, timeout=READY_S)
        try:
            _ask(connection, [line])
        except (OSError, HTTPException, NotUp):
            connection.close()
            time.sleep(0.2)
        else:
            return connection
    raise NotUp("Envoy does not answer under valgrind")


def _ask(connection: HTTPConnection, lines: Sequence[Line]) -> None:
    for line in lines:
        headers = {"host": shop.HOST, "authorization": f"Bearer {line.token}", "x-forwarded-for": line.address}
        connection.request(line.method, line.path, headers=headers)
        answer = connection.getresponse()
        answer.read()
        if answer.status != OK:
            raise NotUp(f"{line.method} {line.path} was answered {answer.status}")


if __name__ == "__main__":
    main(sys.argv[1:])
