"""The Merkle tree of RFC 6962 section 2.1: leaf and node hashes, roots, and the frontier that grows in place."""

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
