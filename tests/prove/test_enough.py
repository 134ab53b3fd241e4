"""What explain names as a way to a yes is one: whoever takes the steps as they are written down is let through."""

import re
from itertools import combinations

from hypothesis import assume, event, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from ostiary.erp.operation import Condition, Operation, Pattern, Verb
from ostiary.plan.decide import Facts, decide
from ostiary.plan.model import (
    All,
    Always,
    Context,
    Grant,
    Level,
    Limit,
    Limits,
    Plan,
    Role,
    Source,
    every,
)
from ostiary.prove.questions import NEVER_A_MACHINE, Asked, explain, words
from ostiary.prove.situation import NEVER, PARTS, Situation, counterexample, looks_at
from prove.test_situation import PLACES, TIMES, formulas, hours, networks

ROLES = {"r0": ("r0",), "r1": ("r0", "r1"), "r2": ("r2",)}
VERBS = (Verb.READ, Verb.WRITE, Verb.WRITE)
FIELDS = ("note", "total")
LIMIT = Limit(name="default", requests=1, seconds=1)
STEP = re.compile(
    r"role (?P<role>r\d), by [\w.:]+: line"
    r"|the same request (?P<words>.*) \(.*, policy\.yaml:(?P<line>\d+)\)"
    r"|a token with a scope that covers (?P<scope>\S+)"
    r"|a request within (?P<terms>.+): (?P<id>\S+), [\w.:]+: line"
    r"|a new line in the `may` of a role: \"(?P<may>.+)\""
)

patterns = st.builds(
    Pattern, system=st.just("erp"), object=st.sampled_from(["*", "a.*", "a", "a.b"]), verb=st.sampled_from(VERBS)
)  # fmt: skip
fields = st.lists(st.sampled_from(FIELDS), max_size=1).map(tuple)
where = st.just(()) | st.just((Condition(field="state", compare="in", values=("draft",)),))
several = st.lists(hours | networks, min_size=2, max_size=3).map(every)
drawn = st.lists(
    st.tuples(st.sampled_from(list(ROLES)), patterns, formulas | several | st.just(Always()), st.just(()) | fields, st.just(()) | where),
    min_size=1, max_size=4,
)  # fmt: skip
operations = st.builds(
    lambda name, verb, named: Operation(system="erp", object=name, verb=verb, fields_written=named),
    st.sampled_from(["a", "a.b"]), st.sampled_from(VERBS), st.frozensets(st.sampled_from(FIELDS), max_size=1),
)  # fmt: skip
situations = st.builds(
    Situation,
    at=st.sampled_from(TIMES), source=st.sampled_from(PLACES), country=st.sampled_from(["", "DE", "FR"]),
    device=st.booleans(), acr=st.sampled_from(["", "mfa"]), age_s=st.sampled_from([None, 30, 901]),
)  # fmt: skip
EVERYTHING = frozenset({"erp/*:read", "erp/*:write"})
scopes = st.sampled_from([EVERYTHING, EVERYTHING, frozenset({"erp/*:read", "erp/a:write"}), frozenset()])


def plan_of(lines):
    """Each line with a place of its own, by which it is found again."""
    grants = tuple(
        Grant(
            id=f"{role}/{n}", role=role, pattern=pattern, fields=named, where=records,
            context=Context(name=f"c{n}", formula=formula), source=Source(file="policy.yaml", line=n, text="line"),
        )
        for n, (role, pattern, formula, named, records) in enumerate(lines, 1)
    )  # fmt: skip
    roles = tuple(
        Role(name=name, level=Level.SYSTEM, closure=closure, source=Source(file="policy.yaml", line=0, text="line"))
        for name, closure in ROLES.items()
    )
    return Plan(policy="p", systems=(), roles=roles, grants=grants, limits=Limits(anonymous=LIMIT, default=LIMIT))


def took(plan, facts, here, step, there):
    """Plan, facts and circumstances once this step is taken; None where it cannot be, in no situation."""
    if step["role"]:
        return plan, replace(facts, roles=facts.roles | {step["role"]}), here
    if step["scope"]:
        return plan, replace(facts, scopes=facts.scopes | {step["scope"]}), here
    if step["id"]:
        (named,) = [one.fields for one in plan.grants if one.id == step["id"]]
        does = [
            replace(one, fields_written=one.fields_written & {*named} if named else one.fields_written)
            for one in facts.operations
        ]
        return plan, replace(facts, operations=tuple(does)), here
    if step["may"]:
        place, _, verb = step["may"].partition(": ")
        pattern = Pattern(system="erp", object=place.removeprefix("erp/"), verb=Verb(verb))
        grant = replace(
            plan.grants[0],
            id="new/1",
            role="r0",
            pattern=pattern,
            fields=(),
            where=(),
            context=Context(name="always", formula=Always()),
        )
        return replace(plan, grants=(*plan.grants, grant)), replace(facts, roles=facts.roles | {"r0"}), here
    (formula,) = [one.context.formula for one in plan.grants if one.source.line == int(step["line"])]
    meant = next(one for one in parts(formula) if words(one) == step["words"])
    moved = looks_at(meant)
    near = replace(here, **{fact: getattr(there, fact) for fact in moved})
    found = counterexample(meant, NEVER, near, frozenset(PARTS) - moved)
    return (plan, facts, replace(found, turns_on=frozenset())) if found else None


def parts(formula):
    """The formula, and what is left of it without some of its parts."""
    yield formula
    for size in range(len(formula.parts) + 1 if isinstance(formula, All) else 0):
        yield from map(every, combinations(formula.parts, size))


@settings(max_examples=400, deadline=None)
@given(
    drawn, st.lists(operations, min_size=1, max_size=3), st.frozensets(st.sampled_from(list(ROLES))) | st.just({*ROLES}), scopes,
    situations, situations, st.sampled_from(["", "client:shop", "user:anna"]),
)  # fmt: skip
def test_whoever_takes_a_way_that_explain_names_is_let_through(lines, does, roles, held, here, there, who):  # noqa: PLR0917  drawn
    plan = plan_of(lines)
    facts = Facts(system="erp", here=here, roles=frozenset(roles), scopes=held, operations=tuple(does))
    decision = decide(plan, facts)
    assume(not decision.allowed)
    kept = dict.fromkeys(replace(one, fields_written=frozenset()) for one in does)  # as journals have it
    did = replace(decision.operation, fields_written=frozenset())
    told = Asked(
        reason=decision.reason, rule=decision.rule, did=did, facts=replace(facts, operations=tuple(kept)), subject=who
    )
    for way in explain(plan, told).would_allow:
        if "what allows the rest" in way or "records with" in way or NEVER_A_MACHINE in way or "is given by" in way:
            event(f"{decision.reason}: says what else")
            continue
        found = plan, facts, here
        for step in way.split(", and "):
            read = STEP.fullmatch(step)
            assert read, step
            found = found and took(*found, read, there)
        if found is None:
            event("no such situation")
            continue
        event(f"{decision.reason}: {len(way.split(', and '))} steps")
        after, asked, at = found
        assert decide(after, replace(asked, here=at)).allowed, way
