"""What a policy names and no system knows is told, with its place and what was probably meant."""

import json

import pytest

from erp.test_tryton import CATALOGUE
from ostiary.erp import tryton
from ostiary.erp.openapi import load, offer
from ostiary.prove.spelling import OFFERED_TOLD_MAX, SLIPS_TOLD_MAX, slips, void
from policy.compiled import policy_of

SHOP = load(
    b"""\
openapi: 3.1.0
info: {}
paths:
  /orders: {get: {tags: [order.open]}}
  /v1/bills:
    get: {}
    post:
      parameters: [{name: notify, in: query, schema: {type: boolean}}]
      requestBody: {content: {application/json: {schema: {$ref: "#/components/schemas/Bills"}}}}
  /v1/bills/{id}/approve: {post: {}}
  /v1/bills/{id}/hold: {post: {requestBody: {content: {application/json: {schema: {properties: {why: {}}}}}}}}
  /notes: {post: {requestBody: {content: {application/json: {}}}}}
components:
  schemas:
    Bills: {type: array, items: {allOf: [{$ref: "#/components/schemas/Bill"}, {properties: {customer: {}}}]}}
    Bill: {properties: {amount: {}}, oneOf: [{$ref: "#/components/schemas/Bills"}, {properties: {due: {}}}]}
""",
    "shop",
).routes
OFFERS = {
    "erp": tryton.offer(CATALOGUE, "erp"),
    "shop": offer(SHOP),
}


def told(text):
    return [line.removeprefix("acme.yaml:").lstrip() for line in slips(policy_of(text), OFFERS)]


@pytest.mark.parametrize(
    "permission, slip",
    [
        ("erp/party.adress: read", "erp knows no object party.adress; did you mean party.address?"),
        ("erp/partie.*: read", "erp knows no object partie.*; did you mean party.*?"),
        ("erp/party.party: execute erase", "erp knows no execute erase of party.party; it knows delete, read, write"),
        ("erp/account.payment: execute aprove", "erp knows no execute aprove of account.payment; did you mean execute approve?"),
        ("erp/report.party.lable: execute", "erp knows no object report.party.lable; did you mean report.party.label?"),
        ("shop/ordr.open: read", "shop knows no object ordr.open; did you mean order.open?"),
        ("shop/order.open: write", "shop knows no write of order.open; it knows read"),
        ("shop/bills: execute ship", "shop knows no execute ship of bills; it knows execute approve, execute hold"),
        ("shop/bills: execute aprove", "shop knows no execute aprove of bills; did you mean execute approve?"),
        ("shop/bills: delete", "shop knows no delete of bills; it knows execute, read, write"),
        ("shop/v1: read", "shop knows no object v1; it knows bills, notes, order.open"),
        ("shop/order.open: read look", "shop knows no read look of order.open; it knows read"),
    ],
)  # fmt: skip
def test_a_name_that_its_system_does_not_know_is_told_with_its_place_and_the_nearest(permission, slip):
    assert told(
        f'roles:\n  a:\n    level: system\n    may: [erp/*: read, "{permission}"]\n'.replace(
            "erp/*: read", '"erp/*: read"'
        )
    ) == [f"13:26: {slip}"]


@pytest.mark.parametrize(
    "permission",
    [
        "erp/party.party: read, write, delete", "erp/party.*: write create, read search", "erp/*: execute approve",
        "erp/account.payment: execute approve", "erp/wizard.party.erase: execute", "erp/report.*: execute execute",
        "shop/order.open: read", "shop/order.*: read", "shop/*: read", "shop/bills: execute approve", "shop/bills: write",
    ],
)  # fmt: skip
def test_what_a_system_offers_is_no_slip(permission):
    assert told(f'roles: {{a: {{level: system, may: "{permission}"}}}}\n') == []


def test_rules_and_tests_are_held_to_what_there_is_as_roles_are():
    text = """\
apart:
  - {name: x, permissions: ["erp/party.prty: write", "erp/account.payment: execute approve"], within: 3 days, link: party}
never:
  - {name: y, level: partner, may: "erp/acount.*: read"}
roles: {a: {level: system}}
tests:
  - {who: a, does: "erp/party.partner: read", at: "2026-03-03T10:00Z", expect: deny}
"""
    assert [line.split(";")[0] for line in told(text)] == [
        "11:5: erp knows no object party.prty",
        "13:5: erp knows no object acount.*",
        "16:5: erp knows no object party.partner",
        "11:5: the link party leads to party.party, not to party.prty",
    ]


def test_where_there_is_much_the_note_says_how_to_see_it():
    paths = {f"/o{number}/{{id}}/do{number}": {"post": {"tags": ["thing"]}} for number in range(OFFERED_TOLD_MAX + 1)}
    many = offer(load(json.dumps({"openapi": "3.1.0", "paths": paths}).encode(), "shop").routes)
    policy = policy_of('roles: {a: {level: system, may: ["shop/thing: execute ship"]}}\n')
    (line,) = slips(policy, {**OFFERS, "shop": many})
    assert line.endswith("it knows 13 others, see `ostiary policy draft --from shop`")


def test_what_is_never_to_be_may_name_what_nobody_can_do_yet_but_no_object_that_there_is_not():
    never = (
        '["shop/*: write, execute, delete", "shop/bills: delete", "shop/bill: delete", "shop/bills: execute aprove"]'
    )
    assert told(f"never: [{{name: n, level: partner, may: {never}}}]\nroles: {{a: {{level: system}}}}\n") == [
        "10:9: shop knows no object bill; did you mean bills?",
        "10:9: shop knows no execute aprove of bills; did you mean execute approve?",
    ]


@pytest.mark.parametrize(
    "link, slip",
    [
        ("party", []),
        ("partie", ["account.payment has no field partie; did you mean party?"]),
        ("state", ["account.payment.state leads to no other record"]),
        ("party.addresses", ["the link party.addresses leads to party.address, not to party.party"]),
    ],
)
def test_a_link_is_followed_through_the_fields_that_there_are(link, slip):
    rule = f'["erp/party.party: write", "erp/account.payment: execute approve"], within: 3 days, link: {link}'
    assert told(f"apart:\n  - {{name: x, permissions: {rule}}}\n") == [f"11:5: {one}" for one in slip]


def test_a_system_that_has_not_been_learned_is_said_to_be_unchecked():
    policy = policy_of('roles: {a: {level: system, may: ["erp/party.adress: read"]}}\n')
    (line,) = slips(policy, {"shop": OFFERS["shop"]})
    assert line == (
        "acme.yaml:3:3: what erp offers is not known yet, so no name of it was checked; "
        "`ostiary system account erp --login LOGIN` learns it"
    )


def test_of_many_slips_the_first_are_told_and_how_many_more():
    may = ", ".join(f'"erp/n{number}: read"' for number in range(SLIPS_TOLD_MAX + 5))
    lines = told(f"roles: {{a: {{level: system, may: [{may}]}}}}\n")
    assert (len(lines), lines[-1]) == (SLIPS_TOLD_MAX + 1, "5 more names are not known")


@pytest.mark.parametrize(
    "line, slips",
    [
        ('{do: "erp/party.party: read, write", fields: [name, adresses]}', ["party.party has no field adresses; did you mean addresses?"]),
        ('{do: "erp/party.party: read", where: {naem: x, id: own}}', ["party.party has no field naem; did you mean name?"]),
        ('{do: "erp/party.*: read", fields: [name, colour]}', ["party.* has no field colour"]),
        ('{do: "erp/party.party: read", fields: [name], where: {id: own}}', []),
        ('{do: "erp/party.prty: read", fields: [any]}', ["erp knows no object party.prty; did you mean party.party?"]),
        ('{do: "erp/*: read", fields: [name, colour]}', ["* has no field colour"]),
        ('{do: "shop/bills: write", fields: [custmer]}', ["bills has no field custmer; did you mean customer?"]),
        ('{do: "shop/bills: write", fields: [amount, due, customer, notify]}', []),
        ('{do: "shop/bills: write", fields: [why]}', ["bills has no field why"]),
        ('{do: "shop/notes: write", fields: [anything]}', []),
    ],
)  # fmt: skip
def test_a_field_that_no_object_of_the_line_has_is_told_as_an_object_is(line, slips):
    text = f"roles: {{a: {{level: system, may: {line}}}}}\n"
    assert [one.partition(": ")[2] for one in told(text)] == slips


@pytest.mark.parametrize("named", ["fields: [nam]", "record: {nam: x}"])
def test_a_field_of_a_test_is_held_to_the_object_too(named):
    test = f'{{who: a, does: "erp/party.party: read", {named}, at: "2026-03-03T10:00Z", expect: deny}}'
    assert [one.partition(": ")[2] for one in told(f"roles: {{a: {{level: system}}}}\ntests: [{test}]\n")] == [
        "party.party has no field nam; did you mean name?"
    ]


@pytest.mark.parametrize(
    "rule, slip",
    [
        ('never: [{name: r, level: partner, may: "shop/bill: delete"}]', "shop knows no object bill; did you mean bills?"),
        ('never: [{name: r, level: partner, may: "shop/bills: delete"}]', ""),
        ('never: [{name: r, level: partner, may: ["shop/bill: read", "shop/bills: read"]}]', ""),
        ('always: [{name: r, level: system, may: "shop/ordr.open: read"}]', "shop knows no object ordr.open; did you mean order.open?"),
        ('apart: [{name: r, permissions: ["shop/bills: write", "shop/bills: execute aprove"]}]', "shop knows no execute aprove of bills; did you mean execute approve?"),
        ('apart: [{name: r, permissions: ["shop/bills: write, delete", "shop/bills: execute approve"]}]', ""),
        ('apart: [{name: r, permissions: ["erp/party.prty: write", "shop/bills: execute approve"]}]', ""),
    ],
)  # fmt: skip
def test_a_rule_that_holds_of_nothing_a_described_system_has_is_a_problem_and_no_note(rule, slip):
    found = [one.message for one in void(policy_of(f"{rule}\n"), OFFERS)]
    assert found == ([f"this rule holds of nothing: {slip}"] if slip else [])
