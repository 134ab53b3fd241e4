"""What the documents say is true: commands exist, policies parse, links lead somewhere, tables match the code."""

import re
import shlex
import tomllib
from pathlib import Path

import click
import pytest

from ostiary.cli.main import cli
from ostiary.foundation.errors import CallerFault, OperatorFault, OurFault, SystemFault
from ostiary.foundation.home import Settings
from ostiary.plan.decide import Reason
from ostiary.policy.parse import parse

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", ROOT / "GLOSSARY.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#]+)")
INLINE = re.compile(r"`(ostiary [^`]+)`")


def blocks(page, language):
    return [text for kind, text in BLOCK.findall(page.read_text("utf-8")) if kind == language]


def commands(page):
    """Every `$ ostiary ...` of the page's sessions, and every command named in its text."""
    lines = [line[2:] for text in blocks(page, "console") for line in text.splitlines() if line.startswith("$ ostiary")]
    return [line.partition("  #")[0] for line in lines] + INLINE.findall(BLOCK.sub("", page.read_text("utf-8")))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_in_the_documents_exists(page):
    for line in commands(page):
        words = [word for word in shlex.split(line)[1:] if word not in {"...", "…"}]
        command: click.Command = cli
        context = click.Context(cli, info_name="ostiary", **cli.context_settings)
        while isinstance(command, click.Group) and words and not words[0].startswith("-"):
            found = command.get_command(context, words[0])
            assert found is not None, f"{page.name}: {line}"
            command, words = found, words[1:]
            context = click.Context(command, parent=context)
        options = {name for parameter in command.params for name in parameter.opts} | {"--help", "--version"}
        assert {word for word in words if word.startswith("--")} <= options, f"{page.name}: {line}"


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "errors.md"], ids=lambda page: page.name)
def test_every_whole_policy_in_the_documents_has_no_problem(page):
    for text in blocks(page, "yaml"):
        if text.startswith("policy:"):
            assert parse(text, page.name).problems == ()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_to_one(page):
    for target in LINK.findall(BLOCK.sub("", page.read_text("utf-8"))):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_table_of_reasons_has_all_of_them_with_their_status():
    told = {}
    for line in (ROOT / "docs/guide/judging.md").read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) > 3 and cells[1].startswith("`"):
            names, statuses = re.findall(r"`([a-z-]+)`", cells[1]), [int(one) for one in cells[2].split()]
            told |= dict(zip(names, statuses * len(names) if len(statuses) == 1 else statuses, strict=False))
    assert told == {str(reason): reason.status for reason in Reason if reason is not Reason.ALLOWED}


def test_the_guide_names_every_setting():
    text = (ROOT / "docs/guide/running.md").read_text("utf-8")
    assert [name for name in Settings.__struct_fields__ if f"`{name}`" not in text] == []


def test_the_guide_and_the_help_name_the_same_exit_codes():
    table = re.findall(r"^\| (\d+) \|", (ROOT / "docs/guide/running.md").read_text("utf-8"), re.MULTILINE)
    assert table == re.findall(r"^  (\d+) ", cli.epilog, re.MULTILINE)
    assert {str(fault.exit_code) for fault in (OperatorFault, CallerFault, SystemFault, OurFault)} < set(table)


def pins(name):
    return set(
        re.findall(r"^([\w.-]+)(?:\[\w+\])?==(\S+)", (ROOT / "requirements" / name).read_text("utf-8"), re.MULTILINE)
    )


def test_what_the_readme_installs_is_pinned_all_of_it_and_what_the_tests_run_with():
    (line,) = [
        one for text in blocks(ROOT / "README.md", "console") for one in text.splitlines() if "pip install" in one
    ]
    assert line == "$ pip install --require-hashes -r requirements/run.txt && pip install --no-deps ."
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    assert {re.match(r"[\w.-]+", one)[0] for one in asked} <= {name for name, _ in pins("run.txt")}
    assert pins("run.txt") <= pins("dev.txt")
