"""The Merkle tree of RFC 6962 section 2.1: leaf and node hashes, roots, and the frontier that grows in place."""

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Final

LEAF: Final = b"\x00"
NODE: Final = b"\x01"
EMPTY_ROOT: Final = sha256(b"").digest()

Frontier = tuple[tuple[int, bytes], ...]  # complete subtrees, the largest first: (leaves, root)


def leaf_hash(data: bytes) -> bytes:
    return sha256(LEAF + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(NODE + left + right).digest()


def grow(frontier: Frontier, leaf: bytes) -> Frontier:
    """The frontier after one more leaf: equal subtrees join, as in counting in binary."""
    size, root = 1, leaf
    rest = list(frontier)
    while rest and rest[-1][0] == size:
        root = node_hash(rest.pop()[1], root)
        size *= 2
    return (*rest, (size, root))


def root_of(frontier: Frontier) -> bytes:
    """The tree's root (MTH): the subtrees of the frontier, joined from the smallest."""
    if not frontier:
        return EMPTY_ROOT
    *rest, (_, root) = frontier
    for _, left in reversed(rest):
        root = node_hash(left, root)
    return root


def frontier_of(leaves: Iterable[bytes]) -> Frontier:
    frontier: Frontier = ()
    for leaf in leaves:
        frontier = grow(frontier, leaf)
    return frontier


def inclusion_proof(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """PATH(m, D[n]) of section 2.1.1: the siblings from the leaf up."""
    if len(leaves) == 1:
        return ()
    split = _split(len(leaves))
    if index < split:
        return (*inclusion_proof(leaves[:split], index), root_of(frontier_of(leaves[split:])))
    return (*inclusion_proof(leaves[split:], index - split), root_of(frontier_of(leaves[:split])))


def included(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether `proof` shows that `leaf` is number `index` of the `size` leaves under `root`."""
    if not 0 <= index < size:
        return False
    return _climb(leaf, index, size, list(proof)) == root


def _climb(leaf: bytes, index: int, size: int, proof: list[bytes]) -> bytes | None:
    if size == 1:
        return leaf if not proof else None
    if not proof:
        return None
    split, sibling = _split(size), proof.pop()
    if index < split:
        below = _climb(leaf, index, split, proof)
        return None if below is None else node_hash(below, sibling)
    below = _climb(leaf, index - split, size - split, proof)
    return None if below is None else node_hash(sibling, below)


def _split(size: int) -> int:
    """The largest power of two below `size`."""
    return 1 << ((size - 1).bit_length() - 1)
