"""From an edit of the policy to its enforcement: `policy apply` returns when it is in force on open connections."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tools.caller import Caller

from bench import shop, upstream
from bench.figure import Figure, at_most, middle, plain
from bench.process import NotUp
from bench.rounds import Pace, Say
from bench.stand import new_home, standing
from ostiary.control.documents import files_of

AREA: Final = "gate"
FAMILIES: Final = 50
MOST_S: Final = {10: 1.0, 1_000: 1.0, 10_000: 3.0}
EDITS: Final = 6  # of each kind
EDITS_QUICK: Final = 2
ALLOWED, REFUSED = 200, 403


def measure(folder: Path, pace: Pace, say: Say) -> Iterator[Figure]:
    count = EDITS if pace.samples >= EDITS * 10 else EDITS_QUICK
    with upstream.answering(folder) as erp:
        for operations, most in MOST_S.items():
            for what, times in _edits(folder, erp.url, operations, count, say).items():
                title = f"edit of {what} to enforcement, {operations:,} operations"
                yield plain(AREA, f"{title}, median", middle(times), "s")
                yield at_most(AREA, f"{title}, slowest of {len(times)}", max(times), "s", most)


def _edits(folder: Path, erp: str, operations: int, count: int, say: Say) -> dict[str, list[float]]:
    """One role gains and loses what one family of objects, or every object, allows; a request proves each edit."""
    size = shop.Size(operations=operations, families=min(FAMILIES, -(-operations // len(shop.SHAPES))))
    spec = folder / f"shop-{operations}.json"
    spec.write_text(shop.document(shop.described(size)), "utf-8")
    lacking = [one for one in range(size.families) if one not in shop.families_of(0, size)]
    closed = shop.policy(size, erp, spec=f"specs/{spec.name}")
    found: dict[str, list[float]] = {}
    with new_home() as home, standing(home, closed, spec) as stand:
        client = stand.client("c", ["r0"], [f"shop/f{lacking[0]}.*:read"])
        caller = stand.caller(stand.token(client, stand.caller()))
        for what, families in (("one family", lacking[:1]), ("every family", lacking)):
            may = '", "'.join(f"f{one}.*: {', '.join(shop.VERBS)}" for one in families)
            opened = shop.policy(size, erp, spec=f"specs/{spec.name}", extra=may)
            times = found.setdefault(what, [])
            for number in range(count):
                text, wanted = ((opened, ALLOWED), (closed, REFUSED))[number % 2]
                began = time.perf_counter()
                files = files_of(home.root, home.policy.name, text)
                stand.ask(
                    "policy.apply", document={"text": text, "file": str(home.policy), "files": files}, reason="bench"
                )
                _prove(caller, f"/f{lacking[0]}/o{lacking[0]}", wanted)
                times.append(time.perf_counter() - began)
                say(f"edit {number + 1} of {what} at {operations:,} operations: {times[-1]:.2f} s")
    return found


def _prove(caller: Caller, path: str, wanted: int) -> None:
    if (status := caller.send("GET", path, host=shop.HOST).status) != wanted:
        raise NotUp(f"{status} instead of {wanted} after the edit")
