"""What a policy names and no system knows is told, with its place and what was probably meant."""

import pytest

from erp.test_tryton import CATALOGUE
from ostiary.erp import tryton
from ostiary.erp.offer import Offer
from ostiary.erp.openapi import load
from ostiary.prove.spelling import SLIPS_TOLD_MAX, slips
from policy.compiled import policy_of

SHOP = load(b'{"openapi": "3.1.0", "info": {}, "paths": {"/orders": {"get": {"tags": ["order.open"]}}}}', "shop").routes
OFFERS = {
    "erp": tryton.offer(CATALOGUE, "erp"),
    "shop": Offer(operations=tuple(route.operation for route in SHOP)),
}


def told(text):
    return [line.removeprefix("acme.yaml:").lstrip() for line in slips(policy_of(text), OFFERS)]


@pytest.mark.parametrize(
    "permission, slip",
    [
        ("erp/party.adress: read", "erp knows no object party.adress; did you mean party.address?"),
        ("erp/partie.*: read", "erp knows no object partie.*; did you mean party.*?"),
        ("erp/party.party: execute erase", "erp knows no execute erase of party.party"),
        ("erp/account.payment: execute aprove", "erp knows no execute aprove of account.payment; did you mean execute approve?"),
        ("erp/report.party.lable: execute", "erp knows no object report.party.lable; did you mean report.party.label?"),
        ("shop/ordr.open: read", "shop knows no object ordr.open; did you mean order.open?"),
        ("shop/order.open: write", "shop knows no write of order.open"),
        ("shop/order.open: read look", "shop knows no read look of order.open; did you mean read?"),
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
        "shop/order.open: read", "shop/order.*: read", "shop/*: read",
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
        ('{do: "erp/nothing.known: read", fields: [any]}', ["erp knows no object nothing.known"]),
        ('{do: "erp/*: read", fields: [name, colour]}', ["* has no field colour"]),
    ],
)  # fmt: skip
def test_a_field_that_no_object_of_the_line_has_is_told_as_an_object_is(line, slips):
    text = f"roles: {{a: {{level: system, may: {line}}}}}\n"
    assert [one.partition(": ")[2] for one in told(text)] == slips


def test_a_field_of_a_test_is_held_to_the_object_too():
    test = '{who: a, does: "erp/party.party: read", fields: [nam], at: "2026-03-03T10:00Z", expect: deny}'
    assert [one.partition(": ")[2] for one in told(f"roles: {{a: {{level: system}}}}\ntests: [{test}]\n")] == [
        "party.party has no field nam; did you mean name?"
    ]
