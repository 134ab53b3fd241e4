"""From text to plan nothing depends on when, where or how often it is done; import-linter holds the imports to it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PRODUCT = Path(__file__).parents[2] / "src" / "ostiary"
MODULES = sorted(path for name in ("policy", "compile", "plan", "prove") for path in (PRODUCT / name).glob("*.py"))
IMPURE = {"now", "utcnow", "today", "time", "monotonic", "perf_counter", "urandom", "new_id", "getenv", "environ", "write_text", "write_bytes", "print", "input"}  # fmt: skip
WATCHED = """
import sys
sys.addaudithook(lambda name, _: seen.append(name) if name.split(".")[0] in {"socket", "sqlite3", "subprocess", "urllib"} else None)
seen = []
from pathlib import Path
from ostiary.compile.plan import compile_policy
from ostiary.policy.fmt import fmt
from ostiary.policy.parse import parse
from ostiary.prove.changes import diff
from ostiary.prove.rules import check, failures
policy = parse(fmt(Path(sys.argv[1]).read_text("utf-8")), "policy.yaml").policy
plan = compile_policy(policy)
check(plan), failures(plan, policy), diff(None, plan)
print(plan.revision, *seen)
"""


def called(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.func.id
        elif isinstance(node, ast.ImportFrom):
            yield from (name.name for name in node.names)


def test_the_modules_are_found():
    assert len(MODULES) > 20


@pytest.mark.parametrize("path", MODULES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_no_module_asks_for_the_time_for_randomness_or_for_its_surroundings(path):
    assert IMPURE.isdisjoint(called(path))


def test_the_whole_way_opens_no_socket_and_no_database_and_always_gives_the_same_plan():
    demo = PRODUCT / "cli" / "demo" / "policy.yaml"
    runs = [
        subprocess.run([sys.executable, "-c", WATCHED, str(demo)], env={"PYTHONHASHSEED": seed, "TZ": zone}, capture_output=True, text=True, check=True).stdout
        for seed, zone in (("1", "UTC"), ("2", "Asia/Tokyo"))
    ]  # fmt: skip
    assert len(runs[0].split()) == 1
    assert runs[0] == runs[1]
