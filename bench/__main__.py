"""`python -m bench [--only AREA] [--out FILE] [--part NAME] [--quick]`: measures, shows progress, prints a table."""

import argparse
import os
import resource
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from bench import identity, inside, machine, policy, rows
from bench.figure import Figure, plain, table, to_json, unmeasured
from bench.gate import editing, filters, first, guarded, latency, revocation, scale, throughput
from bench.rounds import FULL, QUICK, Pace, Say
from bench.tools import Missing

AREA_MOST_S: Final = 14 * 60  # a part that begins by then ends within the fifteenth minute
Measure = Callable[[Path, Pace, Say], Iterator[Figure]]
AREAS: Final[Mapping[str, Mapping[str, Measure]]] = {
    "gate": {
        "throughput": throughput.measure,
        "latency": latency.measure,
        "filters": filters.measure,
        "scale": scale.measure,
        "revocation": revocation.measure,
        "editing": editing.measure,
        "guarded": guarded.measure,
        "first": first.measure,
    },
    "policy": {"policy": policy.measure},
    "identity": {"identity": identity.measure, "rows": rows.measure},
    "inside": {"inside": inside.measure},
}


def main() -> int:
    """0 when everything was measured, whatever the figures say; 1 when something stood in the way."""
    asked = _asked()
    pace = QUICK if asked.quick else FULL
    figures = machine.described()
    print(table(figures), flush=True)
    for area, parts in AREAS.items():
        if asked.only in {None, area}:
            figures += _measured(area, parts, pace, asked.part)
    print(table(figures))
    if asked.out:
        asked.out.write_bytes(to_json(figures))
    return 1 if any(one.value is None for one in figures) else 0


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", choices=list(AREAS), help="one area alone")
    parser.add_argument("--part", help="one part of an area alone")
    parser.add_argument("--out", type=Path, help="also write the figures as JSON")
    parser.add_argument("--quick", action="store_true", help="short rounds: shows that it works, and no more")
    return parser.parse_args()


def _measured(area: str, parts: Mapping[str, Measure], pace: Pace, chosen: str | None) -> list[Figure]:
    began, before = time.monotonic(), _busy_s()
    found: list[Figure] = []
    for name, measure in parts.items():
        if time.monotonic() - began > AREA_MOST_S:
            print(f"{area}/{name}: left out, the area has had its {AREA_MOST_S // 60} minutes", file=sys.stderr)
            found.append(unmeasured(area, name))
        elif chosen in {None, name}:
            found += _part(area, name, measure, pace)
    others = (_busy_s() - before) / (time.monotonic() - began) / (os.cpu_count() or 1)
    return [*found, plain(area, "of this machine, taken by others meanwhile", 100 * others, "%")]


def _part(area: str, name: str, measure: Measure, pace: Pace) -> list[Figure]:
    """A part that fails costs its own figures only; what stood in the way is told."""
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {area}/{name}: {text}", file=sys.stderr, flush=True)

    found: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="ob-", dir="/tmp") as folder:
        try:
            for figure in measure(Path(folder), pace, say):
                found.append(figure)  # noqa: PERF402  kept one by one: what was measured before a failure stays
        except Missing as problem:
            say(f"not measured: {problem}")
            found.append(unmeasured(area, name))
        except Exception:  # noqa: BLE001  shown, and the run ends with 1
            traceback.print_exc()
            found.append(unmeasured(area, name))
    return found


def _busy_s() -> float:
    """CPU seconds that others have used since the start of this machine: all, without us and our ended children."""
    fields: list[Any] = Path("/proc/stat").read_text("ascii").splitlines()[0].split()[1:]
    idle = {3, 4}
    all_s = sum(int(value) for number, value in enumerate(fields[:8]) if number not in idle) / os.sysconf("SC_CLK_TCK")
    ours = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return all_s - sum(used.ru_utime + used.ru_stime for used in ours)


if __name__ == "__main__":
    sys.exit(main())
