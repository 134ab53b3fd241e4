"""What Tryton's requests would do: every part is named, or the request is not understood."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from guard_world import described
from ostiary.erp.adapters import understood
from ostiary.erp.catalogue import Catalogue, Site
from ostiary.erp.operation import Call, Problem, Request, Unreadable
from ostiary.erp.tryton import learn

ROWS = [
    ("party.party", "name", "char", None),
    ("party.party", "addresses", "one2many", "party.address"),
    ("party.party", "categories", "many2many", "party.category"),
    ("party.address", "city", "char", None),
    ("party.address", "party", "many2one", "party.party"),
    ("party.category", "name", "char", None),
    ("account.payment", "party", "many2one", "party.party"),
    ("account.payment", "state", "selection", None),
    ("res.user", "login", "char", None),
    ("res.user", "password", "char", None),
]
METHODS = ("read", "search", "search_read", "search_count", "create", "write", "delete", "copy", "export_data_domain")
MODELS = ("party.party", "party.address", "party.category", "account.payment", "res.user")
LISTED = [f"model.{model}.{method}" for model in MODELS for method in METHODS]
LISTED += ["model.account.payment.approve", "wizard.party.erase.create", "report.party.label.execute"]


def asked(method, *_):
    if method == "system.listMethods":
        return LISTED
    return described([{"model": m, "name": n, "ttype": t, "relation": r} for m, n, t, r in ROWS], method)


CATALOGUE = learn(asked)


def request(body, *, path="/erp/rpc/", method="POST", query="", **headers):
    wire = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"content-type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
    return Request(method=method, path=path, query=query, headers=headers, body=wire)


def read(body=b"", **how):
    return understood("tryton", request(body, **how), Site(name="erp", database="erp", catalogue=CATALOGUE))


def call(method, *params):
    return read({"id": 1, "method": method, "params": [*params, {}]})


def done(answer):
    assert isinstance(answer, Call), answer
    return [f"{one.object}:{one.verb}.{one.action}" for one in answer.operations]


def refused(answer):
    assert isinstance(answer, Unreadable), answer
    return answer.problem


@pytest.mark.parametrize(
    ("method", "params", "expected"),
    [
        (
            "model.party.party.search_read",
            [[["name", "ilike", "A%"]], 0, 10, None, ["name"]],
            ["party.party:read.search_read"],
        ),
        ("model.party.party.create", [[{"name": "x"}]], ["party.party:write.create"]),
        ("model.account.payment.approve", [[2]], ["account.payment:execute.approve"]),
        ("wizard.party.erase.create", [], ["wizard.party.erase:execute.create"]),
        ("model.party.party.delete", [[1]], ["party.party:delete.delete"]),
        (
            "model.account.payment.read",
            [[2], ["state", "party.name"]],
            ["account.payment:read.read", "party.party:read.read"],
        ),
        (
            "model.party.party.create",
            [[{"addresses": [["create", [{"city": "Wien"}]]]}]],
            ["party.party:write.create", "party.address:write.create"],
        ),
        (
            "model.party.party.write",
            [[1], {"addresses": [["delete", [4]]]}],
            ["party.party:write.write", "party.address:delete.delete"],
        ),
        (
            "model.party.party.search",
            [[["addresses", "where", [["city", "=", "Wien"]]]]],
            ["party.party:read.search", "party.address:read.search"],
        ),
        (
            "model.party.address.search",
            [[["party.name", "like", "A%"]]],
            ["party.address:read.search", "party.party:read.read"],
        ),
        (
            "model.party.address.search",
            [[["party", "like", "A%"]]],
            ["party.address:read.search", "party.party:read.search"],
        ),
        (
            "model.party.address.search",
            [[], 0, None, [["party.name", "ASC"]]],
            ["party.address:read.search", "party.party:read.read"],
        ),
        (
            "model.party.address.export_data_domain",  # CVE-2025-66424
            [[], ["city", "party/name"]],
            ["party.address:read.export_data_domain", "party.party:read.read"],
        ),
    ],
)
def test_a_call_is_every_operation_in_it(method, params, expected):
    assert done(call(method, *params)) == expected


def test_several_writes_in_one_call_are_several_operations():
    answer = call("model.party.party.write", [1], {"name": "A"}, [2], {"name": "B"})
    assert [one.ids for one in answer.operations] == [("1",), ("2",)]


def test_fields_are_named():
    (one,) = call("model.party.party.read", [1], ["name"]).operations
    assert one.fields_read == {"id", "name"}
    (one,) = call("model.party.party.write", [1], {"name": "B"}).operations
    assert one.fields_written == {"name"}


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b'{"method": "model.party.party.search", "method": "model.party.party.delete", "params": [[1], {}]}', {}),
        ({"method": "model.party.party.search", "params": [[], {}]}, {"content_type": "text/xml"}),
        ({"method": "model.party.party.search", "params": [[], {}]}, {"content_type": "text/xjson"}),
        ({"method": "model.party.party.search", "params": [[], {}]}, {"content_encoding": "gzip"}),
        ({"method": "model.party.party.search", "params": [[], {"_check_access": False}]}, {}),
        ({"method": "model.party.party.search", "params": {"domain": []}}, {}),
        ({"method": "model.party.party.search", "params": [[], {}], "context": {}}, {}),
        ([{"method": "model.party.party.search", "params": [[], {}]}], {}),
        (b'{"method": "model.party.party.search", "params": [[NaN], {}]}', {}),
        (b"\xff\xfe", {}),
        (b"", {}),
    ],
)
def test_what_can_be_read_two_ways_is_not_read(body, headers):
    assert refused(read(body, **headers)) is Problem.INVALID


def test_an_escaped_key_is_the_key():
    body = b'{"m\\u0065thod": "model.p\\u0061rty.party.delete", "params": [[1], {}]}'
    assert done(read(body)) == ["party.party:delete.delete"]


@pytest.mark.parametrize(
    "method",
    [
        "common.db.login",
        "system.listMethods",
        "model.party.party.__init__",
        "model.party.party.nosuch",
        "model.nosuch.read",
        "model.party.party",
        "report.nosuch.execute",
    ],
)
def test_an_unknown_method_is_denied(method):
    assert refused(call(method)) is Problem.UNKNOWN_OPERATION


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("model.party.party.read", [[1], ["nosuch"]]),
        ("model.party.party.read", [[1], ["name.city"]]),
        ("model.party.party.create", [[{"nosuch": 1}]]),
        ("model.party.party.create", [[{"addresses": [["nosuch", [1]]]}]]),
        ("model.party.party.search", [[["nosuch", "=", 1]]]),
    ],
)
def test_an_unknown_field_or_command_is_denied(method, params):
    assert refused(call(method, *params)) is Problem.UNKNOWN_OPERATION


@pytest.mark.parametrize(
    "path",
    [
        "/erp/", "/rpc/", "/erp/rpc", "/erp/rpc//", "/erp/session/login", "/erp/r/base/data/party.party", "/%65rp/rpc/",
        "/erp/r/user/application/", "/erp/rest/model/party%2Eparty", "/erp/rest/", "/other/rpc/", "/erp/ir/html/party.party/1/name",
    ],
)  # fmt: skip
def test_any_other_path_is_denied(path):
    assert (
        refused(read({"method": "model.party.party.search", "params": [[], {}]}, path=path))
        is Problem.UNKNOWN_OPERATION
    )


def b64(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    ("method", "path", "query", "body", "expected"),
    [
        ("GET", "party.party", "f=name&s=2", b"", ["party.party:read.search_read"]),
        ("GET", "party.party/7", "", b"", ["party.party:read.read"]),
        ("GET", "party.party", "f=addresses.city", b"", ["party.party:read.search_read", "party.address:read.read"]),
        ("GET", "party.address", f"d={b64([['party.name', '=', 'x']])}", b"", ["party.address:read.search_read", "party.party:read.read"]),
        ("POST", "party.party", "", {"name": "x"}, ["party.party:write.create", "party.party:read.read"]),
        ("POST", "party.party", "f=id", {"name": "x"}, ["party.party:write.create"]),
        ("PUT", "party.party/7", "f=id", {"name": "x"}, ["party.party:write.write"]),
        ("PUT", "party.party/7", "f=addresses.city", {"name": "x"}, ["party.party:write.write", "party.address:read.read", "party.party:read.read"]),
        ("DELETE", "party.party/7", "", b"", ["party.party:delete.delete"]),
        ("POST", "account.payment/2/approve", "f=id", b"", ["account.payment:execute.approve"]),
    ],
)  # fmt: skip
def test_rest_is_read_too(method, path, query, body, expected):
    assert done(read(body, method=method, path=f"/erp/rest/model/{path}", query=query)) == expected


@pytest.mark.parametrize(
    ("method", "path", "query", "body"),
    [
        ("POST", "party.party/2/write", "", {"values": {}}),
        ("POST", "party.party/create", "", {"vlist": []}),
        ("POST", "party.party/search_read", "", {"domain": []}),
        ("POST", "party.party/export_data_domain", "", {"domain": []}),
        ("PATCH", "party.party/2", "", {}),
        ("POST", "party.party/2/nosuch", "", {}),
    ],
)
def test_rest_actions_that_hide_a_read_or_a_write_are_denied(method, path, query, body):
    answer = read(body, method=method, path=f"/erp/rest/model/{path}", query=query)
    assert refused(answer) is Problem.UNKNOWN_OPERATION


def test_the_context_header_is_checked():
    how = {"method": "GET", "path": "/erp/rest/model/party.party"}
    assert refused(read(**how, x_tryton_context=b64({"_check_access": False}))) is Problem.INVALID
    assert refused(read(**how, x_tryton_context="%%%")) is Problem.INVALID


def test_limits_hold():
    many = [{"addresses": [["create", [{"city": "x"}]]]} for _ in range(3000)]
    assert refused(call("model.party.party.create", many)) is Problem.TOO_LARGE
    deep = {}
    for _ in range(40):
        deep = {"addresses": [["create", [{"party": 1}]]]} if not deep else {"addresses": [["write", [1], deep]]}
    assert isinstance(call("model.party.party.create", [deep]), Unreadable)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.sampled_from(["name", "addresses", "create", "where", "=", "OR"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["name", "addresses", "city"]), inner),
    max_leaves=12,
)


@given(st.sampled_from(LISTED), st.lists(JSON, max_size=6))
def test_no_parameters_make_it_raise_and_the_object_is_always_among_the_operations(method, params):
    answer = call(method, *params)
    if isinstance(answer, Call):
        name = method.rpartition(".")[0].removeprefix("model.")
        assert answer.operations[0].object == name


OPENED = ["common.db.login", "common.db.logout", "common.server.version", "model.party.party.on_change"]


@given(st.sampled_from([*LISTED, *OPENED, "common.db.drop", "model.party.party.on_change_x", "x"]), st.lists(JSON, max_size=6), st.sampled_from(["/erp/rpc/", "/rpc/", "/x/rpc/"]))  # fmt: skip
def test_observing_opens_the_clients_own_calls_and_reads_all_others_as_ever(method, params, path):
    sent = request({"id": 1, "method": method, "params": [*params, {}]}, path=path)
    catalogue = replace(
        CATALOGUE, methods={**CATALOGUE.methods, "model.party.party": frozenset({*METHODS, "on_change"})}
    )
    enforced, observed = (
        understood("tryton", sent, Site(name="erp", database="erp", catalogue=catalogue, observed=one))
        for one in (False, True)
    )
    if isinstance(observed, Call) and not observed.opened:
        assert method in OPENED
        assert isinstance(enforced, Unreadable)
    elif path != "/rpc/":
        assert observed == enforced
    else:
        assert isinstance(observed, Unreadable)


@given(st.binary(max_size=200))
def test_no_bytes_make_it_raise(body):
    assert isinstance(read(body), Unreadable)


def test_a_catalogue_keeps_what_was_learned():
    import msgspec

    assert msgspec.json.decode(msgspec.json.encode(CATALOGUE), type=Catalogue) == CATALOGUE
