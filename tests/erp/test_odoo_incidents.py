"""What happened to Odoos, as requests: each is refused to every role of the pack that one begins with, and by `init`'s policy."""

import json
import xmlrpc.client
from datetime import UTC, datetime
from ipaddress import ip_address

import pytest

from odoo_twin import DATABASE, Odoo
from ostiary.compile.plan import compile_policy
from ostiary.erp import odoo
from ostiary.erp.adapters import understood
from ostiary.erp.catalogue import Site
from ostiary.erp.operation import Call, Request, Unreadable, Verb
from ostiary.plan.decide import Facts, decide
from ostiary.plan.model import Circumstances
from ostiary.policy.parse import parse

CATALOGUE = odoo.learn(Odoo().tables["ir.model.fields"].values())
POLICY = """
policy: acme
packs: [starter/odoo, sod/odoo]
systems:
  erp: {kind: odoo, at: erp.test, upstream: "http://127.0.0.1:8069", database: acme, hand-over: WAY}
"""
HERE = Circumstances(at=datetime(2026, 3, 3, 10, tzinfo=UTC), source=ip_address("192.0.2.1"))
EVERYTHING = frozenset(f"erp/*:{verb}" for verb in Verb)
TOKEN = "oauth_access_token"


def json2(model, method, /, **given):
    return Request(
        method="POST", path=f"/json/2/{model}/{method}", headers={"content-type": "application/json"}, body=json.dumps(given).encode()
    )  # fmt: skip


def jsonrpc(service, method, *args):
    told = {"jsonrpc": "2.0", "method": "call", "params": {"service": service, "method": method, "args": args}}
    return Request(
        method="POST", path="/jsonrpc", headers={"content-type": "application/json"}, body=json.dumps(told).encode()
    )


def xml(service, method, *args):
    body = xmlrpc.client.dumps(args, method).encode()
    return Request(method="POST", path=f"/xmlrpc/2/{service}", headers={"content-type": "text/xml"}, body=body)


def allowed(request, way="key"):
    """The roles that may do it, of those of the pack, each by itself, and of all at once."""
    plan = compile_policy(parse(POLICY.replace("WAY", way), "acme.yaml").policy)
    keyed = way == "key"
    call = understood("odoo", request, Site(name="erp", database=DATABASE, catalogue=CATALOGUE, keyed=keyed))
    if isinstance(call, Unreadable):
        return set()
    names = [role.name for role in plan.roles]
    sets = {name: frozenset({name}) for name in names} | {"all": frozenset(names)}
    return {
        name
        for name, roles in sets.items()
        if decide(
            plan, Facts(system="erp", here=HERE, roles=roles, scopes=EVERYTHING, operations=call.operations)
        ).allowed
    }


def test_the_pack_lets_its_roles_do_their_work():
    assert "sales-clerk" in allowed(json2("sale.order", "read", ids=[1], fields=["name", "order_line"]))
    assert "sales-lead" in allowed(json2("sale.order", "action_confirm", ids=[1]))
    made = {"partner_id": 1, "order_line": [[0, 0, {"product_id": 1, "name": "Desk", "price_unit": 5}]]}
    assert "sales-clerk" in allowed(json2("sale.order", "create", vals_list=[made]))
    assert "erp-administrator" in allowed(json2("res.users", "read", ids=[2], fields=["login"]))


@pytest.mark.parametrize(
    "request_",
    [
        json2("mail.message", "search_count", domain=[[f"author_id.user_ids.{TOKEN}", "=like", "a%"]]),
        json2("res.partner", "search_count", domain=[[f"user_ids.{TOKEN}", "=like", "a%"]]),
        json2("res.partner", "search", domain=[["user_ids", "any", [[TOKEN, "=like", "a%"]]]]),
        json2("res.partner", "search_read", domain=[], fields=["name"], order=f"user_ids.{TOKEN} desc"),
        json2("res.users", "search", domain=[], order=TOKEN),
        json2("res.users", "read_group", domain=[], fields=["__count"], groupby=[TOKEN]),
        json2("res.users", "name_search", name="", domain=[[TOKEN, "=like", "a%"]]),
        jsonrpc("object", "execute_kw", DATABASE, 2, "x", "res.users", "search_count", [[[TOKEN, "=like", "a%"]]]),
        xml("object", "execute_kw", DATABASE, 2, "x", "res.users", "search_count", [[[TOKEN, "=like", "a%"]]]),
    ],
)
@pytest.mark.parametrize("way", ["key", "none"])
def test_cve_2024_36259_what_no_role_reads_no_filter_no_order_and_no_group_tells_either(request_, way):
    """In Odoo 17 mail answered yes or no to any field of whatever it links to, secrets among them."""
    assert allowed(request_, way) == set()


@pytest.mark.parametrize(
    "request_",
    [
        json2("res.users", "export_data", ids=[2, 3], fields_to_export=["login", TOKEN]),
        json2("res.partner", "export_data", ids=[1], fields_to_export=[f"user_ids/{TOKEN}"]),
        json2("res.users", "read", ids=[2], fields=[TOKEN]),
        json2("res.users", "read", ids=[2], fields=[]),
        json2("res.users", "web_read", ids=[2], specification={TOKEN: {}}),
        json2("res.partner", "web_save", ids=[1], vals={"name": "x"}, specification={"user_ids": {"fields": {TOKEN: {}}}}),
        json2("res.users", "copy_data", ids=[2]),
        json2("res.users", "onchange", ids=[2], values={}, field_names=[TOKEN], fields_spec={TOKEN: {}}),
        jsonrpc("object", "execute", DATABASE, 2, "x", "res.users", "export_data", [2], ["login", TOKEN]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("way", ["key", "none"])
def test_cve_2024_12368_nobody_exports_or_reads_the_tokens_of_others(request_, way):
    """In Odoo 15 any internal user could export the OAuth tokens of all."""
    assert allowed(request_, way) == set()


@pytest.mark.parametrize("call", [jsonrpc, xml])
@pytest.mark.parametrize("way", ["key", "none"])
@pytest.mark.parametrize(
    ("service", "method", "args"),
    [
        ("db", "create_database", ["master", "new", False, "en_US", "admin"]), ("db", "dump", ["master", DATABASE, "zip"]),
        ("db", "restore", ["master", "new", "aaaa"]), ("db", "drop", ["master", DATABASE]), ("db", "list", []),
        ("db", "change_admin_password", ["admin", "planted"]), ("db", "duplicate_database", ["admin", DATABASE, "new"]),
        ("common", "login", [DATABASE, "admin", "admin"]), ("common", "authenticate", [DATABASE, "admin", "guess", {}]),
        ("common", "authenticate", [DATABASE, "admin", "admin", {"base_location": "https://planted.example"}]),
        ("object", "execute_kw", [DATABASE, 2, "x", "res.users", "create", [{"login": "planted", "password": "x", "groups_id": [[6, 0, [3]]]}]]),
        ("object", "execute_kw", [DATABASE, 2, "x", "res.users", "write", [[2], {"password": "planted"}]]),
    ],
)  # fmt: skip
def test_no_account_is_put_in_and_none_is_guessed_through_the_old_services(call, way, service, method, args):
    """odoo#276989 and the account injections before it: the services `db` and `common` ask for no user at all."""
    assert allowed(call(service, method, *args), way) == set()


def test_the_policy_of_a_new_installation_lets_nobody_do_anything():
    """`init` writes one role, which may nothing; so each of these is refused there, too."""
    call = understood(
        "odoo",
        json2("res.partner", "search_read", domain=[], fields=["name"]),
        Site(name="erp", database=DATABASE, catalogue=CATALOGUE, keyed=True),
    )
    assert isinstance(call, Call)
    text = (
        'policy: new\nsystems: {erp: {kind: odoo, at: erp.test, upstream: "http://127.0.0.1:8069", database: acme}}\n'
        "departments: {everyone: {}}\nroles: {reader: {level: user, of: everyone, may: []}}\n"
    )
    plan = compile_policy(parse(text, "p").policy)
    told = decide(
        plan, Facts(system="erp", here=HERE, roles=frozenset({"reader"}), scopes=EVERYTHING, operations=call.operations)
    )
    assert not told.allowed
