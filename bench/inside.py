"""What the guard's own work costs for one request, without the way to it and back."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from bench import tryton as small
from bench.figure import Figure, middle, plain
from bench.rounds import Pace, Say
from ostiary.erp import tryton
from ostiary.erp.operation import Call, Request, Verb
from ostiary.guard.validation import screen, validate
from ostiary.plan.model import Parameter, Route

AREA: Final = "inside"
TIMES: Final = 500
JSON: Final = {"content-type": "application/json"}
LINE: Final = {
    "type": "object",
    "required": ["product", "quantity"],
    "additionalProperties": False,
    "properties": {"product": {"type": "integer", "minimum": 1}, "quantity": {"type": "number"}},
}
ORDER: Final = {
    "type": "object",
    "required": ["lines"],
    "additionalProperties": False,
    "properties": {"lines": {"type": "array", "items": LINE}, "note": {"type": "string", "maxLength": 200}},
}
ROUTE: Final = Route(
    system="shop",
    method="POST",
    template="/orders/{id}",
    object="order",
    verb=Verb.WRITE,
    parameters=(
        Parameter(name="id", place="path", required=True, schema='{"type":"integer","minimum":1}'),
        Parameter(name="limit", place="query", required=False, schema='{"type":"integer","maximum":100}'),
    ),
    body_schema=json.dumps(ORDER),
    body_required=True,
    inspect=True,
)


def measure(folder: Path, pace: Pace, say: Say) -> Iterator[Figure]:
    del folder
    for name, act in _acts().items():
        took = middle(_once(act) for _ in range(pace.rounds)) * 1e6
        say(f"{name}: {took:.1f} µs")
        yield plain(AREA, name, took, "µs")


def _acts() -> dict[str, Callable[[], Any]]:
    orders = {size: _body({"lines": [{"product": 7, "quantity": 2.5}] * size}) for size in (10, 1_000)}
    posts = {size: _request("/orders/17", body, "limit=10") for size, body in orders.items()}
    calls = {
        name: _request("/erp/rpc/", _body(call)) for name, call in (("read", small.READ), ("create", small.CREATE))
    }
    for call in calls.values():
        assert isinstance(_understood(call), Call)
    assert all(validate(ROUTE, post, {"id": "17"}) is None for post in posts.values())
    return {
        f"validate an order of 10 lines, {len(orders[10])} bytes": lambda: validate(ROUTE, posts[10], {"id": "17"}),
        f"validate an order of 1,000 lines, {len(orders[1_000])} bytes": lambda: validate(
            ROUTE, posts[1_000], {"id": "17"}
        ),
        "strict JSON alone, 10 lines": lambda: screen(orders[10]),
        "strict JSON alone, 1,000 lines": lambda: screen(orders[1_000]),
        "Tryton search_read over three objects, understood": lambda: _understood(calls["read"]),
        "Tryton create with ten lines, understood": lambda: _understood(calls["create"]),
    }


def _understood(request: Request) -> Any:
    return tryton.read(request, system="erp", database="erp", catalogue=small.CATALOGUE)


def _request(path: str, body: bytes, query: str = "") -> Request:
    return Request(method="POST", path=path, query=query, headers=dict(JSON), body=body)


def _body(value: Any) -> bytes:
    return json.dumps(value).encode()


def _once(act: Callable[[], Any]) -> float:
    """Seconds of one act, over many."""
    began = time.perf_counter()
    for _ in range(TIMES):
        act()
    return (time.perf_counter() - began) / TIMES
