"""The admin API: one POST for each operation, on the control socket only; the actor is the socket's peer, an administrator."""

import inspect
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import anyio.to_thread
import msgspec
from anyio import CapacityLimiter
from sqlalchemy.exc import DBAPIError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ostiary.foundation import errors
from ostiary.foundation.errors import CallerFault, OstiaryError, OurFault, SystemFault

BODY_MAX_BYTES: Final = 64 * 1024 * 1024  # a policy with its OpenAPI documents
# Threads apart from anyio's own, which renew the lease: whatever waits here, the gate stays open.
OPERATIONS_MAX: Final = 32
INSIDE_MAX: Final = 8  # no revocation waits for an operation

# What an operation has from us, or what the function has whose parameters it takes; all else is for its caller to say.
GIVEN: Final = frozenset({"board", "actor", "_", "home", "connection", "change", "sealer", "now"})
Operation = Callable[..., Any]  # (board, actor, **parameters) -> JSON-able
Internal = Mapping[str, Callable[[bytes], bytes]]

log = logging.getLogger(__name__)


def create(board: Any, operations: Mapping[str, Operation], internal: Internal) -> Starlette:
    """The API over `operations` (by name) and `internal` (what our own processes ask, by path)."""
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
            return _failed(
                OurFault("unexpected", f"{name} failed unexpectedly", hint="the output of `ostiary up` says more")
            )
        return Response(msgspec.json.encode({"result": result}), media_type="application/json")

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
    """The operation's parameters as a type, so that unknown and wrong ones are refused by name."""
    known = [one for one in inspect.signature(operation).parameters.values() if one.name not in GIVEN]
    fields: list[Any] = [
        (one.name, one.annotation) if one.default is one.empty else (one.name, one.annotation, one.default)
        for one in known
    ]
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
        return msgspec.structs.asdict(msgspec.json.decode(body or b"{}", type=shape))
    except (msgspec.ValidationError, msgspec.DecodeError) as problem:
        raise CallerFault("parameters", f"{name}: {problem}", hint="see the command's --help") from problem


def _around_us(problem: OSError | DBAPIError) -> SystemFault:
    """What the disk or the database said, without the parameters of a statement."""
    told = str(problem.orig) if isinstance(problem, DBAPIError) else problem.strerror or type(problem).__name__
    hint = "see `ostiary status`; is there room on the disk, and does the database answer?"
    return SystemFault("store-fails", f"disk or database fails: {told}", hint=hint)


def _failed(problem: OstiaryError) -> Response:
    status = 500 if isinstance(problem, OurFault) else 400
    return Response(msgspec.json.encode({"error": errors.told(problem)}), status, media_type="application/json")
