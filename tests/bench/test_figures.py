"""The benchmark measures what it says: requests that are allowed, at the size asked for, told plainly."""

from datetime import UTC, datetime
from ipaddress import ip_address

import msgspec
import pytest

from bench import figure, inside, shop
from ostiary.erp.openapi import Table
from ostiary.erp.openapi.match import operation_of
from ostiary.foundation.jose import verify_access_token
from ostiary.plan.decide import Facts, decide
from ostiary.plan.model import Circumstances

SIZES = (
    shop.Size(),
    shop.Size(operations=40, families=1, roles=1, share=1.0, roles_each=1),
    shop.Size(operations=200, families=20, roles=50, share=0.25, callers=30),
)


@pytest.mark.parametrize("size", SIZES)
def test_every_prepared_request_is_allowed_by_the_policy(size):
    made = shop.build(size, "http://127.0.0.1:8000")
    table, roles, now = Table(made.plan.routes), {one.token: one.roles for one in made.callers}, datetime.now(UTC)
    scopes = {
        one.token: verify_access_token(
            one.token, made.jwks, issuer=shop.ISSUER, audience=f"https://{shop.HOST}", now=now
        ).scopes
        for one in made.callers
    }
    for line in made.lines[:300]:
        facts = Facts(
            system="shop",
            here=Circumstances(at=now, source=ip_address(line.address)),
            roles=frozenset(roles[line.token]),
            scopes=scopes[line.token],
            operations=(operation_of(table.find(line.method, line.path)),),
        )
        assert decide(made.plan, facts).allowed, line.path


@pytest.mark.parametrize("share", [0.01, 0.05, 0.25])
def test_an_operation_is_granted_by_its_share_of_the_roles(share):
    size = shop.Size(operations=80, families=20, roles=1_000, share=share)
    holders = [role for role in range(size.roles) if 7 in shop.families_of(role, size)]
    assert len(holders) == share * 1_000


def test_a_size_has_as_many_operations_as_it_says():
    assert len(shop.build(shop.Size(operations=10), "http://127.0.0.1:8000").plan.routes) == 10


def test_the_order_that_is_checked_has_twenty_lines_and_about_1400_bytes():
    assert 1_300 < len(inside.order(inside.LINES)) < 1_500
    assert len(msgspec.json.decode(inside.order(inside.LINES))["lines"]) == 20


def test_a_percentile_is_a_value_that_was_measured():
    values = [float(one) for one in range(1, 101)]
    assert figure.percentile(values, 0.99) == 99
    assert figure.percentile([3.0], 0.99) == 3


def test_a_figure_says_whether_its_goal_holds():
    missed, held = figure.at_most("gate", "x", 2.0, "ms", 1), figure.at_least("gate", "y", 0.61, "", 0.6)
    assert (missed.holds, held.holds, figure.unmeasured("gate", "z").holds) == (False, True, False)
    told = msgspec.json.decode(figure.to_json([missed, held]))
    assert told[0] == {"area": "gate", "name": "x", "value": 2.0, "unit": "ms", "goal": "≤ 1", "holds": False}
    assert "MISSED" in figure.table([missed])
