"""What the gate adds to the time of a request, both proxies at one rate: half of what the native path can bear."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from bench import load, shop, upstream
from bench.envoys import Plain, Site
from bench.figure import Figure, at_most, middle, percentile, plain
from bench.rounds import Pace, Sample, Say, Subject, errors, interleaved, rate
from ostiary.event.record import read

AREA: Final = "gate"
SIZE: Final = shop.Size(operations=40)
ADDED_P99_MOST_MS: Final = 1.0
FIRST: Final = 2  # rounds to find out what full load is


def measure(folder: Path, pace: Pace, say: Say) -> Iterator[Figure]:
    with upstream.answering(folder) as erp:
        made = shop.build(SIZE, erp.url)
        requests = load.write(made.lines, folder / "requests")
        site = Site(folder / "native", made)
        starts = {"plain": Plain(folder / "plain", erp.url).running, "native": site.running}
        subjects = [
            Subject(name=name, start=start, host=shop.HOST, requests=requests) for name, start in starts.items()
        ]
        full = interleaved(subjects[1:], msgspec.structs.replace(pace, rounds=FIRST), say)
        think_ms = 1000 * load.PACED_CONNECTIONS / (rate(full["native"]) / 2)
        found = interleaved(subjects, pace, say, think_ms=think_ms)
    yield plain(AREA, "requests at half load, native path", rate(found["native"]), "1/s")
    for name in ("p50", "p99"):
        yield plain(AREA, f"{name} at half load, plain proxy", middle(_ms(one, name) for one in found["plain"]), "ms")
        pairs = zip(found["native"], found["plain"], strict=True)
        added = middle(_ms(ours, name) - _ms(bare, name) for ours, bare in pairs)
        title = f"{name} that the native path adds at half load"
        yield at_most(AREA, title, added, "ms", ADDED_P99_MOST_MS) if name == "p99" else plain(AREA, title, added, "ms")
    own = [event.passed_us / 1000 for event in map(read, site.edge.home.access_log.read_bytes().splitlines()) if event]
    for name, share in (("p50", 0.50), ("p99", 0.99)):
        yield plain(
            AREA,
            f"{name} from reading a request to passing it on, by the gate's own clock",
            percentile(own, share),
            "ms",
        )
    yield at_most(AREA, "errors at half load", errors(found), "responses", 0)


def _ms(sample: Sample, name: str) -> float:
    return float(getattr(sample.load, f"{name}_us")) / 1000
