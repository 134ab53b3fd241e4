"""While one policy follows another under load, every request is judged by one of them, never by a part of each."""

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from threading import Event
from typing import NamedTuple

import msgspec
import pytest
from tools.caller import basic

from ostiary.erp.catalogue import Catalogue, Field
from ostiary.event.record import files, read
from running import APART, installed, until

pytestmark = APART
POLICY = """\
policy: test
systems:
  shop: {{kind: openapi, at: localhost/shop, upstream: "{upstream}", spec: "{spec}"}}
  erp: {{kind: tryton, at: localhost, upstream: "{upstream}", database: t, hand-over: none}}
departments: {{sales: {{}}}}
roles:
{roles}
limits:
  default: {{requests: {limit}/hour}}
"""
OFFERED = Catalogue(
    models={"party.party": {"name": Field("char"), "id": Field("char")}},
    methods={"model.party.party": frozenset({"search_read", "create"})},
)
READ = {"id": 1, "method": "model.party.party.search_read", "params": [[], 0, 3, None, ["name"], {}]}
CREATE = {"id": 1, "method": "model.party.party.create", "params": [[{"name": "A"}], {}]}
# What the one policy grants, the other refuses: by route, by body, and by the guard alone.
CALLS = {
    "stock": ("shop", "GET", "/shop/stock", None),
    "invoice": ("shop", "GET", "/shop/invoices", None),
    "order-read": ("shop", "GET", "/shop/orders?limit=1", None),
    "order-write": ("shop", "POST", "/shop/orders", {"lines": []}),
    "party-read": ("erp", "POST", "/t/rpc/", READ),
    "party-write": ("erp", "POST", "/t/rpc/", CREATE),
}
ONE = '  clerk: {level: user, of: sales, may: ["shop/stock: read", "shop/order: read", "erp/party.party: read"]}'
OTHER = """\
  clerk: {level: user, of: sales, includes: [helper]}
  helper: {level: user, of: sales, may: ["shop/invoice: read", "shop/order: write", "erp/party.party: write"]}"""
GRANTED = {  # by which line
    "one": {"stock": "clerk/1", "order-read": "clerk/2", "party-read": "clerk/3"},
    "other": {"invoice": "helper/1", "order-write": "helper/2", "party-write": "helper/3"},
}
LIMIT = {"one": 700_000, "other": 900_000}


class Seen(NamedTuple):
    """An answer as its caller had it."""

    call: str
    decision: str
    status: int
    reason: str
    limit: str


@pytest.fixture(scope="module")
def place():
    with installed() as one:
        one.home.catalogue("erp").write_bytes(msgspec.json.encode(OFFERED))
        one.start().client("busy", "clerk")
        yield one


def text(place, which):
    upstream = f"http://127.0.0.1:{place.upstream.server_port}"
    roles = {"one": ONE, "other": OTHER}[which]
    return POLICY.format(upstream=upstream, spec="specs/shop.openapi.yaml", roles=roles, limit=LIMIT[which])


def token_for(place, system):
    resource = {"shop": "https://localhost/shop", "erp": "https://localhost"}[system]
    fields = {"grant_type": "client_credentials", "resource": resource}
    answer = place.caller().form("/identity/token", basic=basic("busy", place.secrets["busy"]), **fields)
    return answer.json()["access_token"]


def ask_until(place, system, stop):
    """All that one caller got on connections that stay open, but where a body was refused before it was read."""
    caller, seen = place.caller(token_for(place, system)), []
    for name in cycle(name for name, call in CALLS.items() if call[0] == system):
        _, method, path, body = CALLS[name]
        if caller._connection.sock is None:
            caller = place.caller(caller.token)
        answer = caller.send(method, path, json.dumps(body).encode() if body else b"")
        limit = answer.headers.get("ratelimit-limit", "")
        seen.append(Seen(name, answer.decision, answer.status, answer.headers.get("ostiary-reason", "allowed"), limit))
        if stop.is_set():
            return seen
    return seen


def under_load(place, times):
    """(the revision of each of both, every answer) of so many changes to and fro."""
    place.apply(text(place, "one"))
    revisions, stop = {}, Event()
    with ThreadPoolExecutor(4) as callers:
        busy = [callers.submit(ask_until, place, system, stop) for system in ("shop", "erp", "shop", "erp")]
        try:
            for _, which in zip(range(times), cycle(("other", "one")), strict=False):
                revisions[place.apply(text(place, which))["revision"]] = which
        finally:
            stop.set()
        return revisions, [one for seen in busy for one in seen.result()]


def events(place, wanted):
    """The event of each decision, once all are written."""

    def found():
        lines = (line for path in files(place.home.access_log) for line in path.read_bytes().splitlines())
        known = {event.decision: event for event in map(read, lines) if event}
        return known if all(one.decision in known for one in wanted) else None

    return until(found)


def judged(place, times):
    revisions, seen = under_load(place, times)
    known = events(place, seen)
    wrong, counted = [], Counter()
    for one in seen:
        event = known[one.decision]
        which = revisions[event.revision]
        rule = GRANTED[which].get(one.call)
        expected = (200, "allowed", rule) if rule else (403, "role", "-")
        counted[which, expected[0]] += 1
        fits = (one.status, one.reason, event.rule) == expected
        if not fits or (event.status, event.reason) != (one.status, one.reason):
            wrong.append((one, which, event.rule, event.reason))
    assert wrong == []
    assert len(counted) == 4, counted
    return counted


def test_forty_changes_under_load_and_no_request_is_judged_by_a_mixture(place):
    assert sum(judged(place, 40).values()) > 200


@pytest.mark.long
def test_a_thousand_changes_under_load_and_no_request_is_judged_by_a_mixture(place):
    assert sum(judged(place, 1_000).values()) > 5_000
