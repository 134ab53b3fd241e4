"""The signed head: size and subtrees of the log, signed, kept in a file outside the store.

Whoever can write the store alone can't hide a change: `verify` finds it, and every head goes on from the one before.
What he adds as a new entry, well formed and after the last that was signed, is not told from ours. Who holds the home
holds the key: against him, copies of the head elsewhere help.
"""

import base64
import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection

from ostiary.audit.log import Leaf, Tree, count, leaves, packed, tree, unpacked
from ostiary.audit.merkle import grow, leaf_hash
from ostiary.foundation.errors import OperatorFault
from ostiary.foundation.files import read_private, write_atomically, write_once
from ostiary.foundation.home import Home
from ostiary.store.database import Store

ORIGIN: Final = "ostiary-audit/1"
KEY_FILE: Final = "audit.key"


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
    with store.read() as connection:
        return verified(connection, home)


def verified(connection: Connection, home: Home) -> Tree:
    """As `verify`, in a transaction that has asked for nothing yet."""
    if not home.audit_head.exists():
        raise _broken(f"its signed head {home.audit_head} is missing")
    signed = _signed_tree(home)
    beginning = _grown(Tree(size=0), _in_order(leaves(connection), 0), signed.size)
    if beginning.size == signed.size and beginning.frontier != signed.frontier:
        raise _broken(f"one of the first {signed.size} leaves was changed, added or reordered")
    return _recomputed(connection, beginning, signed.size)


def _recomputed(connection: Connection, before: Tree, signed: int = 0) -> Tree:
    """The stored tree, which must be `before` and the leaves after it."""
    stored = tree(connection)
    now = _grown(before, _in_order(leaves(connection, before.size), before.size))
    if now.size < signed or stored.size < before.size:
        raise _broken(f"it ends after {min(now.size, stored.size)} leaves, but more were signed: some were taken away")
    if now != stored:
        raise _broken(f"one of the leaves after the first {before.size} was changed, added or taken away")
    return now


def _grown(before: Tree, more: Iterable[Leaf], until: int | None = None) -> Tree:
    size, frontier = before.size, before.frontier
    for leaf in more:
        if size == until:
            break
        size, frontier = size + 1, grow(frontier, leaf_hash(leaf.entry.encode()))
    return Tree(size=size, frontier=frontier)


def _in_order(found: Iterable[Leaf], since: int) -> Iterator[Leaf]:
    """No gap, and no leaf that is listed as another act than it is."""
    for expected, leaf in enumerate(found, since):
        if leaf.number != expected:
            raise _broken(f"leaf {expected} is missing")
        if _action(leaf.entry) != leaf.action:
            raise _broken(f"leaf {leaf.number} is listed as another action than it holds")
        yield leaf


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
