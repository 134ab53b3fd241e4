"""The one form: the same meaning, the same comments, and nothing more to change."""

import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import yaml
from hypothesis import HealthCheck, given, settings

from ostiary.foundation.errors import OperatorFault
from ostiary.policy.fmt import fmt
from ostiary.policy.parse import parse
from policy.documents import documents

ROOT = Path(__file__).parents[2]
slow = settings(
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)


def meaning(text):
    """What a document says, apart from where it says it."""
    parsed = parse(text, "policy.yaml")
    assert not parsed.problems, (text, list(map(str, parsed.problems)))
    told = msgspec.to_builtins(parsed.policy)

    def without_places(value):
        if isinstance(value, dict):
            return {key: without_places(inner) for key, inner in value.items() if key != "source"}
        return [without_places(inner) for inner in value] if isinstance(value, list | tuple) else value

    return without_places(told)


@slow
@given(documents())
def test_the_meaning_and_every_comment_stay_and_a_second_time_changes_nothing(drawn):
    text, comments = drawn
    formatted = fmt(text)
    assert meaning(formatted) == meaning(text)
    assert sorted(re.findall(r"# c\d+(?: .*)?$", formatted, re.MULTILINE)) == sorted(comments)
    assert fmt(formatted) == formatted


@slow
@given(documents(comments=False))
def test_no_reader_takes_a_text_for_something_else(drawn):
    def leaves(value):
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        return [value] if not isinstance(value, dict | list) else [leaf for one in inner for leaf in leaves(one)]

    assert {type(leaf) for leaf in leaves(yaml.safe_load(fmt(drawn[0])))} == {str}  # YAML 1.1: the most eager reader


UNTIDY = """\
# About this policy.


policy:   'acme'
systems: {erp: {kind: tryton, at: erp.example.com, upstream: http://127.0.0.1:8000,
    database: acme}}   # the only one
departments: {sales: {}}

roles: # who may what

    # The clerks.
    clerk: # junior
        level: user
        of: sales
        may: [ # what they do
            "sale.*: read",   # look
            # "sale.*: write",
        ]
    # manager: {level: department, of: sales}
never:
- {name: 12, level: partner, may: 'account.*: read'}
# The end.
"""
TIDY = """\
# About this policy.

policy: acme
systems: # the only one
  erp: {kind: tryton, at: erp.example.com, upstream: "http://127.0.0.1:8000", database: acme}
departments:
  sales: {}

roles: # who may what
  # The clerks.
  clerk: # junior
    level: user
    of: sales
    may: # what they do
      - "sale.*: read" # look
      # "sale.*: write",
  # manager: {level: department, of: sales}
never:
  - {name: "12", level: partner, may: "account.*: read"}
# The end.
"""


def test_the_form_is_short_parts_on_one_line_and_comments_where_they_belong():
    assert fmt(UNTIDY) == TIDY


def test_what_does_not_fit_on_one_line_stands_one_entry_a_line():
    long = UNTIDY.replace("name: 12", f"name: {'long ' * 18}words")
    assert fmt(long).splitlines()[-4:-1] == [
        f"  - name: {'long ' * 18}words",
        "    level: partner",
        '    may: "account.*: read"',
    ]


def test_a_document_that_does_not_parse_is_refused_with_all_its_problems():
    with pytest.raises(OperatorFault) as refused:
        fmt(UNTIDY.replace("of: sales", "of: sails").replace("tryton", "tritium"), "acme.yaml")
    assert "acme.yaml:5:23: kind can't be 'tritium'" in str(refused.value)
    assert "acme.yaml:14:13: there is no department 'sails'" in str(refused.value)


def readme_policy():
    return (ROOT / "README.md").read_text("utf-8").split("```yaml\n")[1].split("```")[0]


def demo_policy():
    return (ROOT / "src/ostiary/cli/demo/policy.yaml").read_text("utf-8")


@pytest.mark.parametrize("text", [readme_policy(), demo_policy()], ids=["readme", "demo"])
def test_the_policies_we_show_are_in_the_one_form(text):
    assert fmt(text) == text


def test_comments_keep_their_order_even_where_their_depth_does_not():
    text = "policy: a\ndepartments:\n  sales: {}\n  # in the part\n# before the next\n  # and deeper again\nroles: {}\n"
    assert fmt(text) == text.replace("  # and", "# and")


BRACKETS = """\
policy: a
systems:
  erp: {kind: tryton, at: erp.example.com, upstream: "http://127.0.0.1:8000", database: acme}
roles:
  clerk:
    level: system
    may: ["party.*: read", { # in the item
      do: "sale.sale: write", fields: name}]
never:
  - may: [ # at the key
      "account.*: read"] # at the end
    level: partner
    name: books
"""


def test_a_comment_between_brackets_stays_with_what_it_stands_with():
    assert fmt(BRACKETS).splitlines()[6:] == [
        "    may:",
        '      - "party.*: read"',
        "      # in the item",
        '      - {do: "sale.sale: write", fields: name}',
        "never:",
        "  # at the key",
        '  - may: ["account.*: read"] # at the end',
        "    level: partner",
        "    name: books",
    ]


def ostiary(*arguments):
    return subprocess.run(
        [sys.executable, "-c", "from ostiary.cli.main import main; main()", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_formats_a_file_in_place_and_check_only_says_what_it_would_change(tmp_path):
    file = tmp_path / "acme.yaml"
    file.write_text(UNTIDY, "utf-8")
    file.chmod(0o640)
    checked = ostiary("policy", "fmt", "--check", file)
    assert (checked.returncode, file.read_text("utf-8")) == (2, UNTIDY)
    assert "+policy: acme" in checked.stderr
    assert ostiary("policy", "fmt", file).returncode == 0
    assert (file.read_text("utf-8"), file.stat().st_mode & 0o777) == (TIDY, 0o640)
    assert ostiary("policy", "fmt", "--check", file).returncode == 0


def test_the_command_leaves_a_document_with_problems_as_it_is(tmp_path):
    file = tmp_path / "acme.yaml"
    file.write_text(UNTIDY.replace("tryton", "tritium"), "utf-8")
    told = ostiary("policy", "fmt", file)
    assert (told.returncode, file.read_text("utf-8")) == (2, UNTIDY.replace("tryton", "tritium"))
    assert "acme.yaml:5:23: kind can't be 'tritium'" in told.stderr
