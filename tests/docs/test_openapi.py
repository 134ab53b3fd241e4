"""The guide's page about OpenAPI is true: its document means what its table says, and its policy is well over it."""

import re
from pathlib import Path

from ostiary.control.documents import prove_document
from ostiary.erp.openapi import load
from ostiary.foundation.home import Home, Settings
from ostiary.policy.document import Document

PAGE = (Path(__file__).parents[2] / "docs/guide/openapi.md").read_text("utf-8")
SPEC, POLICY = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def proved(text, folder):
    return prove_document(
        Document(text=text, file="policy.yaml", files={"specs/shop.yaml": SPEC}), Home(root=folder), Settings()
    )


def test_each_call_of_the_document_has_the_name_that_the_table_gives_it():
    table = dict(re.findall(r"^\| ([A-Z]+ /\S*) \| `(.*)` \|$", PAGE, re.MULTILINE))
    assert table == {
        f"{one.method} {one.template}": f"{one.object}: {one.verb} {one.action}".rstrip()
        for one in load(SPEC.encode(), "shop").routes
    }


def test_the_policy_is_well_and_what_is_left_out_is_what_the_page_says(tmp_path):
    plan, proof = proved(POLICY, tmp_path)
    (note,) = proof.warnings
    assert note.startswith("specs/shop.yaml: POST /files is left out, and so denied: only JSON bodies are understood")
    assert (proof.never, proof.tests) == (1, 2)
    assert plan.systems[0].prefix == load(SPEC.encode(), "shop").base


def test_without_the_path_of_its_servers_the_note_says_what_the_page_says(tmp_path):
    bare = POLICY.replace("localhost/api/v1", "localhost").replace(":8000/api/v1", ":8000")
    _, proof = proved(bare, tmp_path)
    (told,) = [one for one in proof.warnings if "`servers`" in one]
    at, upstream = re.search(r'write at: (\S+), upstream: "(\S+)"', told).groups()
    assert f'at: {at}, upstream: "{upstream}"' in POLICY
