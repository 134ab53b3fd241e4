"""What a person proves himself by beside the password: apps with codes (RFC 6238), passkeys, and codes for when all are
lost.
"""

import base64
import secrets
from collections.abc import Sequence
from typing import Any, Final

import pyotp
from sqlalchemy import Connection, bindparam, delete, exists, select, update

from ostiary.audit.log import Change
from ostiary.foundation.clock import to_us
from ostiary.foundation.secret import Secret, new_id
from ostiary.identity.credentials import digest
from ostiary.identity.server import Server
from ostiary.store.database import insert_into
from ostiary.store.tables import FACTOR, PRINCIPAL

TOTP: Final = "totp"
PASSKEY: Final = "passkey"
RECOVERY: Final = "recovery"
FACTORS_MAX: Final = 20  # of one person, beside recovery codes
STEP_S: Final = 30
AROUND: Final = (-1, 0, 1)  # steps that a phone's clock may be off
RECOVERY_CODES: Final = 10
RECOVERY_LETTERS: Final = "abcdefghjkmnpqrstuvwxyz23456789"
RECOVERY_LENGTH: Final = 12  # 59 bits
DIGITS: Final = 6
_ANY: Final = select(FACTOR.c.id).where(FACTOR.c.principal == bindparam("whose"))
ASKED_FOR: Final = exists().where(FACTOR.c.principal == PRINCIPAL.c.id)


def asked_for(connection: Connection, principal: str) -> bool:
    """Whether the password alone is not enough for this account."""
    return connection.execute(_ANY, {"whose": principal}).first() is not None


def proves(server: Server, connection: Connection, principal: str, shown: str) -> tuple[str, ...]:
    """What the code adds to the first half of the proof (RFC 8176), each code once; () where it is wrong."""
    text = shown.replace(" ", "").replace("-", "").lower()
    if text.isascii() and text.isdigit() and len(text) == DIGITS:
        return ("otp", "mfa") if _by_app(server, connection, principal, text) else ()
    used = delete(FACTOR).where(FACTOR.c.id == _recovery(server, principal, text), FACTOR.c.principal == principal)
    return ("kba", "mfa") if connection.execute(used.returning(FACTOR.c.id)).first() else ()


def _by_app(server: Server, connection: Connection, principal: str, code: str) -> bool:
    """One UPDATE takes the step: whoever saw the code comes too late (RFC 6238 section 5.2)."""
    mine = select(FACTOR.c.id, FACTOR.c.sealed).where(FACTOR.c.principal == principal, FACTOR.c.kind == TOTP)
    for row in connection.execute(mine).all():
        for step in steps(server, opened(server, principal, row.sealed), code):
            here, at_us = (FACTOR.c.id == row.id, FACTOR.c.counter < step), to_us(server.now())
            taken = update(FACTOR).where(*here).values(counter=step, used_at_us=at_us)
            if connection.execute(taken.returning(FACTOR.c.id)).first():
                return True
    return False


def steps(server: Server, secret: Secret, shown: str) -> list[int]:
    """The steps whose code this is."""
    code = shown.replace(" ", "")
    made, now = pyotp.TOTP(secret.reveal()), server.now_s() // STEP_S
    return [now + off for off in AROUND if secrets.compare_digest(made.generate_otp(now + off).encode(), code.encode())]


def new_secret() -> Secret:
    """A new app's, in base32."""
    return Secret(pyotp.random_base32())


def address(secret: Secret, login: str, issuer: str) -> str:
    """What the app's QR code says."""
    return pyotp.TOTP(secret.reveal()).provisioning_uri(name=login, issuer_name=issuer)


def add(
    server: Server,
    change: Change,
    principal: str,
    kind: str,
    secret: Secret,
    *,
    name: str,
    counter: int,
    known: str = "",
) -> bool:
    """Kept once it has shown that it works; False where the very same is there already, whoever's it is."""
    sealed = server.sealer.seal(secret, _sealed_for(principal))
    row = {"id": known or new_id(kind), "principal": principal, "kind": kind, "name": name, "sealed": sealed}
    if not _insert(change, **row, counter=counter):
        return False
    change.note("factor.add", principal, after={"kind": kind, "name": name})
    return True


def new_recovery(server: Server, change: Change, principal: str) -> list[str]:
    """Ten codes, shown once; those of before are gone."""
    gone = delete(FACTOR).where(FACTOR.c.principal == principal, FACTOR.c.kind == RECOVERY)
    change.connection.execute(gone)
    codes = ["".join(secrets.choice(RECOVERY_LETTERS) for _ in range(RECOVERY_LENGTH)) for _ in range(RECOVERY_CODES)]
    for code in codes:
        row = {"id": _recovery(server, principal, code), "principal": principal, "kind": RECOVERY, "name": ""}
        _insert(change, **row, sealed=b"", counter=0)
    change.note("factor.add", principal, after={"kind": RECOVERY, "codes": len(codes)})
    return codes


def remove(change: Change, principal: str, factor: str = "") -> int:
    """The factor, or all of them; those for when one is lost go with the last."""
    which = (FACTOR.c.principal == principal, *([FACTOR.c.id == factor] if factor else []))
    gone = len(change.connection.execute(delete(FACTOR).where(*which).returning(FACTOR.c.id)).all())
    if not count(change.connection, principal):
        change.connection.execute(delete(FACTOR).where(FACTOR.c.principal == principal))
    if gone:
        change.note("factor.remove", principal, before={"factors": gone})
    return gone


def count(connection: Connection, principal: str) -> int:
    """How many there are, beside recovery codes."""
    return len([one for one in listed(connection, principal) if one["kind"] != RECOVERY])


def listed(connection: Connection, principal: str) -> Sequence[dict[str, Any]]:
    told = (FACTOR.c.id, FACTOR.c.kind, FACTOR.c.name, FACTOR.c.made_at_us, FACTOR.c.used_at_us)
    rows = select(*told).where(FACTOR.c.principal == principal)
    return [dict(row) for row in connection.execute(rows.order_by(FACTOR.c.made_at_us)).mappings()]


def sealed(server: Server, principal: str, secret: Secret) -> str:
    """A secret that is not confirmed yet, as it may lie about."""
    return base64.b64encode(server.sealer.seal(secret, _sealed_for(principal))).decode()


def unsealed(server: Server, principal: str, text: str) -> Secret:
    return opened(server, principal, base64.b64decode(text))


def opened(server: Server, principal: str, sealed: bytes) -> Secret:
    return server.sealer.open(sealed, _sealed_for(principal))


def _insert(change: Change, **row: Any) -> bool:
    new = insert_into(change.connection, FACTOR).values(**row, made_at_us=to_us(change.now), used_at_us=0)
    return change.connection.execute(new.on_conflict_do_nothing().returning(FACTOR.c.id)).first() is not None


def _recovery(server: Server, principal: str, code: str) -> str:
    return digest(server.key, "recovery", principal, code)


def _sealed_for(principal: str) -> str:
    return f"factor:{principal}"
