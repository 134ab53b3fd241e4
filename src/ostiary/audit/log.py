"""The audit log: appended to inside the transaction of the change it records, and held against its signed head.

The head is size and subtrees of the log, a Merkle tree (RFC 6962 section 2.1), signed, kept in a file outside the store.
Whoever can write the store alone can't hide a change: `verify` finds it, and every head goes on from the one before.
What he adds as a new entry, well formed and after the last that was signed, is not told from ours. Who holds the home
holds the key: against him, copies of the head elsewhere help.
"""

import base64
import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from hashlib import sha256
from typing import Any, Final, NamedTuple

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Struct
from sqlalchemy import Connection, Row, func, insert, select, update

from ostiary.foundation.errors import OperatorFault
from ostiary.foundation.home import Home, read_private, write_atomically, write_once
from ostiary.store.database import Store, insert_into
from ostiary.store.tables import AUDIT_LEAF, AUDIT_TREE

LEAF: Final = b"\x00"
NODE: Final = b"\x01"
EMPTY_ROOT: Final = sha256(b"").digest()

Frontier = tuple[tuple[int, bytes], ...]  # complete subtrees, the largest first: (leaves, root)
SIZE_BYTES: Final = 8
HASH_BYTES: Final = 32
ONLY: Final = 1
BATCH_ROWS: Final = 1_000
REASON_MAX_CHARS: Final = 1_000
ORIGIN: Final = "ostiary-audit/1"
KEY_FILE: Final = "audit.key"


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
        """MTH: the subtrees of the frontier, joined from the smallest."""
        if not self.frontier:
            return EMPTY_ROOT
        *rest, (_, root) = self.frontier
        for _, left in reversed(rest):
            root = node_hash(left, root)
        return root


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
    grown = {"size": size + 1, "frontier": packed(frontier)}
    connection.execute(update(AUDIT_TREE).where(AUDIT_TREE.c.id == ONLY).values(grown))
    return size


def tree(connection: Connection) -> Tree:
    """The tree as the store says it is; `verify` is what believes nothing."""
    row = connection.execute(select(AUDIT_TREE)).one_or_none()
    return Tree(size=0) if row is None else Tree(size=row.size, frontier=unpacked(row.frontier))


def acted_since(connection: Connection, number: int, but: Iterable[str]) -> tuple[int, bool]:
    """The log's size, and whether an action since begins as none of `but`: numbers come in order, by `_locked`."""
    where = AUDIT_LEAF.c.number >= number, *(~AUDIT_LEAF.c.action.startswith(start) for start in but)
    found = connection.execute(select(AUDIT_LEAF.c.number).where(*where).limit(1)).first()
    return tree(connection).size, found is not None


def count(connection: Connection) -> int:
    """How many leaves are there. All of them: that is counted in a small index, a part of them in the whole table."""
    return connection.execute(select(func.count()).select_from(AUDIT_LEAF)).scalar_one()


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


def sign_head(store: Store, home: Home, at: datetime) -> Tree:
    """Writes the head of what is committed; call it after the commit. Returns the tree it signs.

    What was signed before stays signed: the new leaves are added to it, not to what the store holds now. Raises
    OperatorFault where that does not give the stored tree.
    """
    known = home.audit_head.exists()
    before, now = _gone_on(store, home)
    if known and now == before:
        return now
    key = _key(home)
    body = _body(now, at)
    public = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    head = {**body, "signature": _text(key.sign(_signed(body))), "public_key": _text(public)}
    write_atomically(home.audit_head, json.dumps(head).encode(), durable=True)
    return now


def check(store: Store, home: Home) -> Tree:
    """The log as it goes on from the signed head, with no leaf missing; raises OperatorFault where it does not.

    Quick enough to be asked before every change: a signed leaf whose text was changed is found by `verify` alone.
    """
    return _gone_on(store, home)[1]


def _gone_on(store: Store, home: Home) -> tuple[Tree, Tree]:
    """(what is signed, what is stored). The head is read first: what is stored is never older than it."""
    before = _signed_tree(home) if home.audit_head.exists() else Tree(size=0)
    with store.read() as connection:
        now = _recomputed(connection, before)
        if (there := count(connection)) != now.size:
            raise _broken(f"of {now.size} leaves, {now.size - there} were taken away")
    return before, now


def verify(store: Store, home: Home) -> Tree:
    """The log, recomputed leaf by leaf and held against the signed head; raises OperatorFault where it differs."""
    return store.ask(verified, home)


def verified(connection: Connection, home: Home) -> Tree:
    """As `verify`, in a transaction that has asked for nothing yet."""
    if not home.audit_head.exists():
        raise _broken(f"its signed head {home.audit_head} is missing")
    signed = _signed_tree(home)
    beginning = _grown(connection, Tree(size=0), signed.size)
    if beginning.size == signed.size and beginning.frontier != signed.frontier:
        raise _broken(f"one of the first {signed.size} leaves was changed, added or reordered")
    return _recomputed(connection, beginning, signed.size)


def _recomputed(connection: Connection, before: Tree, signed: int = 0) -> Tree:
    """The stored tree, which must be `before` and the leaves after it."""
    stored = tree(connection)
    now = _grown(connection, before)
    if now.size < signed or stored.size < before.size:
        raise _broken(f"it ends after {min(now.size, stored.size)} leaves, but more were signed: some were taken away")
    if now != stored:
        raise _broken(f"one of the leaves after the first {before.size} was changed, added or taken away")
    return now


def _grown(connection: Connection, before: Tree, until: int | None = None) -> Tree:
    """With the stored leaves that come after it."""
    size, frontier = before.size, before.frontier
    for leaf in _leaves(connection, size):
        if size == until:
            break
        size, frontier = size + 1, grow(frontier, leaf_hash(leaf.entry.encode()))
    return Tree(size=size, frontier=frontier)


def _leaves(connection: Connection, since: int) -> Iterator[Row[Any]]:
    """Every leaf from number `since` on, a few at a time: no gap, and none that is listed as another act than it is."""
    chosen = select(AUDIT_LEAF).order_by(AUDIT_LEAF.c.number).limit(BATCH_ROWS)
    while rows := connection.execute(chosen.where(AUDIT_LEAF.c.number >= since)).all():
        for leaf in rows:
            if leaf.number != since:
                raise _broken(f"leaf {since} is missing")
            if _action(leaf.entry) != leaf.action:
                raise _broken(f"leaf {leaf.number} is listed as another action than it holds")
            yield leaf
            since += 1


def _action(entry: str) -> Any:
    try:
        return json.loads(entry)["action"]
    except (ValueError, KeyError, TypeError):
        return None


def _signed_tree(home: Home) -> Tree:
    try:
        head = json.loads(home.audit_head.read_bytes())
        body = {name: head[name] for name in ("origin", "size", "root", "subtrees", "at")}
        _key(home, make=False).public_key().verify(base64.b64decode(head["signature"]), _signed(body))
        return Tree(size=head["size"], frontier=unpacked(base64.b64decode(head["subtrees"])))
    except (InvalidSignature, KeyError, ValueError, TypeError) as problem:
        raise _broken(f"the signature of its head {home.audit_head} does not hold") from problem


def _broken(what: str) -> OperatorFault:
    return OperatorFault(
        "audit-broken",
        f"the audit log does not hold: {what}",
        hint="keep database and head as they are and find out who could write them; no change is made on top of it: "
        "go on from the last backup, with `ostiary restore` into a new folder",
    )


def _body(now: Tree, at: datetime) -> dict[str, object]:
    subtrees = _text(packed(now.frontier))
    return {"origin": ORIGIN, "size": now.size, "root": _text(now.root), "subtrees": subtrees, "at": at.isoformat()}


def _signed(body: dict[str, object]) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


def _key(home: Home, *, make: bool = True) -> Ed25519PrivateKey:
    path = home.keys / KEY_FILE
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    try:
        fresh = Ed25519PrivateKey.generate().private_bytes(*form)
        key = serialization.load_pem_private_key(write_once(path, fresh) if make else read_private(path), None)
    except (OSError, ValueError, TypeError) as problem:
        raise _unfit(f"{path} is missing or is not a private key") from problem
    if not isinstance(key, Ed25519PrivateKey):
        raise _unfit(f"{path} is not an Ed25519 key")
    return key


def _unfit(what: str) -> OperatorFault:
    return OperatorFault("audit-key", what, hint="restore it from a backup")


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
