"""The Python processes of one installation, each wired by hand: control, the authorization server, the guard."""

import asyncio
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from logging import getLogger
from typing import Any, Final

import anyio.to_thread
import msgspec
from anyio import CapacityLimiter
from sqlalchemy.exc import DBAPIError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ostiary.control import delegated, giving
from ostiary.control.board import Board
from ostiary.control.installation import Installation, administrators, let_in
from ostiary.control.operations import OPERATIONS
from ostiary.control.prepare import edge_of
from ostiary.control.process import Served, listen, listen_on_loopback, serve
from ostiary.control.reconcile import Reconciler
from ostiary.envoy import daemon
from ostiary.envoy.daemon import Gate
from ostiary.foundation import errors, unix
from ostiary.foundation.errors import CallerFault, OstiaryError, OurFault, SystemFault
from ostiary.guard.app import Guard
from ostiary.identity import app as identity
from ostiary.identity import farewell, grants, keys
from ostiary.identity.request import Refused
from ostiary.monitor import alerts
from ostiary.monitor.alerts import OURSELVES
from ostiary.monitor.watch import Watch
from ostiary.tls import authority

RENEW_EVERY_S: Final = 10.0  # a third of the lease
CATCH_UP_EVERY_S: Final = 15.0
SHORTEN_EVERY_S: Final = 1.0
FORGET_EVERY_S: Final = 600.0  # seldom enough to cost nothing, often enough that little goes at a time
TELL_EVERY_S: Final = 1.0  # clients learn so soon that a session has ended
SETTLE_EVERY_S: Final = 5.0  # what ended by itself is told
KEYS_EVERY_S: Final = 3600.0  # certificates and signing keys turn when they are due
# What control was asked -> code, message and hint where it fails.
FAILED: Final = {
    "revoked": ("revocation-late", "it is recorded, and the gate learns of it later", "try again"),
    "arrived": ("control-fails", "control could not see to the account", "its output says why"),
    "change": ("change-failed", "control could not change the directory", "see what `ostiary up` says"),
}
METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

BODY_MAX_BYTES: Final = 64 * 1024 * 1024  # a policy with its OpenAPI documents
# Threads apart from anyio's own, which renew the lease: whatever waits here, the gate stays open.
OPERATIONS_MAX: Final = 32
INSIDE_MAX: Final = 8  # no revocation waits for an operation

# What an operation has from us, or what the function has whose parameters it takes; all else is for its caller to say.
GIVEN: Final = frozenset({"board", "actor", "_", "home", "connection", "change", "sealer", "now"})
Operation = Callable[..., Any]  # (board, actor, **parameters) -> JSON-able
Internal = Mapping[str, Callable[[bytes], bytes]]

log = getLogger(__name__)


async def run_control(on: Installation) -> None:
    """Serves the admin API and keeps gate and guard as they should be, until it is told to stop."""
    edge = edge_of(on)
    gate = Gate(daemon.find(on.settings.envoy), edge)
    reconciler = Reconciler(on, gate, edge)
    reconciler.prepare()
    watch = Watch(
        on.store, on.home, on.clock, on.settings, blocked_changed=reconciler.signal,
        disk_low=reconciler.disk_low, reopen_logs=gate.reopen_logs, response=lambda: reconciler.plan.response,
    )  # fmt: skip
    who = administrators(on.home, on.settings)
    board = Board(on=on, gate=gate, reconciler=reconciler, watch=watch, administrators=who)
    tasks = [asyncio.create_task(task) for task in (*_chores(board), watch.run())]
    try:
        await serve(*_served(board))
    finally:
        await _ended(tasks)
        board.sign()


def _chores(board: Board) -> list[Any]:
    def renew() -> None:
        board.reconciler.signal()
        board.watch.metrics.lease_renewed()
        board.sign()  # entries that other processes wrote

    def keep_keys() -> None:
        authority.ensure(board.on.home, board.on.settings.host)
        if board.change(OURSELVES, lambda change: keys.turn(change, board.on.sealer)):
            board.reconciler.refresh()

    def forget() -> None:
        """What has expired goes: codes, sessions, grants, revocations; alerts and measures of long ago."""
        grants.purge(board.on.store, int(board.now.timestamp()))
        with board.on.store.begin() as connection:
            alerts.forget(connection, board.now)

    return [
        _every(RENEW_EVERY_S, renew),
        _every(CATCH_UP_EVERY_S, board.reconciler.catch_up),
        _every(SHORTEN_EVERY_S, board.reconciler.shorten),
        _every(KEYS_EVERY_S, keep_keys),
        _every(FORGET_EVERY_S, forget),
        _every(SETTLE_EVERY_S, partial(giving.settle, board)),
    ]


def _served(board: Board) -> list[Served]:
    """The admin API on its socket; figures for Prometheus on loopback where a port is named."""
    path = board.on.home.socket("control")
    who = board.administrators
    served = [Served(admin_api(board, OPERATIONS, _internal(board)), listen(path), who.refuse_other)]
    let_in(board.on.home, path, others=bool(who.named))
    if port := board.on.settings.metrics_port:
        served.append(Served(_metrics(board), listen_on_loopback(port)))
    return served


def _internal(board: Board) -> Internal:
    """What our own processes tell: identity revokes, and has the directory changed."""

    def revoked(body: bytes) -> bytes:
        board.reconciler.refuse(json.loads(body)["keys"])
        board.sign()
        return b"{}"

    return {
        "revoked": revoked,
        "arrived": partial(delegated.arrive, board),
        "change": partial(delegated.change, board),
        "metrics": lambda _: board.watch.metrics.render(),
    }


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
    in_thread = anyio.to_thread.run_sync
    told: dict[str, Any] = {
        "revoked": partial(in_thread, partial(_tell_control, on)),
        "arrived": partial(in_thread, partial(_ask_control, on, "arrived")),
        "changing": partial(_have_changed, on),
    }
    app = identity.create(on.store, on.sealer, on.settings, on.clock, home=on.home, **told)
    telling = asyncio.create_task(_every(TELL_EVERY_S, partial(farewell.send, app.state.server)))
    try:
        await serve(Served(app, listen(on.home.socket("identity"))))
    finally:
        await _ended([telling])
        app.state.server.close()


def _tell_control(on: Installation, keys: Sequence[str]) -> None:
    """The revocation is in the store already: a control that is down finds it there when it starts.

    Raises SystemFault where control is there and could not have it refused.
    """
    try:
        _ask_control(on, "revoked", {"keys": list(keys)})
    except OSError:
        log.exception("control could not be told of a revocation; the gate learns of it when control is back")


def _have_changed(on: Installation, act: str, actor: str, told: Mapping[str, Any]) -> Mapping[str, Any]:
    """What came of it; raises Refused with why it may not be."""
    done = _ask_control(on, "change", {"act": act, "actor": actor, "told": told})
    if "refused" in done:
        raise Refused(**done["refused"])
    return dict(done)


def _ask_control(on: Installation, about: str, told: Mapping[str, Any]) -> Any:
    """What control says of it. Raises OSError where it is away, SystemFault where it fails: nothing is promised then."""
    answer = unix.ask(on.home.socket("control"), "POST", f"/internal/{about}", json.dumps(told).encode())
    if answer.status != 200:  # noqa: PLR2004  RFC 9110 section 15.3.1
        code, message, hint = FAILED[about]
        raise SystemFault(code, message, hint=hint)
    return json.loads(answer.body)


async def run_guard(on: Installation) -> None:
    """The look inside: one socket for the gate, one for control."""
    made = Guard(on.home, on.store, on.sealer, on.settings, on.clock)
    async with made.running():
        await serve(
            Served(made.check, listen(on.home.socket("guard"))),
            Served(made.inside, listen(on.home.socket("guard-control"))),
        )


def admin_api(board: Any, operations: Mapping[str, Operation], internal: Internal) -> Starlette:
    """One POST for each of `operations`, by name, whose actor is the socket's peer; by path what our own processes ask.

    On the control socket only, where nobody but an administrator is let in.
    """
    shapes = {name: _shape(name, operation) for name, operation in operations.items()}
    threads, urgent = CapacityLimiter(OPERATIONS_MAX), CapacityLimiter(INSIDE_MAX)

    async def operate(request: Request) -> Response:
        name = request.path_params["name"]
        actor = request.client.host if request.client else "unknown"
        try:
            parameters = _parameters(shapes, name, await _body(request))
            act = partial(operations[name], board, actor, **parameters)
            result = await anyio.to_thread.run_sync(act, limiter=threads)
        except OstiaryError as problem:
            return _failed(problem)
        except (OSError, DBAPIError) as problem:
            log.exception("operation %s failed", name)
            return _failed(_around_us(problem))
        except Exception:
            log.exception("operation %s failed", name)
            hint = "the output of `ostiary up` says more"
            return _failed(OurFault("unexpected", f"{name} failed unexpectedly", hint=hint))
        told = {"result": {} if result is None else result}  # of some nothing is to be told but that it is done
        return Response(msgspec.json.encode(told), media_type="application/json")

    async def inside(request: Request) -> Response:
        answer = internal.get(request.path_params["name"])
        if answer is None or request.client is None or request.client.host not in board.administrators.owners:
            return Response(status_code=404)
        return Response(await anyio.to_thread.run_sync(answer, await _body(request), limiter=urgent))

    return Starlette(
        routes=[
            Route("/operations/{name}", operate, methods=["POST"]),
            Route("/internal/{name}", inside, methods=["GET", "POST"]),
        ]
    )


def _shape(name: str, operation: Operation) -> type[msgspec.Struct]:
    """The operation's parameters as a type, so that unknown and wrong ones are refused by name.

    For `**told` it takes the fields of what this is annotated with, each of them told or not.
    """
    fields: list[Any] = []
    for one in inspect.signature(operation).parameters.values():
        if one.kind is one.VAR_KEYWORD:
            told = msgspec.structs.fields(one.annotation.__metadata__[0])
            fields += [(field.name, field.type | msgspec.UnsetType, msgspec.UNSET) for field in told]
        elif one.name not in GIVEN:
            default = () if one.default is one.empty else (one.default,)
            fields.append((one.name, one.annotation, *default))
    return msgspec.defstruct(name.replace(".", "_"), fields, kw_only=True, forbid_unknown_fields=True)


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > BODY_MAX_BYTES:
            raise CallerFault("too-large", f"more than {BODY_MAX_BYTES} bytes", hint="send less")
    return bytes(body)


def _parameters(shapes: Mapping[str, type[msgspec.Struct]], name: str, body: bytes) -> dict[str, Any]:
    shape = shapes.get(name)
    if shape is None:
        raise CallerFault("no-operation", f"there is no operation {name}", hint="see docs/reference/commands.md")
    try:
        told = msgspec.structs.asdict(msgspec.json.decode(body or b"{}", type=shape))
    except (msgspec.ValidationError, msgspec.DecodeError) as problem:
        raise CallerFault("parameters", f"{name}: {problem}", hint="see the command's --help") from problem
    return {what: value for what, value in told.items() if value is not msgspec.UNSET}


def _around_us(problem: OSError | DBAPIError) -> SystemFault:
    """What the disk or the database said, without the parameters of a statement."""
    told = str(problem.orig) if isinstance(problem, DBAPIError) else problem.strerror or type(problem).__name__
    hint = "see `ostiary status`; is there room on the disk, and does the database answer?"
    return SystemFault("store-fails", f"disk or database fails: {told}", hint=hint)


def _failed(problem: OstiaryError) -> Response:
    status = 500 if isinstance(problem, OurFault) else 400
    return Response(msgspec.json.encode({"error": errors.told(problem)}), status, media_type="application/json")
