"""The guide's page about Odoo is true: each call of its table needs the lines beside it, and its policy is well."""

import ast
import json
import re
from pathlib import Path

import pytest

from odoo_twin import Odoo
from ostiary.control.documents import prove_document
from ostiary.erp import odoo
from ostiary.erp.adapters import understood
from ostiary.erp.catalogue import Site
from ostiary.erp.operation import Call, Request
from ostiary.foundation.home import Home, Settings
from ostiary.policy.document import Document

PAGE = (Path(__file__).parents[2] / "docs/guide/odoo.md").read_text("utf-8")
ROWS = re.findall(r"^\| `(\w+)(\(.*\))` \| (.*) \|$", PAGE, re.MULTILINE)
SITE = Site(name="erp", database="acme", catalogue=odoo.learn(Odoo().tables["ir.model.fields"].values()), keyed=True)


@pytest.mark.parametrize(("method", "given", "lines"), ROWS, ids=[row[0] for row in ROWS])
def test_each_call_of_the_table_needs_the_lines_beside_it(method, given, lines):
    call = ast.parse(f"f{given}", mode="eval").body
    body = {one.arg: ast.literal_eval(one.value) for one in call.keywords}
    request = Request(
        method="POST", path=f"/json/2/sale.order/{method}", headers={"content-type": "application/json"}, body=json.dumps(body).encode()
    )  # fmt: skip
    read = understood("odoo", request, SITE)
    assert isinstance(read, Call)
    assert [f"{one.object}: {one.verb} {one.action}" for one in read.operations] == re.findall("`(.*?)`", lines)


def test_the_policy_is_well_with_the_packs(tmp_path):
    (policy,) = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    _, proof = prove_document(Document(text=policy, file="policy.yaml", files={}), Home(root=tmp_path), Settings())
    assert proof.tests == 3


def test_the_page_names_what_of_the_context_passes():
    (line,) = re.findall(r"context\*\* may say (.*?)\. `default", PAGE, re.DOTALL)
    assert set(re.findall("`(.*?)`", line)) == odoo.CONTEXT
    assert (
        set(re.findall(r"`(\w+)`", re.search(r"nobody can tell the fields of \((.*?)\)", PAGE, re.DOTALL)[1]))
        <= odoo.CLOSED
    )
