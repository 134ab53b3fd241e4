"""The Python processes of one installation, each wired by hand: control, the authorization server, the guard."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from logging import getLogger
from typing import Any, Final

import anyio.to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ostiary.control import giving, people
from ostiary.control.board import Board
from ostiary.control.installation import Installation, administrators, let_in
from ostiary.control.operations import OPERATIONS
from ostiary.control.outbox import Outbox
from ostiary.control.prepare import edge_of
from ostiary.control.process import Served, listen, listen_on_loopback, serve
from ostiary.control.reconcile import Reconciler
from ostiary.envoy import daemon
from ostiary.foundation import unix
from ostiary.foundation.errors import CallerFault
from ostiary.foundation.inside import Operation, in_threads, route
from ostiary.guard.app import Guard
from ostiary.identity import app as identity
from ostiary.identity import credentials, keys, tokens
from ostiary.identity.request import Refused
from ostiary.monitor import alerts
from ostiary.monitor.watch import Watch
from ostiary.tls import authority

RENEW_EVERY_S: Final = 10.0  # a third of the lease
CATCH_UP_EVERY_S: Final = 15.0
TOLD_S: Final = 5.0  # a control that hangs holds up no sign-in: what was revoked is in the store
HEAR_EVERY_S: Final = 0.5  # what one node revokes or changes, all know within a second
SHORTEN_EVERY_S: Final = 1.0
FORGET_EVERY_S: Final = 600.0  # seldom enough to cost nothing, often enough that little goes at a time
SETTLE_EVERY_S: Final = 5.0  # what ended by itself is told
KEYS_EVERY_S: Final = 3600.0  # certificates and signing keys turn when they are due
METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
OPERATIONS_MAX: Final = 32
INSIDE_MAX: Final = 8  # no revocation waits for an operation

log = getLogger(__name__)


async def run_control(on: Installation) -> None:
    """Serves the admin API and keeps gate and guard as they should be, until it is told to stop."""
    edge = edge_of(on)
    gate, outbox = daemon.Gate(daemon.find(on.settings.envoy), edge), Outbox(on)
    reconciler = Reconciler(on, gate, edge)
    reconciler.prepare()
    watch = Watch(
        on.store, on.home, on.clock, on.settings, blocked_changed=reconciler.signal, call=outbox.call,
        disk_low=reconciler.disk_low, reopen_logs=gate.reopen_logs, response=lambda: reconciler.plan.response,
    )  # fmt: skip
    watch.metrics.unsent.set_function(lambda: outbox.lost)
    who = administrators(on.home, on.settings)
    board = Board(on=on, gate=gate, reconciler=reconciler, watch=watch, outbox=outbox, administrators=who)
    tasks = [asyncio.create_task(task) for task in (*_chores(board), watch.run(), outbox.run())]
    try:
        await serve(*_served(board))
    finally:
        await _ended(tasks)
        board.sign()


def _chores(board: Board) -> list[Any]:
    def renew() -> None:
        board.reconciler.signal()
        board.watch.renewed()
        board.sign()  # entries that other processes wrote

    def keep_keys() -> None:
        authority.ensure(board.on.home, board.on.settings.host)
        if board.change(alerts.OURSELVES, keys.turn, board.on.sealer):
            board.reconciler.refresh()

    def forget() -> None:
        """What has expired goes: codes, sessions, grants, revocations; alerts and measures of long ago."""
        tokens.purge(board.on.store, int(board.now.timestamp()))
        with board.on.store.begin() as connection:
            alerts.forget(connection, board.now)

    return [
        _every(RENEW_EVERY_S, renew),
        _every(CATCH_UP_EVERY_S, board.reconciler.catch_up),
        _every(HEAR_EVERY_S, board.reconciler.hear),
        _every(HEAR_EVERY_S / 2, board.reconciler.follow),  # it looks twice
        _every(SHORTEN_EVERY_S, board.reconciler.shorten),
        _every(KEYS_EVERY_S, keep_keys),
        _every(FORGET_EVERY_S, forget),
        _every(SETTLE_EVERY_S, partial(giving.settle, board)),
    ]


def _served(board: Board) -> list[Served]:
    """The admin API on its socket; figures for Prometheus on loopback where a port is named."""
    path, who = board.on.home.socket("control"), board.administrators
    served = [Served(admin_api(board, OPERATIONS, INTERNAL), listen(path), who.refuse_other)]
    let_in(board.on.home, path, others=bool(who.named))
    if port := board.on.settings.metrics_port:
        served.append(Served(_metrics(board), listen_on_loopback(port)))
    return served


def admin_api(board: Board, operations: Mapping[str, Operation], internal: Mapping[str, Operation]) -> Starlette:
    """What an administrator asks, who is told as the actor; and what nobody but our own processes tells."""

    def ours(actor: str) -> tuple[Board]:
        if actor not in board.administrators.owners:
            raise CallerFault("no-operation", "only our own processes tell that", hint="see docs/reference/commands.md")
        return (board,)

    asked = route("operations", operations, in_threads(OPERATIONS_MAX), lambda actor: (board, actor))
    return Starlette(routes=[asked, route("internal", internal, in_threads(INSIDE_MAX), ours)])


def _revoked(board: Board, keys: list[str]) -> None:
    board.reconciler.refuse(keys)
    board.sign()


def _alive(board: Board) -> float:
    """For how many seconds the lease was not renewed; whoever is answered knows that threads are to be had, too."""
    return board.watch.metrics.lease_age_s


# What our own processes tell: identity revokes, and has the directory changed.
INTERNAL: Final[Mapping[str, Operation]] = {
    "revoked": _revoked, "arrived": people.arrive, "change": people.change, "alive": _alive,
}  # fmt: skip


def _metrics(board: Board) -> Starlette:
    async def metrics(_: Request) -> Response:
        return Response(board.watch.metrics.render(), media_type=METRICS_TYPE)

    return Starlette(routes=[Route("/metrics", metrics)])


async def _every(seconds: float, act: Callable[[], Any]) -> None:
    """Acts now and then for ever; a failure is told, and the next turn tries again."""
    while True:
        try:
            await anyio.to_thread.run_sync(act)
        except Exception:
            log.exception("%s failed", getattr(act, "__name__", act))
        await asyncio.sleep(seconds)


async def _ended(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError):
            await task


async def run_identity(on: Installation) -> None:
    """Sign-in, tokens and revocation, reached through the gate only."""
    told: dict[str, Any] = {
        "revoked": partial(_tell_control, on),
        "arrived": partial(unix.call, on.home.socket("control"), "internal/arrived"),
        "changing": partial(_have_changed, on),
    }
    app = identity.create(on.store, on.sealer, on.settings, on.clock, home=on.home, **told)
    try:
        await serve(Served(app, listen(on.home.socket("identity"))))
    finally:
        app.state.server.close()


def _tell_control(on: Installation, keys: Sequence[str]) -> None:
    """The revocation is in the store already: a control that is down finds it there when it starts.

    Raises what control says where it is there and could not have it refused.
    """
    try:
        unix.call(on.home.socket("control"), "internal/revoked", {"keys": [*keys]}, timeout_s=TOLD_S)
    except OSError:
        log.exception("control could not be told of a revocation; the gate learns of it when control is back")


def _have_changed(on: Installation, act: str, actor: str, told: Mapping[str, Any]) -> Mapping[str, Any]:
    """What came of it; raises Refused with why it may not be."""
    done = unix.call(on.home.socket("control"), "internal/change", {"act": act, "by": actor, "told": told})
    if "refused" in done:
        raise Refused(**done["refused"])
    return dict(done)


async def run_guard(on: Installation) -> None:
    """The look inside: one socket for the gate, one for control."""
    with on.store.begin() as connection:
        nonces = credentials.nonces(credentials.pepper(connection, on.sealer), on.settings)
    made = Guard(on.home, on.store, on.sealer, on.settings, on.clock, nonces)
    async with made.running():
        await serve(
            Served(made.check, listen(on.home.socket("guard"))),
            Served(made.inside, listen(on.home.socket("guard-control"))),
        )
