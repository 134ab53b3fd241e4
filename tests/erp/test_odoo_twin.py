"""What was seen in a call is what a small Odoo then does: the same object, method and records, and no field beside."""

import json
import xmlrpc.client

import pytest
from hypothesis import given
from hypothesis import strategies as st

import odoo_twin
from odoo_twin import FIELDS, KEY, SESSION, UID, Odoo
from ostiary.erp import odoo
from ostiary.erp.adapters import understood
from ostiary.erp.catalogue import Site
from ostiary.erp.operation import Call, Request, Verb

TWIN = Odoo()
CATALOGUE = odoo.learn(TWIN.tables["ir.model.fields"].values())
OBJECTS = ["sale.order", "res.partner", "sale.order.line", "res.users"]
WAYS = ("json2", "jsonrpc", "execute", "xmlrpc", "web")
BY_NUMBER = {"read", "web_read", "export_data", "write"}  # whose records are there, so that each field is reached
HOW = {Verb.READ: "read", Verb.WRITE: "write", Verb.DELETE: "delete"}


def named(name):
    return st.sampled_from(sorted(FIELDS[name]))


def paths(name, part="."):
    """A field, or one behind one or two links."""
    links = [field for field, kind in FIELDS[name].items() if kind.target]
    if not links:
        return named(name)
    behind = st.sampled_from(links).flatmap(
        lambda link: paths(FIELDS[name][link].target, part).map(lambda more: f"{link}{part}{more}")
    )
    return named(name) | behind.filter(lambda path: path.count(part) <= 2)


def domains(name, depth=2):
    plain = st.tuples(
        paths(name), st.sampled_from(["=", "!=", "ilike", "in", "not in", "child_of", "matches", "any!"]), VALUES
    ).map(list)
    links = [field for field, kind in FIELDS[name].items() if kind.target]
    clause = plain | st.just([1, "=", 1])
    if depth and links:
        clause |= st.sampled_from(links).flatmap(
            lambda link: st.tuples(st.just(link), st.sampled_from(["any", "not any"]), domains(FIELDS[name][link].target, depth - 1)).map(list)
        )  # fmt: skip
    return st.lists(clause | st.sampled_from(["&", "|"]), max_size=3)


def specifications(name, depth=2):
    def of(field):
        target = FIELDS[name][field].target
        if not target or not depth:
            return st.just({})
        inner = {"fields": specifications(target, depth - 1), "order": orders(target)}
        return st.fixed_dictionaries({}, optional={**inner, "limit": st.just(5), "context": CONTEXTS})

    return st.lists(named(name), max_size=2, unique=True).flatmap(
        lambda fields: st.fixed_dictionaries({one: of(one) for one in fields})
    )


def groups(name):
    agg = st.tuples(named(name), named(name)).map(lambda two: f"{two[0]}:sum({two[1]})")
    return (
        named(name)
        | agg
        | agg.map(lambda one: one + "x")
        | named(name).map(lambda one: f"{one}:month")
        | st.just("__count")
    )


def orders(name):
    part = st.tuples(named(name), st.sampled_from(["", " desc", ":month asc", " desc nulls last", ":sum(name)"])).map(
        "".join
    )
    return st.lists(part, min_size=1, max_size=2).map(", ".join)


def values(name, depth=2):
    def of(field):
        kind = FIELDS[name][field]
        if kind.type in odoo.MANY:
            inner = values(kind.target, depth - 1) if depth else st.just({})
            made = st.tuples(st.just(0), st.just(0), inner) | st.tuples(st.just(1), IDS, inner)
            tied = (
                st.tuples(st.sampled_from([2, 3, 4]), IDS)
                | st.just((5,))
                | st.tuples(st.just(6), st.just(0), st.lists(IDS, max_size=2, unique=True))
            )
            return st.lists((made | tied).map(list), max_size=3) | st.just(False)
        return IDS | st.just(False) if kind.target else VALUES

    return st.lists(named(name), max_size=3, unique=True).flatmap(
        lambda fields: st.fixed_dictionaries({one: of(one) for one in fields})
    )


IDS = st.sampled_from([1, 2])
VALUES = st.sampled_from(["x", "DE", 1, 2, False, True, [1, 2], ["Acme"], 5.5, None])
CONTEXTS = st.sampled_from([{}, {}, {"lang": "de_DE"}, None, {"default_name": "planted"}, {"active_test": False}])
NOTHING = st.sampled_from([None, False, [], {}, ""])


def parameters(name):
    """How each parameter of a method may be given, well or not."""
    many = {
        "domain": domains(name), "fields": st.lists(named(name), max_size=3), "field_names": st.lists(named(name), max_size=2),
        "specification": specifications(name), "groupby": st.lists(groups(name), max_size=2) | groups(name),
        "aggregates": st.lists(groups(name), max_size=2), "order": orders(name), "orderby": orders(name),
        "fields_to_export": st.lists(paths(name, "/") | st.sampled_from([".id", "id"]), max_size=3),
        "vals": values(name), "vals_list": st.lists(values(name), max_size=2) | values(name), "default": values(name),
        "having": domains(name, 0), "name": st.just("A"), "operator": st.just("ilike"), "load": st.sampled_from([None, "_classic_read"]),
        "lazy": st.just(False), "data": st.just([["1"] * 2]), "offset": st.just(0), "limit": st.just(5), "count_limit": st.just(5),
        "allfields": st.none(), "attributes": st.none(),
    }  # fmt: skip
    return {what: st.one_of(one, one, one, NOTHING) for what, one in many.items()}


@st.composite
def calls(draw):
    """An object, a method, what it is told by name, and how that is sent."""
    name, method = (
        draw(st.sampled_from(OBJECTS)),
        draw(st.sampled_from([*odoo.METHODS, "action_confirm", "update", "copy_data"])),
    )
    told = odoo.METHODS.get(method)
    given, known = {}, parameters(name)
    for what in told.takes if told else ():
        if draw(st.booleans()) or what in {
            "domain",
            "fields",
            "specification",
            "vals",
            "vals_list",
            "groupby",
            "fields_to_export",
            "data",
        }:
            given[what] = draw(known[what])
    if method == "load":
        given |= {"fields": draw(st.lists(paths(name, "/"), min_size=1, max_size=2, unique=True))}
        given["data"] = [["1"] * len(given["fields"])]
    if method == "read_group":
        given["fields"] = draw(st.lists(groups(name), max_size=2))
    if method == "update":
        given["values"] = draw(values(name))
    ids = draw(st.lists(IDS, min_size=1, max_size=2, unique=True)) if told is None or told.records else None
    return name, method, ids, given, draw(CONTEXTS), draw(st.sampled_from(WAYS))


def sent(name, method, ids, given, context, way):  # noqa: PLR0917  as `calls` draws them
    """One request. What is told by name can be told by place, as far as nothing is left out before it."""
    takes = odoo.METHODS[method].takes if method in odoo.METHODS else tuple(given)
    placed = list(takes[: next((n for n, what in enumerate(takes) if what not in given), len(takes))])
    args = [*([ids] if ids is not None else []), *(given[what] for what in placed)]
    kwargs = {what: value for what, value in given.items() if what not in placed} | (
        {"context": context} if context else {}
    )
    login = [odoo_twin.DATABASE, UID, KEY, name, method]
    if way == "json2":
        body = {**given, **({"ids": ids} if ids is not None else {}), **({"context": context} if context else {})}
        return Request(method="POST", path=f"/json/2/{name}/{method}", headers={**JSON, "authorization": f"bearer {KEY}"}, body=json.dumps(body).encode())  # fmt: skip
    if way == "web":
        told = {
            "model": name,
            "method": method,
            "args": args,
            "kwargs": kwargs,
            **({"context": context} if context else {}),
        }
        told.pop("context") if context == {"lang": "de_DE"} else None
        return Request(method="POST", path="/web/dataset/call_kw/x/y", headers={**JSON, "cookie": f"session_id={SESSION}"}, body=json.dumps({"params": told}).encode())  # fmt: skip
    if way == "xmlrpc":
        body = xmlrpc.client.dumps((*login, args, kwargs), "execute_kw", allow_none=True).encode()
        return Request(method="POST", path="/xmlrpc/2/object", headers={"content-type": "text/xml"}, body=body)
    service = {"service": "object", "method": "execute_kw", "args": [*login, args, kwargs]}
    if way == "execute":
        service = {"service": "object", "method": "execute", "args": [*login, *args]}
    return Request(method="POST", path="/jsonrpc", headers=JSON, body=json.dumps({"params": service}).encode())


JSON = {"content-type": "application/json"}


def carried_out(request):
    """What the twin did of it; None where it did nothing."""
    TWIN.begin()
    TWIN.did.clear()
    seen = {
        "method": request.method,
        "path": request.path,
        "headers": request.headers,
        "body": request.body.decode("latin-1"),
    }
    try:
        TWIN(seen)
    except (TypeError, AttributeError, KeyError, ValueError, IndexError):  # as Odoo fails, too
        return None
    return TWIN.did[-1] if TWIN.did else None


def touched(call):
    """All that the adapter says is touched."""
    found = {(HOW[one.verb], one.object, "") for one in call.operations if one.verb is not Verb.EXECUTE}
    for one in call.operations:
        found |= {("read", one.object, field) for field in one.fields_read}
        found |= {("write", one.object, field) for field in one.fields_written}
    return found


def checked(request):
    """Whether it was understood; then the twin did just that."""
    site = Site(name="erp", database=odoo_twin.DATABASE, catalogue=CATALOGUE)
    call = understood("odoo", request, site)
    if not isinstance(call, Call):
        return False
    did = carried_out(request)
    if did is None:
        return True
    first = call.operations[0]
    assert (first.object, first.action, first.ids) == (did.model, did.method, tuple(map(str, did.ids)))
    if first.verb is Verb.EXECUTE:
        return True  # what it does beside is its own
    seen, done = touched(call), {one for one in did.touched if one[2] != "id"}
    assert done <= seen, (done - seen, request)
    if did.method in BY_NUMBER:
        # Not always done: what is tied (see test_odoo), and the names of what links lead to (not shown with `load` off).
        more = {one for one in seen - done if one[2] not in {"", "id", "display_name"} and one[0] != "write"}
        assert not more, (more, request)
    return True


@given(calls())
def test_what_was_seen_is_what_is_done(call):
    checked(sent(*call))


@pytest.mark.parametrize("way", WAYS)
def test_each_way_is_understood_and_carried_out(way):
    """So that the property above is about something."""
    for method, ids, given_, more in (
        ("search_read", None, {"domain": [["partner_id.country_id.code", "=", "DE"]], "fields": ["name", "partner_id"]}, {}),
        ("read", [1, 2], {"fields": ["order_line", "partner_id"]}, {"lang": "de_DE"}),
        ("write", [1], {"vals": {"order_line": [[0, 0, {"name": "x"}], [1, 1, {"price_unit": 5}], [2, 2]]}}, {}),
        ("create", None, {"vals_list": [{"name": "x", "order_line": [[0, 0, {"purchase_price": 1}]]}]}, {}),
        ("copy", [1], {"default": {"name": "x"}}, {}), ("unlink", [2], {}, {}), ("action_confirm", [1], {}, {}),
    ):  # fmt: skip
        assert checked(sent("sale.order", method, ids, given_, more if way != "execute" else {}, way)), method
        assert TWIN.did, method
