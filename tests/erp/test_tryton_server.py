"""What the adapter says of a request, beside what a real Tryton 8.2 does with it.

Each trick is played on the server first: a test that the server no longer obliges has lost its point.
"""

import base64
import gzip
import json
import subprocess
from pathlib import Path

import msgspec
import pytest

from ostiary.cli import demo
from ostiary.cli.demo.stand import PYTHON
from ostiary.erp.catalogue import Catalogue
from ostiary.erp.operation import Call, Operation, Problem, Request, Unreadable, Verb
from ostiary.erp.tryton import offer as tryton_offer
from ostiary.policy.parse import parse
from ostiary.prove.spelling import slips
from real_tryton import ErpError, template
from tryton_pair import Pair, rest, rpc

pytestmark = pytest.mark.xdist_group("tryton")


def b64(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


def operations(answer) -> list[Operation]:
    assert isinstance(answer, Call), answer
    return list(answer.operations)


def done(answer) -> list[str]:
    return [f"{one.object}:{one.verb}.{one.action}" for one in operations(answer)]


def refused(answer) -> Problem:
    assert isinstance(answer, Unreadable), answer
    return answer.problem


def result(answer):
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert "result" in told, told
    return told["result"]


@pytest.fixture
def party(tryton):
    (made,) = tryton.call("admin", "model.party.party.create", [{"name": "Soylent"}])
    return made


@pytest.fixture
def payment(tryton, party):
    (journal,) = tryton.call("admin", "model.account.payment.journal.search", [])
    values = {"journal": journal, "kind": "payable", "party": party, "company": 1, "date": DAY, "amount": AMOUNT}
    (made,) = tryton.call("admin", "model.account.payment.create", [values])
    return made


DAY = {"__class__": "date", "year": 2026, "month": 3, "day": 3}
AMOUNT = {"__class__": "Decimal", "decimal": "4999.99"}


def state(tryton, payment):
    return tryton.select("select state from account_payment where id = ?", payment)[0][0]


def name(tryton, party):
    return tryton.select("select name from party_party where id = ?", party)[0][0]


# -- the catalogue


def test_the_catalogue_of_the_real_server_is_learned_whole_and_kept(pair, tryton):
    catalogue = pair.catalogue
    assert msgspec.json.decode(msgspec.json.encode(catalogue), type=Catalogue) == catalogue
    models = {row[0] for row in tryton.select("select name from ir_model")}
    assert models <= set(catalogue.models)
    assert sum(map(len, catalogue.methods.values())) > 5_000
    assert catalogue.models["account.payment"]["party"].target == "party.party"
    assert catalogue.models["party.party"]["categories"].target == "party.category"


def test_every_object_with_methods_has_its_fields(pair):
    objects = {name.removeprefix("model.") for name in pair.catalogue.methods if name.startswith("model.")}
    assert objects <= set(pair.catalogue.models)


def test_what_is_offered_of_the_real_server_is_what_a_call_of_it_is_read_as(pair):
    """Of each object, wizard and report every method that a call with plain parameters reaches."""
    offered = {one.permission for one in tryton_offer(pair.catalogue, "erp").operations}
    given = {"read": ([1], ["id"]), "create": ([{}],), "write": ([1], {}), "export_data": ([1], ["id"])}
    given |= dict.fromkeys(["delete", "copy"], ([1],)) | dict.fromkeys(["search", "search_read", "search_count"], ([],))
    seen = 0
    for place, methods in pair.catalogue.methods.items():
        for method in methods:
            answer = pair.reads(rpc(f"{place}.{method}", *given.get(method, ([1],))))
            if isinstance(answer, Call):
                assert answer.operations[0].permission in offered, (place, method)
                seen += 1
    assert seen > 2_500


def test_the_demos_policy_names_nothing_that_the_real_server_does_not_know(pair):
    text = (Path(demo.__file__).parent / "policy.yaml").read_text()
    policy = parse(text, "policy.yaml").policy
    offers = {"erp": tryton_offer(pair.catalogue, "erp")}
    assert list(slips(policy, offers)) == []
    wrong = parse(text.replace("party.address", "party.adress").replace("link: party", "link: payee"), "policy.yaml")
    assert [line.partition(": ")[2] for line in slips(wrong.policy, offers)] == [
        "erp knows no object party.adress; did you mean party.address?",
        "account.payment has no field payee; did you mean party?",
    ]


FIELDS = """
import json, sys
from trytond import config
config.update_etc(sys.argv[1])
from trytond.model import fields
from trytond.pool import Pool
from trytond.transaction import Transaction
pool = Pool("erp")
with Transaction().start("erp", 0, readonly=True):
    pool.init()
    objects = {name: cls for name, cls in pool.iterobject()
               if "write" in getattr(cls, "__rpc__", ()) and not getattr(cls, "table_query", None)}
    told = {f"{name} {key}": bool(field.setter) if isinstance(field, fields.Function) else None
            for name, cls in objects.items() for key, field in cls._fields.items()}
print(json.dumps(told))
"""


def test_what_the_server_computes_when_it_is_written_is_learned_although_it_does_not_say_so(pair, tryton):
    """Beside the server's own code: of `keywords`, a computed list with a search and a link back, it can't be told."""
    run = [template() / PYTHON, "-W", "ignore", "-c", FIELDS, tryton.erp.folder / "trytond.conf"]
    setters = json.loads(subprocess.run(run, check=True, capture_output=True, timeout=100).stdout)
    computes = {one: pair.catalogue.computes(*one.split()) for one in setters}
    missed = {one for one, setter in setters.items() if setter and not computes[one]}
    assert missed == {f"ir.action.{kind} keywords" for kind in ("act_window", "report", "url", "wizard")}
    assert sum(map(bool, setters.values())) > 100
    taken = {one for one, setter in setters.items() if setter is None and computes[one]}
    shown = {name: tryton.call("gateway", f"model.{name}.fields_get", []) for name, _ in map(str.split, taken)}
    assert {one for one in taken if one.split()[1] in shown[one.split()[0]]} == set()


# -- the bypass corpus of erp-surfaces.md


@pytest.mark.parametrize(
    ("action", "body"),
    [
        ("{party}/write", {"values": {"name": "Hacked"}}),
        ("create", {"vlist": [{"name": "Hacked"}]}),
        ("search_read", {"domain": []}),
        ("export_data_domain", {"domain": [], "fields_names": ["name"]}),
    ],
)
def test_a_rest_action_that_hides_a_read_or_a_write_is_refused(pair, party, action, body):  # (a)
    request = rest("POST", f"model/party.party/{action.format(party=party)}", "", body)
    assert pair.does(request).status_code in {200, 204}
    assert refused(pair.reads(request)) is Problem.UNKNOWN_OPERATION


def test_of_a_key_that_stands_twice_the_server_takes_the_last_and_the_adapter_none(pair, party, tryton):  # (b)
    body = b'{"id":1,"method":"model.party.party.search_count","method":"model.party.party.delete","params":[[%d],{}]}'
    request = Request(method="POST", path="/erp/rpc/", headers={"content-type": "application/json"}, body=body % party)
    assert result(pair.does(request)) is None
    assert tryton.select("select count(*) from party_party where id = ?", party) == [(0,)]
    assert refused(pair.reads(request)) is Problem.INVALID


def test_escapes_in_keys_and_names_are_understood_as_the_server_does(pair, party, tryton):  # (c)
    body = b'{"id":1,"m\\u0065thod":"model.p\\u0061rty.party.delete","params":[[%d],{}]}' % party
    request = Request(method="POST", path="/erp/rpc/", headers={"content-type": "application/json"}, body=body)
    result(pair.does(request))
    assert tryton.select("select count(*) from party_party where id = ?", party) == [(0,)]
    (only,) = operations(pair.reads(request))
    assert (only.object, only.verb, only.ids) == ("party.party", Verb.DELETE, (str(party),))


@pytest.mark.parametrize("kind", ["text/xjson", "application/jsonp", "xml, json", "application/json; charset=utf-16"])
def test_another_type_that_the_server_takes_for_json_is_refused(pair, kind):  # (c)
    request = rpc("model.party.party.search_count", [], content_type=kind)
    assert result(pair.does(request)) > 0
    assert refused(pair.reads(request)) is Problem.INVALID


def test_xml_rpc_on_the_same_url_is_refused(pair):  # (d)
    body = (
        "<?xml version='1.0'?><methodCall><methodName>model.party.party.search_count</methodName><params>"
        "<param><value><array><data/></array></value></param><param><value><struct/></value></param>"
        "</params></methodCall>"
    )
    request = Request(method="POST", path="/erp/rpc/", headers={"content-type": "text/xml"}, body=body.encode())
    assert "<methodResponse>" in pair.does(request).text
    assert refused(pair.reads(request)) is Problem.INVALID


def test_a_gzip_body_is_refused(pair):  # (e)
    plain = rpc("model.party.party.search_count", [], content_encoding="gzip")
    request = msgspec.structs.replace(plain, body=gzip.compress(plain.body))
    assert result(pair.does(request)) > 0
    assert refused(pair.reads(request)) is Problem.INVALID


@pytest.mark.parametrize(
    ("request_", "path"),
    [
        (rpc("model.party.party.search_count", []), "/%65rp/rpc/"),
        (rest("GET", "", "s=1"), "/erp/rest/model/party%2Eparty"),
        (rest("GET", "", "s=1"), "/erp/rest//model/party.party"),
        (rest("GET", "", "s=1"), "/erp/%72est/model/party.party"),
    ],
)
def test_a_path_spelled_otherwise_is_refused(pair, request_, path):  # (f)
    request = msgspec.structs.replace(request_, path=path)
    assert pair.does(request).status_code in {200, 308, 401}  # 401: the key of REST where only a session is looked for
    assert refused(pair.reads(request)) is Problem.UNKNOWN_OPERATION


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/erp/r/base/data/party.party"),
        ("GET", "/erp/r/base/html/party.party/1/name"),  # CVE-2025-66423
        ("POST", "/erp/r/user/application/"),
        ("POST", "/erp/session/login"),
        ("GET", "/erp/data/party.party"),
        ("GET", "/erp/ir/html/party.party/1/name"),
        ("POST", "/rpc/"),
        ("POST", "/erp/"),
        ("OPTIONS", "/erp/rpc/"),
    ],
)
def test_routes_beside_rpc_and_rest_are_refused(pair, method, path):  # (g)
    request = msgspec.structs.replace(rpc("model.party.party.search_count", []), path=path, method=method)
    assert refused(pair.reads(request)) is Problem.UNKNOWN_OPERATION


def test_a_wizard_is_executed_by_its_own_name(pair, party):  # (h)
    start = rpc("wizard.party.erase.create")
    session = result(pair.does(start))[0]
    assert done(pair.reads(start)) == ["wizard.party.erase:execute.create"]
    step = rpc("wizard.party.erase.execute", session, {"ask": {"party": party}}, "erase")
    assert done(pair.reads(step)) == ["wizard.party.erase:execute.execute"]


def test_the_cookie_of_another_user_decides_at_the_server_so_it_must_never_reach_it(pair, tryton):  # (i)
    request = rpc("model.res.user.get_preferences", True)
    text = base64.b64decode(tryton.session("clerk").partition(" ")[2]).decode()
    own, other = pair.does(request), pair.does(request, cookie=f"tryton_session={text}")
    assert result(own) != result(other)  # the gate's strip filter is what stops this; the adapter sees no cookie


# -- ids


@pytest.mark.parametrize("spelled", [lambda n: [float(n)], lambda n: [str(n)], str, lambda n: [n, float(n + 1)]])
def test_record_ids_that_are_no_whole_numbers_work_at_the_server_and_are_refused(pair, payment, tryton, spelled):
    request = rpc("model.account.payment.submit", spelled(payment))
    pair.does(request)
    assert refused(pair.reads(request)) is Problem.INVALID


def test_true_is_no_record_one(pair):
    request = rpc("model.party.party.export_data", [True], ["name"])
    assert result(pair.does(request)) == [["ACME Corp"]]
    assert refused(pair.reads(request)) is Problem.INVALID


@pytest.mark.parametrize("ids", [{"id": 1}, [{"id": 1}], [-1], [0], [2**63], [10**5000], [1, 1], "1", None, [None]])
def test_ids_that_name_a_record_in_another_way_are_refused(pair, ids):
    body = json.dumps({"id": 1, "method": "model.account.payment.approve", "params": [None, {}]}).encode()
    spelled = b"[1" + b"0" * 5000 + b"]" if ids == [10**5000] else json.dumps(ids).encode()
    request = msgspec.structs.replace(rpc("x"), body=body.replace(b"null", spelled, 1))
    assert refused(pair.reads(request)) is Problem.INVALID


def test_a_record_has_one_name_only_in_the_url(pair, party):
    padded = rest("GET", f"model/party.party/{party:04}")
    assert pair.does(padded).json()["id"] == party
    assert refused(pair.reads(padded)) is Problem.UNKNOWN_OPERATION
    arabic = rest("GET", "model/party.party/\u0661")
    assert refused(pair.reads(arabic)) is Problem.UNKNOWN_OPERATION


# -- what the ERP itself holds to, and the guard relies on


@pytest.mark.parametrize("field", ["create_uid", "write_uid"])
def test_nobody_can_say_that_another_made_or_changed_a_record(pair, party, tryton, field):
    of_clerk = "select count(*) from party_party where ? in (create_uid, write_uid)", tryton.erp.uids["clerk"]
    before = tryton.select(*of_clerk)
    for request in (
        rpc("model.party.party.create", [{"name": "Mine", field: tryton.erp.uids["clerk"]}]),
        rpc("model.party.party.write", [party], {field: tryton.erp.uids["clerk"]}),
        rpc("model.party.party.copy", [party], {field: tryton.erp.uids["clerk"]}),
    ):
        pair.does(request)
        assert any(field in one.fields_written for one in operations(pair.reads(request)))
    assert tryton.select(*of_clerk) == before


@pytest.mark.parametrize("how", ["write", "create", "copy"])
def test_a_payment_is_not_approved_by_writing_its_state(pair, payment, tryton, how):
    values = {"state": "approved"}
    match how:
        case "write":
            request = rpc("model.account.payment.write", [payment], values)
        case "create":
            row = {"journal": 1, "kind": "payable", "company": 1, "date": DAY, "amount": AMOUNT, **values}
            request = rpc("model.account.payment.create", [row])
        case _:
            request = rpc("model.account.payment.copy", [payment], values)
    assert "error" in pair.does(request).json()
    assert tryton.select("select count(*) from account_payment where state = 'approved'") == [(0,)]


def test_an_error_shows_nothing_of_the_code(pair):  # CVE-2025-66422
    for request in (
        rpc("model.party.party.read", [1], ["nosuch"]),
        rpc("model.party.party.search", [["nosuch", "=", 1]]),
    ):
        told = pair.does(request).text
        assert "error" in told
        assert "Traceback" not in told
        assert "site-packages" not in told


# -- reads that do not look like reads of that object


def test_an_export_reads_along_its_paths(pair):  # CVE-2025-66424
    request = rpc("model.party.address.export_data_domain", [], ["street", "party/name"])
    assert ["", "ACME Corp"] in result(pair.does(request))
    reads = {one.object: one.fields_read for one in operations(pair.reads(request))}
    assert reads["party.party"] >= {"name"}
    assert reads["party.address"] >= {"street", "party"}


def test_an_export_of_a_link_shows_the_name_of_the_record_it_leads_to(pair, payment):
    request = rpc("model.account.payment.export_data", [payment], ["party"])
    assert result(pair.does(request)) == [["Soylent"]]
    assert any("rec_name" in one.fields_read for one in operations(pair.reads(request)) if one.object == "party.party")


def test_an_export_of_a_reference_may_name_any_object_and_is_refused(pair, tryton):
    (sale,) = tryton.call("admin", "model.sale.sale.create", [{"party": 2}])
    request = rpc("model.sale.sale.export_data", [sale], ["origin"])
    result(pair.does(request))
    assert refused(pair.reads(request)) is Problem.UNKNOWN_OPERATION


def test_an_order_by_a_link_tells_the_order_of_the_names_behind_it(pair, tryton):
    first, second = tryton.call("admin", "model.party.party.create", [{"name": "Zzz"}, {"name": "Aaa"}])
    rows = [{"party": party, "city": "Orderville"} for party in (first, second)]
    addresses = tryton.call("admin", "model.party.address.create", rows)
    request = rpc("model.party.address.search", [["city", "=", "Orderville"]], 0, None, [["party", "ASC"]])
    assert result(pair.does(request)) == addresses[::-1]
    assert any(one.object == "party.party" and "rec_name" in one.fields_read for one in operations(pair.reads(request)))


def test_a_tree_may_be_climbed_by_a_field_of_the_target(pair, tryton):
    request = rpc("model.stock.move.search", [["to_location", "child_of", [1], "parent"]])
    result(pair.does(request))
    assert any(
        one.object == "stock.location" and "parent" in one.fields_read for one in operations(pair.reads(request))
    )


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("model.account.payment.on_change_party", [{"party": 1}]),
        ("model.party.party.autocomplete", ["A"]),
        ("model.party.party.resources", [[1]]),
        ("model.party.party.import_data", [["name"], [["Imported"]]]),
        ("model.party.party.pre_validate", [{}]),
    ],
)
def test_what_the_erps_own_forms_ask_is_refused(pair, method, params):
    request = rpc(method, *params)
    assert pair.does(request).status_code == 200
    assert refused(pair.reads(request)) is Problem.UNKNOWN_OPERATION


def test_preferences_could_set_the_password_that_the_gate_signs_in_with(pair):
    request = rpc("model.res.user.set_preferences", {"password": "another-Password-1"})
    assert refused(pair.reads(request)) is Problem.UNKNOWN_OPERATION


def test_a_report_takes_no_other_object_by_its_data(pair):
    plain = rpc("report.party.letter.execute", [1], {})
    assert done(pair.reads(plain)) == ["report.party.letter:execute.execute"]
    for data in ({"model": "res.user"}, {"action_id": 1}, []):
        assert refused(pair.reads(rpc("report.party.letter.execute", [1], data))) is Problem.UNKNOWN_OPERATION


def test_the_answer_to_a_change_reads_the_record(pair, party):
    request = rest("PUT", f"model/party.party/{party}", "f=addresses.city", {"name": "Renamed"})
    assert pair.does(request).json()["addresses"] == []
    assert done(pair.reads(request)) == ["party.party:write.write", "party.address:read.read", "party.party:read.read"]
    plain = rest("PUT", f"model/party.party/{party}", "", {"name": "Renamed"})
    assert pair.does(plain).json() == {"id": party, "__name__": "party.party", "rec_name": "Renamed"}
    assert {name for one in operations(pair.reads(plain)) for name in one.fields_read} == {"rec_name"}


def test_a_body_where_none_belongs_is_refused(pair):
    request = rest("GET", "report/party.letter/1", "", {"model": "res.user"})
    assert pair.does(request).status_code != 400
    assert refused(pair.reads(request)) is Problem.INVALID


@pytest.mark.parametrize("header", [{"x_tryton_usage": "anything"}, {"x_tryton_context": b64({"_datetime": DAY})}])
def test_headers_that_choose_other_fields_or_another_time_are_refused(pair, header):
    assert isinstance(pair.reads(rest("GET", "model/party.party", "s=1", **header)), Unreadable)


@pytest.mark.parametrize("key", ["_datetime", "_check_access", "_request", "_skip_warnings", "__class__"])
def test_private_keys_of_the_context_are_refused(pair, key):
    body = {"id": 1, "method": "model.party.party.search", "params": [[], {key: True}]}
    request = msgspec.structs.replace(rpc("x"), body=json.dumps(body).encode())
    assert refused(pair.reads(request)) is Problem.INVALID


@pytest.fixture
def clerk(pair):
    return Pair(pair.server, pair.catalogue, "clerk")


def test_the_context_header_would_give_a_user_every_group_so_its_private_keys_are_refused(clerk, tryton):
    """Tryton drops private keys from the context of an RPC call, but takes them from this header."""
    groups = [row[0] for row in tryton.select("select id from res_group")]
    plain = rest("GET", "model/account.move", "s=1&f=number", x_tryton_context=b64({"company": 1}))
    raised = rest("GET", "model/account.move", "s=1&f=number", x_tryton_context=b64({"company": 1, "_groups": groups}))
    assert "not allowed" in clerk.does(plain).text
    assert clerk.does(raised).status_code == 200
    assert refused(clerk.reads(raised)) is Problem.INVALID


def test_the_user_of_the_context_is_refused(pair):
    """Tryton's chat takes its author from there."""
    body = {"id": 1, "method": "model.party.party.search", "params": [[], {"user": 1}]}
    request = msgspec.structs.replace(rpc("x"), body=json.dumps(body).encode())
    assert refused(pair.reads(request)) is Problem.INVALID


# -- writes inside writes


def test_nested_commands_are_all_there(pair, party, tryton):
    category, other = tryton.call("admin", "model.party.category.create", [{"name": "Nest"}, {"name": "Nest 2"}])
    address = tryton.call("admin", "model.party.address.create", [{"party": party, "city": "Old"}])[0]
    gone = tryton.call("admin", "model.party.address.create", [{"party": party, "city": "Gone"}])[0]
    values = {
        "addresses": [["write", [address], {"city": "New"}], ["delete", [gone]], ["create", [{"city": "Third"}]]],
        "categories": [["add", [category]], ["write", [other], {"name": "Renamed"}]],
    }
    request = rpc("model.party.party.write", [party], values)
    assert done(pair.reads(request)) == [
        "party.party:write.write", "party.address:write.write", "party.address:delete.delete",
        "party.address:write.create", "party.category:write.write", "party.category:write.write",
    ]  # fmt: skip
    result(pair.does(request))
    cities = tryton.select("select city from party_address where party = ? order by city", party)
    assert cities == [("New",), ("Third",)]
    assert tryton.select("select name from party_category where id = ?", other) == [("Renamed",)]


def test_several_writes_in_one_call_are_several_operations(pair, tryton):
    first, second = tryton.call("admin", "model.party.party.create", [{"name": "One"}, {"name": "Two"}])
    request = rpc("model.party.party.write", [first], {"name": "Uno"}, [second], {"name": "Due"})
    result(pair.does(request))
    assert (name(tryton, first), name(tryton, second)) == ("Uno", "Due")
    assert [one.ids for one in operations(pair.reads(request))] == [(str(first),), (str(second),)]


def test_a_link_back_is_written_by_what_adds_a_record_to_another(pair, tryton):
    above, below = tryton.call("admin", "model.party.category.create", [{"name": "Above"}, {"name": "Below"}])
    request = rpc("model.party.category.write", [above], {"childs": [["add", [below]]]})
    result(pair.does(request))
    assert tryton.select("select parent from party_category where id = ?", below) == [(above,)]
    (moved,) = [one for one in operations(pair.reads(request)) if one.ids == (str(below),)]
    assert "parent" in moved.fields_written


def test_a_copy_copies_what_belongs_to_the_record(pair, tryton):
    (party,) = tryton.call("admin", "model.party.party.create", [{"name": "Orig", "addresses": [["create", [{}]]]}])
    request = rpc("model.party.party.copy", [party])
    (copy,) = result(pair.does(request))
    assert tryton.select("select count(*) from party_address where party = ?", copy) == [(1,)]
    assert "party.address:write.copy" in done(pair.reads(request))
    dotted = rpc("model.party.party.copy", [party], {"addresses.city": "Dotted"})
    result(pair.does(dotted))
    assert tryton.select("select count(*) from party_address where city = 'Dotted'") == [(1,)]
    assert refused(pair.reads(dotted)) is Problem.UNKNOWN_OPERATION


def test_a_button_is_executed_on_its_records(pair, payment, tryton):
    request = rpc("model.account.payment.submit", [payment])
    result(pair.does(request))
    assert state(tryton, payment) == "submitted"
    (only,) = operations(pair.reads(request))
    assert only.permission == "erp/account.payment:execute.submit"
    assert only.ids == (str(payment),)
    by_url = rest("POST", f"model/account.payment/{payment}/approve", "f=id", {})
    assert pair.does(by_url).status_code == 200
    assert state(tryton, payment) == "approved"
    (only,) = operations(pair.reads(by_url))
    assert (only.permission, only.ids) == ("erp/account.payment:execute.approve", (str(payment),))


@pytest.mark.parametrize(
    "method", ["model.Party.Party.read", "model.party.Party.read", "MODEL.party.party.read", "model.party.party.Read"]
)
def test_a_name_in_another_case_is_another_name(pair, method):
    request = rpc(method, [1], ["name"])
    assert "result" not in pair.does(request).text
    assert refused(pair.reads(request)) is Problem.UNKNOWN_OPERATION


@pytest.mark.parametrize(
    "domain", [[["name", [], 1]], [["name", {}, 1]], [[1, "=", 1]], [["name", "=", "x", []]], "name"]
)
def test_a_condition_of_no_form_is_refused(pair, domain):
    assert isinstance(pair.reads(rpc("model.party.party.search", domain)), Unreadable)


def test_a_user_without_rights_is_stopped_by_the_erp_too(pair, tryton):
    with pytest.raises(ErpError, match="not allowed"):
        tryton.call("clerk", "model.account.move.create", [{}])
