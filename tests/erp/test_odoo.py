"""What Odoo's calls would do, by whichever of its four ways they come: every part is named, or the call is not understood."""

import json
import xmlrpc.client

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.erp import odoo
from ostiary.erp.adapters import understood
from ostiary.erp.body import xml_rpc
from ostiary.erp.catalogue import Site
from ostiary.erp.operation import Call, Problem, Request, Unreadable, operation_named
from ostiary.prove.spelling import slip

ROWS = [  # object, field, type, where it leads to, and whether a copy has it
    ("res.partner", "name", "char", "", True),
    ("res.partner", "active", "boolean", "", True),
    ("res.partner", "display_name", "char", "", False),
    ("res.partner", "bank_ids", "one2many", "res.partner.bank", False),
    ("res.partner", "category_id", "many2many", "res.partner.category", True),
    ("res.partner", "country_id", "many2one", "res.country", True),
    ("res.partner", "child_ids", "one2many", "res.partner", False),
    ("res.partner", "properties", "properties", "", True),
    ("res.partner", "message_ids", "one2many", "mail.message", False),
    ("mail.message", "body", "html", "", True),
    ("mail.message", "res_id", "many2one_reference", "", True),
    ("res.partner.bank", "acc_number", "char", "", True),
    ("res.partner.bank", "partner_id", "many2one", "res.partner", True),
    ("res.partner.bank", "display_name", "char", "", False),
    ("res.partner.category", "name", "char", "", True),
    ("res.partner.category", "partner_ids", "many2many", "res.partner", True),
    ("res.partner.category", "display_name", "char", "", False),
    ("res.country", "code", "char", "", True),
    ("res.country", "display_name", "char", "", False),
    ("res.users", "login", "char", "", True),
    ("res.users", "oauth_access_token", "char", "", False),
    ("res.users", "partner_id", "many2one", "res.partner", True),
    ("res.users", "display_name", "char", "", False),
    ("res.partner", "vat", "char", "", True),
    ("res.users", "vat", "char", "", False),
    ("res.users", "name", "char", "", False),
    ("res.users", "size", "float", "", False),
    ("res.partner", "parent_id", "many2one", "res.partner", True),
    ("res.partner", "user_ids", "one2many", "res.users", False),
    ("work.payment", "state", "selection", "", False),
    ("work.payment", "amount", "float", "", True),
    ("work.payment", "move_id", "many2one", "work.entry", True),
    ("work.entry", "state", "selection", "", True),
    ("account.move", "state", "selection", "", True),
    ("account.move", "amount_total", "monetary", "", False),
    ("account.move", "invoice_date", "date", "", True),
    ("account.move", "partner_id", "many2one", "res.partner", True),
    ("account.move", "invoice_line_ids", "one2many", "account.move.line", True),
    ("account.move.line", "name", "char", "", True),
    ("account.move.line", "move_id", "many2one", "account.move", True),
    ("account.move.line", "tax_ids", "many2many", "account.tax", True),
    ("account.tax", "amount", "float", "", True),
]
MODELS = sorted({row[0] for row in ROWS})
BACK = {"user_ids": "partner_id", "bank_ids": "partner_id", "invoice_line_ids": "move_id", "message_ids": "res_id"}
RELATED = {
    ("res.users", "vat"): "partner_id.vat",
    ("res.users", "name"): "partner_id.name",
    ("work.payment", "state"): "move_id.state",
    ("work.entry", "note"): "",
}
CATALOGUE = odoo.learn(
    [
        {
            "model": m,
            "name": n,
            "ttype": t,
            "relation": r or False,
            "relation_field": BACK.get(n) or False,
            "copied": c,
            "related": RELATED.get((m, n), False),
        }
        for m, n, t, r, c in [*ROWS, *((model, "id", "integer", "", False) for model in MODELS)]
    ]
)
JSON = {"content-type": "application/json"}
XML = {"content-type": "text/xml"}


def read(path, body, *, keyed=False, method="POST", headers=JSON, query=""):
    wire = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = Request(method=method, path=path, query=query, headers=headers, body=wire)
    return understood("odoo", request, Site(name="erp", database="acme", catalogue=CATALOGUE, keyed=keyed))


def json2(model, method, /, **named):
    return read(f"/json/2/{model}/{method}", named, keyed=True)


def kw(model, method, args, kwargs=None, way="jsonrpc", **changed):
    """The same call by each of the ways that carry it."""
    placed = ["acme", 2, "secret", model, method, args, *([] if kwargs is None else [kwargs])]
    told = {"service": "object", "method": "execute_kw", "args": placed, **changed}
    match way:
        case "jsonrpc":
            return read("/jsonrpc", {"jsonrpc": "2.0", "method": "call", "params": told, "id": 1})
        case "xmlrpc":
            return read(
                "/xmlrpc/2/object",
                xmlrpc.client.dumps(tuple(placed), "execute_kw", allow_none=True).encode(),
                headers=XML,
            )
        case "execute":
            return read(
                "/jsonrpc", {"params": {"service": "object", "method": "execute", "args": [*placed[:5], *args]}}
            )
        case "web":
            params = {"model": model, "method": method, "args": args, "kwargs": kwargs or {}}
            return read("/web/dataset/call_kw/res.country/search_read", {"params": params})
    raise AssertionError(way)


def done(answer):
    assert isinstance(answer, Call), answer
    return {f"{one.object}:{one.verb}.{one.action}" for one in answer.operations}


def refused(answer, problem=Problem.UNKNOWN_OPERATION):
    assert isinstance(answer, Unreadable), answer
    assert answer.problem is problem, answer
    return answer


def operation(answer, name):
    assert isinstance(answer, Call), answer
    return next(one for one in answer.operations if f"{one.object}:{one.verb}.{one.action}" == name)


WAYS = ("jsonrpc", "xmlrpc", "execute", "web")


@pytest.mark.parametrize("way", WAYS)
def test_every_way_is_read_to_the_same_operations(way):
    args = [[7], {"name": "Acme", "bank_ids": [[0, 0, {"acc_number": "DE02"}]]}]
    answer = kw("res.partner", "write", args, way=way)
    assert answer == kw("res.partner", "write", args) or way == "web"
    assert done(answer) == {"res.partner:write.write", "res.partner.bank:write.create"}
    whole = operation(answer, "res.partner:write.write")
    assert (whole.ids, whole.fields_written) == (("7",), {"name", "bank_ids"})
    part = operation(answer, "res.partner.bank:write.create")
    assert part.fields_written == {"acc_number", "partner_id"}


def test_json_2_names_everything():
    answer = json2("res.partner", "write", ids=[7], vals={"name": "Acme"}, context={"lang": "de_DE"})
    assert operation(answer, "res.partner:write.write").ids == ("7",)
    answer = json2("account.move", "action_post", ids=[3, 4])
    assert (done(answer), answer.operations[0].ids) == ({"account.move:execute.action_post"}, ("3", "4"))


@pytest.mark.parametrize(
    ("command", "does"),
    [
        ([0, 0, {"acc_number": "1"}], {"write.create"}),
        ([1, 5, {"acc_number": "1"}], {"write.write"}),
        ([2, 5, 0], {"delete.unlink"}),
        ([2, 5], {"delete.unlink"}),
        ([3, 5], {"write.write", "delete.unlink"}),
        ([4, 5], {"write.write"}),
        ([5], {"write.write", "delete.unlink"}),
        ([6, 0, [5, 6]], {"write.write", "delete.unlink"}),
    ],
)
def test_each_command_of_a_one2many_is_what_it_does_to_the_other_records(command, does):
    answer = json2("res.partner", "write", ids=[7], vals={"bank_ids": [command]})
    assert done(answer) == {"res.partner:write.write", *(f"res.partner.bank:{one}" for one in does)}


@pytest.mark.parametrize("command", [[3, 5], [4, 5], [5], [6, 0, [5]]])
def test_a_many_to_many_is_the_records_own_field_unless_another_one_leads_back(command):
    line = json2("account.move.line", "write", ids=[1], vals={"tax_ids": [command]})
    assert done(line) == {"account.move.line:write.write"}
    partner = json2("res.partner", "write", ids=[1], vals={"category_id": [command]})
    assert done(partner) == {"res.partner:write.write", "res.partner.category:write.write"}
    assert operation(partner, "res.partner.category:write.write").fields_written == {"partner_ids"}


def test_what_a_one_to_many_ties_is_the_field_that_leads_back():
    told = json2("res.partner", "write", ids=[7], vals={"message_ids": [[4, 5]], "bank_ids": [[4, 9]]})
    assert operation(told, "mail.message:write.write").fields_written == {"res_id"}
    assert operation(told, "res.partner.bank:write.write").fields_written == {"partner_id"}


@pytest.mark.parametrize(
    "command",
    [[7, 0, 0], [0, 0], [1, 5], [1, "5", {}], [2, 0], [6, 0, 5], ["0", 0, {}], [], {}, 5, [True, 5, {}], [0, 0, []]],
)
def test_a_command_that_is_none_is_refused(command):
    assert isinstance(json2("res.partner", "write", ids=[7], vals={"bank_ids": [command]}), Unreadable)


def test_commands_in_commands_are_walked():
    deep = {"invoice_line_ids": [[0, 0, {"move_id": 4, "name": "x"}], [2, 9, 0]]}
    answer = json2("account.move", "create", vals_list=[{"partner_id": 7, **deep}, {"state": "posted"}])
    assert done(answer) == {
        "account.move:write.create",
        "account.move.line:write.create",
        "account.move.line:delete.unlink",
    }
    assert operation(answer, "account.move:write.create").fields_written == {"partner_id", "invoice_line_ids", "state"}


def test_filter_order_and_group_are_reads():
    """CVE-2024-36259: what a filter looks at is told by what it finds."""
    answer = json2(
        "account.move", "search_read", domain=["|", ["partner_id.bank_ids.acc_number", "=like", "DE02%"], ["state", "=", "draft"]],
        fields=["amount_total"], order="invoice_date desc",
    )  # fmt: skip
    assert operation(answer, "res.partner.bank:read.read").fields_read == {"acc_number"}
    assert operation(answer, "account.move:read.search_read").fields_read >= {
        "partner_id",
        "state",
        "amount_total",
        "invoice_date",
    }
    grouped = json2(
        "account.move", "read_group", domain=[], fields=["total:sum(amount_total)"], groupby=["invoice_date:month"]
    )
    assert operation(grouped, "account.move:read.read_group").fields_read == {"amount_total", "invoice_date"}
    below = json2("res.partner", "search", domain=[["bank_ids", "any", [["acc_number", "!=", False]]]])
    assert operation(below, "res.partner.bank:read.search").fields_read == {"acc_number"}
    named = json2("account.move", "search", domain=[["partner_id", "ilike", "Acme"]])
    assert operation(named, "res.partner:read.search").fields_read == {"display_name", "vat"}


def test_another_users_tokens_are_read_by_no_export():
    """CVE-2024-12368: whichever way they are read, it is the same field."""
    for answer in (
        json2("res.users", "export_data", ids=[2], fields_to_export=["login", "oauth_access_token"]),
        json2("res.users", "read", ids=[2], fields=["oauth_access_token"]),
        json2("res.users", "web_read", ids=[2], specification={"oauth_access_token": {}}),
        json2("res.users", "search", domain=[["oauth_access_token", "=like", "a%"]]),
    ):
        assert any("oauth_access_token" in one.fields_read for one in answer.operations)


def test_what_is_shown_of_a_link_is_read_there():
    answer = json2("account.move", "read", ids=[3], fields=["partner_id", "invoice_line_ids"])
    assert done(answer) == {"account.move:read.read", "res.partner:read.search"}  # of many, their numbers alone
    assert operation(answer, "res.partner:read.search").fields_read == {"display_name"}
    told = {"partner_id": {"fields": {"country_id": {"fields": {"code": {}}}}, "order": "name"}, "invoice_line_ids": {}}
    answer = json2("account.move", "web_read", ids=[3], specification=told)
    assert operation(answer, "res.country:read.web_read").fields_read >= {"code"}
    assert operation(answer, "res.partner:read.web_read").fields_read >= {"country_id", "name"}
    assert "account.move.line:read.web_read" not in done(answer)
    exported = json2(
        "account.move", "export_data", ids=[3], fields_to_export=["invoice_line_ids/tax_ids/amount", ".id"]
    )
    assert operation(exported, "account.tax:read.read").fields_read == {"amount"}
    assert operation(exported, "account.move:read.export_data").fields_read == {"id", "invoice_line_ids"}
    named = json2("res.partner", "name_search", name="x", domain=[["bank_ids", "!=", False]])
    assert operation(named, "res.partner:read.name_search").fields_read == {"display_name", "vat", "bank_ids"}


def test_an_import_is_a_write_of_all_that_its_columns_reach():
    rows = {
        "fields": ["id", "name", "bank_ids/acc_number", "country_id/id"],
        "data": [["x", "Acme", "DE02", "base.de"]],
    }
    answer = json2("res.partner", "load", **rows)
    assert done(answer) == {"res.partner:write.load", "res.partner.bank:write.load", "res.country:read.search"}
    assert operation(answer, "res.partner.bank:write.load").fields_written == {"acc_number", "partner_id"}
    assert operation(answer, "res.partner:write.load").fields_written == {"id", "name", "bank_ids", "country_id"}
    tied = json2("res.partner", "load", fields=["bank_ids"], data=[["stolen"]])  # by name: it changes whose it is
    assert operation(tied, "res.partner.bank:write.load").fields_written == {"partner_id"}
    for odd in ("country_id/code", "name/id", "bank_ids.id", "child_ids/" * 20 + "name", "nothing"):
        assert isinstance(json2("res.partner", "load", fields=[odd], data=[]), Unreadable)


@pytest.mark.parametrize("given", [{}, {"default": None}, {"default": False}, {"default": {}}])
def test_a_copy_is_new_records_of_all_that_is_copied_with_it(given):
    answer = json2("account.move", "copy", ids=[3], **given)
    assert done(answer) == {"account.move:write.copy", "account.move.line:write.copy"}
    assert operation(answer, "account.move:write.copy").fields_written == {
        "state", "invoice_date", "partner_id", "invoice_line_ids",
    }  # fmt: skip
    assert operation(answer, "account.move.line:write.copy").fields_written == {"name", "move_id", "tax_ids"}
    tagged = {"res.partner:write.copy", "res.partner.category:write.write"}  # whose members it is among, too
    assert done(json2("res.partner", "copy", ids=[3], **given)) == tagged
    told = json2("account.move", "copy", ids=[3], default={"amount_total": 1, "invoice_line_ids": [[2, 5]]})
    assert "account.move.line:delete.unlink" in done(told)
    assert "amount_total" in operation(told, "account.move:write.copy").fields_written


@pytest.mark.parametrize("method", ["toggle_active", "action_archive", "action_unarchive"])
def test_to_archive_writes_the_field_that_says_so(method):
    assert operation(json2("res.partner", method, ids=[3]), f"res.partner:write.{method}").fields_written == {"active"}


def test_what_a_write_shows_afterwards_is_read():
    told = {"name": {}, "bank_ids": {"fields": {"acc_number": {}}}}
    answer = json2("res.partner", "web_save", ids=[7], vals={"name": "Acme"}, specification=told)
    assert operation(answer, "res.partner:write.web_save").fields_written == {"name"}
    assert operation(answer, "res.partner:read.web_read").fields_read == {"id", "name", "bank_ids"}
    assert operation(answer, "res.partner.bank:read.web_read").fields_read == {"id", "acc_number"}


@pytest.mark.parametrize(
    "context",
    [
        {"default_state": "posted"},  # of what is made, and of whatever is made with it
        {"tracking_disable": True}, {"mail_notrack": True}, {"mail_create_nolog": True}, {"no_validate": True},
        {"import_file": True}, {"import_compat": False}, {"name_create_enabled_fields": {"partner_id": True}},
        {"_import_current_module": "base"}, {"install_mode": True}, {"uid": 1}, {"su": True}, {"force_company": 2},
        {"active_model": "res.users"}, {"prefetch_fields": False}, {"": 1}, "lang", [["lang", "de_DE"]], 5,
    ],
)  # fmt: skip
def test_no_more_of_the_context_is_the_callers_than_language_time_zone_and_company(context):
    assert isinstance(json2("account.move", "create", vals_list=[{}], context=context), Unreadable)
    assert isinstance(json2("account.move", "action_post", ids=[1], context=context), Unreadable)
    assert isinstance(kw("account.move", "create", [{}], {"context": context}), Unreadable)
    below = {"partner_id": {"fields": {"name": {}}, "context": context}}
    assert isinstance(json2("account.move", "web_read", ids=[1], specification=below), Unreadable)


def test_the_context_beside_a_call_counts_too_so_there_is_none():
    """Odoo 16 to 18 take `context` out of the parameters of any JSON-RPC call, and make it the request's."""
    told = {"model": "account.move", "method": "create", "args": [{}], "kwargs": {}}
    assert done(read("/web/dataset/call_kw", {"params": told})) == {"account.move:write.create"}
    for more in ({"context": {"default_state": "posted"}}, {"path": "x"}, {"model_": "x"}):
        assert isinstance(read("/web/dataset/call_kw", {"params": {**told, **more}}), Unreadable)
    for missing in told:
        assert isinstance(
            read("/web/dataset/call_kw", {"params": {key: told[key] for key in told if key != missing}}), Unreadable
        )


def test_a_body_names_no_other_object_or_method_than_the_path():
    """Before Odoo 19.0 was out, its JSON-2 let the body's own win."""
    for more in ({"model": "res.users"}, {"method": "unlink"}):
        assert isinstance(json2("account.move", "action_post", ids=[1], **more), Unreadable)


@pytest.mark.parametrize(
    ("method", "given"),
    [
        ("read", {"ids": [1], "fields": []}), ("read", {"ids": [1], "fields": None}), ("read", {"ids": [1], "fields": False}),
        ("search_read", {"domain": [], "fields": []}), ("web_search_read", {"domain": []}),
        ("web_search_read", {"domain": [], "specification": {}}), ("default_get", {"fields": []}),
        ("read_group", {"domain": [], "fields": [], "groupby": ["state"]}),
    ],
)  # fmt: skip
def test_no_fields_named_are_all_fields_so_some_are_named(method, given):
    assert "shows all there are" in refused(json2("account.move", method, **given), Problem.INVALID).detail


@pytest.mark.parametrize(
    "spec",
    ["name:sum(acc_number)x", "x:sum(acc_number", "name:sum)", "name;", "name:a:b", "name.", "", "name sum(acc)"],
)
def test_a_group_is_read_to_its_end(spec):
    """Odoo reads `name:sum(amount)x` as the sum of amounts, called name: its expression has no end."""
    for told in ({"fields": [spec], "groupby": []}, {"fields": ["acc_number"], "groupby": [spec]}):
        assert isinstance(json2("res.partner.bank", "read_group", domain=[], **told), Unreadable)
    assert isinstance(json2("res.partner.bank", "search", domain=[], order=spec), Unreadable) or spec == ""


def test_an_order_counts_nothing_under_another_name():
    assert isinstance(json2("res.partner.bank", "search", domain=[], order="name:sum(acc_number)"), Unreadable)
    assert isinstance(
        json2("res.partner.bank", "search", domain=[], order="acc_number:sum(partner_id) desc"), Unreadable
    )
    assert operation(
        json2("res.partner.bank", "search", domain=[], order="acc_number desc, id"), "res.partner.bank:read.search"
    )


OF_ALL = ("update", "onchange", "copy_data", "name_create", "mapped", "message_new", "message_update", "web_save_multi")


@pytest.mark.parametrize("method", sorted({*odoo.CLOSED, *OF_ALL}))
def test_what_every_object_has_and_nobody_can_tell_is_closed(method):
    """Else whoever may execute anything on an object could write it by `update`, and read it by `copy_data`."""
    assert refused(json2("account.move", method, ids=[1]))
    assert refused(kw("account.move", method, [[1], {"state": "posted"}]))


def test_what_is_another_records_field_is_written_there():
    """An inherited field too: to write a user's name is to write his partner's."""
    answer = json2("res.users", "write", ids=[2], vals={"login": "anna", "vat": "DE1"})
    assert done(answer) == {"res.users:write.write", "res.partner:write.write"}
    assert operation(answer, "res.partner:write.write").fields_written == {"vat"}
    assert operation(answer, "res.users:write.write").fields_written == {"login", "vat"}


@pytest.mark.parametrize(
    "call",
    [
        ("load", {"fields": [".id", "state"], "data": [["7", "posted"]]}),
        ("write", {"ids": [7], "vals": {"state": "posted"}}),
    ],
)
def test_an_import_writes_behind_a_link_as_a_write_does(call):
    answer = json2("work.payment", call[0], **call[1])
    assert "state" in operation(answer, "work.entry:write.write").fields_written


def test_a_related_field_of_a_related_field_is_written_there_too():
    """`a` is the field `b` behind a link, and that is the field `c` behind another one."""
    rows = [
        ("x", "to", "many2one", "y"),
        ("x", "a", "char", ""),
        ("y", "on", "many2one", "z"),
        ("y", "b", "char", ""),
        ("z", "c", "char", ""),
    ]
    related, more = {"a": "to.b", "b": "on.c"}, {"relation_field": False, "copied": True}
    catalogue = odoo.learn(
        {"model": m, "name": n, "ttype": t, "relation": r, "related": related.get(n, False), **more}
        for m, n, t, r in rows
    )
    asked = Request(method="POST", path="/json/2/x/write", headers=JSON, body=b'{"ids": [1], "vals": {"a": "1"}}')
    answer = understood("odoo", asked, Site(name="erp", catalogue=catalogue, database="acme"))
    assert done(answer) == {"x:write.write", "y:write.write", "z:write.write"}


@pytest.mark.parametrize(
    ("method", "given"),
    [
        ("create", {"vals_list": [{"amount": 5}]}),
        ("copy", {"ids": [7]}),
        ("load", {"fields": ["amount"], "data": [["5"]]}),
    ],
)
def test_what_a_record_has_from_another_one_is_made_with_it(method, given):
    """`_inherits`: a payment is an entry, too. Where the entry is named, none is made."""
    made = {one for one in done(json2("work.payment", method, **given)) if one.startswith("work.entry")}
    assert made == {"work.entry:write.copy" if method == "copy" else "work.entry:write.create"}
    named = json2("work.payment", "create", vals_list=[{"amount": 5, "move_id": 9}])
    assert done(named) == {"work.payment:write.create"}


@pytest.mark.parametrize(
    ("method", "given"),
    [
        ("create", {"vals_list": [{"amount": 5, "move_id": False}]}),
        ("create", {"vals_list": [{"amount": 5, "move_id": None}]}),
        ("create", {"vals_list": [{}]}),
        ("create", {"vals_list": {}}),
        ("create", {}),
        ("copy", {"ids": [7], "default": {"move_id": False}}),
        ("load", {"fields": ["amount", "move_id"], "data": [["5", ""]]}),
        ("web_save", {"vals": {"amount": 5}, "specification": {"id": {}}}),
        ("web_save", {"ids": [], "vals": {}, "specification": {"id": {}}}),
    ],
)
def test_a_link_that_is_empty_names_no_whole(method, given):
    assert any(one.startswith("work.entry:write") for one in done(json2("work.payment", method, **given)))


def test_what_is_made_in_a_one2many_has_its_whole_from_there_and_what_is_changed_makes_none():
    changed = done(json2("res.partner", "write", ids=[1], vals={"user_ids": [[1, 5, {"login": "x"}]]}))
    assert changed == {"res.partner:write.write", "res.users:write.write"}
    made = done(json2("res.partner", "write", ids=[1], vals={"user_ids": [[0, 0, {"login": "x"}]]}))
    assert made == {"res.partner:write.write", "res.users:write.create"}


@pytest.mark.parametrize("default", [5, True, 1.5, [[]], [{}], "x"])
def test_what_a_copy_is_told_is_a_mapping(default):
    assert refused(json2("work.payment", "copy", ids=[7], default=default), Problem.INVALID)


def test_a_path_without_end_is_refused_at_once():
    assert refused(json2("res.partner", "export_data", ids=[1], fields_to_export=["a/" * 100_000]))


def test_a_method_about_a_field_goes_behind_its_link():
    rows = [("x", "to", "many2one", "y"), ("x", "active", "boolean", ""), ("y", "active", "boolean", "")]
    more = {"relation_field": False, "copied": True}
    catalogue = odoo.learn(
        {"model": m, "name": n, "ttype": t, "relation": r, "related": (m, n) == ("x", "active") and "to.active", **more}
        for m, n, t, r in rows
    )
    asked = Request(method="POST", path="/json/2/x/action_archive", headers=JSON, body=b'{"ids": [1]}')
    answer = understood("odoo", asked, Site(name="erp", catalogue=catalogue, database="acme"))
    assert done(answer) == {"x:write.action_archive", "y:write.write"}


def test_a_name_is_read_also_where_the_catalogue_does_not_list_it():
    assert ("account.tax", "display_name") not in {row[:2] for row in ROWS}
    answer = json2("account.move.line", "search", domain=[["tax_ids", "ilike", "VAT"]])
    assert operation(answer, "account.tax:read.search").fields_read == {"display_name"}


def test_an_import_finds_by_name_as_a_search_does():
    answer = json2("account.move", "load", fields=["partner_id"], data=[["DE123"]])
    assert operation(answer, "res.partner:read.search").fields_read == {"display_name", "vat"}


@pytest.mark.parametrize("text", ['[{"name": "size", "definition_changed": true}]', "", 5])
def test_properties_are_no_text(text):
    """Odoo reads it as JSON: so the definition could be changed, which another record holds."""
    assert refused(json2("res.partner", "write", ids=[1], vals={"properties": text}), Problem.INVALID)
    assert refused(json2("res.partner", "load", fields=[".id", "properties"], data=[["1", text]]))


@pytest.mark.parametrize(
    "given",
    [{"name": "DE1%", "operator": "=like"}, {"name": "a"}, {"name": ["a"], "operator": "in"}],
)
def test_who_finds_by_name_looks_into_all_that_names_it(given):
    assert operation(json2("res.partner", "name_search", **given), "res.partner:read.name_search").fields_read == {
        "display_name",
        "vat",
    }


@pytest.mark.parametrize("operator", ["any", "not any", "child_of", "parent_of", "", 5, ["any"]])
def test_a_name_is_compared_as_a_text(operator):
    """Odoo 17 puts both into a condition: `any` takes a domain for a name."""
    assert refused(json2("res.partner", "name_search", name=[["vat", "=like", "DE%"]], operator="in"), Problem.INVALID)
    if operator:
        assert refused(json2("res.partner", "name_search", name="a", operator=operator))


@pytest.mark.parametrize(
    ("object_", "clause", "read"),
    [
        ("res.partner", ["display_name", "=like", "DE1%"], {"display_name", "vat"}),
        ("account.move", ["partner_id", "=like", "DE1%"], {"display_name", "vat"}),
        ("account.move", ["partner_id", "ilike", 7], {"display_name", "vat"}),
        ("account.move", ["partner_id.display_name", "=", "x"], {"display_name", "vat"}),
        ("res.partner", ["id", "child_of", "Acme"], {"display_name", "vat", "parent_id"}),
        ("account.move", ["partner_id", "child_of", [5, 1.5]], {"display_name", "vat", "parent_id"}),
        ("account.move", ["partner_id", "child_of", 5], {"parent_id"}),
        ("res.partner", ["id", "parent_of", 5], {"parent_id"}),
    ],
)  # fmt: skip
def test_a_condition_reads_what_names_a_record_and_what_is_above_it(object_, clause, read):
    answer = json2(object_, "search", domain=[clause])
    assert read <= set().union(*(one.fields_read for one in answer.operations if one.object == "res.partner"))
    plain = json2("account.move", "search", domain=[["partner_id", "=", 5]])
    assert done(plain) == {"account.move:read.search"}


def test_an_export_shows_the_names_of_a_many_to_many_whatever_is_asked_of_it():
    answer = json2("res.partner", "export_data", ids=[1], fields_to_export=["category_id/name"])
    assert "display_name" in set().union(
        *(one.fields_read for one in answer.operations if one.object == "res.partner.category")
    )


@pytest.mark.parametrize(
    "method", ["find_or_create_record", "html_field_history_get_content_at_revision", "message_post_with_source"]
)
def test_what_a_mixin_brings_and_nobody_can_tell_is_closed(method):
    assert refused(json2("account.move", method, ids=[1]))


def test_properties_are_written_by_name_alone():
    """As a list they change the definition, which another record holds."""
    assert done(json2("res.partner", "write", ids=[1], vals={"properties": {"size": 5}})) == {"res.partner:write.write"}
    changed = [{"name": "size", "type": "char", "definition_changed": True, "value": 5}]
    assert isinstance(json2("res.partner", "write", ids=[1], vals={"properties": changed}), Unreadable)


@pytest.mark.parametrize(
    "told",
    [
        {"service": "db", "method": "dump", "args": ["master", "acme"]},
        {"service": "db", "method": "list", "args": []},
        {
            "service": "object",
            "method": "execute_kw",
            "args": ["other", 2, "secret", "res.partner", "read", [[1], ["name"]]],
        },
        {"service": "object", "method": "exec_workflow", "args": ["acme", 2, "secret", "res.partner", "x", 1]},
        {"service": "common", "method": "about", "args": []},
        {"service": "common", "method": "login", "args": ["other", "anna", "secret"]},
        {"service": "common", "method": "authenticate", "args": ["other", "anna", "secret", {}]},
        {
            "service": "common",
            "method": "authenticate",
            "args": ["acme", "anna", "secret", {"base_location": "https://x"}],
        },
        {"service": "common", "method": "set_loglevel", "args": ["debug"]},
        {"service": "report", "method": "render", "args": []},
        {"service": "object", "method": "execute_kw", "args": []},
    ],
)
def test_no_other_service_no_other_database(told):
    assert refused(read("/jsonrpc", {"params": told}))


def test_where_the_gate_puts_the_key_on_no_body_holds_a_password():
    for path, headers in (("/jsonrpc", JSON), ("/xmlrpc/2/object", XML), ("/xmlrpc/2/common", XML)):
        told = {
            "service": "object",
            "method": "execute_kw",
            "args": ["acme", 2, "secret", "res.partner", "search", [[]]],
        }
        body = {"params": told} if headers is JSON else xmlrpc.client.dumps((), "version").encode()
        assert "/json/2" in refused(read(path, body, headers=headers, keyed=True)).detail


def test_signing_in_is_an_operation_of_its_own():
    told = {"service": "common", "method": "authenticate", "args": ["acme", "anna", "secret", {}]}
    assert done(read("/jsonrpc", {"params": told})) == {"common:execute.authenticate"}


@pytest.mark.parametrize(
    "path",
    [
        "/json/2/res.partner/_write", "/json/2/res.partner", "/json/2/res.partner/read/", "/json/2//res.partner/read", "/web/login",
        "/json/2/res.partner/read?x=1", "/web/dataset/resequence", "/web/database/manager", "/xmlrpc/2/db", "/xmlrpc/db", "/jsonrpc/",
        "/web/export/csv", "/report/pdf/x/1", "/web/dataset/call_kw/../resequence", "/web/dataset/call_kw/x", "/web/content/1", "/json/1/res.partner/read", "/JSON/2/res.partner/read", "/doc",
    ],
)  # fmt: skip
def test_all_else_is_closed(path):
    assert refused(read(path, {"ids": [1], "fields": ["name"]}))


@pytest.mark.parametrize(
    ("method", "named"),
    [
        ("read", {"ids": [1]}),
        ("search_read", {"domain": []}),
        ("read", {"ids": [1], "fields": ["nothing"]}),
        ("read", {"ids": ["1"], "fields": ["name"]}),
        ("read", {"ids": [True], "fields": ["name"]}),
        ("read", {"ids": [1], "fields": ["name"], "more": 1}),
        ("search", {"domain": [["name", "matches", "x"]]}),
        ("search", {"domain": [["name", "="]]}),
        ("search", {"domain": "[]"}),
        ("search", {"domain": [], "order": "name; drop"}),
        ("search", {"domain": [], "order": ["name"]}),
        ("search", {"ids": [1], "domain": []}),
        ("write", {"ids": [1], "vals": {"country_id": "7"}}),
        ("write", {"ids": [1], "vals": {"country_id": {"code": "DE"}}}),
        ("write", {"ids": [1], "vals": {"name": ["x"]}}),
        ("write", {"ids": [1], "vals": [["name", "x"]]}),
        ("formatted_read_group", {"domain": [], "groupby": ["name"], "having": [["x", ">", 1]]}),
        ("search", {"domain": [["name", "any", []]]}),
        ("search", {"domain": [["bank_ids", "any!", []]]}),
        ("search", {"domain": [["id", "inselect", ["select 1", []]]]}),
        ("search", {"domain": [["create_date.year_number", "=", 5]]}),
        ("search", {"domain": [[["name", "=", "x"]]]}),
        ("search_count", {"domain": "[('name','=','x')]"}),
        ("web_read", {"ids": [1], "specification": {"name": {"fields": {}}}}),
        ("web_read", {"ids": [1], "specification": {"bank_ids": {"domain": []}}}),
        ("web_read", {"ids": [1], "specification": ["name"]}),
        ("write", {"ids": "1", "vals": {"name": "x"}}),
        ("write", {"ids": {"1": 2}, "vals": {"name": "x"}}),
        ("unlink", {"ids": [1.0]}),
        ("write", {"ids": [1], "vals": {"bank_ids": False}}),
        ("web_save", {"ids": [1], "vals": {"name": "x"}, "specification": {"name": {}}, "next_id": 5}),
    ],
)
def test_what_cannot_be_told_is_refused(method, named):
    assert isinstance(json2("res.partner", method, **named), Unreadable)


def test_a_parameter_is_given_once():
    assert isinstance(kw("res.partner", "read", [[1], ["name"]], {"fields": ["bank_ids"]}), Unreadable)
    assert isinstance(kw("res.partner", "read", [[1], ["name"], "x", "y"]), Unreadable)
    assert isinstance(kw("res.partner", "action_x", [[1]], {"ids": [2]}), Unreadable)
    assert isinstance(kw("res.partner", "read", [], {"ids": [2], "fields": ["name"]}), Unreadable)
    assert operation(kw("res.partner", "read", [5, ["name"]]), "res.partner:read.read").ids == ("5",)


def test_a_body_that_two_readers_read_differently_is_refused():
    for body in (
        b'{"ids":[1],"ids":[2],"fields":["name"]}',
        b'{"ids":[1],"fields":["name"],"x":NaN}',
        b"\xff",
        b"[]",
        b"",
        b"{",
    ):
        assert isinstance(read("/json/2/res.partner/read", body, keyed=True), Unreadable)
    for headers in ({}, {"content-type": "text/json"}, {**JSON, "content-encoding": "gzip"}, XML):
        assert isinstance(
            read("/json/2/res.partner/read", {"ids": [1], "fields": ["name"]}, headers=headers), Unreadable
        )


CALL = ("acme", 2, "secret", "res.partner", "read", [[1], ["name"]])
GOOD = xmlrpc.client.dumps(CALL, "execute_kw").encode()


@pytest.mark.parametrize(
    "changed",
    [
        GOOD.replace(b"<methodCall>", b"<!DOCTYPE a><methodCall>"),
        GOOD.replace(b"<methodCall>", b'<!DOCTYPE a [<!ENTITY b "c">]><methodCall>'),
        GOOD.replace(b"<methodCall>", b"<?go on?><methodCall>"),
        GOOD.replace(b"<?xml version='1.0'?>", b"<?xml version='1.0' encoding='latin-1'?>"),
        GOOD.decode().encode("utf-16"),
        GOOD.replace(b"<int>2</int>", b"<int>0x2</int>"),
        GOOD.replace(b"<int>1</int>", b"<double>nan</double>"),
        GOOD.replace(b"<int>2</int>", b"<integer>2</integer>"),
        GOOD.replace(b"<methodName>execute_kw</methodName>", b""),
        GOOD.replace(b"methodCall", b"methodResponse").replace(b"<methodName>execute_kw</methodName>", b""),
        GOOD + b"<methodCall/>",
        GOOD[:-20],
        b"<value>" * 100_000,
        b"<methodCall><methodName>execute_kw</methodName><params>" + b"<param/>" * 200_000 + b"</params></methodCall>",
        b"<fault><value><struct/></value></fault>",
        b"<params><param><value><struct><member><value><int>1</int></value><name>a</name></member></struct></value></param></params>",
        b"<a>" * 50 + b"<struct></struct>" + b"</a>" * 50,
    ],
)  # fmt: skip
def test_no_xml_but_a_plain_call_is_read(changed):
    assert done(read("/xmlrpc/2/object", GOOD, headers=XML)) == {"res.partner:read.read"}
    assert isinstance(read("/xmlrpc/2/object", changed, headers=XML), Unreadable)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**31), 2**31 - 1) | st.text('ab<&" \t\u00e9', max_size=5) | st.floats(-9, 9),
        lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inside, max_size=3), max_leaves=9,
    )
)  # fmt: skip
def test_xml_says_what_its_own_writer_said(value):
    sent = Request(
        method="POST", path="/", headers=XML, body=xmlrpc.client.dumps((value,), "m", allow_none=True).encode()
    )
    assert xml_rpc(sent) == ("m", [value])


PIECES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 9)
    | st.sampled_from([*MODELS, "name", "bank_ids", "any", "=", "&", "ids", ""]),
    lambda inside: (
        st.lists(inside, max_size=4)
        | st.dictionaries(st.sampled_from(["name", "bank_ids", "fields", "x"]), inside, max_size=3)
    ),
    max_leaves=20,
)


PARAMETERS = sorted({name for told in odoo.METHODS.values() for name in told.takes})


@given(
    st.sampled_from([*MODELS, "res.nothing"]), st.sampled_from([*odoo.METHODS, "action_post"]),
    st.dictionaries(st.sampled_from([*PARAMETERS, "ids", "context"]), PIECES, max_size=4),
)  # fmt: skip
def test_whatever_is_sent_is_read_or_refused(model, method, named):
    answer = json2(model, method, **named)
    assert isinstance(answer, Call | Unreadable)
    if isinstance(answer, Call):
        verb = odoo.METHODS[method].verb if method in odoo.METHODS else "execute"
        assert (answer.operations[0].object, answer.operations[0].verb, answer.operations[0].action) == (
            model,
            verb,
            method,
        )


@given(st.binary(max_size=400) | st.text(max_size=300).map(lambda text: f"<methodCall>{text}</methodCall>".encode()))
def test_whatever_xml_is_sent_is_read_or_refused(body):
    assert isinstance(read("/xmlrpc/2/object", body, headers=XML), Call | Unreadable)


def test_what_it_offers_is_what_is_found_in_its_calls():
    known = {(one.object, one.action) for one in odoo.offer(CATALOGUE, "erp").operations}
    action = operation_named("erp/account.move:execute.action_post").pattern  # nobody says which there are
    assert slip(odoo.offer(CATALOGUE, "erp"), action) == ""
    assert "no write post" in slip(odoo.offer(CATALOGUE, "erp"), operation_named("erp/account.move:write.post").pattern)
    assert ("res.partner", "search_read") in known
    assert odoo.offer(CATALOGUE, "erp").links["account.move"]["partner_id"] == "res.partner"
