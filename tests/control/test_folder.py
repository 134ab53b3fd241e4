"""What belongs to a policy is read by who asks, from its own folder; control reads nothing for anybody."""

import os

import pytest

from ostiary.control.documents import files_of, read_document, read_policy
from ostiary.control.revisions import write_policy
from ostiary.erp.openapi import DOCUMENT_MAX_BYTES
from ostiary.foundation.errors import OperatorFault
from ostiary.policy.document import Document
from ostiary.policy.node import TEXT_MAX_BYTES
from running import SPEC

POLICY = 'policy: p\nsystems: {shop: {kind: openapi, at: shop.test, upstream: "http://127.0.0.1:9", spec: "%s"}}\n'


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "policy" / "specs").mkdir(parents=True)
    (tmp_path / "shop.yaml").write_text(SPEC)
    (tmp_path / "policy" / "specs" / "shop.yaml").write_text(SPEC)
    (tmp_path / "policy" / "link.yaml").symlink_to(tmp_path / "shop.yaml")
    return tmp_path / "policy"


def read(folder, spec):
    text = POLICY % spec
    return read_document(Document(text=text, file="policy.yaml", files=files_of(folder, "policy.yaml", text)))


@pytest.mark.parametrize("spec", ["../shop.yaml", "specs/../../shop.yaml", "link.yaml", "/etc/passwd", "OUTSIDE"])
def test_a_described_system_names_no_document_outside_the_folder(folder, spec):
    spec = spec.replace("OUTSIDE", str(folder.parent / "shop.yaml"))
    with pytest.raises(OperatorFault) as refused:
        read(folder, spec)
    assert refused.value.code == "policy-invalid"
    assert f"policy.yaml:2:11: system shop: {spec} leads out of the policy's folder" in str(refused.value)
    assert "root:" not in str(refused.value)


@pytest.mark.parametrize("spec", ["specs", "specs/none.yaml", "pipe.yaml", "latin.yaml"])
def test_what_is_no_text_in_a_file_is_told_and_waits_for_nobody(folder, spec):
    os.mkfifo(folder / "pipe.yaml")
    (folder / "latin.yaml").write_bytes(SPEC.encode() + b"# caf\xe9\n")
    with pytest.raises(OperatorFault, match=rf"policy.yaml:2:11: system shop: .*{spec}"):
        read(folder, spec)


def test_a_document_that_is_not_there_is_told_with_every_other_problem(folder):
    text = f"{POLICY % 'specs/none.yaml'}never: 1\nallways: 1\n"
    with pytest.raises(OperatorFault) as refused:
        files_of(folder, "policy.yaml", text)
    told = [one["message"] for one in refused.value.problems]
    assert "the policy has no key 'allways'" in told
    assert "system shop: specs/none.yaml is no file in the policy's folder" in told


def test_of_a_document_that_is_too_large_no_more_is_read_than_tells_it(folder):
    with (folder / "large.yaml").open("wb") as file:
        file.truncate(50 * DOCUMENT_MAX_BYTES)
    text = POLICY % "large.yaml"
    assert len(files_of(folder, "policy.yaml", text)["large.yaml"]) == DOCUMENT_MAX_BYTES + 1
    with pytest.raises(OperatorFault, match="larger than"):
        read(folder, "large.yaml")


@pytest.mark.parametrize("unfit", ["pipe.yaml", "/dev/zero", "specs"])
def test_a_policy_that_is_no_file_is_refused_at_once(folder, unfit):
    os.mkfifo(folder / "pipe.yaml")
    (folder / "policy.yaml").symlink_to(folder / unfit)
    with pytest.raises(OperatorFault, match=r"policy.yaml can't be read: (it is no regular file|is a directory)"):
        read_policy(folder / "policy.yaml")


def test_of_a_policy_that_is_too_large_no_more_is_read_than_tells_it(folder):
    (folder / "policy.yaml").write_text(f"# {'x' * 2 * TEXT_MAX_BYTES}")
    with pytest.raises(OperatorFault, match=f"the document is larger than {TEXT_MAX_BYTES} bytes"):
        read_policy(folder / "policy.yaml")


def test_a_document_below_the_folder_is_read(folder):
    _, plan, _ = read(folder, "specs/shop.yaml")
    assert plan.routes


def test_the_admin_socket_reads_nothing_for_a_caller_either(site):
    (site.root / "outside.yaml").write_text(SPEC)
    for spec in (str(site.root / "outside.yaml"), f"specs/{site.spec.name}"):
        text = site.policy((f"specs/{site.spec.name}", spec))
        with pytest.raises(OperatorFault, match="did not come with the policy"):
            site.ask("policy.apply", document={"text": text, "file": str(site.home.policy)}, reason="")


STRAY = ("policy.yaml", "specs/../policy.yaml", "./policy.yaml", "specs//shop.yaml", "other.yaml", "sod/tryton", "")


@pytest.mark.parametrize("name", STRAY)
def test_no_file_comes_with_a_policy_that_it_does_not_name_by_its_plain_path(folder, name):
    text = POLICY % "specs/shop.yaml"
    files = {"specs/shop.yaml": SPEC, name: text}
    with pytest.raises(OperatorFault, match="names no such file, or not by its plain path"):
        read_document(Document(text=text, file="policy.yaml", files=files))


@pytest.mark.parametrize("name", STRAY[:4])
def test_naming_it_as_a_description_does_not_let_a_file_lie_in_anothers_place(name):
    document = Document(text=POLICY % name, file="policy.yaml", files={name: SPEC})
    with pytest.raises(OperatorFault) as refused:
        read_document(document)
    assert refused.value.code == "file-not-named"


def test_the_admin_socket_takes_no_file_that_would_be_read_in_the_policys_place(site):
    document = site.document(site.policy())["document"]
    document["files"]["policy.yaml"] = site.policy(("limits:", "# harmless\nlimits:"))
    with pytest.raises(OperatorFault, match=r"names no such file.*: policy\.yaml"):
        site.ask("policy.propose", document=document, reason="a blank line")


@pytest.mark.parametrize("name", ["../outside", "/tmp/ost-outside", "a/../../outside", *STRAY[:4]])
def test_what_somebody_proposed_is_not_written_outside_its_folder_or_over_the_policy(tmp_path, name):
    with pytest.raises(OperatorFault, match="would lie in another's place, or leads out of"):
        write_policy(tmp_path / "new", "policy.yaml", "policy: x", {name: "x"})
    assert list(tmp_path.iterdir()) == []
