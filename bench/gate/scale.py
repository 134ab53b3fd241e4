"""What size costs: CPU time of one request at many operations, roles, revocations and blocks, against few."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from bench import load, shop, upstream
from bench.envoys import Site
from bench.figure import Figure, at_most, plain
from bench.rounds import Pace, Say, Subject, costs_against, cpu, errors, interleaved, rates_against
from ostiary.envoy.access import Signals

AREA: Final = "gate"
MOST: Final = 1.05
FEW: Final = shop.Size(operations=10)
OPERATIONS: Final = shop.Size(operations=10_000, families=50, share=0.1, requests=12_000)
TEN_ROLES: Final = shop.Size(operations=400, families=20, roles=10, share=0.1, callers=200, requests=8_000)
DENSITIES: Final = (0.01, 0.05, 0.25)
REVOKED: Final = tuple(f"jti:at-{number:032x}" for number in range(1_000_000, 1_010_000))
BLOCKED: Final = tuple(
    f"{100 + number // 65_536}.{number // 256 % 256}.{number % 256}.0/24" for number in range(100_000)
)


def measure(folder: Path, pace: Pace, say: Say) -> Iterator[Figure]:
    with upstream.answering(folder) as erp:
        yield from _compared(pace, say, "10 operations", _operations(folder, erp.url))
        yield from _compared(pace, say, "10 roles", _roles(folder, erp.url))


def _operations(folder: Path, erp: str) -> dict[str, Subject]:
    few = shop.build(FEW, erp)
    lease = 2_000_000_000
    return {
        "10 operations": _subject(folder / "few", few),
        "10,000 operations": _subject(folder / "many", shop.build(OPERATIONS, erp)),
        "10,000 revoked tokens": _subject(folder / "revoked", few, Signals(revoked_cold=REVOKED, lease_until=lease)),
        "100,000 blocked networks": _subject(folder / "blocked", few, Signals(blocked=BLOCKED, lease_until=lease)),
    }


def _roles(folder: Path, erp: str) -> dict[str, Subject]:
    found = {"10 roles": _subject(folder / "ten", shop.build(TEN_ROLES, erp))}
    for share in DENSITIES:
        size = msgspec.structs.replace(TEN_ROLES, roles=1_000, share=share)
        name = f"1,000 roles, {share:.0%} of them may do each operation"
        found[name] = _subject(folder / f"roles-{share}", shop.build(size, erp))
    return found


def _subject(folder: Path, made: shop.Shop, signals: Signals | None = None) -> Subject:
    site = Site(folder, made, signals=signals)
    requests = load.write(made.lines, folder / "requests")
    return Subject(name=folder.name, start=site.running, host=shop.HOST, requests=requests)


def _compared(pace: Pace, say: Say, few: str, subjects: dict[str, Subject]) -> Iterator[Figure]:
    found = interleaved(list(subjects.values()), pace, say)
    base = found[subjects[few].name]
    yield plain(AREA, f"cpu of one request, {few}", cpu(base), "µs")
    for title, subject in subjects.items():
        if title != few:
            samples = found[subject.name]
            yield at_most(AREA, f"cost of one request, {title}, against {few}", costs_against(samples, base), "", MOST)
            yield plain(AREA, f"throughput, {title}, against {few}", rates_against(samples, base), "")
    yield at_most(AREA, f"errors, {few} and more", errors(found), "responses", 0)
