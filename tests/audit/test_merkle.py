"""The tree is that of RFC 6962, held against the words of the specification."""

from hashlib import sha256

from hypothesis import given
from hypothesis import strategies as st

from ostiary.audit import merkle


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


def root_by_proof(leaf, index, size, proof):
    """RFC 9162 section 2.1.3.2, step by step: the root that a proof leads to, or None."""
    fn, sn, r = index, size - 1, sha256(b"\x00" + leaf).digest()
    for p in proof:
        if sn == 0:
            return None
        if fn & 1 or fn == sn:
            r = sha256(b"\x01" + p + r).digest()
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            r = sha256(b"\x01" + r + p).digest()
        fn, sn = fn >> 1, sn >> 1
    return r if sn == 0 else None


LEAVES = st.lists(st.binary(max_size=8), min_size=1, max_size=70, unique=True)


@given(st.lists(st.binary(max_size=8), max_size=70))
def test_the_frontier_gives_the_root_of_the_specification(leaves):
    assert merkle.root_of(merkle.frontier_of(map(merkle.leaf_hash, leaves))) == mth(leaves)


@given(LEAVES, st.data())
def test_a_proof_leads_to_the_root_by_the_verifier_of_the_specification(leaves, data):
    index = data.draw(st.integers(0, len(leaves) - 1))
    proof = merkle.inclusion_proof([merkle.leaf_hash(leaf) for leaf in leaves], index)
    assert root_by_proof(leaves[index], index, len(leaves), proof) == mth(leaves)


@given(LEAVES, st.data())
def test_a_proof_holds_for_its_leaf_and_place_and_no_other(leaves, data):
    hashes = [merkle.leaf_hash(leaf) for leaf in leaves]
    index, other = data.draw(st.integers(0, len(leaves) - 1)), data.draw(st.integers(-1, len(leaves)))
    proof = merkle.inclusion_proof(hashes, index)
    assert merkle.included(hashes[index], index, len(hashes), proof, mth(leaves))
    if 0 <= other < len(leaves):
        assert merkle.included(hashes[other], index, len(hashes), proof, mth(leaves)) == (other == index)
    assert merkle.included(hashes[index], other, len(hashes), proof, mth(leaves)) == (other == index)


@given(LEAVES, st.data())
def test_a_proof_that_was_changed_does_not_hold(leaves, data):
    hashes = [merkle.leaf_hash(leaf) for leaf in leaves]
    index = data.draw(st.integers(0, len(leaves) - 1))
    proof = list(merkle.inclusion_proof(hashes, index))
    kind = data.draw(st.sampled_from(["longer", "shorter", "other"]))
    if kind == "longer":
        proof.append(sha256(b"").digest())
    elif not proof:
        return
    elif kind == "shorter":
        proof.pop(data.draw(st.integers(0, len(proof) - 1)))
    else:
        proof[data.draw(st.integers(0, len(proof) - 1))] = sha256(b"").digest()
    assert not merkle.included(hashes[index], index, len(hashes), proof, mth(leaves))
