"""The signed head: size and root of the log, signed, kept in a file outside the store."""

import base64
import json
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from sqlalchemy import select

from ostiary.audit.log import Tree, tree
from ostiary.audit.merkle import frontier_of, leaf_hash, root_of
from ostiary.foundation.errors import OperatorFault
from ostiary.foundation.files import write_atomically
from ostiary.foundation.home import Home
from ostiary.store.database import Store
from ostiary.store.tables.audit import AUDIT_LEAF

ORIGIN: Final = "ostiary-audit/1"
KEY_FILE: Final = "audit.key"


def sign_head(store: Store, home: Home, at: datetime) -> Tree:
    """Writes the head of what is committed; call it after the commit. Returns the tree it signs."""
    with store.read() as connection:
        now = tree(connection)
    key = _key(home)
    body = _body(now, at)
    head = {**body, "signature": _text(key.sign(_signed(body))), "public_key": _text(_raw(key.public_key()))}
    write_atomically(home.audit_head, json.dumps(head).encode(), durable=True)
    return now


def verify(store: Store, home: Home) -> Tree:
    """The log, recomputed leaf by leaf and held against the signed head; raises OperatorFault where it differs."""
    size, root = _signed_head(home)
    with store.read() as connection:
        rows = connection.execute(select(AUDIT_LEAF).order_by(AUDIT_LEAF.c.number)).all()
        stored = tree(connection)
    for expected, row in enumerate(rows):
        if row.number != expected:
            raise _broken(f"leaf {expected} is missing")
    hashes = [leaf_hash(row.entry.encode()) for row in rows]
    if len(hashes) < size:
        raise _broken(f"it ends after {len(hashes)} leaves, but {size} were signed: leaves were taken away")
    if root_of(frontier_of(hashes[:size])) != root:
        raise _broken(f"one of the first {size} leaves was changed, added or reordered")
    if root_of(frontier_of(hashes)) != stored.root:
        raise _broken(f"one of the last {len(hashes) - size} leaves was changed")
    return Tree(size=len(hashes), root=stored.root)


def _signed_head(home: Home) -> tuple[int, bytes]:
    try:
        head = json.loads(home.audit_head.read_bytes())
        body = {name: head[name] for name in ("origin", "size", "root", "at")}
        _key(home).public_key().verify(base64.b64decode(head["signature"]), _signed(body))
    except FileNotFoundError as problem:
        raise _broken(f"its signed head {home.audit_head} is missing") from problem
    except (InvalidSignature, KeyError, ValueError) as problem:
        raise _broken(f"the signature of its head {home.audit_head} does not hold") from problem
    return int(head["size"]), base64.b64decode(head["root"])


def _broken(what: str) -> OperatorFault:
    return OperatorFault(
        "audit-broken",
        f"the audit log does not hold: {what}",
        hint="keep database and head as they are, compare with a backup, and find out who could write them",
    )


def _body(now: Tree, at: datetime) -> dict[str, object]:
    return {"origin": ORIGIN, "size": now.size, "root": _text(now.root), "at": at.isoformat()}


def _signed(body: dict[str, object]) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


def _key(home: Home) -> Ed25519PrivateKey:
    path: Path = home.keys / KEY_FILE
    if not path.exists():
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        write_atomically(path, Ed25519PrivateKey.generate().private_bytes(*form), durable=True)
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    if not isinstance(key, Ed25519PrivateKey):
        raise OperatorFault("audit-key", f"{path} is not an Ed25519 key", hint="restore it from backup")
    return key


def _raw(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
