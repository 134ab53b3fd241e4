"""The reference of the policy's keys, from its JSON Schema."""

import json
from collections.abc import Iterator
from typing import Any

from ostiary.policy.fmt import one_line
from ostiary.policy.keys import json_schema
from ostiary.policy.node import read

INTRODUCTION = """\
# The policy, key by key

Generated from the document's JSON Schema, which editors read as well: `policy.schema.json` beside this page, or
`ostiary policy schema`. How to write a policy: [the guide](../guide/policy.md).

Unknown keys are errors. A value alone counts as a list of one. A name is letters, digits, `-`, `_` and `.`, a letter
first; a text stands in one line. `ostiary policy fmt` writes the document in its one form.
"""


def schema_page() -> str:
    """The schema as a file for editors."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def policy_page() -> str:
    """Every key of every part: what it means, what it holds, an example."""
    schema = json_schema()
    out = [INTRODUCTION, *_section("The document", schema)]
    for name, part in schema["$defs"].items():
        out += _section(name, part)
    return "\n".join(out)


def _section(title: str, part: dict[str, Any]) -> Iterator[str]:
    yield from (f"## {title}", "", part["description"], "")
    yield from ("| key | means | holds | example |", "| --- | --- | --- | --- |")
    for name, key in part["properties"].items():
        needed = " (needed)" if name in part.get("required", ()) else ""
        yield f"| `{name}`{needed} | {_plain(key['description'])} | {_holds(key)} | `{_example(name, key['examples'][0])}` |"
    yield ""


def _plain(text: str) -> str:
    return text.replace("*", r"\*")


def _holds(value: dict[str, Any]) -> str:
    """In words, from the schema."""
    if "enum" in value:
        return ", ".join(f"`{word}`" for word in value["enum"])
    if "anyOf" in value:
        return "one or a list"
    if value.get("type") == "object" and "$ref" not in value["additionalProperties"]:
        return "fields with a value" + (" or a list" if "anyOf" in value["additionalProperties"] else "")
    if value.get("type") == "object":
        return " and ".join(map(_named, [value["additionalProperties"], *value.get("properties", {}).values()]))
    if value.get("type") == "array":
        return f"a list of {_linked(value['items'])}" if "$ref" in value["items"] else "a list"
    return "a text"


def _named(value: dict[str, Any]) -> str:
    return f"names of {_linked(value)}"


def _linked(value: dict[str, Any]) -> str:
    if "$ref" not in value:
        return "texts and of lists of them"
    name = value["$ref"].rsplit("/", 1)[1]
    return f"[{name}](#{name})"


def _example(name: str, value: Any) -> str:
    node, _ = read(json.dumps({name: value}, ensure_ascii=False), "example")
    assert node is not None
    return one_line(node)[1:-1]
