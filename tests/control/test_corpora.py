"""Public corpora through the running gate: what a schema says of a value, and what is JSON at all.

JSON-Schema-Test-Suite (2020-12, required and formats) and JSONTestSuite, read from `shared/corpora` beside the project.
"""

import json
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

from ostiary.plan.decide import Reason
from running import RUNNING

CORPORA = Path(__file__).parents[3] / "shared" / "corpora"
SUITE = CORPORA / "json-schema-test-suite" / "tests" / "draft2020-12"
FILES = CORPORA / "jsontestsuite" / "test_parsing"
pytestmark = [RUNNING, pytest.mark.skipif(not CORPORA.exists(), reason="no corpora in shared/ beside the project")]

GUIDE = Path(__file__).parents[2] / "docs" / "guide" / "openapi.md"
# Formats are enforced, and these say of an older rule that they are not: their own files are judged in full.
ANNOTATIONS = "format.json"
# Schemas that no document may hold, by file: names that rebase references, references that lead out of the document,
# meanings that depend on who refers. An operation with such a schema is left out, and so denied.
LEFT_OUT = {
    "anchor.json": 4, "defs.json": 1, "dynamicRef.json": 21, "ref.json": 22, "refRemote.json": 15,
    "unevaluatedItems.json": 1, "unevaluatedProperties.json": 1, "vocabulary.json": 2,
}  # fmt: skip
# Valid, and still refused: values with characters that no business text needs (D3).
DANGEROUS = {
    "match string with nul",
    "object with all numbers is valid",
    "object with all properties present is valid",
    "a noncharacter in the local part is valid",
    "valid JSON-pointer (control characters allowed after JSON unescaping)",
}
# JSON, and still refused: for the same reason, or since of a name that stands twice each reader takes another one.
REFUSED = {
    "y_object_duplicated_key.json", "y_object_duplicated_key_and_value.json", "y_object_escaped_null_in_key.json",
    "y_string_allowed_escapes.json", "y_string_escaped_control_character.json", "y_string_escaped_noncharacter.json",
    "y_string_nonCharacterInUTF-8_U+FFFF.json", "y_string_null_escape.json", "y_string_unescaped_char_delete.json",
    "y_string_unicode_U+FFFE_nonchar.json", "y_string_with_del_character.json",
}  # fmt: skip
# What RFC 8259 leaves to each reader, and the gate takes: numbers alone, which every reader takes for a number.
TAKEN = {
    "i_number_double_huge_neg_exp.json", "i_number_real_underflow.json", "i_number_too_big_neg_int.json",
    "i_number_too_big_pos_int.json", "i_number_very_big_negative_int.json",
}  # fmt: skip


class Case(NamedTuple):
    file: str
    group: str
    schema: object
    tests: list


def cases():
    files = [*sorted(SUITE.glob("*.json")), *sorted((SUITE / "optional" / "format").glob("*.json"))]
    for path in (one for one in files if one.name != ANNOTATIONS):
        for group in json.loads(path.read_text("utf-8")):
            yield Case(path.name, group["description"], group["schema"], group["tests"])


def within(schema, place):
    """The schema, where its own root is another place of a document."""
    if isinstance(schema, list):
        return [within(part, place) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: f"{place}{part[1:]}"
        if key == "$ref" and isinstance(part, str) and (part == "#" or part.startswith("#/"))
        else part
        if key in {"enum", "const"}
        else within(part, place)
        for key, part in schema.items()
    }


def described(schemas):
    """A document with one operation for each schema: POST /NUMBER."""
    named = {f"s{n}": within(schema, f"#/components/schemas/s{n}") for n, schema in enumerate(schemas)}
    paths = {f"/{n}": {"post": operation(f"#/components/schemas/s{n}")} for n in range(len(named))}
    return json.dumps({"openapi": "3.1.0", "paths": paths, "components": {"schemas": named}})


def operation(reference):
    content = {"application/json": {"schema": {"$ref": reference}}}
    return {"x-ostiary": {"object": "order", "verb": "write"}, "requestBody": {"content": content, "required": True}}


@pytest.fixture
def judged(site):
    """Puts a schema each at a path of its own; then asks."""
    before = site.spec.read_text()

    def put(schemas):
        site.spec.write_text(described(schemas))
        site.apply(site.policy())

        token, callers = site.token("clerk"), []

        def ask(number, body):
            caller = callers.pop() if callers else site.caller(token)
            answer = caller.send("POST", f"/shop/{number}", body)
            if answer.headers.get("connection") != "close":  # as the gate does with a body that it does not read
                callers.append(caller)
            return Reason.ALLOWED if answer.status == 200 else Reason(answer.headers["ostiary-reason"])

        return ask

    yield put
    site.spec.write_text(before)
    site.apply(site.policy())


@pytest.mark.standard("D4")
def test_every_value_of_the_schema_suite_is_judged_as_it_says_or_its_schema_is_left_out(judged):
    every = list(cases())
    ask, otherwise, left_out, count = judged([one.schema for one in every]), set(), set(), Counter()
    for number, case in enumerate(every):
        for test in case.tests:
            reason = ask(number, json.dumps(test["data"]).encode())
            count[reason == Reason.UNKNOWN_OPERATION] += 1
            if reason == Reason.UNKNOWN_OPERATION:
                left_out.add((case.file, case.group))
            elif (reason == Reason.ALLOWED) != test["valid"]:
                otherwise.add((reason, test["description"]))
    assert otherwise == {(Reason.INVALID, one) for one in DANGEROUS}
    assert Counter(file for file, _ in left_out) == LEFT_OUT
    assert f"{count[False]:,} of its {count.total():,} values" in GUIDE.read_text("utf-8")


@pytest.mark.standard("D1")
def test_every_file_of_the_json_suite_is_taken_or_refused_as_it_says(judged):
    """Also with what stands behind it in the suite: UTF-16, lone surrogates, a hundred thousand open brackets."""
    ask = judged([True])
    found = {path.name: ask(0, path.read_bytes()) for path in sorted(FILES.iterdir()) if path.stat().st_size}
    assert len(found) > 300
    taken = {name for name, reason in found.items() if reason == Reason.ALLOWED}
    assert found.keys() - taken == {name for name, reason in found.items() if reason == Reason.INVALID}
    assert {name for name in taken if name.startswith("n_")} == set()
    assert {name for name in found.keys() - taken if name.startswith("y_")} == REFUSED
    assert {name for name in taken if name.startswith("i_")} == TAKEN
