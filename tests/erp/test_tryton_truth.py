"""Random calls that a real server carries out: whatever they told or changed is among the adapter's operations.

What a call tells is seen by changing one field and asking again: where the answer differs, the call reads the field.
What a call changes is seen in the database itself. The ERP's own consequences (computed fields, cascades, numbering)
belong to the field or the record they follow from, so none of these is asked for here.
"""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ostiary.erp.operation import Call, Verb
from tryton_pair import rest, rpc

pytestmark = pytest.mark.xdist_group("tryton-truth")

EXAMPLES = 100
ORDINARY = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)
# The world: two parties with an address, a contact and a category each. Field -> what the ERP computes from it.
NAMES = {("party.address", "rec_name"), ("party.contact_mechanism", "rec_name")}
SECRETS = {
    ("party.party", "name"): {("party.party", "rec_name"), ("party.party", "full_name"), *NAMES},
    ("party.address", "city"): {("party.address", "rec_name"), ("party.contact_mechanism", "rec_name")},
    ("party.category", "name"): {("party.category", "rec_name")},
    ("party.contact_mechanism", "value"): {("party.contact_mechanism", "rec_name")},
}
WORDS = dict(zip(SECRETS, ["Truth A", "Wahrheim", "Truth C", "truth@example.com"], strict=True))
TABLES = {name: name.replace(".", "_") for name, _ in SECRETS}
OWN = {
    "party.party": ["name", "rec_name", "active"],
    "party.address": ["city", "rec_name", "street_name"],
    "party.category": ["name", "rec_name"],
    "party.contact_mechanism": ["value", "rec_name", "type"],
}
LINKS = {
    "party.party": {
        "addresses": "party.address",
        "categories": "party.category",
        "contact_mechanisms": "party.contact_mechanism",
    },
    "party.address": {"party": "party.party"},
    "party.category": {"parent": "party.category", "childs": "party.category"},
    "party.contact_mechanism": {"party": "party.party", "address": "party.address"},
}
TEXTS = {  # what a path that ends so may be compared with
    "party.party": ["Truth A"], "party.address": ["%Wahrheim%"], "party.category": ["Truth C"],
    "party.contact_mechanism": ["truth@example.com"], "name": ["Truth%"], "city": ["Wahrheim"],
    "rec_name": ["%ru%", "%ahr%"], "value": ["truth@example.com"], "active": [True], "type": ["email"],
    "street_name": ["x"],
}  # fmt: skip
ANY_TEXT = sorted({str(text) for texts in TEXTS.values() for text in texts})


@pytest.fixture(scope="module")
def world(tryton):
    """Ids by object; two of each."""

    def make(model, rows):
        return tryton.call("admin", f"model.{model}.create", rows)

    categories = make("party.category", [{"name": "Truth C"}, {"name": "Other C"}])
    parties = make("party.party", [{"name": "Truth A"}, {"name": "Truth B"}])
    addresses = make(
        "party.address", [{"party": p, "city": c} for p, c in zip(parties, ["Wahrheim", "Zz"], strict=True)]
    )
    contacts = make("party.contact_mechanism", [
        {"party": parties[0], "type": "email", "value": "truth@example.com"},
        {"party": parties[1], "type": "other", "value": "zz"},
    ])  # fmt: skip
    for party, category in zip(parties, categories, strict=True):
        tryton.call("admin", "model.party.party.write", [party], {"categories": [["add", [category]]]})
    return {
        "party.party": parties,
        "party.address": addresses,
        "party.category": categories,
        "party.contact_mechanism": contacts,
    }


@contextmanager
def changed(tryton, world, secrets) -> Iterator[None]:
    """These fields of the first records hold something else for a while."""
    for secret in secrets:
        spell(tryton, world, secret, "zz{}")
    try:
        yield
    finally:
        for secret in secrets:
            spell(tryton, world, secret, "{}")


def spell(tryton, world, secret, form):
    """Straight in the database, which is quick; what Tryton translates, through Tryton."""
    (model, field), text = secret, form.format(WORDS[secret])
    if model == "party.category":
        tryton.call("admin", f"model.{model}.write", [world[model][0]], {field: text})
    else:
        tryton.execute(f"update {TABLES[model]} set {field} = ? where id = ?", text, world[model][0])


# -- reads


@st.composite
def paths(draw, model, hops=3):
    """A path of fields from `model`, as (text, object at its end, field at its end)."""
    link = hops and draw(st.integers(0, 2)) == 0
    if not link:
        name = draw(st.sampled_from([*OWN[model], *LINKS[model]]))
        return name, LINKS[model].get(name, ""), name
    name = draw(st.sampled_from(list(LINKS[model])))
    rest_, target, last = draw(paths(LINKS[model][name], hops - 1))
    return f"{name}.{rest_}", target, last


@st.composite
def domains(draw, model, depth=3):
    kind = draw(st.sampled_from(["clause", "clause", "named", "where", "tree", "list"])) if depth else "clause"
    match kind:
        case "where":
            name = draw(st.sampled_from(list(LINKS[model])))
            operator = draw(st.sampled_from(["where", "not where"]))
            return [name, operator, draw(domains(LINKS[model][name], depth - 1))]
        case "tree":
            name = draw(st.sampled_from(list(LINKS[model])))
            value = draw(st.sampled_from([[1], [], "Truth%", ["Truth%"]]))
            above = draw(st.sampled_from([[], ["parent"], ["party.name"], ["name"]]))
            return [name, draw(st.sampled_from(["child_of", "not parent_of"])), value, *above]
        case "named":
            name, target = draw(st.sampled_from(sorted(LINKS[model].items())))
            return [name, draw(st.sampled_from(["=", "!=", "ilike"])), draw(st.sampled_from(TEXTS[target]))]
        case "list":
            parts = draw(st.lists(domains(model, depth - 1), max_size=3))
            return draw(st.sampled_from([[], ["OR"], ["AND"]])) + parts
        case _:
            name, target, last = draw(paths(model))
            operator = draw(st.sampled_from(["=", "!=", "ilike", "not ilike", "in", "<", "like"]))
            value = draw(st.sampled_from(TEXTS[target or last] if draw(st.integers(0, 3)) else ANY_TEXT))
            return [name, operator, [value] if operator == "in" else value]


@st.composite
def orders(draw, model):
    listed = st.lists(st.tuples(paths(model).map(lambda p: p[0]), st.sampled_from(["ASC", "DESC", None])), max_size=2)
    return [list(one) for one in draw(listed)] or None


@st.composite
def reads(draw):
    """A call that only reads, by RPC or by REST: (object, what it asks, whether it asks for an order)"""
    model = draw(st.sampled_from(list(OWN)))
    fields = draw(st.lists(paths(model).map(lambda p: p[0]), min_size=1, max_size=3))
    domain, order = draw(domains(model)), draw(orders(model))
    asked = draw(st.sampled_from(["search", "search_read", "search_count", "read", "export", "export_domain", "rest"]))
    return model, asked, domain, order, fields


def reading(case, world):
    """The request of a case."""
    model, asked, domain, order, fields = case
    slashed = [field.replace(".", "/") for field in fields]
    query = "&".join([f"d={b64(domain)}", f"o={b64(order or [])}", *(f"f={field}" for field in fields)])
    return {
        "search": lambda: rpc(f"model.{model}.search", domain, 0, None, order),
        "search_read": lambda: rpc(f"model.{model}.search_read", domain, 0, None, order, fields or None),
        "search_count": lambda: rpc(f"model.{model}.search_count", domain),
        "read": lambda: rpc(f"model.{model}.read", world[model], fields),
        "export": lambda: rpc(f"model.{model}.export_data", world[model], slashed),
        "export_domain": lambda: rpc(f"model.{model}.export_data_domain", domain, slashed, 0, None, order),
        "rest": lambda: rest("GET", f"model/{model}", query),
    }[asked]()


def b64(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


def told(answer, ordered=False):
    """What the server says, where it says something; its own order of records, which no caller chose, does not count."""
    if answer.status_code not in {200, 204} or '"error"' in answer.text:
        return None
    said = answer.json() if answer.text else {}
    rows = said.get("result") if isinstance(said, dict) else said
    return repr([settled(row) for row in rows] if ordered and isinstance(rows, list) else settled(rows))


def settled(part):
    match part:
        case list():
            return sorted((settled(one) for one in part), key=json.dumps)
        case dict():
            return {name: settled(one) for name, one in part.items()}
        case _:
            return part


def read_fields(call):
    return {(one.object, field) for one in call.operations for field in one.fields_read}


def test_whatever_an_answer_depends_on_is_among_the_fields_read(pair, world):
    seen = dict.fromkeys(SECRETS, 0)
    answered = []

    @ORDINARY
    @given(reads())
    def holds(case):
        request, ordered = reading(case, world), case[3] is not None
        call = pair.reads(request)
        before = told(pair.does(request), ordered)
        answered.append((isinstance(call, Call), before is not None))
        if not isinstance(call, Call) or before is None:
            return
        with changed(pair.server, world, SECRETS):
            if before == told(pair.does(request), ordered):
                return
        for secret, computed in SECRETS.items():
            with changed(pair.server, world, [secret]):
                if before != told(pair.does(request), ordered):
                    seen[secret] += 1
                    told_by = {secret} | computed
                    assert told_by & read_fields(call), (request.body or request.query, secret, read_fields(call))

    holds()
    assert answered.count((True, True)) > EXAMPLES / 3  # the property must not hold for want of calls
    assert sum(seen.values()) > EXAMPLES / 8, seen


# -- writes: a case is written down with places for the records, "model#0", and bound to records made for it

NUMBERS = count(1)  # a name of its own for every value: some must not be there twice
COLUMNS = {
    "party.party": ["name"],
    "party.address": ["city", "party"],
    "party.category": ["name", "parent"],
    "party.contact_mechanism": ["value", "party"],
}
BELOW = {  # what the ERP deletes or unlinks with a record
    "party.party": {"party.address", "party.contact_mechanism"},
    "party.address": {"party.contact_mechanism"},
    "party.category": set(),
    "party.contact_mechanism": set(),
}


@st.composite
def records(draw, model):
    return draw(st.lists(st.sampled_from([f"{model}#0", f"{model}#1"]), min_size=1, max_size=2, unique=True))


@st.composite
def values(draw, model, depth=2):
    """Values for a record of `model`, with commands for what belongs to it."""
    made = {name: draw(st.just("NEW")) for name in draw(st.sets(st.just(OWN[model][0])))}
    inner = {
        link: target
        for link, target in LINKS[model].items()
        if link in {"addresses", "contact_mechanisms", "categories"}
    }
    for link in draw(st.sets(st.sampled_from(sorted(inner)), max_size=2)) if inner and depth else ():
        made[link] = draw(st.lists(commands(inner[link], depth - 1), max_size=2))
    return made


@st.composite
def commands(draw, model, depth):
    match draw(st.sampled_from(["create", "write", "delete", "add", "remove", "copy"])):
        case "create":
            return ["create", [draw(values(model, depth))]]
        case "write":
            return ["write", draw(records(model)), draw(values(model, depth))]
        case "copy":
            return ["copy", draw(records(model)), draw(values(model, 0))]
        case other:
            return [other, draw(records(model))]


@st.composite
def writes(draw):  # noqa: PLR0911
    """(rpc method, parameters) or (REST method, path, body)"""
    model = draw(st.sampled_from(list(OWN)))
    match draw(st.sampled_from(["create", "write", "pairs", "delete", "copy", "put", "post"])):
        case "create":
            return f"model.{model}.create", [[draw(values(model))]]
        case "write":
            return f"model.{model}.write", [draw(records(model)), draw(values(model))]
        case "pairs":
            pairs = [part for n in (0, 1) for part in ([f"{model}#{n}"], draw(values(model)))]
            return f"model.{model}.write", pairs
        case "delete":
            return f"model.{model}.delete", [draw(records(model))]
        case "put":
            return "PUT", f"model/{model}/", f"{model}#0", draw(values(model))
        case "post":
            return "POST", f"model/{model}", "", draw(values(model))
        case _:
            return f"model.{model}.copy", [draw(records(model)), draw(values(model, 0))]


def bound(part, made):
    match part:
        case "NEW":
            return f"W{next(NUMBERS)}"
        case str() if "#" in part:
            model, _, number = part.partition("#")
            return made[model][int(number)]
        case list():
            return [bound(one, made) for one in part]
        case dict():
            return {name: bound(one, made) for name, one in part.items()}
        case _:
            return part


def request_of(case, made):
    if len(case) == 2:
        return rpc(case[0], *bound(case[1], made))
    method, path, record, body = case
    return rest(method, f"{path}{bound(record, made)}", "", bound(body, made))


def fresh(tryton):
    """Two records of each object: an address and a contact of each party, no category given yet."""
    contact = {"type": "other", "value": "v"}
    party = {"name": "P", "addresses": [["create", [{}]]], "contact_mechanisms": [["create", [contact]]]}
    parties = tryton.call("admin", "model.party.party.create", [party, party])
    names = [{"name": f"C{one}"} for one in parties]
    made = {"party.party": parties, "party.category": tryton.call("admin", "model.party.category.create", names)}
    for model in ("party.address", "party.contact_mechanism"):
        rows = tryton.select(f"select id from {TABLES[model]} where party in (?, ?) order by party", *parties)
        made[model] = [row[0] for row in rows]
    return made


def contents(tryton):
    held = {}
    for model, columns in COLUMNS.items():
        rows = tryton.select(f"select id, {', '.join(columns)} from {TABLES[model]}")
        held[model] = {row[0]: dict(zip(columns, row[1:], strict=True)) for row in rows}
    held["categories"] = {row: {} for row in tryton.select('select party, category from "party_party-party_category"')}
    return held


def changes(before, after):
    """(object, "create" | "delete" | field) of all that is different."""
    for model, rows in after.items():
        yield from ((model, "create") for record in rows if record not in before[model])
        yield from ((model, "delete") for record in before[model] if record not in rows)
        for record, row in rows.items():
            yield from ((model, name) for name, value in row.items() if before[model].get(record, row)[name] != value)


def covered(change, call):
    model, what = change
    written = [one for one in call.operations if one.verb is Verb.WRITE]
    deleted = {one.object for one in call.operations if one.verb is Verb.DELETE}
    gone = {model} | {above for above, below in BELOW.items() if model in below}
    if model == "categories":  # rows of a link between many
        return any("categories" in one.fields_written for one in written) or deleted & {"party.party", "party.category"}
    if what == "create":
        return any(one.object == model and one.action in {"create", "copy"} for one in written)
    if what == "delete":
        return deleted & gone
    return any(one.object == model and what in one.fields_written for one in written)


def test_whatever_a_call_changes_is_among_the_operations(pair, tryton):
    seen, carried_out = set(), []

    @ORDINARY
    @given(writes())
    def holds(case):
        request = request_of(case, fresh(tryton))
        call = pair.reads(request)
        if not isinstance(call, Call):
            return
        before = contents(tryton)
        answer = pair.does(request)
        differences = set(changes(before, contents(tryton)))
        carried_out.append(told(answer) is not None)
        seen.update(differences)
        assert all(covered(change, call) for change in differences), (request.path, request.body, differences)

    holds()
    assert carried_out.count(True) > EXAMPLES / 3
    assert {model for model, _ in seen} >= {"party.party", "party.address"}
    assert {what for _, what in seen} >= {"create", "delete", "name"}
