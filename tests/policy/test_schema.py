"""The JSON Schema for editors: it knows every valid policy, and is never stricter than the parser."""

import re
from typing import ClassVar

import jsonschema_rs
import pytest
import yaml
from hypothesis import HealthCheck, event, given, settings

from ostiary.policy.keys import PARTS, json_schema
from ostiary.policy.parse import parse
from policy.documents import documents
from policy.mutations import mutated
from policy.test_fmt import demo_policy, readme_policy

SCHEMA = jsonschema_rs.Draft202012Validator(json_schema())
slow = settings(deadline=None, suppress_health_check=list(HealthCheck))


class Texts(yaml.CSafeLoader):
    """Everything is a text, as our parser reads it."""

    yaml_implicit_resolvers: ClassVar = {}


class Core(Texts):
    """YAML 1.2's core schema, as an editor reads it."""

    yaml_implicit_resolvers: ClassVar = {}


for tag, pattern, first in (
    ("null", r"(?:~|null|Null|NULL|)\Z", ["~", "n", "N", ""]),
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)\Z", list("tTfF")),
    ("int", r"[-+]?[0-9]+\Z", list("-+0123456789")),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z", list("-+0123456789.")),
):
    Core.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(pattern), first)


def readings(text):
    """What the document is to our parser and to an editor; keys are texts to both."""

    def keyed(value):
        if isinstance(value, dict):
            return {str(key): keyed(inner) for key, inner in value.items()}
        return [keyed(inner) for inner in value] if isinstance(value, list) else value

    return [keyed(yaml.load(text, loader)) for loader in (Texts, Core)]


def errors(text):
    return [str(error) for value in readings(text) for error in SCHEMA.iter_errors(value)]


@pytest.mark.parametrize("text", [readme_policy(), demo_policy()], ids=["readme", "demo"])
def test_the_policies_we_show_are_valid(text):
    assert errors(text) == []


@settings(slow, max_examples=100)
@given(documents())
def test_every_valid_policy_is_valid_to_an_editor(drawn):
    assert errors(drawn[0]) == []


@settings(slow, max_examples=400)
@given(mutated())
def test_what_the_schema_rejects_the_parser_rejects(text):
    problems = parse(text, "policy.yaml").problems
    wrong = errors(text) if text else []
    event(f"parser {'rejects' if problems else 'takes'}, schema {'rejects' if wrong else 'takes'}")
    if wrong:
        assert problems, (text, wrong)


VALID = demo_policy()


@pytest.mark.parametrize(
    "before, after",
    [
        ("policy: demo", "policy: demo\ncontext: {}"),
        ("policy: demo\n", ""),
        ("kind: tryton", "kind: sap"),
        ("database: erp, ", ""),
        ("hand-over: session", "handover: session"),
        ('"http://127.0.0.1:8000"', "127.0.0.1:8000"),
        ("mon-sun", "monday"),
        ('"00:00-24:00"', '"0-24"'),
        (", zone: UTC", ""),
        ("level: user\n    of: sales\n", "level: user\n"),
        ("level: user", "level: boss"),
        ("party.address: read", "party.address: look"),
        ('["party.party: write", "account.payment: execute approve"]', '["party.party: write"]'),
        ("    within: 30 days\n", ""),
        ("30 days", "30"),
        ("level: partner, ", "roles: [], "),
        ("120/minute", "120"),
        ("10 MB", "10 GB"),
        ("requests: 120/minute", "requests: 120/minute, body: 1 MB"),
        ('does: "account.move: write"', 'does: "account.*: write"'),
        ("2026-03-03T10:00+00:00", "yesterday"),
        ("expect: allow", "expect: pass"),
    ],
)
def test_an_unknown_key_or_a_wrong_word_is_seen_by_both(before, after):
    text = VALID.replace(before, after, 1)
    assert text != VALID
    assert errors(text)
    assert parse(text, "policy.yaml").problems


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_every_key_explains_itself_and_its_example_is_valid(part):
    schema = json_schema()
    held = schema["$defs"].get(part.name, schema)["properties"]
    for key in part.keys:
        assert key.says.endswith("."), key.name
        assert jsonschema_rs.is_valid({**held[key.name], "$defs": schema["$defs"]}, key.example), key.name
