"""Roles of an OpenAPI document: by its security scopes, else by object and verb; never wider than it says."""

from ostiary.erp.openapi import drafted, load

SPEC = """\
openapi: 3.1.0
info: {title: Shop, version: "1"}
security: [{oauth: [shop.read]}]
paths:
  /orders:
    get: {tags: [Order]}
    post: {tags: [Order], security: [{oauth: [shop.write]}, {oauth: [shop.write, shop.admin]}]}
  /orders/export:
    get: {tags: [Order], security: [{oauth: [shop.admin]}]}
  /stock: {get: {tags: [Stock]}}
  /run: {post: {x-ostiary: {object: report, verb: execute, action: run}, security: [{key: []}]}}
  /free: {get: {tags: [Free], security: []}}
"""


def told(text):
    data = text.encode()
    return {role.name: (dict(role.may), role.notes) for role in drafted(data, load(data, "shop").routes)}


def test_a_scope_is_a_role_and_an_operation_without_one_goes_by_object_and_verb():
    found = told(SPEC)
    assert set(found) == {
        "shop.read",
        "shop.write",
        "shop.admin shop.write",
        "shop.admin",
        "report execute",
        "free read",
    }
    assert found["report execute"][0] == {"shop/report:execute.run": "POST /run"}
    assert found["shop.write"][0] == {"shop/order:write": "POST /orders"}


def test_what_would_open_a_route_of_another_scope_is_not_proposed_but_told():
    may, notes = told(SPEC)["shop.read"]
    assert may == {"shop/stock:read": "GET /stock"}
    assert notes == ("not proposed: shop/order:read, which opens GET /orders/export too",)
    assert told(SPEC)["shop.admin"][0] == {}


def test_a_permission_without_an_action_opens_the_actions_too():
    more = (
        SPEC
        + "  /orders/{id}/close: {post: {x-ostiary: {object: order, verb: write, action: close}, security: [{oauth: [shop.close]}]}}\n"
    )
    assert told(more)["shop.write"][0] == {}
    assert told(more)["shop.close"][0] == {"shop/order:write.close": "POST /orders/{id}/close"}


def test_without_security_there_is_a_role_for_each_object_and_verb():
    found = told(SPEC.replace("security:", "x-none:"))
    assert found["order read"][0] == {"shop/order:read": "GET /orders, GET /orders/export"}


def test_an_odd_security_is_none():
    for odd in ("7", "[7]", '[{oauth: "x"}]', "null"):
        assert "order read" in told(SPEC.replace("security: [{oauth: [shop.read]}]\n", f"security: {odd}\n"))
