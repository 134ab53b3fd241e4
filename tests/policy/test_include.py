"""A policy over several files means what it would in one; every problem and every line names its own file."""

import os
import time
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ostiary.compile.plan import compile_policy
from ostiary.control.documents import read_policy
from ostiary.foundation.errors import OperatorFault
from ostiary.policy.document import Document
from ostiary.policy.fmt import formatted
from ostiary.policy.node import TEXT_MAX_BYTES
from ostiary.policy.parse import DEPTH_MAX, FILES_MAX, among, parse
from policy.documents import Writer, structures

MAIN = """\
policy: acme
systems:
  erp: {kind: tryton, at: erp.example.com, upstream: "http://127.0.0.1:8000", database: acme}
departments: {sales: {}}
"""
CLERK = 'roles:\n  clerk: {level: user, of: sales, may: "party.party: read"}\n'
NEVER = 'never:\n  - {name: %s, level: partner, may: "account.*: read"}\n'


def folder(root, texts):
    for name, text in texts.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root / "policy.yaml"


def problems(text, files):
    return [str(one).partition("\n")[0] for one in parse(text, "policy.yaml", files).problems]


def test_what_stands_in_several_files_counts_as_if_it_stood_in_one():
    main = MAIN + "include: [never.yaml, roles/*.yaml]\n" + NEVER % "first"
    files = {
        "never.yaml": NEVER % "second",
        "roles/a.yaml": CLERK,
        "roles/b.yaml": CLERK.replace("clerk", "helper"),
        "other.yaml": "not: read",
        "roles/deeper/c.yaml": "not: read",
    }
    policy = parse(main, "policy.yaml", files).policy
    assert [role.name for role in policy.roles] == ["clerk", "helper"]
    assert [rule.name for rule in policy.never] == ["first", "second"]
    assert [str(role.source) for role in policy.roles] == ["roles/a.yaml:2", "roles/b.yaml:2"]
    assert policy.roles[0].may[0].source.text == CLERK.splitlines()[1].strip()
    assert str(policy.systems[0].source) == "policy.yaml:3"


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(structures(), st.integers(0, 2**32))
def test_a_policy_means_the_same_however_it_is_cut_into_files(value, seed):
    random = Random(seed)
    kept = {key: value[key] for key in value if key == "policy" or random.randrange(2)}
    moved = {key: value[key] for key in value if key not in kept}
    parts = [dict(list(moved.items())[::2]), dict(list(moved.items())[1::2])]
    files = {f"parts/{n}.yaml": Writer(random).document(part) for n, part in enumerate(parts) if part}
    main = Writer(random).document({**kept, **({"include": "parts/*.yaml"} if files else {})})
    cut, whole = parse(main, "policy.yaml", files), parse(Writer(random).document(value), "policy.yaml")
    assert cut.problems == ()
    assert _bare(cut.policy) == _bare(whole.policy)
    tidy = formatted(main, "policy.yaml", files)
    assert formatted(tidy.pop("policy.yaml"), "policy.yaml", tidy) == {**formatted(main, "policy.yaml", files)}
    assert sum(text.count("# c") for text in tidy.values()) == sum(text.count("# c") for text in files.values())


def _bare(policy):
    """Without places and without the order of what a policy orders by name."""
    plan = compile_policy(policy)
    said = sorted(str((one.id, one.role, one.pattern, one.context.name, one.context.formula)) for one in plan.grants)
    rules = sorted(str((one.name, one.first, one.then, one.link)) for one in plan.apart)
    told = plan.limits
    limits = [(one.name, str(one)) for one in (told.anonymous, told.default, *told.roles)], told.body_bytes
    return said, rules, sorted(system.name for system in plan.systems), limits, len(policy.tests)


def test_a_problem_names_the_file_and_the_line_where_it_is():
    files = {"a.yaml": "roles:\n\n  clerk: {level: usr}\n", "b.yaml": 'never:\n  - {nam: x, may: "account: look"}\n'}
    told = problems(MAIN + "include: '*.yaml'\nwhat: 1\n", files)
    assert told[:2] == ["policy.yaml:6:1: the policy has no key 'what'", "a.yaml:3:18: level can't be 'usr'"]
    assert "b.yaml:2:19: may: 'look' is no verb" in told


@pytest.mark.parametrize(
    "main, files, told",
    [
        ("include: a.yaml\n" + CLERK, {"a.yaml": CLERK}, ["a.yaml:2:3: 'clerk' stands already in policy.yaml, line 7"]),
        ("include: a.yaml\n", {"a.yaml": "policy: b\n"}, ["a.yaml:1:1: 'policy' stands already in policy.yaml, line 1"]),
        ("include: a.yaml\n", {"a.yaml": "- x\n"}, ["a.yaml:1:1: the policy is a mapping of names to values"]),
        ("include: a.yaml\n", {"a.yaml": ""}, ["a.yaml:1:1: the document is empty"]),
        ("include: a.yaml\n", {"a.yaml": "\nx: &a 1\n"}, ["a.yaml:2:4: anchors and aliases are not used here"]),
        ("include: a.yaml\n", {"b.yaml": CLERK}, ["policy.yaml:5:10: include: no file below the policy's folder is named 'a.yaml'"]),
        ("include: [a.yaml, {b: c}]\n", {"a.yaml": CLERK}, ["policy.yaml:5:19: include: no file below the policy's folder is named ''"]),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_a_problem_at_its_place(main, files, told):
    assert problems(MAIN + main, files) == told


@pytest.mark.parametrize(
    "pattern",
    [
        "/etc/passwd", "/a.yaml", "../a.yaml", "roles/../../a.yaml", "./a.yaml", "~/a.yaml", ".hidden.yaml", "a/.b/c.yaml",
        "**/a.yaml", "a.yml", "a", "*", "", "a//b.yaml", "file:a.yaml", "a\\b.yaml", "$HOME/a.yaml", "[a].yaml", "?.yaml",
    ],
)  # fmt: skip
def test_a_path_that_could_lead_out_of_the_folder_is_refused_even_where_such_a_file_is_sent(pattern, tmp_path):
    text = f'{MAIN}include: ["{pattern}"]\n'.replace("\\", "\\\\")
    (told,) = problems(text, {pattern: CLERK, "a.yaml": CLERK, "b/a.yaml": CLERK})
    assert told.startswith("policy.yaml:5:11: include: no file below the policy's folder is named")
    with pytest.raises(OperatorFault, match="no file below the policy's folder"):
        read_policy(folder(tmp_path, {"policy.yaml": text, "a.yaml": CLERK, "b/a.yaml": CLERK}))


def test_files_that_include_each_other_count_once():
    files = {"a.yaml": "include: b.yaml\n" + CLERK, "b.yaml": "include: [a.yaml, b.yaml]\n" + NEVER % "x"}
    policy = parse(MAIN + "include: a.yaml\n", "policy.yaml", files).policy
    assert (len(policy.roles), len(policy.never)) == (1, 1)


@pytest.mark.parametrize(
    "files",
    [
        {f"{n}.yaml": NEVER % n for n in range(FILES_MAX)},
        {f"{n}.yaml": f"include: {n + 1}.yaml\n" for n in range(DEPTH_MAX + 1)} | {f"{DEPTH_MAX + 1}.yaml": CLERK},
        {f"{n}.yaml": f"# {'x' * (TEXT_MAX_BYTES // 3)}\n{NEVER % n}" for n in range(3)},
    ],
    ids=["count", "depth", "size"],
)
def test_a_policy_includes_so_much_and_no_more(files):
    pattern = "0.yaml" if "include" in files["0.yaml"] else "*.yaml"
    (told,) = problems(f"{MAIN}include: '{pattern}'\n", files)
    assert told.endswith("the policy includes too much")
    less = {name: text for name, text in files.items() if name != "1.yaml"}
    less |= {"0.yaml": CLERK} if pattern == "0.yaml" else {}
    assert problems(f"{MAIN}include: '{pattern}'\n", less) == []


def test_a_folder_gives_just_the_files_that_are_included(tmp_path):
    texts = {
        "policy.yaml": MAIN + "include: ['*.yaml', roles/*.yaml]\n",
        "never.yaml": NEVER % "x",
        "roles/a.yaml": CLERK,
    }
    path = folder(tmp_path, {**texts, "shop.openapi.json": "{}", "roles/.a.yaml": "x", "roles/b/c.yaml": "x"})
    read = read_policy(path)
    assert (read.text, read.file, read.files) == (texts.pop("policy.yaml"), str(path), texts)
    assert parse(read.text, read.name, read.files).problems == ()


def test_no_link_leads_out_of_the_folder(tmp_path):
    (tmp_path / "secret.yaml").write_text(CLERK)
    path = folder(tmp_path / "home", {"policy.yaml": MAIN + "include: [roles/*.yaml]\n", "real/a.yaml": CLERK})
    (path.parent / "roles").symlink_to(path.parent / "real")
    assert read_policy(path).files == {"roles/a.yaml": CLERK}
    (path.parent / "real/b.yaml").symlink_to(tmp_path / "secret.yaml")
    with pytest.raises(
        OperatorFault, match=r"policy.yaml:5:11: include: roles/b.yaml leads out of the policy's folder"
    ):
        read_policy(path)
    (path.parent / "roles").unlink()
    (path.parent / "roles").symlink_to(tmp_path)
    with pytest.raises(OperatorFault, match="leads out of the policy's folder"):
        read_policy(path)


def test_a_pattern_with_many_stars_costs_nothing_and_names_nothing():
    long = f"{'a' * 480}.yaml"
    began = time.process_time()
    for stars in range(1, 13):
        assert among({long: ""})(f"{'*a' * stars}*b.yaml") == {}
        (told,) = problems(f"include: ['{'*a' * stars}*b.yaml']\n{MAIN}", {long: CLERK})
        assert "no file below the policy's folder is named" in told
    assert time.process_time() - began < 5
    assert problems(f"include: ['*a*a.yaml']\n{MAIN}", {long: CLERK}) == []
    assert problems(f"include: ['*a*a*a.yaml']\n{MAIN}", {long: CLERK})


def test_a_star_leads_into_no_other_folder():
    files = dict.fromkeys(["a.yaml", "b/a.yaml", "b/ba.yaml", "b/c/a.yaml", "ab/a.yaml"], "")
    assert list(among(files)("b/*.yaml")) == ["b/a.yaml", "b/ba.yaml"]
    assert list(among(files)("*/a.yaml")) == ["ab/a.yaml", "b/a.yaml"]
    assert list(among(files)("*b*/*a*.yaml")) == ["ab/a.yaml", "b/a.yaml", "b/ba.yaml"]


@pytest.mark.parametrize("name", ["/a.yaml", "b/a.yaml"])
def test_the_path_of_a_file_has_a_length(name):
    with pytest.raises(ValueError, match="at most 500 characters"):
        Document(text=MAIN, file="policy.yaml", files={"a" * 500 + name: ""})


@pytest.mark.parametrize("name", ["roles/Büro.yaml", "roles/a b.yaml", "roles/a.yaml"])
def test_what_a_pattern_names_and_nobody_can_read_is_told_and_not_left_out(name, tmp_path):
    path = folder(tmp_path, {"policy.yaml": MAIN + "include: roles/*.yaml\n", "roles/z.yaml": CLERK, "roles/x": ""})
    if name == "roles/a.yaml":
        os.mkfifo(tmp_path / name)
    else:
        (tmp_path / name).write_text(NEVER % "x")
    with pytest.raises(OperatorFault, match=f"{name} is no (plain name|file)"):
        read_policy(path)
    (tmp_path / name).unlink()
    (tmp_path / "roles/b.yaml").write_bytes(b"\xff")
    with pytest.raises(OperatorFault, match=r"roles/b.yaml can't be read: it is no text in UTF-8"):
        read_policy(path)
