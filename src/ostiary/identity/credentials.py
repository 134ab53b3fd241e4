"""Generated secrets of machines, and what may be used once; of each a keyed digest is kept, and no more.

What may be used once (codes, pushed requests, ids of proofs) is consumed by one statement; it stays until it expires, used
or not: so that a replay is seen.
"""

import base64
import hmac
import json
import secrets
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Row, bindparam, insert, select, update

from ostiary.foundation.home import Settings
from ostiary.foundation.proof import Nonces
from ostiary.foundation.secret import Secret
from ostiary.store.database import Sealer, insert_into, take_turns, upsert
from ostiary.store.tables import ONE_TIME, PEPPER

SECRET_BYTES: Final = 32
PEPPER_PURPOSE: Final = "identity-pepper"
ONLY: Final = 1
_HERE: Final = (ONE_TIME.c.digest == bindparam("shown"), ONE_TIME.c.expires_at_s > bindparam("now_s"))
_WHAT: Final = (ONE_TIME.c.client, ONE_TIME.c.grant, ONE_TIME.c.facts, ONE_TIME.c.used)
# Made once: to put a statement together takes as long as to carry it out (measured).
_USE: Final = update(ONE_TIME).where(*_HERE, ONE_TIME.c.used.is_(False)).values(used=True).returning(*_WHAT)
_FILL: Final = (
    update(ONE_TIME).where(*_HERE, ONE_TIME.c.used.is_(False), ONE_TIME.c.grant == "").values(grant=bindparam("opens"))
    .returning(ONE_TIME.c.digest)
)  # fmt: skip
_LOOK: Final = select(*_WHAT).where(*_HERE)


def pepper(connection: Connection, sealer: Sealer) -> bytes:
    """The key of every digest; made at first use, in the caller's write transaction."""
    stored = select(PEPPER.c.sealed)
    sealed = connection.execute(stored).scalar_one_or_none()
    if sealed is None:
        take_turns(connection, PEPPER_PURPOSE)
        sealed = connection.execute(stored).scalar_one_or_none()
    if sealed is None:
        sealed = sealer.seal(new_secret(), PEPPER_PURPOSE)
        connection.execute(insert(PEPPER).values(id=ONLY, sealed=sealed))
    return sealer.open(sealed, PEPPER_PURPOSE).reveal().encode()


def new_secret() -> Secret:
    return Secret(secrets.token_urlsafe(SECRET_BYTES))


def digest(key: bytes, *parts: str) -> str:
    """HMAC-SHA-256 over the parts, each with its length, in hex."""
    return _mac(key, *parts).hex()


def derived(key: bytes, *parts: str) -> Secret:
    """A secret that can be made again from the parts, and from nothing else."""
    return Secret(base64.urlsafe_b64encode(_mac(key, *parts)).rstrip(b"=").decode())


def nonces(key: bytes, settings: Settings) -> Nonces:
    """Those of DPoP proofs; the guard is given these alone, and not the key of every digest."""
    return Nonces(_mac(key, "dpop-nonce"), settings.dpop_nonce)


def _mac(key: bytes, *parts: str) -> bytes:
    told = b"".join(len(part.encode()).to_bytes(4) + part.encode() for part in parts)
    return hmac.digest(key, told, "sha256")


class Kept(NamedTuple):
    """What was kept beside it; `grant` is "" where there is none yet."""

    client: str
    grant: str
    facts: dict[str, Any]
    used: bool


class Drawer(NamedTuple):
    """The one-time things of one `kind`, as they stand at `now_s`; the text of one is kept as a digest alone."""

    connection: Connection
    key: bytes
    kind: str
    now_s: int

    def keep(self, text: str, life_s: int, *, client: str, grant: str = "", **facts: Any) -> None:
        told = {"client": client, "grant": grant, "facts": json.dumps(facts)}
        row = {"digest": self._digest(text), "used": False, "expires_at_s": self.now_s + life_s, **told}
        self.connection.execute(insert(ONE_TIME), row)

    def renew(self, text: str, life_s: int, **facts: Any) -> None:
        """Keeps these facts for so long from now, whatever was kept before."""
        told = {"client": "", "grant": "", "facts": json.dumps(facts), "used": True}
        upsert(self.connection, ONE_TIME, {"digest": self._digest(text)}, {**told, "expires_at_s": self.now_s + life_s})

    def use(self, text: str) -> Kept | None:
        """What was kept, for one caller alone."""
        return self._kept(_USE, text)

    def look(self, text: str) -> Kept | None:
        """What was kept, used or not."""
        return self._kept(_LOOK, text)

    def fill(self, text: str, grant: str) -> bool:
        """Says what it opens, which nobody has said: true for one caller alone."""
        here = {"shown": self._digest(text), "now_s": self.now_s, "opens": grant}
        return self.connection.execute(_FILL, here).first() is not None

    def first(self, text: str, life_s: int) -> bool:
        """Whether nobody has shown this text within its life: true for one caller alone."""
        new = insert_into(self.connection, ONE_TIME).values(
            digest=self._digest(text), client="", grant="", facts="{}", used=True, expires_at_s=self.now_s + life_s
        )
        lapsed = ONE_TIME.c.expires_at_s <= self.now_s
        again = {"expires_at_s": self.now_s + life_s}
        shown = new.on_conflict_do_update(index_elements=["digest"], set_=again, where=lapsed)
        return self.connection.execute(shown.returning(ONE_TIME.c.digest)).first() is not None

    def _kept(self, statement: Any, text: str) -> Kept | None:
        here = {"shown": self._digest(text), "now_s": self.now_s}
        row: Row[Any] | None = self.connection.execute(statement, here).one_or_none()
        return Kept(row.client, row.grant, json.loads(row.facts), row.used) if row else None

    def _digest(self, text: str) -> str:
        return digest(self.key, self.kind, text)
