"""Writes the generated pages of docs/reference; `make docs` runs it, a test holds the pages to it."""

import ast
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

from tools import openapi
from tools.errors import errors_page
from tools.policy_reference import policy_page, schema_page

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "docs" / "reference"
STANDARD = REFERENCE / "standard.toml"


def pages() -> dict[Path, str]:
    """Every generated page and its text."""
    return {REFERENCE / name: write() for name, write in WRITERS.items()}


def standard_lines() -> dict[str, str]:
    """Every id of the standard and what the line asks."""
    sections = tomllib.loads(STANDARD.read_text("utf-8")).values()
    return {line: text for section in sections for line, text in section.items() if line != "title"}


def marked_tests() -> Iterator[tuple[str, str]]:
    """Each `@pytest.mark.standard(id)` in the tests, as (id, `file::test`)."""
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for line in _marks(node):
                    yield line, f"{path.relative_to(ROOT)}::{node.name}"


def _marks(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    for mark in node.decorator_list:
        if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.standard":
            yield from (argument.value for argument in mark.args if isinstance(argument, ast.Constant))


def standard_page() -> str:
    tests: dict[str, list[str]] = {}
    for line, test in marked_tests():
        tests.setdefault(line, []).append(test)
    out = ["# The standard, line by line", ""]
    out += [f"{len(tests)} of {len(standard_lines())} lines are shown by tests on a running system.", ""]
    out += ["A line with tests is met as far as those tests go; their names say how far.", ""]
    for letter, section in tomllib.loads(STANDARD.read_text("utf-8")).items():
        out += [f"## {letter}. {section['title']}", "", "| line | asks | shown by |", "| --- | --- | --- |"]
        out += [_row(line, text, tests.get(line, [])) for line, text in section.items() if line != "title"]
        out.append("")
    return "\n".join(out)


def _row(line: str, text: str, tests: list[str]) -> str:
    shown = "<br>".join(f"`{test}`" for test in tests) or "not yet"
    return f"| {line} | {text} | {shown} |"


def commands_page() -> str:
    """Every command's own `--help`."""
    from click import Context, Group

    from ostiary.cli.main import cli

    out = ["# Commands", "", "Generated from `--help`.", ""]
    pending = [(cli, Context(cli, info_name="ostiary", **cli.context_settings))]
    while pending:
        command, context = pending.pop(0)
        out += [f"## {context.command_path}", "", "```", command.get_help(context), "```", ""]
        if isinstance(command, Group):
            names = command.list_commands(context)
            found = [(command.get_command(context, name), name) for name in names]
            pending += [(sub, Context(sub, parent=context, info_name=name)) for sub, name in found if sub]
    return "\n".join(out)


WRITERS: dict[str, Callable[[], str]] = {
    "standard.md": standard_page,
    "commands.md": commands_page,
    "policy.md": policy_page,
    "policy.schema.json": schema_page,
    "errors.md": errors_page,
    "identity.openapi.json": openapi.page,
}

if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, "utf-8")
        print(f"wrote {path.relative_to(ROOT)}")
