"""A draft beside the plan in force; that both are judged alike, `test_real_decisions` shows."""

from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace
from tests.envoy.test_real_decisions import ASKED, ask, plan_of

from ostiary.erp.operation import Pattern, Verb
from ostiary.plan.decide import Token
from ostiary.plan.formula import Always
from ostiary.plan.model import Context
from ostiary.plan.reason import Reason

PLACE = "127.0.0.1"


@pytest.fixture(scope="module")
def live(make_gate: Any) -> Iterator[Any]:
    gate = make_gate()
    try:
        gate.start(gate.files(plan_of(gate, [])))
        yield gate
    finally:
        gate.stop()


def test_an_operation_that_the_draft_does_not_know_is_noted_so(live: Any) -> None:
    every = Pattern(system="shop", object="*", verb=Verb.WRITE)
    plan = plan_of(live, [("clerk", every, Context(name="always", formula=Always()))])
    fewer = replace(plan, routes=tuple(one for one in plan.routes if one.verb is not Verb.WRITE))
    live.apply(live.files(plan, [["clerk"]], draft=fewer))
    quiet = {"token": Token.VALID, "auth_time": None, "acr": None, "dev": None, "forged": {}, "body": None}
    request = {"asked": ASKED[2], "roles": frozenset({"clerk"}), "scopes": frozenset({"shop/*:write"}), "place": PLACE}
    answer = ask(live, {**request, **quiet}, None)
    line = live.log(answer.decision)
    assert (line["reason"], line["draft"]) == (str(Reason.ALLOWED), "unknown-operation:-")
