"""What the guard's own work costs for one request, without the way to it and back."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, Final

from bench import tryton as small
from bench import upstream
from bench.figure import Figure, middle, plain
from bench.judged import Judge, judging
from bench.rounds import Pace, Say
from bench.stand import new_home
from ostiary.compile.plan import compile_policy
from ostiary.erp.adapters import understood
from ostiary.erp.catalogue import Site
from ostiary.erp.openapi import load
from ostiary.erp.operation import Call, Request
from ostiary.guard.validation import validate
from ostiary.policy.parse import parse

AREA: Final = "inside"
TIMES: Final = 500
JUDGED: Final = 512
AT_ONCE: Final = 32
LINES: Final = 20
JSON: Final = {"content-type": "application/json"}
SPEC: Final = json.dumps({
    "openapi": "3.1.0",
    "info": {"title": "shop", "version": "1"},
    "paths": {
        "/orders": {
            "post": {
                "tags": ["order"],
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Order"}}},
                },
            }
        }
    },
    "components": {
        "schemas": {
            "Order": {
                "type": "object",
                "required": ["customer", "due", "lines"],
                "additionalProperties": False,
                "properties": {
                    "customer": {"type": "string", "pattern": "^C[0-9]{5}$"},
                    "due": {"type": "string", "format": "date"},
                    "mail": {"type": "string", "format": "email"},
                    "note": {"type": "string", "maxLength": 200},
                    "lines": {"type": "array", "maxItems": 5000, "items": {"$ref": "#/components/schemas/Line"}},
                },
            },
            "Line": {
                "type": "object",
                "required": ["product", "quantity"],
                "additionalProperties": False,
                "properties": {
                    "product": {"type": "string", "pattern": "^P-[0-9]{4}$"},
                    "quantity": {"type": "number", "exclusiveMinimum": 0},
                    "unit": {"enum": ["pc", "kg", "m"]},
                    "price": {"type": "string", "pattern": "^[0-9]+\\.[0-9]{2}$"},
                },
            },
        }
    },
})  # fmt: skip
LINE: Final = {"product": "P-1017", "quantity": 2.5, "unit": "kg", "price": "19.90"}
HEAD: Final = {"customer": "C10042", "due": "2026-12-01", "mail": "anna@example.com", "note": "ring twice"}


def measure(folder: Path, pace: Pace, say: Say) -> Iterator[Figure]:
    for name, act in _acts().items():
        took = middle(_once(act) for _ in range(pace.rounds)) * 1e6
        say(f"{name}: {took:.1f} µs")
        yield plain(AREA, name, took, "µs")
    with upstream.tryton_stub(folder) as erp, new_home() as home:
        yield from asyncio.run(_all(_judged(home, erp.url, pace, say)))


def order(lines: int) -> bytes:
    return json.dumps({**HEAD, "lines": [LINE] * lines}, separators=(",", ":")).encode()


def _acts() -> dict[str, Callable[[], Any]]:
    parsed = parse('policy: p\nsystems:\n  shop: {kind: openapi, at: x, upstream: "http://x", spec: "s"}\n', "p").policy
    assert parsed is not None
    (route,) = compile_policy(parsed, {"shop": load(SPEC.encode(), "shop").routes}).routes
    acts: dict[str, Callable[[], Any]] = {}
    for lines in (LINES, 1_000):
        post = _request("/orders", order(lines))
        assert validate(route, post, {}) is None
        title = f"an order of {lines:,} lines, {len(post.body):,} bytes"
        acts[f"strict JSON in safe characters, {title}"] = lambda post=post: validate(None, post, {})
        acts[f"the same and its schema, {title}"] = lambda post=post: validate(route, post, {})
    read, create = (_request("/erp/rpc/", json.dumps(call).encode()) for call in (small.READ, small.CREATE))
    assert isinstance(_understood(read), Call)
    assert isinstance(_understood(create), Call)
    acts["Tryton search_read over three objects, understood"] = lambda: _understood(read)
    acts[f"Tryton create with {LINES} lines, understood"] = lambda: _understood(create)
    return acts


async def _judged(home: Any, erp: str, pace: Pace, say: Say) -> AsyncIterator[Figure]:
    requests = {
        "Tryton search_read": ("erp.test", "/erp/rpc/", json.dumps(small.READ).encode()),
        f"Tryton create with {LINES} lines": ("erp.test", "/erp/rpc/", json.dumps(small.CREATE).encode()),
        f"an order of {LINES} lines": ("shop.test", "/orders", order(LINES)),
    }
    async with judging(home, SPEC, erp) as judge:
        for name, asked in requests.items():
            for at_once in (1, AT_ONCE):
                took = await _each(judge, pace, at_once, asked)
                title = f"whole judgement of {name}, on the disk, {at_once} at a time"
                say(f"{title}: {took:.0f} µs")
                yield plain(AREA, title, took, "µs")


async def _each(judge: Judge, pace: Pace, at_once: int, asked: tuple[str, str, bytes]) -> float:
    rounds = [[judge.asked(*asked) for _ in range(JUDGED)] for _ in range(pace.rounds)]
    return middle([await judge.each_s(requests, at_once) for requests in rounds]) * 1e6


async def _all(figures: AsyncIterator[Figure]) -> list[Figure]:
    return [figure async for figure in figures]


def _understood(request: Request) -> Any:
    return understood("tryton", request, Site(name="erp", database="erp", catalogue=small.CATALOGUE))


def _request(path: str, body: bytes) -> Request:
    return Request(method="POST", path=path, query="", headers=dict(JSON), body=body)


def _once(act: Callable[[], Any]) -> float:
    """Seconds of one act, over many."""
    began = time.perf_counter()
    for _ in range(TIMES):
        act()
    return (time.perf_counter() - began) / TIMES
