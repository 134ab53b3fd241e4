"""The control process: the admin API, the lease, the watch, and everything they share."""

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import anyio

from ostiary.control import api
from ostiary.control.installation import Installation
from ostiary.control.prepare import edge_of
from ostiary.control.process import serve
from ostiary.control.reconcile import Reconciler
from ostiary.envoy import binary
from ostiary.envoy.delivery import Gate
from ostiary.monitor.watch import Watch

RENEW_EVERY_S: Final = 10.0
MERGE_EVERY_S: Final = 15.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """What an operation acts on."""

    on: Installation
    gate: Gate
    reconciler: Reconciler
    watch: Watch


async def run(installation: Installation) -> None:
    """Serves the admin API and keeps gate and guard as they should be, until it is told to stop."""
    from ostiary.control.catalogue import OPERATIONS

    edge = edge_of(installation)
    gate = Gate(binary.find(installation.settings.envoy), edge)
    reconciler = Reconciler(installation, gate, edge)
    reconciler.prepare()
    watch = _watch(installation, gate, reconciler)
    board = Board(on=installation, gate=gate, reconciler=reconciler, watch=watch)
    app = api.create(board, OPERATIONS, _internal(board))
    tasks = [
        asyncio.create_task(_every(RENEW_EVERY_S, reconciler.signal)),
        asyncio.create_task(_every(MERGE_EVERY_S, reconciler.merge_revoked)),
        asyncio.create_task(watch.run()),
    ]
    try:
        await serve((app, installation.home.socket("control")))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        installation.store.close()


def _watch(on: Installation, gate: Gate, reconciler: Reconciler) -> Watch:
    async def blocks_changed() -> None:
        await anyio.to_thread.run_sync(reconciler.signal)

    async def reopen() -> None:
        await anyio.to_thread.run_sync(gate.reopen_logs)

    return Watch(on.store, on.home, on.clock, on.settings, blocked_changed=blocks_changed, reopen_logs=reopen)


def _internal(board: Board) -> Mapping[str, Callable[[bytes], bytes]]:
    """What our own processes tell: identity revokes; a scraper reads metrics."""

    def revoked(body: bytes) -> bytes:
        board.reconciler.push_revoked(json.loads(body)["keys"])
        return b"{}"

    def metrics(_: bytes) -> bytes:
        return board.watch.metrics()

    return {"revoked": revoked, "metrics": metrics}


async def _every(seconds: float, act: Callable[[], Any]) -> None:
    """Acts now and then for ever; a failure is told, and the next turn tries again."""
    while True:
        try:
            await anyio.to_thread.run_sync(act)
        except Exception:
            log.exception("%s failed", getattr(act, "__name__", "a task"))
        await asyncio.sleep(seconds)
