"""Control reads for nobody what lies outside the policy's folder: the caller names the folder, the document the file."""

import pytest

from ostiary.control.documents import read_document
from ostiary.foundation.errors import OperatorFault
from running import SPEC

POLICY = 'policy: p\nsystems: {shop: {kind: openapi, at: shop.test, upstream: "http://127.0.0.1:9", spec: "%s"}}\n'


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "policy" / "specs").mkdir(parents=True)
    (tmp_path / "shop.yaml").write_text(SPEC)
    (tmp_path / "policy" / "specs" / "shop.yaml").write_text(SPEC)
    (tmp_path / "policy" / "link.yaml").symlink_to(tmp_path / "shop.yaml")
    return tmp_path / "policy"


@pytest.mark.parametrize("spec", ["../shop.yaml", "specs/../../shop.yaml", "link.yaml", "/etc/passwd", "OUTSIDE"])
def test_a_described_system_names_no_document_outside_the_folder(folder, spec):
    spec = spec.replace("OUTSIDE", str(folder.parent / "shop.yaml"))
    with pytest.raises(OperatorFault) as refused:
        read_document(POLICY % spec, "policy.yaml", folder)
    assert refused.value.code == "spec-outside"
    assert f"policy.yaml:2: system shop: {spec} leads out of the policy's folder" in str(refused.value)
    assert "root:" not in str(refused.value)


def test_a_document_below_the_folder_is_read(folder):
    _, plan = read_document(POLICY % "specs/shop.yaml", "policy.yaml", folder)
    assert plan.routes


def test_the_admin_socket_reads_nothing_for_a_caller_either(site):
    (site.root / "outside.yaml").write_text(SPEC)
    text = site.policy(("specs/shop.openapi.yaml", str(site.root / "outside.yaml")))
    with pytest.raises(OperatorFault, match="leads out of the policy's folder"):
        site.ask("policy.apply", text=text, file=str(site.home.policy), reason="")
