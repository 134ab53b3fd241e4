"""Variables: `the NAME` stands for values that are said once; a slip with one is a problem, never another meaning."""

from itertools import pairwise
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import to_builtins

from ostiary.compile.plan import compile_policy
from ostiary.policy.parse import parse
from policy.documents import Writer, structures
from policy.test_parse import BASE, told

OFFICE = "contexts: {a: {networks: %s}}\n"
# Keys that hold free text or a word of ours, where `the NAME` is nothing special.
FREE = {
    "policy",
    "name",
    "audience",
    "spec",
    "kind",
    "hand-over",
    "token-scope",
    "level",
    "of",
    "expect",
    "when-silent",
    "when-owner-leaves",
    "devices",
    "assurance",
    "severity",
    "what",
    "owner",
    "reason",
}


def policy(text):
    parsed = parse(text, "acme.yaml")
    assert not parsed.problems, [str(one) for one in parsed.problems]
    return parsed.policy


def test_a_variable_stands_for_a_text_or_for_several():
    text = BASE + (
        'variables: {depot: 203.0.113.0/24, all-depots: [the depot, 198.51.100.0/24], day: "08:00-18:00", sell: "sale.*: read"}\n'
        "contexts: {a: {networks: [10.0.0.0/8, the all-depots]}, b: {networks: the depot, hours: the day, zone: UTC}}\n"
        'roles: {clerk: {level: user, of: sales, may: ["party.party: read", the sell]}}\n'
    )
    a, b = policy(text).contexts
    assert a.networks == ("10.0.0.0/8", "203.0.113.0/24", "198.51.100.0/24")
    assert (b.networks, b.hours) == (("203.0.113.0/24",), (480, 1080))
    assert [str(may.patterns[0]) for may in policy(text).roles[0].may] == ["erp/party.party:read", "erp/sale.*:read"]


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(structures(), st.integers(0, 2**32))
def test_a_policy_means_the_same_whichever_of_its_values_have_a_name(value, seed):
    random = Random(seed)
    written = Writer(random, comments=False)
    variables = {}
    named = _named(value, variables, random)
    if variables:
        named["variables"] = variables
    said, meant = (to_builtins(compile_policy(policy(written.document(one)))) for one in (named, value))
    assert _bare(said) == _bare(meant)


def _named(value, variables, random, key=""):
    """`value`, some of its values under a name."""

    def name(of):
        variables[f"v{len(variables)}"] = of
        return f"the v{len(variables) - 1}"

    if isinstance(value, dict):
        return {inner: _named(one, variables, random, inner) for inner, one in value.items()}
    if key in FREE or not value:
        return value
    if isinstance(value, str):
        return value if key in {"includes", "when"} or random.randrange(2) else name(value)
    if any(isinstance(one, dict | list) for one in value):
        return [_named(one, variables, random) for one in value]
    cut = random.randrange(len(value) + 1)
    return [*value[:cut], name(value[cut:])] if value[cut:] else value


def _bare(one):
    """What a plan says, without places."""
    if isinstance(one, dict):
        return {key: _bare(inner) for key, inner in one.items() if key not in {"source", "revision"}}
    return [_bare(inner) for inner in one] if isinstance(one, list | tuple) else one


@pytest.mark.parametrize(
    "variables, networks, problems",
    [
        ("{a: 10.0.0.0/8}", "the b", [(5, 13, "variable a is not used", "the a"), (6, 26, "there is no variable 'b'", "a")]),
        ("{a: 10.0.0.0/8, b: 10.0.0.0/8}", "the a", [(5, 28, "variable b is not used", "the b, where its values are meant")]),
        ("{a: the b, b: the a}", "the a", [(5, 16, "there is no variable 'b'", "variables: {b: ...}"), (5, 23, "variable b is not used", "the b")]),
        ("{a: [the a]}", "the a", [(5, 17, "there is no variable 'a'", "variables: {a: ...}")]),
        ("{a: []}", "the a", [(5, 16, "variable a holds no values", "a text, or a list of them")]),
        ("{a: {b: c}}", "the a", [(5, 16, "variable a holds no values", "a text, or a list of them")]),
        ("{a: [[b]]}", "the a", [(5, 16, "variable a holds no values", "a text, or a list of them")]),
        ("{a: 10.0.0.1/8}", "the a", [(5, 16, "networks: '10.0.0.1/8' is no network (10.0.0.1/8 has host bits set)", "203.0.113.0/24 or 2001:db8::/32")]),
        ("{the a: 10.0.0.0/8}", "the a", [(5, 13, "variables: 'the a' is not a name", "letters, digits, '-', '_' and '.', a letter first"), (6, 26, "there is no variable 'a'", "")]),
        ("[a]", "the a", [(5, 12, "variables is a mapping of names to values", "name: {...}"), (6, 26, "there is no variable 'a'", "")]),
    ],
)  # fmt: skip
def test_a_slip_with_a_variable_is_a_problem_at_its_place(variables, networks, problems):
    found = told(BASE + f"variables: {variables}\n" + OFFICE % networks)
    for problem in problems:
        assert any(
            one[:2] == problem[:2] and one[2].startswith(problem[2]) and problem[3] in one[3] for one in found
        ), found
    assert len(found) == len(problems), found


def test_where_one_text_is_meant_a_variable_of_several_is_refused():
    text = BASE + 'variables: {a: ["08:00-12:00", "13:00-18:00"]}\ncontexts: {a: {hours: the a, zone: UTC}}\n'
    assert [one[2] for one in told(text)] == ["hours: 'the a' are no hours"]


@pytest.mark.parametrize("line", ["policy: the a", "never: [{name: the a, level: user, may: 'a: read'}]"])
def test_in_a_free_text_the_words_mean_themselves(line):
    text = BASE.replace("policy: acme", line) if line.startswith("policy") else BASE + line + "\n"
    found = policy(text)
    assert "the a" in (found.name, *(one.name for one in found.never))
    assert [one[2] for one in told(text + "variables: {a: b}\n")] == ["variable a is not used"]


@pytest.mark.parametrize("depth", [4, 9])
def test_variables_made_of_variables_do_not_grow_without_bound(depth):
    """Some 4 KB of them once meant a hundred million values: control had no memory left."""
    names = [chr(ord("a") + n) for n in range(depth)]
    lines = [f"  a: [{', '.join(f'10.0.{n}.0/24' for n in range(100))}]"]
    lines += [f"  {name}: [{', '.join([f'the {one}'] * 100)}]" for one, name in pairwise(names)]
    text = BASE + "variables:\n" + "\n".join(lines) + f"\ncontexts: {{far: {{networks: the {names[-1]}}}}}\n"
    found = told(text)
    assert [message for _, _, message, _ in found] == ["variables stand for more than 200000 values in all"]
    assert found[0][0] == BASE.count("\n") + 4
