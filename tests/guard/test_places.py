"""Several systems at one host: a path belongs to one of them, or to none."""

import json

import msgspec
import pytest

from guard_world import POLICY, TwinErp, guarded, make, rpc
from ostiary.erp.operation import Request

READ = rpc("model.party.party.search_read", [], 0, 3, None, ["name"])
ONE = '  erp: {kind: tryton, at: localhost, upstream: "UPSTREAM", database: erp, hand-over: session}\n'
MORE = """\
  shop: {kind: openapi, at: localhost/shop, upstream: "UPSTREAM", spec: shop.json}
  shopx: {kind: openapi, at: localhost/shopx, upstream: "UPSTREAM", spec: shop.json}
"""
PLACES = POLICY.replace(ONE, ONE + MORE).replace('"erp/*: read"', "")
for words in ("party.*: read", "account.payment: ", "account.payment.journal", "party.party: "):
    PLACES = PLACES.replace(f'"{words}', f'"erp/{words}')
PLACES = PLACES.replace('      - "erp/party', '      - "shop/orders: read"\n      - "erp/party', 1)
SPEC = {
    "openapi": "3.1.0",
    "info": {"title": "Shop", "version": "1"},
    "paths": {"/orders/{id}": {"get": {"operationId": "one", "parameters": [
        {"name": "id", "in": "path", "required": True, "schema": {"type": "integer"}}], "responses": {}}}},
}  # fmt: skip


@pytest.fixture
def world(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "shop.json").write_text(json.dumps(SPEC))
    made = make(tmp_path / "home", policy=PLACES)
    made.person("user:anna", "approver", uid="5")
    return made


def get(path):
    return Request(method="GET", path=path)


def shop_token(world):
    return world.token("user:anna", audience=world.audiences["shop"], scopes=frozenset({"shop/*:read"}))


async def test_the_longest_prefix_of_whole_segments_is_the_system(world):
    async with guarded(world, TwinErp(world.clock)):
        answer = await world.ask(shop_token(world), get("/shop/orders/1"))
        assert (answer.reason, answer.operation) == ("allowed", "shop/orders:read")
        assert "authorization" in answer.headers["x-envoy-auth-headers-to-remove"]  # the caller's own token goes
        assert (await world.ask(shop_token(world), get("/shopx/orders/1"))).reason == "token-invalid"
        assert (await world.ask(shop_token(world), READ)).reason == "token-invalid"
        assert (await world.ask(world.token("user:anna"), get("/shop/orders/1"))).reason == "token-invalid"
        assert (await world.ask(world.token("user:anna"), READ)).allowed


@pytest.mark.parametrize(
    "path",
    [
        "/shop", "/shop/", "/shop/orders", "/shop/orders/", "/shop/orders/1/", "/shop//orders/1", "/shop/shop/orders/1",
        "/shop/orders/1/2", "/shop/orders/%31/2", "/shop/./orders/1", "/shop/../shop/orders/1", "/shop/Orders/1",
    ],
)  # fmt: skip
async def test_a_path_spelled_otherwise_is_no_operation_of_the_system(world, path):
    async with guarded(world, TwinErp(world.clock)):
        assert (await world.ask(shop_token(world), get(path))).reason == "unknown-operation"


@pytest.mark.parametrize(
    "path",
    [
        "/Shop/orders/1",
        "//shop/orders/1",
        "/shop;x/orders/1",
        "/shop%2Forders/1",
        "/%73hop/orders/1",
        "/./shop/orders/1",
    ],
)
async def test_a_prefix_spelled_otherwise_is_the_place_of_the_system_without_one(world, path):
    """And there the token for the other system is none."""
    async with guarded(world, TwinErp(world.clock)):
        assert (await world.ask(shop_token(world), get(path))).reason == "token-invalid"
        assert (await world.ask(world.token("user:anna"), get(path))).reason == "unknown-operation"


@pytest.mark.parametrize(
    "path", ["/erp/rpc", "/erp//rpc/", "/erp/rpc//", "/shop/../erp/rpc/", "/erp/./rpc/", "/erp/rpc/;x"]
)
async def test_another_way_to_the_rpc_is_no_operation(world, path):
    token = world.token("user:anna") if not path.startswith("/shop") else shop_token(world)
    async with guarded(world, TwinErp(world.clock)):
        answer = await world.ask(token, msgspec.structs.replace(READ, path=path))
    assert answer.reason == "unknown-operation"


async def test_a_path_that_is_not_plain_is_refused(world):
    async with guarded(world, TwinErp(world.clock)):
        answer = await world.ask(world.token("user:anna"), msgspec.structs.replace(READ, path="/erp/rpc/\u00e9"))
    assert answer.reason == "invalid"


async def test_the_body_of_a_described_call_is_held_to_its_description(world):
    request = Request(method="GET", path="/shop/orders/x")
    with_body = Request(method="GET", path="/shop/orders/1", body=b"{}", headers={"content-type": "application/json"})
    async with guarded(world, TwinErp(world.clock)):
        assert (await world.ask(shop_token(world), request)).problem["pointer"] == "/path/id"
        assert (await world.ask(shop_token(world), with_body)).reason == "invalid"
