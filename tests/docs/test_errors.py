"""The reference of errors is whole: every place that reports one is reached by an example, and each example shows one."""

import ast
import sys
import tomllib
from pathlib import Path

import pytest
from tools.errors import NOTE, groups, said, shown

import ostiary
from ostiary.policy.keys import PARTS

SOURCE = Path(ostiary.__file__).parent
MODULES = [
    *sorted((SOURCE / "policy").glob("*.py")),
    *(
        SOURCE / name
        for name in (
            "prove/rules.py",
            "prove/spelling.py",
            "control/documents.py",
        )
    ),
]
REPORTS = {"report", "problem_at", "Problem", "Wrong", "Unreadable", "Finding", "OperatorFault"}
NOTES = {"spelling": None, "rules": {"broad"}}  # modules whose functions give texts that are notes as they are
WITHOUT = (NOTE, "this is not YAML", "has no key")  # what says all there is to say
ERRORS = [error for group in groups() for error in group.error]


def sites():
    """Every place that reports something: (file, its lines) -> where it is and what it says."""
    found = {}
    for path in MODULES:
        for function in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(function, ast.FunctionDef):
                for node in ast.walk(function):
                    if reports(node) or (path.stem in NOTES and tells(node, function, NOTES[path.stem])):
                        lines = frozenset(range(node.lineno, node.end_lineno + 1))
                        found[str(path), lines] = f"{path.stem}.{function.name}: {ast.unparse(node)}"
    return found


def reports(node):
    return isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in REPORTS


def tells(node, function, only):
    meant = only is None or function.name in only
    return meant and isinstance(node, ast.Return | ast.Yield) and isinstance(node.value, ast.JoinedStr | ast.BinOp)


def reached(errors):
    """Every line of the modules that parser and prover pass while they answer."""
    files, passed = {str(path) for path in MODULES}, set()

    def line(frame, event, _):
        if event == "line":
            passed.add((frame.f_code.co_filename, frame.f_lineno))
        return line

    before = sys.gettrace()
    sys.settrace(lambda frame, *_: line if frame.f_code.co_filename in files else None)
    try:
        for error in errors:
            said(error)
    finally:
        sys.settrace(before)
    return passed


def missing(errors):
    """The places that no example reaches."""
    passed = reached(errors)
    return [words for (path, lines), words in sites().items() if not any((path, line) in passed for line in lines)]


def test_every_place_that_reports_an_error_has_an_example():
    assert missing(ERRORS) == []


def test_a_place_without_an_example_is_missed():
    assert len(sites()) > 100
    without = [error for error in ERRORS if "geoip" not in said(error)]
    assert [one.partition(":")[0] for one in missing(without)] == ["documents._unknowable"]


def test_every_form_of_a_text_has_an_example_that_does_not_fit_it():
    words = tomllib.loads((SOURCE / "policy" / "words.toml").read_text("utf-8"))
    forms = {form["told"] for form in words.values() if "told" in form}
    assert len(forms) > 5
    told = "\n".join(map(said, ERRORS))
    assert [one for one in sorted(forms) if one not in told] == []


def test_every_way_to_say_that_a_list_is_empty_has_an_example():
    keys = [key for part in PARTS.values() for key in part.keys if key.empty]
    ways = {key.empty[0].replace(key.name, "").strip("` ").partition(" `")[0] for key in keys}
    assert len(ways) > 4
    told = "\n".join(map(said, ERRORS))
    assert [one for one in sorted(ways) if one not in told] == []


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: " ".join(error.policy.split())[:60])
def test_an_example_shows_one_error_and_what_to_do(error):
    told = shown(said(error))
    lines = [line for line in told if not line.startswith(NOTE)] or told  # a note may stand beside it
    assert len([line for line in lines if not line.startswith(" ")]) == 1 or error.several
    assert "write instead: " in lines[-1] or "what to do: " in lines[-1] or any(one in lines[0] for one in WITHOUT)
