"""What our own processes ask of each other: one POST for each operation, by name, its parameters and its answer in JSON.

`unix.call` asks. On UNIX sockets only: who is at the other end says the kernel.
"""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from logging import getLogger
from typing import Any, Final

import anyio.to_thread
import msgspec
from anyio import CapacityLimiter
from sqlalchemy.exc import DBAPIError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ostiary.foundation import errors
from ostiary.foundation.errors import CallerFault, OstiaryError, OurFault, SystemFault

BODY_MAX_BYTES: Final = 64 * 1024 * 1024  # a policy with its OpenAPI documents
# What an operation has from us, or what the function has whose parameters it takes; all else is for its caller to say.
GIVEN: Final = frozenset({"board", "actor", "_", "home", "connection", "change", "sealer", "now"})

Operation = Callable[..., Any]  # (*what it is given, **parameters) -> JSON-able
Run = Callable[[Callable[[], Any]], Awaitable[Any]]
Given = Callable[[str], tuple[Any, ...]]  # by its actor, the socket's peer; raises where he may not ask

log = getLogger(__name__)


def route(place: str, operations: Mapping[str, Operation], run: Run, given: Given = lambda _: ()) -> Route:
    """Each of `operations` at /place/NAME; its failure is told as the error that it is."""
    shapes = {name: _shape(name, operation) for name, operation in operations.items()}

    async def operate(request: Request) -> Response:
        name = request.path_params["name"]
        try:
            first = given(request.client.host if request.client else "unknown")
            parameters = _parameters(shapes, name, await _body(request))
            result = await run(partial(operations[name], *first, **parameters))
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

    return Route(f"/{place}/{{name}}", operate, methods=["POST"])


def in_threads(at_most: int) -> Run:
    """Apart from anyio's own, which renew the lease: whatever waits here, the gate stays open."""
    limiter = CapacityLimiter(at_most)
    return lambda act: anyio.to_thread.run_sync(act, limiter=limiter)


async def in_loop(act: Callable[[], Any]) -> Any:
    """For what holds nobody up."""
    done = act()
    return await done if inspect.isawaitable(done) else done


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
