"""The audit log: what is in it cannot be changed, taken away or reordered unnoticed."""

from datetime import UTC, datetime
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from ostiary.audit import merkle
from ostiary.audit.head import sign_head, verify
from ostiary.audit.log import Entry, append, entries, tree
from ostiary.foundation.errors import OperatorFault
from ostiary.foundation.home import Home
from ostiary.store.database import open_store

AT = datetime(2026, 11, 23, 12, tzinfo=UTC)


def mth(leaves):
    """RFC 6962 section 2.1, word for word."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0]).digest()
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return sha256(b"\x01" + mth(leaves[:k]) + mth(leaves[k:])).digest()


@given(st.lists(st.binary(max_size=8), max_size=40))
def test_the_frontier_gives_the_root_of_the_specification(leaves):
    assert merkle.root_of(merkle.frontier_of(map(merkle.leaf_hash, leaves))) == mth(leaves)


@given(st.lists(st.binary(max_size=8), min_size=1, max_size=40, unique=True), st.data())
def test_an_inclusion_proof_holds_for_its_leaf_and_no_other(leaves, data):
    hashes = [merkle.leaf_hash(leaf) for leaf in leaves]
    index = data.draw(st.integers(0, len(leaves) - 1))
    other = data.draw(st.integers(0, len(leaves) - 1))
    proof = merkle.inclusion_proof(hashes, index)
    assert merkle.included(hashes[index], index, len(hashes), proof, mth(leaves))
    assert merkle.included(hashes[other], index, len(hashes), proof, mth(leaves)) == (other == index)


@pytest.fixture
def log(tmp_path):
    home = Home(root=tmp_path)
    home.create()
    store = open_store(f"sqlite:///{home.database}")
    for n in range(5):
        with store.begin() as connection:
            append(connection, Entry(at=AT, actor="uid:0", action="client.add", object=f"client:{n}"))
    sign_head(store, home, AT)
    yield store, home
    store.close()


def test_an_honest_log_holds(log):
    assert verify(*log).size == 5


def test_entries_come_newest_first(log):
    with log[0].read() as connection:
        assert [entry["index"] for entry in entries(connection, limit=2)] == [4, 3]


def test_a_change_that_rolls_back_leaves_no_entry(log):
    def change():
        with log[0].begin() as connection:
            append(connection, Entry(at=AT, actor="uid:0", action="x", object="y"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        change()
    with log[0].read() as connection:
        assert tree(connection).size == 5


@pytest.mark.parametrize(
    "attack",
    [
        "UPDATE audit_leaf SET entry = replace(entry, 'client:3', 'client:9')",
        "DELETE FROM audit_leaf WHERE number = 4",
        "DELETE FROM audit_leaf WHERE number = 2",
        "UPDATE audit_leaf SET entry = (SELECT entry FROM audit_leaf WHERE number = 0) WHERE number = 1",
    ],
)
def test_a_change_in_the_store_is_noticed(log, attack):
    with log[0].begin() as connection:
        connection.execute(text(attack))
    with pytest.raises(OperatorFault, match="does not hold"):
        verify(*log)


def test_a_forged_head_is_noticed(log):
    head = log[1].audit_head
    head.write_text(head.read_text().replace('"size": 5', '"size": 3'))
    with pytest.raises(OperatorFault, match="signature"):
        verify(*log)


def test_an_older_copy_of_the_store_is_noticed(log, tmp_path):
    store, home = log
    with store.begin() as connection:
        append(connection, Entry(at=AT, actor="uid:0", action="x", object="y"))
    sign_head(store, home, AT)
    with store.begin() as connection:
        connection.execute(text("DELETE FROM audit_leaf WHERE number = 5"))
        connection.execute(text("UPDATE audit_tree SET size = 5"))
    with pytest.raises(OperatorFault, match="taken away"):
        verify(store, home)
