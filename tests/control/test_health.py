"""What `status` says of one part: in order, or what is wrong and what to do."""

import pytest

from ostiary.control.health import applied
from ostiary.foundation.errors import SystemFault
from ostiary.plan.model import Limit, Limits, Plan
from running import RUNNING

LIMIT = Limit(name="default", requests=1, seconds=1)


def test_a_store_that_knows_no_policy_is_told_with_the_way_to_another_database(store):
    plan = Plan(policy="p", systems=(), roles=(), grants=(), limits=Limits(anonymous=LIMIT, default=LIMIT))
    with pytest.raises(SystemFault, match="not the one") as problem:
        applied(store, plan)
    assert "restore --store" in problem.value.hint


@RUNNING
def test_a_policy_file_that_is_not_in_force_is_told_with_what_to_do(site):
    same = site.home.policy.read_text()
    assert "differs" not in policy(site)
    try:
        site.home.policy.write_text(same + "# to be reviewed\n")
        assert "differs" in policy(site)
        assert "ostiary policy apply" in policy(site)
        assert "policy.yaml differs" in site.ostiary("doctor").out
        assert site.revision in policy(site)
        site.apply(site.home.policy.read_text())
        assert "differs" not in policy(site)
    finally:
        site.home.policy.write_text(same)
        site.apply(same)


def policy(site):
    (part,) = [part for part in site.ask("status")["parts"] if part["name"] == "policy"]
    assert part["ok"], "a draft is no fault"
    return part["text"]
