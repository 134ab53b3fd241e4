"""The way from text to decision at 2,000 rules."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from bench import shop
from bench.figure import Figure, at_most, middle, plain
from bench.rounds import Pace, Say
from ostiary.compile.plan import compile_policy
from ostiary.erp.openapi import load
from ostiary.erp.operation import covering_scopes
from ostiary.plan.decide import Facts, decide
from ostiary.plan.formula import Circumstances
from ostiary.plan.model import Plan
from ostiary.policy.parse import parse
from ostiary.prove import questions
from ostiary.prove.difference import diff
from ostiary.prove.rules import check

AREA: Final = "policy"
RULES: Final = 2_000
# 400 roles with five families each: 2,000 lines of `may`, each of three verbs.
SIZE: Final = shop.Size(operations=400, families=100, roles=400, share=0.05)
UPSTREAM: Final = "http://127.0.0.1:8000"
STATEMENTS: Final = """
apart:
  - {name: two duties, permissions: ["f1.*: write", "f3.*: delete"]}
never:
  - {name: never that, roles: [r399], may: "f0.*: delete"}
"""
DECISIONS: Final = 200
STARTS: Final = 9
HELP_MOST_MS: Final = 150.0
WHO_CAN_MOST_MS: Final = 50.0
MANY: Final = shop.Size(operations=4_000, families=1_000, roles=2_000, share=0.0143)


def measure(folder: Path, pace: Pace, say: Say) -> Iterator[Figure]:
    del folder
    text = shop.policy(SIZE, UPSTREAM) + STATEMENTS
    spec = shop.document(shop.described(SIZE)).encode()
    say(f"{SIZE.roles} roles, {RULES:,} rules")
    policy, routes = parse(text, "policy.yaml").policy, {"shop": load(spec, "shop").routes}
    assert policy is not None
    plan = compile_policy(policy, routes)
    other = shop.compiled(shop.policy(SIZE, UPSTREAM, extra="f50.*: read") + STATEMENTS, spec.decode())
    acts: dict[str, Callable[[], Any]] = {
        "parse": lambda: parse(text, "policy.yaml"),
        "compile": lambda: compile_policy(policy, routes),
        "check of never and apart": lambda: check(plan),
        "diff of one changed line": lambda: diff(other, plan),
        "diff against nothing": lambda: diff(None, plan),
        "full proof": lambda: (
            check(plan),
            diff(other, plan),
            [*questions.idle(plan)],
            [*questions.unused(plan, {}, 90)],
        ),
    }
    for name, act in acts.items():
        took = middle(_timed(act) for _ in range(pace.rounds))
        say(f"{name}: {took * 1000:.0f} ms")
        yield plain(AREA, f"{name}, {RULES:,} rules", took * 1000, "ms")
    facts = list(_facts(plan))
    yield plain(AREA, f"decide, {RULES:,} rules", _decide(plan, facts, pace), "µs")
    yield from _who_can(pace)
    yield at_most(AREA, f"`ostiary --help`, median of {STARTS}", _help() * 1000, "ms", HELP_MOST_MS)


def _decide(plan: Plan, facts: Sequence[Facts], pace: Pace) -> float:
    """One decision of the reference evaluator, which the guard asks for what it looks into."""
    times = [_timed(lambda: [decide(plan, one) for one in facts]) / len(facts) for _ in range(pace.rounds)]
    return middle(times) * 1e6


def _who_can(pace: Pace) -> Iterator[Figure]:
    """The first question of a plan, for which its grants are put in order, and the next ones."""
    plan = shop.compiled(shop.policy(MANY, UPSTREAM), shop.document(shop.described(MANY)))
    ask = partial(_timed, lambda: list(questions.who_can(plan, plan.routes[7].operation)))
    yield plain(AREA, f"who-can, {len(plan.grants):,} grants, the first time", ask() * 1000, "ms")
    took = middle(ask() for _ in range(pace.rounds))
    yield at_most(AREA, f"who-can, {len(plan.grants):,} grants", took * 1000, "ms", WHO_CAN_MOST_MS)


def _help() -> float:
    """From the start of the command to its end, as a shell sees it."""
    command = [Path(sys.executable).with_name("ostiary"), "--help"]
    return middle(_timed(lambda: subprocess.run(command, check=True, capture_output=True)) for _ in range(STARTS))


def _facts(plan: Plan) -> Iterator[Facts]:
    now = datetime.now(UTC)
    for number in range(DECISIONS):
        operation = plan.routes[number % len(plan.routes)].operation
        yield Facts(
            system="shop",
            here=Circumstances(at=now, source=ip_address("10.7.0.1")),
            roles=frozenset({f"r{number % SIZE.roles}"}),
            scopes=frozenset(covering_scopes(operation)),
            operations=(operation,),
        )


def _timed(act: Callable[[], Any]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began
