"""What `status` says of one part: in order, or what is wrong and what to do."""

import pytest

from ostiary.control.health import applied
from ostiary.foundation.errors import SystemFault
from ostiary.plan.model import Limit, Limits, Plan

LIMIT = Limit(name="default", requests=1, seconds=1)


def test_a_store_that_knows_no_policy_is_told_with_the_way_to_another_database(store):
    plan = Plan(policy="p", systems=(), roles=(), grants=(), limits=Limits(anonymous=LIMIT, default=LIMIT))
    with pytest.raises(SystemFault, match="not the one") as problem:
        applied(store, plan)
    assert "restore --store" in problem.value.hint
