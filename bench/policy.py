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

from bench import peers, shop
from bench.figure import Figure, at_most, middle, plain
from bench.rounds import Pace, Say
from ostiary.compile.plan import compile_policy
from ostiary.erp.openapi import load
from ostiary.erp.operation import Operation, covering_scopes
from ostiary.plan.decide import Facts, decide
from ostiary.plan.model import Circumstances, Plan, from_json, to_json
from ostiary.policy.parse import parse
from ostiary.prove import questions
from ostiary.prove.changes import diff
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
DECIDE_MOST_US: Final = 10.0
CASBIN_DECIDES: Final = "the same by pycasbin, keyed by role and verb; without the hours"
CEDAR_DECIDES: Final = "the same by cedarpy, policies parsed before; the zone's clock told to it"
CASBIN_WHO_CAN: Final = "the same by pycasbin: roles alone, without hours, lines and requests"
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
    yield from _decisions(plan, facts, pace)
    yield from _who_can(pace)
    yield at_most(AREA, f"`ostiary --help`, median of {STARTS}", _help() * 1000, "ms", HELP_MOST_MS)


def _decisions(plan: Plan, facts: Sequence[Facts], pace: Pace) -> Iterator[Figure]:
    """One decision of the reference evaluator, which the guard asks for what it looks into; then the same by others."""
    enforcer, cedar, asked = peers.pycasbin(plan), peers.cedar(plan), peers.asked(facts)
    ours = [decide(plan, one).allowed for one in facts]
    assert ours == [enforcer.enforce(*one) for one in asked] == [cedar(one) for one in asked]
    acts: dict[str, Callable[[], Any]] = {
        "decide": lambda: [decide(plan, one) for one in facts],
        CASBIN_DECIDES: lambda: [enforcer.enforce(*one) for one in asked],
        CEDAR_DECIDES: lambda: [cedar(one) for one in asked],
    }
    times = {name: list[float]() for name in acts}
    for _ in range(pace.rounds):
        for name, act in acts.items():
            times[name].append(_timed(act) / len(facts) * 1e6)
    first, *others = (middle(took) for took in times.values())
    yield at_most(AREA, f"decide, {RULES:,} rules", first, "µs", DECIDE_MOST_US)
    for name, took in zip([CASBIN_DECIDES, CEDAR_DECIDES], others, strict=True):
        yield plain(AREA, f"{name}, {RULES:,} rules", took, "µs")


def _who_can(pace: Pace) -> Iterator[Figure]:
    """The first question of a plan that was just read, as each command asks it; and reading it, which comes before."""
    text = to_json(shop.compiled(shop.policy(MANY, UPSTREAM), shop.document(shop.described(MANY))))
    operation = from_json(text).routes[7].operation
    reads, asks = list[float](), list[float]()
    for _ in range(pace.rounds):
        began = time.perf_counter()
        plan = from_json(text)
        reads.append(time.perf_counter() - began)
        asks.append(_timed(partial(_ask, plan, operation)))
    grants = f"{len(plan.grants):,} grants"
    yield at_most(AREA, f"who-can, {grants}, the first question", middle(asks) * 1000, "ms", WHO_CAN_MOST_MS)
    yield plain(AREA, f"reading the plan of {grants} before it, {len(text) / 1e6:.0f} MB", middle(reads) * 1000, "ms")
    enforcer = peers.pycasbin(plan)
    theirs = partial(peers.casbin_who_can, enforcer, operation.object, str(operation.verb))
    assert theirs() == {way.role for way in _ask(plan, operation)}
    yield plain(AREA, f"{CASBIN_WHO_CAN}, {grants}", middle(_timed(theirs) for _ in range(pace.rounds)) * 1000, "ms")


def _ask(plan: Plan, operation: Operation) -> list[questions.Way]:
    return list(questions.who_can(plan, operation))


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
