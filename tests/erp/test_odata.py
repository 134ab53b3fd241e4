"""A $metadata document is read for what it says, and for nothing that it would have the reader do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erp.metadata import BOMB, V2, V4
from ostiary.erp import odata
from ostiary.erp.odata import Unfit, drafted


def told(text):
    return {role.name.partition(" ")[2]: sorted(role.may) for role in drafted(text.encode(), "sap")}


def test_version_2_says_by_attribute_what_may_not_be_done():
    assert told(V2) == {
        "reader": ["sap/A_Invoice:read"],
        "writer": ["sap/A_Invoice:write.create", "sap/A_Item:write.update"],
        "deleter": ["sap/A_Item:delete"],
        "operator": ["sap/A_Invoice:execute.Post", "sap/Release:execute.Release"],
    }


def test_version_4_says_it_by_annotation_inside_the_set_or_aimed_at_it():
    found = told(V4)
    assert found["writer"] == [
        "sap/invoices:write.create", "sap/invoices:write.update", "sap/me:write.update", "sap/vendors:write.update",
    ]  # fmt: skip
    assert found["deleter"] == ["sap/vendors:delete"]


def test_version_4_actions_are_executed_where_they_are_bound_and_functions_only_read():
    found = told(V4)
    assert found["operator"] == [
        "sap/closeYear:execute.closeYear", "sap/invoices:execute.post", "sap/invoices:execute.sendAll",
    ]  # fmt: skip
    assert found["reader"] == [
        "sap/invoices:read", "sap/me:read", "sap/rates:read.rates", "sap/vendors:read", "sap/vendors:read.balance",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "attack",
    [
        "<!DOCTYPE Edmx>" + V4,
        BOMB + V4.replace('Name="vendors"', 'Name="&c;"'),
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + V4.replace('"vendors"', '"&x;"'),
        '<!DOCTYPE a SYSTEM "http://127.0.0.1:9/x.dtd">' + V4,
        '<!DOCTYPE a [<!ENTITY % p SYSTEM "file:///etc/hostname"> %p;]>' + V4,
    ],
    ids=["doctype", "bomb", "file", "fetch", "parameter"],
)  # fmt: skip
def test_a_document_type_is_refused_before_anything_in_it_is_read(attack):
    with pytest.raises(Unfit, match="document type"):
        drafted(attack.encode(), "sap")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no XML"), ("<Edmx>", "no XML"), ("<a/>", r"no \$metadata"), (V4 + V4, "no XML"),
        (V4.replace('"vendors"', '"&x;"'), "no XML"), ('<?xml version="1.0" encoding="klingon"?>' + V4, "no XML"),
        ("<Edmx>" + "<a>" * 100 + "</a>" * 100 + "</Edmx>", "within each other"),
    ],
)  # fmt: skip
def test_what_is_no_metadata_is_refused_with_why(text, why):
    with pytest.raises(Unfit, match=why):
        drafted(text.encode(), "sap")


def test_too_large_and_too_many_are_refused(monkeypatch):
    monkeypatch.setattr(odata, "ELEMENTS_MAX", 5)
    with pytest.raises(Unfit, match="elements"):
        drafted(V4.encode(), "sap")
    monkeypatch.setattr(odata, "DOCUMENT_MAX_BYTES", 10)
    with pytest.raises(Unfit, match="larger"):
        drafted(V4.encode(), "sap")


PIECES = st.sampled_from(
    ["<", ">", "/>", "</Schema>", "<![CDATA[", "]]>", "<!--", "&", "&#0;", "\x00", '"', "<!DOCTYPE a [", "<?x ?>", "é"]
)


@given(st.integers(0, len(V4)), st.integers(0, 40), PIECES | st.text(max_size=5))
def test_a_spoiled_document_is_read_or_refused_and_never_more(place, gone, piece):
    spoiled = V4[:place] + piece + V4[place + gone :]
    try:
        roles = drafted(spoiled.encode("utf-8", "surrogatepass"), "sap")
    except Unfit:
        return
    assert all(permission.startswith("sap/") for role in roles for permission in role.may)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_read(data):
    try:
        drafted(data, "sap")
    except Unfit:
        return
