"""The tree is that of RFC 6962, held against the words of the specification."""

from functools import reduce
from hashlib import sha256

from hypothesis import given
from hypothesis import strategies as st

from ostiary.audit import log


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


@given(st.lists(st.binary(max_size=8), max_size=70))
def test_the_frontier_gives_the_root_of_the_specification(leaves):
    frontier = reduce(log.grow, map(log.leaf_hash, leaves), ())
    assert log.Tree(size=len(leaves), frontier=frontier).root == mth(leaves)
