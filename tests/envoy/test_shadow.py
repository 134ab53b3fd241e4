"""A draft beside the plan in force: the gate notes what it would decide, and obeys the plan alone."""

from collections.abc import Iterator
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from msgspec.structs import replace
from tests.envoy.test_real_decisions import ASKED, DESCRIBED, ask, grants, plan_of, quiet, role_sets, scopes

from ostiary.erp.operation import Operation, Pattern, Verb
from ostiary.plan.decide import Facts, decide
from ostiary.plan.formula import Always
from ostiary.plan.model import Context
from ostiary.plan.reason import Reason

PLACE = "127.0.0.1"
requests = some.fixed_dictionaries(
    {"asked": some.sampled_from([one for one in ASKED if one[2] is not None]), "roles": role_sets, "scopes": scopes}
)


@pytest.fixture(scope="module")
def live(make_gate: Any) -> Iterator[Any]:
    gate = make_gate()
    try:
        gate.start(gate.files(plan_of(gate, [])))
        yield gate
    finally:
        gate.stop()


def wanted(plan: Any, request: Any, at: datetime) -> str:
    _, _, name, verb, action = DESCRIBED[request["asked"][2]]
    did = Operation(system="shop", object=name, verb=verb, action=action)
    facts = Facts(
        system="shop",
        at=at,
        source=ip_address(PLACE),
        roles=request["roles"],
        scopes=request["scopes"],
        operations=(did,),
    )
    return str(decide(plan, facts))


@pytest.mark.standard("G8")
@settings(max_examples=10, deadline=None, suppress_health_check=quiet)
@given(drawn=grants, draft=grants, sent=some.lists(requests, min_size=20, max_size=20))
def test_each_request_is_judged_by_the_plan_and_noted_by_the_draft(
    live: Any, drawn: Any, draft: Any, sent: Any
) -> None:
    plan, beside = plan_of(live, drawn), plan_of(live, draft)
    live.apply(live.files(plan, sorted({tuple(sorted(one["roles"])) for one in sent}), draft=beside))
    for request in sent:
        before = datetime.now(UTC)
        answer = ask(live, {**request, "token": "valid", "place": PLACE, "body": None}, None)
        said = [wanted(one, request, before) for one in (plan, beside)]
        if said != [wanted(one, request, datetime.now(UTC)) for one in (plan, beside)]:
            continue  # an hour began in between
        line = live.log(answer.decision)
        assert [f"{line['reason']}:{line['rule']}", line["draft"]] == said, request


def test_an_operation_that_the_draft_does_not_know_is_noted_so(live: Any) -> None:
    every = Pattern(system="shop", object="*", verb=Verb.WRITE)
    plan = plan_of(live, [("clerk", every, Context(name="always", formula=Always()))])
    fewer = replace(plan, routes=tuple(one for one in plan.routes if one.verb is not Verb.WRITE))
    live.apply(live.files(plan, [["clerk"]], draft=fewer))
    request = {"asked": ASKED[2], "roles": frozenset({"clerk"}), "scopes": frozenset({"shop/*:write"}), "place": PLACE}
    answer = ask(live, {**request, "token": "valid", "body": None}, None)
    line = live.log(answer.decision)
    assert (line["reason"], line["draft"]) == (str(Reason.ALLOWED), "unknown-operation:-")
