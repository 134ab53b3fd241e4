"""From an edit of the policy to its enforcement: `policy apply` returns when it is in force on open connections."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench import shop, upstream
from bench.figure import Figure, at_most, middle, plain
from bench.process import NotUp
from bench.rounds import Pace, Say
from bench.stand import new_home, standing

AREA: Final = "gate"
MOST_S: Final = {1_000: 1.0, 10_000: 3.0}
EDITS_MOST: Final = 6
ALLOWED, REFUSED = 200, 403


def measure(folder: Path, pace: Pace, say: Say) -> Iterator[Figure]:
    with upstream.answering(folder) as erp:
        for operations, most in MOST_S.items():
            times = _edits(folder, erp.url, operations, min(pace.samples, EDITS_MOST), say)
            title = f"policy edit to enforcement at {operations:,} operations"
            yield plain(AREA, f"{title}, median", middle(times), "s")
            yield at_most(AREA, f"{title}, slowest of {len(times)}", max(times), "s", most)


def _edits(folder: Path, erp: str, operations: int, count: int, say: Say) -> list[float]:
    """One role gains and loses one family of objects, in turn; a request on an open connection proves each."""
    size = shop.Size(operations=operations, families=50)
    spec = folder / f"shop-{operations}.json"
    spec.write_text(shop.document(shop.described(size)), "utf-8")
    closed, opened = (shop.policy(size, erp, spec=str(spec), extra=extra) for extra in ("", "f1.*: read"))
    family = next(one for one in range(size.families) if one not in shop.families_of(0, size))
    opened = opened.replace('"f1.*: read"', f'"f{family}.*: read"')
    times = []
    with new_home() as home, standing(home, closed) as stand:
        client = stand.client("c", ["r0"], [f"shop/f{family}.*:read"])
        caller = stand.caller(stand.token(client, stand.caller()))
        for number in range(count):
            text, wanted = ((opened, ALLOWED), (closed, REFUSED))[number % 2]
            began = time.perf_counter()
            stand.ask("policy.apply", text=text, file=str(home.policy), reason="bench")
            status = caller.send("GET", f"/f{family}/o{family}", host=shop.HOST).status
            times.append(time.perf_counter() - began)
            if status != wanted:
                raise NotUp(f"{status} instead of {wanted} after the edit")
            say(f"edit {number + 1} of {count} at {operations:,} operations: {times[-1]:.2f} s")
    return times
