"""Who can do it is answered without an index, and as the evaluator decides."""

import pytest

from ostiary.erp.operation import covering_scopes, operation_named
from ostiary.plan.decide import Reason
from ostiary.prove.questions import who_can
from policy.compiled import plan_of

PLAN = plan_of("""\
roles:
  root: {level: system, may: ["erp/*: read", "erp/sale.*: execute"]}
  clerk: {level: user, of: sales, may: ["erp/sale.*: read, write", "erp/sale.sale: execute approve", "shop/order: read"]}
  head: {level: department, of: sales, includes: clerk, may: ["erp/sale.sale.line: write", "erp/sale.report: execute"]}
  payer: {level: user, of: sales, may: ["erp/account.payment: execute approve", "erp/sale.sale: read"], when: office}
""")
ASKED = [
    "erp/sale.sale:read", "erp/sale.sale:write.create", "erp/sale.sale.line:write", "erp/sale.sale:execute",
    "erp/sale.sale:execute.approve", "erp/sale.sale:execute.cancel", "erp/account.payment:execute.approve",
    "erp/account.payment:execute", "erp/sale:read", "erp/salesman:read", "shop/order:read", "shop/sale.sale:read",
]  # fmt: skip
ACTIONS = {  # of a verb that names none: who may do one of them is told too
    "erp/sale.sale:execute": {"erp/sale.sale:execute.approve"},
    "erp/account.payment:execute": {"erp/account.payment:execute.approve"},
}


@pytest.mark.parametrize("asked", ASKED)
def test_every_line_that_allows_it_is_found_for_every_role_that_has_it(asked):
    operation = operation_named(asked)
    by_index = [
        (role.name, grant.id)
        for role in PLAN.roles
        for grant in PLAN.granting(covering_scopes(operation), frozenset(role.closure))
    ]
    ways = list(who_can(PLAN, operation))
    whole = [way for way in ways if way.permission in covering_scopes(operation)]
    assert sorted((way.role, way.rule) for way in whole) == sorted(by_index)
    parts = {way.permission for way in ways} - {way.permission for way in whole}
    assert parts == ACTIONS.get(asked, set())
    assert all(way.request is None or way.request.reason is Reason.ALLOWED for way in ways)
    assert all(way.request for way in ways if way.permission.startswith("erp/"))


@pytest.mark.parametrize(
    "asked",
    ["erp/*:write", "erp/sale.*:write", "erp/sale.sale.*:write", "erp/*:execute", "shop/*:read", "erp/account.*:read"],
)
def test_of_a_family_every_line_is_told_that_allows_some_of_it(asked):
    operation = operation_named(asked)
    meeting = {
        (role.name, grant.id)
        for role in PLAN.roles
        for grant in PLAN.grants
        if grant.role in role.closure and grant.pattern.meets(operation.pattern)
    }
    ways = list(who_can(PLAN, operation))
    assert meeting
    assert {(way.role, way.rule) for way in ways} == meeting
    assert all(way.request for way in ways if way.permission.startswith("erp/"))
