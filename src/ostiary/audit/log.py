"""Appends to the audit log inside the transaction of the change it records."""

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, func, insert, select, update

from ostiary.audit.merkle import Frontier, grow, leaf_hash, root_of
from ostiary.foundation.errors import OperatorFault
from ostiary.store.database import insert_into
from ostiary.store.tables.audit import AUDIT_LEAF, AUDIT_TREE

SIZE_BYTES: Final = 8
HASH_BYTES: Final = 32
ONLY: Final = 1
BATCH_ROWS: Final = 1_000
REASON_MAX_CHARS: Final = 1_000


class Entry(Struct, frozen=True, kw_only=True):
    """One administrative act. `before` and `after` hold no secrets."""

    at: datetime
    actor: str  # "uid:1000", "user:anna", "client:shop", "ostiary" for itself
    action: str  # "policy.apply", "client.add", "token.revoke", ...
    object: str  # what it was done to
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    reason: str = ""


class Tree(Struct, frozen=True, kw_only=True):
    """How many leaves there are, and the subtrees over them."""

    size: int
    frontier: Frontier = ()

    @property
    def root(self) -> bytes:
        return root_of(self.frontier)


class Leaf(NamedTuple):
    """As the store holds it; `entry` is the text that is hashed."""

    number: int
    action: str
    entry: str


class Change(NamedTuple):
    """What `actor` does in one transaction: what is noted of it is in the audit log where the transaction is made."""

    connection: Connection
    actor: str
    now: datetime

    def note(self, action: str, what: str, **told: Any) -> None:
        """`told`: `before`, `after` and `reason`, as an Entry has them; raises where that is no reason to keep."""
        refuse_unfit(told.get("reason", ""))
        append(self.connection, Entry(at=self.now, actor=self.actor, action=action, object=what, **told))


def refuse_unfit(reason: str) -> None:
    """Raises where a reason that was given is too long, or holds what can't be seen."""
    if len(reason) > REASON_MAX_CHARS or not reason.isprintable():
        told = f"a reason is one line of at most {REASON_MAX_CHARS} characters that can be seen"
        raise OperatorFault("reason", told, hint='--reason "why, in a few words"')


def append(connection: Connection, entry: Entry) -> int:
    """Adds `entry` as the next leaf, in the caller's transaction; returns its number from 0."""
    size, frontier = _locked(connection)
    data = msgspec.json.encode(entry, order="deterministic")
    frontier = grow(frontier, leaf_hash(data))
    connection.execute(insert(AUDIT_LEAF).values(number=size, action=entry.action, entry=data.decode()))
    connection.execute(
        update(AUDIT_TREE).where(AUDIT_TREE.c.id == ONLY).values(size=size + 1, frontier=packed(frontier))
    )
    return size


def tree(connection: Connection) -> Tree:
    """The tree as the store says it is; `verify` is what believes nothing."""
    row = connection.execute(select(AUDIT_TREE)).one_or_none()
    return Tree(size=0) if row is None else Tree(size=row.size, frontier=unpacked(row.frontier))


def count(connection: Connection) -> int:
    """How many leaves are there. All of them: that is counted in a small index, a part of them in the whole table."""
    return connection.execute(select(func.count()).select_from(AUDIT_LEAF)).scalar_one()


def leaves(connection: Connection, since: int = 0) -> Iterator[Leaf]:
    """Every leaf from number `since` on, in order, a few at a time."""
    chosen = select(AUDIT_LEAF).order_by(AUDIT_LEAF.c.number).limit(BATCH_ROWS)
    while rows := connection.execute(chosen.where(AUDIT_LEAF.c.number >= since)).all():
        yield from (Leaf(row.number, row.action, row.entry) for row in rows)
        since = rows[-1].number + 1


def entries(connection: Connection, *, action: str = "", limit: int = 100) -> Iterator[dict[str, Any]]:
    """The newest entries first, each with its `index`."""
    chosen = select(AUDIT_LEAF).order_by(AUDIT_LEAF.c.number.desc()).limit(limit)
    if action:
        chosen = chosen.where(AUDIT_LEAF.c.action == action)
    for row in connection.execute(chosen):
        yield {"index": row.number, **json.loads(row.entry)}


def _locked(connection: Connection) -> tuple[int, Frontier]:
    """The tree's row, held until the transaction ends: the update takes the write lock on SQLite and PostgreSQL."""
    hold = (
        update(AUDIT_TREE)
        .where(AUDIT_TREE.c.id == ONLY)
        .values(size=AUDIT_TREE.c.size)
        .returning(AUDIT_TREE.c.size, AUDIT_TREE.c.frontier)
    )
    row = connection.execute(hold).one_or_none()
    if row is None:
        first = insert_into(connection, AUDIT_TREE).values(id=ONLY, size=0, frontier=b"")
        connection.execute(first.on_conflict_do_nothing())
        row = connection.execute(hold).one()
    return row.size, unpacked(row.frontier)


def packed(frontier: Frontier) -> bytes:
    return b"".join(size.to_bytes(SIZE_BYTES) + root for size, root in frontier)


def unpacked(data: bytes) -> Frontier:
    step = SIZE_BYTES + HASH_BYTES
    parts = (data[at : at + step] for at in range(0, len(data), step))
    return tuple((int.from_bytes(part[:SIZE_BYTES]), part[SIZE_BYTES:]) for part in parts)
