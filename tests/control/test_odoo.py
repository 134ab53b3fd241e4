"""A small Odoo behind the running gate, from its first key to what is refused of it."""

import json
import xmlrpc.client

import pytest
from tools.caller import basic

import odoo_twin
from odoo_twin import DATABASE, KEY, LOGIN, Odoo
from ostiary.foundation.errors import OperatorFault
from ostiary.foundation.secret import Secret
from running import RUNNING, until
from upstream import Echo, Server

pytestmark = RUNNING
CLERKS_KEY = "planted-clerks-key-8e21"
POLICY = """\
policy: test
systems:
  shop: {{kind: openapi, at: localhost/shop, upstream: "{shop}", spec: "specs/shop.openapi.yaml"}}
  erp: {{kind: odoo, at: localhost, upstream: "{odoo}", database: acme{way}}}
departments: {{sales: {{}}}}
roles:
  clerk:
    level: user
    of: sales
    may:
      - "erp/sale.order: read"
      - {{do: "erp/sale.order: write", fields: [name, partner_id, order_line]}}
      - {{do: "erp/sale.order.line: read, write", fields: [id, display_name, order_id, name, price_unit]}}
      - {{do: "erp/res.partner: read", fields: [id, display_name, name]}}
      - "erp/common: execute authenticate"
"""
WRONG = [["order_line.purchase_price", ">", 50]]


@pytest.fixture
def erp(site):
    """The Odoo and, once it was learnt, the clerk's way to it."""
    twin = Odoo({"clerk": CLERKS_KEY})
    server = Server(("127.0.0.1", 0), Echo).start(twin)
    twin.server, twin.site = server, site
    yield twin
    server.stop()


def begun(erp, name, way=""):
    """A client that is a clerk, by the policy with the Odoo in it; a token for it."""
    site = erp.site
    upstream = {
        "shop": f"http://127.0.0.1:{site.upstream.server_port}",
        "odoo": f"http://127.0.0.1:{erp.server.server_port}",
    }
    site.apply(POLICY.format(**upstream, way=way))
    learnt = site.ask("system.account", system="erp", login=LOGIN, password=KEY)
    assert learnt["objects"] == len(odoo_twin.FIELDS)
    made = site.ask("client.add", client_id=name, roles=["clerk"])
    fields = {"grant_type": "client_credentials", "resource": "https://localhost"}
    answer = site.caller().form("/identity/token", basic=basic(name, Secret(made["client_secret"])), **fields)
    return answer.json()["access_token"]


def called(erp, token, method, /, path="", model="sale.order", **given):
    return erp.site.once("POST", path or f"/json/2/{model}/{method}", json.dumps(given).encode(), token=token)


def test_a_key_that_the_odoo_does_not_take_is_told_and_teaches_nothing(erp):
    begun(erp, "odoo-stranger")
    with pytest.raises(OperatorFault, match="does not take this login and key"):
        erp.site.ask("system.account", system="erp", login=LOGIN, password="wrong")
    assert erp.site.ask("system.learn", system="erp")["objects"] == len(odoo_twin.FIELDS)


def test_a_body_in_pieces_reaches_it_with_its_length(erp):
    """Odoo takes a JSON-2 call without a length for one without a body: `search_read` would then show all there is."""
    token = begun(erp, "odoo-pieces")
    erp.site.ask("account.set", principal="client:odoo-pieces", system="erp", login="clerk", password=CLERKS_KEY)
    until(lambda: called(erp, token, "search_read", domain=[], fields=["name"]).status == 200)
    pieces = [b'{"domain": [], ', b'"fields": ["name"]}']
    caller = erp.site.caller(token)
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json", "transfer-encoding": "chunked"}
    caller._connection.request("POST", "/json/2/sale.order/search_read", iter(pieces), headers, encode_chunked=True)
    answer = caller._connection.getresponse()
    assert (answer.status, set(json.loads(answer.read())[0])) == (200, {"id", "name"})
    seen = erp.server.seen[-1]
    assert (seen["headers"]["content-length"], seen["body"]) == (str(len(b"".join(pieces))), b"".join(pieces).decode())


def test_the_clerk_reads_and_writes_what_his_role_says_and_the_part_beyond_it_is_named(erp):
    token = begun(erp, "odoo-clerk")
    assert called(erp, token, "search_read", domain=[], fields=["name"]).status == 503  # without an account there
    erp.site.ask("account.set", principal="client:odoo-clerk", system="erp", login="clerk", password=CLERKS_KEY)
    found = until(
        lambda: (
            (one := called(erp, token, "search_read", domain=[], fields=["name", "partner_id"])).status == 200 and one
        )
    )
    assert found.json()[0] == {"id": 1, "name": "S1", "partner_id": [1, "Acme"]}
    seen = erp.server.seen[-1]
    assert (seen["headers"]["authorization"], seen["headers"]["x-odoo-database"]) == (f"Bearer {CLERKS_KEY}", DATABASE)
    assert token not in json.dumps(seen)

    made = called(
        erp, token, "create", vals_list=[{"name": "S3", "order_line": [[0, 0, {"name": "Desk", "price_unit": 5}]]}]
    )
    assert (made.status, made.json()) == (200, [3])
    count = len(erp.did)
    secret = [[0, 0, {"name": "Desk", "purchase_price": 5}]]
    for refused, pointer, named in (
        (called(erp, token, "create", vals_list=[{"name": "S4", "order_line": secret}]), "/vals_list/0/order_line/0", "sale.order.line:write"),
        (called(erp, token, "read", ids=[1], fields=["order_line"], model="sale.order.line"), "", "sale.order.line"),
        (called(erp, token, "search", domain=WRONG), "/domain/0", "sale.order.line:read"),
        (called(erp, token, "write", ids=[1], vals={"state": "sale"}), "/method", "sale.order:write"),
        (called(erp, token, "write", ids=[1], vals={"order_line": [[2, 1]]}), "/vals/order_line/0", "sale.order.line:delete"),
        (called(erp, token, "action_confirm", ids=[1]), "/method", "sale.order:execute.action_confirm"),
        (called(erp, token, "update", ids=[1], values={"state": "sale"}), "/method", ""),
        (called(erp, token, "web_save", ids=[1], vals={"name": "x"}, specification={"order_line": {"fields": {"purchase_price": {}}}}), "", ""),
    ):  # fmt: skip
        told = refused.json()
        assert refused.status in {400, 403}, told
        assert pointer in told.get("pointer", ""), told
        assert named in told["detail"] + refused.headers.get("ostiary-operation", ""), told
    assert len(erp.did) == count
    explained = until(lambda: erp.site.ask("explain", decision=called(erp, token, "search", domain=WRONG).decision))
    assert "purchase_price" in json.dumps(explained)


def test_no_way_but_the_one_with_the_gates_key_is_open(erp):
    token = begun(erp, "odoo-ways")
    erp.site.ask("account.set", principal="client:odoo-ways", system="erp", login="clerk", password=CLERKS_KEY)
    until(lambda: called(erp, token, "search_read", domain=[], fields=["name"]).status == 200)
    count = len(erp.did)
    login = [DATABASE, 2, CLERKS_KEY, "sale.order", "search_read", [[], ["name"]]]
    for service, method, args in (
        ("db", "list", []), ("db", "dump", ["master", DATABASE]), ("db", "drop", ["master", DATABASE]),
        ("common", "authenticate", [DATABASE, "clerk", CLERKS_KEY, {}]), ("object", "execute_kw", login),
    ):  # fmt: skip
        told = {"service": service, "method": method, "args": args}
        assert called(erp, token, "", path="/jsonrpc", jsonrpc="2.0", method="call", params=told).status in {
            400,
            403,
            404,
        }
        body = xmlrpc.client.dumps(tuple(args), method).encode()
        assert erp.site.once("POST", f"/xmlrpc/2/{service}", body, token=token, content_type="text/xml").status in {
            403,
            404,
        }
    for path in ("/web/database/manager", "/web/dataset/resequence", "/web/export/csv", "/json/2/sale.order/_write"):
        assert called(erp, token, "", path=path, ids=[1]).status in {403, 404}
    assert len(erp.did) == count


def test_where_the_caller_brings_the_password_the_old_ways_are_judged_as_the_new_one(erp):
    token = begun(erp, "odoo-old", ", hand-over: none")
    login = [DATABASE, 2, CLERKS_KEY]

    def jsonrpc(service, method, *args):
        told = {"service": service, "method": method, "args": args}
        return called(erp, token, "", path="/jsonrpc", jsonrpc="2.0", method="call", params=told)

    def xml(*args):
        body = xmlrpc.client.dumps((*login, *args), "execute_kw").encode()
        return erp.site.once("POST", "/xmlrpc/2/object", body, token=token, content_type="text/xml")

    assert (
        until(
            lambda: (one := jsonrpc("common", "authenticate", DATABASE, "clerk", CLERKS_KEY, {})).status == 200 and one
        ).json()["result"]
        == 2
    )
    read = ("sale.order", "read", [[1], ["name"]])
    assert jsonrpc("object", "execute_kw", *login, *read).json()["result"] == [{"id": 1, "name": "S1"}]
    assert b"S1" in xml(*read).body
    assert xml("sale.order", "write", [[1], {"name": "S\u202e1"}]).reason == "invalid"  # as in JSON
    count = len(erp.did)
    for args in (
        ("sale.order", "search", [WRONG]), ("sale.order.line", "read", [[1], ["purchase_price"]]), ("sale.order.line", "read", [[1], []]),
        ("sale.order", "write", [[1], {"state": "sale"}]), ("sale.order", "copy_data", [[1]]), ("res.users", "read", [[2], ["login"]]),
    ):  # fmt: skip
        assert jsonrpc("object", "execute_kw", *login, *args).status in {400, 403}
        assert xml(*args).status in {400, 403}
    for service, method, args in (
        ("db", "dump", ["x", DATABASE]),
        ("common", "login", [DATABASE, "clerk", CLERKS_KEY]),
    ):
        assert jsonrpc(service, method, *args).status in {403, 404}
    assert jsonrpc("common", "authenticate", "other", "clerk", CLERKS_KEY, {}).status in {403, 404}
    assert len(erp.did) == count
