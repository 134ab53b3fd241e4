"""The OpenAPI adapter: what a document opens, what it can't open, and which operation a request is."""

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.erp.openapi import Table, describe, load, operation_of, schema
from ostiary.erp.operation import Verb

SHOP = b"""
openapi: 3.0.3
info: {title: Shop, version: "1"}
paths:
  /orders:
    get:
      tags: [Sales Order]
      parameters:
        - {name: limit, in: query, schema: {type: integer, maximum: 100}}
        - {name: country, in: query, schema: {type: string, enum: [NO, DE]}}
        - {name: id, in: query, explode: false, schema: {type: array, items: {type: integer}}}
    post:
      tags: [Sales Order]
      requestBody:
        required: true
        content:
          application/json:
            schema: {$ref: "#/components/schemas/Order"}
  /orders/{id}:
    parameters: [{$ref: "#/components/parameters/Id"}]
    get: {tags: [Sales Order]}
    delete: {tags: [Sales Order]}
  /orders/{id}/approve:
    post: {x-ostiary: {object: sales.order, verb: execute, action: approve}}
  /orders/open:
    get: {x-ostiary: {object: sales.open}}
  /upload:
    post: {requestBody: {content: {multipart/form-data: {schema: {type: object}}}}}
  /ping:
    get: {}
components:
  parameters:
    Id: {name: id, in: path, required: true, schema: {type: integer, minimum: 0, exclusiveMinimum: true}}
  schemas:
    Order:
      type: object
      required: [lines]
      additionalProperties: false
      properties:
        note: {type: string, nullable: true}
        description: {type: string}
        lines: {type: array, items: {$ref: "#/components/schemas/Line"}}
    Line:
      type: object
      properties: {qty: {type: integer}, sub: {$ref: "#/components/schemas/Line"}}
"""


def shop():
    return load(SHOP, "shop")


def does(method, path, routes=None):
    """The operation, or None: then it is denied."""
    found = Table(routes or shop().routes).find(method, path)
    return found and operation_of(found)


def test_a_document_opens_its_operations_and_says_what_it_could_not():
    loaded = shop()
    assert {f"{r.method} {r.template} {r.object}:{r.verb}.{r.action}" for r in loaded.routes} == {
        "GET /orders sales-order:read.",
        "POST /orders sales-order:write.",
        "GET /orders/{id} sales-order:read.",
        "DELETE /orders/{id} sales-order:delete.",
        "POST /orders/{id}/approve sales.order:execute.approve",
        "GET /orders/open sales.open:read.",
        "GET /ping ping:read.",
    }
    (problem,) = loaded.problems
    assert str(problem) == (
        "POST /upload is left out, and so denied: only JSON bodies are understood, not multipart/form-data "
        "(/paths/~1upload/post/requestBody/content)"
    )


def test_only_what_needs_a_look_inside_goes_to_the_guard():
    assert {(r.method, r.template) for r in shop().routes if not r.inspect} == {
        ("GET", "/ping"),
        ("POST", "/orders/{id}/approve"),
        ("GET", "/orders/open"),
    }


def test_a_request_is_the_operation_it_matches_with_its_record():
    operation = does("DELETE", "/orders/7")
    assert (operation.permission, operation.verb, operation.ids) == ("shop/sales-order:delete", Verb.DELETE, ("7",))


def test_a_literal_wins_over_a_parameter():
    assert does("GET", "/orders/open").object == "sales.open"


@pytest.mark.parametrize(
    "path",
    [
        "/orders/", "//orders", "/orders/7/", "/orders;v=1", "/orders/7;x", "/%6frders", "/orders/..", "/orders/%2e%2e",
        "/orders/7%2fapprove", "/orders/7%5capprove", "/orders/%252f", "/orders/7%00", "/orders/%ff", "orders", "",
        "/orders/a b", "/ORDERS", "/orders?x=1", "/orders/" + "a" * 9_000, "/orders" + "/a" * 100,
    ],
)  # fmt: skip
def test_an_odd_spelling_of_a_path_matches_nothing(path):
    assert does("GET", path) is None


@pytest.mark.parametrize("method", ["PUT", "OPTIONS", "TRACE", "get", "HEAD", ""])
def test_a_method_that_is_not_described_matches_nothing(method):
    assert does(method, "/orders") is None


def test_a_circle_of_schemas_stays_a_circle_and_closes_by_a_condition():
    body = next(r for r in shop().routes if r.method == "POST" and r.template == "/orders")
    closes = {"allOf": [{"if": {"$ref": "#/$defs/s2"}, "else": {"not": {}}}]}
    assert json.loads(body.body_schema)["$defs"]["s2"]["properties"]["sub"] == closes
    assert body.body_required


def test_a_schema_may_have_definitions_of_its_own_and_name_its_dialect():
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    whole = {**dialect, "$ref": "#/x/$defs/number", "$defs": {"number": {"type": "integer"}, "odd": {"$id": "odd"}}}
    text = schema.Bundler({"openapi": "3.1.0", "x": whole}).bundle(whole, "/x")
    assert json.loads(text) == {"$ref": "#/$defs/s1", "$defs": {"s1": {"type": "integer"}}}


def meaning(call, **says):
    """What a document without tags makes of one operation."""
    method, _, template = call.partition(" ")
    text = json.dumps({"openapi": "3.1.0", "paths": {template: {method.lower(): says}}}).encode()
    (route,) = load(text, "shop").routes
    return route.permission


@pytest.mark.parametrize(
    "call, permission",
    [
        ("GET /api/v1/orders/{id}", "orders:read"), ("POST /v2/invoices", "invoices:write"),
        ("GET /rest/api/3/issue/{key}", "issue:read"), ("GET /V1.2/orders", "orders:read"),
        ("GET /v1beta1/orders", "orders:read"), ("GET /{tenant}/v1/orders", "orders:read"),
        ("GET /apis/list", "apis:read"), ("GET /orders/v1", "orders:read"), ("GET /api", "api:read"),
        ("GET /api/v1/{id}", "api:read"), ("POST /orders/{id}/approve", "orders:execute.approve"),
        ("PUT /api/orders/{id}/state/", "orders:execute.state"), ("PATCH /orders/{id}/lines", "orders:execute.lines"),
        ("POST /orders/{id}/actions/approve", "orders:execute.approve"), ("GET /orders/{id}/lines", "orders:read"),
        ("DELETE /orders/{id}/lines", "orders:delete"), ("POST /orders/{id}", "orders:write"),
        ("POST /orders/search", "orders:write"), ("PATCH /orders/{id}/lines/{line}", "orders:write"),
    ],
)  # fmt: skip
def test_path_and_method_say_which_object_verb_and_action_it_is(call, permission):
    assert meaning(call) == f"shop/{permission}"


@pytest.mark.parametrize(
    "own, permission",
    [
        ({"object": "sales.order"}, "sales.order:execute.approve"), ({"verb": "write"}, "orders:write"),
        ({"action": "confirm"}, "orders:execute.confirm"), ({"verb": "write", "action": "confirm"}, "orders:write.confirm"),
        ({"action": ""}, "orders:execute"),
    ],
)  # fmt: skip
def test_what_the_document_says_of_it_stands_above_what_the_path_says(own, permission):
    assert meaning("POST /orders/{id}/approve", **{"x-ostiary": own}) == f"shop/{permission}"


def test_a_tag_names_the_object_and_leaves_the_action():
    assert meaning("POST /v1/orders/{id}/approve", tags=["Sales Order"]) == "shop/sales-order:execute.approve"


STEP = st.sampled_from(["api", "v1", "orders", "approve", "{id}", "{line}"])


@given(st.lists(STEP, min_size=1, max_size=5, unique=True), st.sampled_from(["POST", "PUT", "PATCH"]))
def test_who_may_write_may_do_nothing_that_a_word_behind_a_record_names(steps, method):
    word = not steps[-1].startswith("{") and any(step.startswith("{") for step in steps)
    if any(not step.startswith("{") for step in steps):
        assert (":write" not in meaning(f"{method} /{'/'.join(steps)}")) is word


def test_the_path_of_the_server_is_told_and_an_odd_one_is_none():
    def base(*servers):
        return load(json.dumps({"openapi": "3.1.0", "paths": {}, "servers": servers}).encode(), "shop").base

    assert base({"url": "/api/"}, {"url": "/other"}) == base({"url": "https://shop.example.com/api"}) == "/api"
    odd = ["/", "https://shop.example.com", "./api", "/a/../b", "/{version}", "http://[", '/"', 7]
    assert {base(*([{"url": one}] if one else [])) for one in [*odd, ""]} == {""}


def described(schemas, body="A0"):
    """A document with one operation, and how it is read."""
    content = {"application/json": {"schema": ref(body)}}
    root = {"openapi": "3.1.0", "paths": {"/x": {"post": {"requestBody": {"content": content}}}}}
    return load(json.dumps({**root, "components": {"schemas": schemas}}).encode(), "shop")


def ref(name):
    return {"$ref": f"#/components/schemas/{name}"}


def chain(link, links=31):
    return {f"A{n}": link(ref(f"A{n + 1}")) for n in range(links)} | {f"A{links}": {"type": "object"}}


@pytest.mark.parametrize(
    "link",
    [
        lambda to: {"allOf": [to, to]},
        lambda to: {"if": to, "then": to},
        lambda to: {"allOf": [{"properties": {"c": to}}, {"properties": {"c": to}}]},
        lambda to: {"properties": {"c": {"anyOf": [to, {"not": to}]}}},
        lambda to: {"contains": to, "items": to},
        lambda to: {"anyOf": [{"properties": {"c": to}}], "unevaluatedProperties": False},
    ],
)
def test_a_chain_that_names_its_next_link_twice_is_refused_where_it_grows_too_heavy(link):
    loaded = described(chain(link))
    assert loaded.routes == ()
    (problem,) = loaded.problems
    assert problem.pointer in [ref(f"A{n}")["$ref"][1:] for n in range(19, 24)]
    assert "more than 2000 schemas for one value; name each once" in problem.message


def test_nor_does_a_chain_hide_in_a_circle_or_by_the_order_in_which_it_is_named():
    twice = chain(lambda to: {"allOf": [to, to]})
    assert described({**twice, "A31": {"properties": {"c": ref("A0")}}}).routes == ()
    backwards = {"allOf": [ref(f"A{n}") for n in range(31, -1, -1)]}
    assert described({**twice, "all": backwards}, "all").routes == ()


@pytest.mark.parametrize(
    "schema",
    [
        {"enum": [*range(101)]},  # each a quarter of a microsecond for one fraction that is sent, of a hundred thousand
        {"enum": [{"a": n} for n in range(101)]},
        {"enum": [*"abc", *range(101)]},
        {"dependentRequired": {f"p{n}": ["x"] for n in range(1001)}},
    ],
)
def test_a_list_that_each_value_is_compared_with_is_not_long(schema):
    assert described({"A0": {"items": schema}}).routes == ()
    short = {key: value[:99] if isinstance(value, list) else {} for key, value in schema.items()}
    assert described({"A0": {"items": short}}).routes
    assert described({"A0": {"items": {"enum": [*(f"text {n}" for n in range(10_000)), None]}}}).routes


def test_what_has_many_schemas_but_few_for_each_value_is_opened():
    """A long chain, a wide one, a large circle, and a tree of many kinds of nodes."""
    assert described(chain(lambda to: {"properties": {"c": {"anyOf": [to, {"type": "null"}]}}}, 400)).routes
    assert described(chain(lambda to: {"properties": dict.fromkeys("abcdefgh", to)}, 100)).routes
    everything = {f"A{n}": {"properties": {f"f{m}": ref(f"A{m}") for m in range(60)}} for n in range(60)}
    assert described(everything).routes
    kinds = {f"K{n}": {"properties": {"of": {"type": "array", "items": ref("A0")}}} for n in range(40)}
    assert described({"A0": {"oneOf": [ref(kind) for kind in kinds]}, **kinds}).routes


def document(**paths):
    return json.dumps({"openapi": "3.1.0", "paths": {f"/{name}": item for name, item in paths.items()}}).encode()


@pytest.mark.parametrize(
    "item, words",
    [
        ({"get": {"parameters": [{"$ref": "http://evil/x"}]}}, "into this document"),
        ({"get": {"parameters": [{"$ref": "#/nowhere"}]}}, "nothing stands"),
        ({"$ref": "#/paths/~1x"}, "circle"),
        ({"get": {"x-ostiary": {"verb": "own"}}}, "a verb is"),
        ({"get": {"x-ostiary": {"rights": "all"}}}, "may hold"),
        ({"get": {"parameters": [{"name": "s", "in": "cookie", "required": True, "schema": {}}]}}, "cookies"),
        ({"get": {"parameters": [{"name": "s", "in": "query", "style": "deepObject", "schema": {}}]}}, "style"),
        ({"get": {"parameters": [{"name": "s", "in": "query", "schema": {"pattern": "(?=a)b"}}]}}, "look-around"),
        ({"get": {"parameters": [{"name": "s", "in": "query", "schema": {"$id": "http://a"}}]}}, "$id"),
        ({"get": {"parameters": [{"name": "s", "in": "path", "schema": {}}]}}, "no {s}"),
        ({"trace": {}}, "not passed on"),
        ({"get": {"requestBody": {"content": {"application/json": {}}}}}, "with a body"),
        ("nonsense", "an object"),
        ({"get": {"x-ostiary": {"object": "A B"}}}, "no object name"),
        ({"get": {"x-ostiary": {"action": "a:b"}}}, "an action is letters"),
    ],
)
def test_what_can_not_be_enforced_is_a_problem_and_stays_closed(item, words):
    loaded = load(document(x=item), "shop")
    assert loaded.routes == ()
    assert any(words in str(problem) for problem in loaded.problems)


@pytest.mark.parametrize(
    "text, words",
    [
        (b"openapi: 3.0.0\npaths: &a {/x: *a}", "anchors"),
        (b"openapi: 3.0.0\npaths: {}\npaths: {}", "twice"),
        (b'{"openapi":"3.0.0","paths":{},"paths":{}}', "duplicate"),
        (b"swagger: '2.0'", "3.0 and 3.1"),
        (b"[" * 5000, ""),
        (b"openapi: !!python/object:os.system {}", "tags"),
        (b"\xff\xfe\x00", ""),
        (b"", "no object"),
        (b"a" * (10 * 1024 * 1024 + 1), "larger"),
    ],
)
def test_a_document_that_is_none_opens_nothing(text, words):
    loaded = load(text, "shop")
    assert loaded.fatal
    assert loaded.routes == ()
    assert words in str(loaded.problems[0]).lower() or words in str(loaded.problems[0])


def test_two_templates_for_the_same_paths_are_refused():
    loaded = load(
        json.dumps({"openapi": "3.1.0", "paths": {"/a/{x}": {"get": {}}, "/a/{y}": {"get": {}}}}).encode(), "shop"
    )
    assert len(loaded.routes) == 1
    assert "same paths" in loaded.problems[0].message


def test_norway_stays_norway():
    (parameter,) = [p for r in shop().routes for p in r.parameters if p.name == "country"]
    assert json.loads(parameter.schema)["enum"] == ["NO", "DE"]


@given(st.binary(max_size=300))
def test_no_text_makes_the_loader_fail(data):
    load(b"openapi: 3.0.0\n" + data, "shop")


TABLE = Table(shop().routes)


@given(st.sampled_from(["GET", "POST", "DELETE"]), st.text(max_size=40))
def test_no_path_makes_the_reader_fail(method, path):
    TABLE.find(method, f"/orders/{path}")


def many(operations, schema):
    body = {"content": {"application/json": {"schema": schema}}}
    refers = {"post": {"requestBody": {"$ref": "#/components/requestBodies/B"}}}
    told = {"openapi": "3.1.0", "paths": {f"/p{n}": refers for n in range(operations)}, "components": {"requestBodies": {"B": body}}}  # fmt: skip
    return json.dumps(told).encode()


def test_one_schema_that_many_operations_name_is_kept_once_and_does_not_make_a_plan_without_end(monkeypatch):
    wide = {"enum": [f"value-{n:08}" for n in range(500)]}
    whole = load(many(20, wide), "shop")
    assert len({id(route.body_schema) for route in whole.routes}) == 1
    size = len(whole.routes[0].body_schema)
    monkeypatch.setattr(schema, "SCHEMAS_MAX_BYTES", 5 * size)
    loaded = load(many(20, wide), "shop")
    assert len(loaded.routes) == 6
    assert len(loaded.problems) == 14
    assert f"all schemas together are larger than {5 * size} bytes" in str(loaded.problems[0])


def test_a_schema_that_is_refused_again_and_again_is_not_read_again_and_again(monkeypatch):
    monkeypatch.setattr(schema, "SCHEMA_MAX_BYTES", 1_000)
    monkeypatch.setattr(schema, "SCHEMAS_MAX_BYTES", 100_000)
    loaded = load(many(50, {"enum": ["a" * 30_000]}), "shop")
    told = Counter(str(one).partition(": ")[2].partition(" larger")[0] for one in loaded.problems)
    assert sorted(told.values()) == [4, 46]


def test_a_document_of_too_many_operations_is_read_no_further(monkeypatch):
    read = []
    monkeypatch.setattr(describe, "ROUTES_MAX", 3)
    monkeypatch.setattr(schema.Bundler, "bundle", lambda *_: read.append(1) or "{}")
    loaded = load(many(50, {}), "shop")
    assert loaded.fatal
    assert len(read) == 4
