"""What every endpoint stands on: store, keys, the systems of the current plan, and the journal."""

import errno
import json
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from threading import Lock
from typing import Any, Final

from sqlalchemy import Connection

from ostiary.foundation.clock import Clock, to_us
from ostiary.foundation.home import Home
from ostiary.foundation.jose import SigningKey
from ostiary.foundation.settings import Settings
from ostiary.identity import keys
from ostiary.identity.credentials import pepper
from ostiary.identity.request import Refused, source
from ostiary.store.database import Store
from ostiary.store.plans import read_plan, revision_in_force
from ostiary.store.seal import Sealer

SEGMENT_MAX_BYTES: Final = 64 * 1024 * 1024
PRIVATE: Final = 0o600
Revoked = Callable[[Sequence[str]], Awaitable[None]]


class Server:
    """Opened once for each process; makes the keys at first start."""

    def __init__(  # noqa: PLR0917  the composition root names them once
        self, store: Store, sealer: Sealer, settings: Settings, clock: Clock, home: Home, revoked: Revoked
    ) -> None:
        self.store, self.sealer, self.settings, self.clock, self.home = store, sealer, settings, clock, home
        self.revoked, self.life_s = revoked, settings.token_life_s
        self._signing: Mapping[str, SigningKey] = {}  # by kid
        self._systems: tuple[str, Mapping[str, str]] = ("", {})
        with store.begin() as connection:
            keys.ensure(connection, sealer, clock.now())
            self.key = pepper(connection, sealer)
        home.events.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._writing = Lock()
        self._journal = self._opened()

    def close(self) -> None:
        os.close(self._journal)

    @property
    def issuer(self) -> str:
        return self.settings.issuer

    def now(self) -> datetime:
        return self.clock.now()

    def now_s(self) -> int:
        return int(self.clock.now().timestamp())

    def signing(self, connection: Connection) -> Mapping[str, SigningKey]:
        """Purpose -> the key that signs now; asked each time, so that no token is signed with one that was taken back."""
        active = keys.active_kids(connection)
        known = {kid: self._opened_key(connection, kid) for kid in active.values()}
        self._signing = known  # of several threads the last one's; each signs with what it was asked for
        return {purpose: known[kid] for purpose, kid in active.items()}

    def _opened_key(self, connection: Connection, kid: str) -> SigningKey:
        return self._signing.get(kid) or keys.load(connection, self.sealer, kid)

    def systems(self) -> Mapping[str, str]:
        """Audience -> system, of the plan in force."""
        revision = revision_in_force(self.home)
        if revision != self._systems[0]:
            systems = read_plan(self.home, revision).systems if revision else ()
            self._systems = (revision, {one.audience: one.name for one in systems})
        return self._systems[1]

    def audience(self, asked: str) -> tuple[str, str]:
        """(audience, system) of a resource indicator (RFC 8707); the only system where none is named."""
        systems = self.systems()
        if not asked and len(systems) == 1:
            return next(iter(systems.items()))
        if asked not in systems:
            raise Refused("invalid_target", "name one of the systems with `resource`")
        return asked, systems[asked]

    def note(self, action: str, request: Any, outcome: str, **facts: str) -> None:
        """One line for each request of an authorization or a token (standard A7); no secret, no token.

        Written whole or not at all, whichever thread it comes from; what cannot be written is not answered.
        """
        line = {
            "at": self.now().isoformat(timespec="milliseconds"), "action": action, "outcome": outcome,
            "decision": request.headers.get("x-gw-decision", "-"), "source": source(request), **facts,
        }  # fmt: skip
        told = json.dumps(line).encode() + b"\n"
        with self._writing:
            if os.fstat(self._journal).st_size >= SEGMENT_MAX_BYTES:
                self._turn()
            before = os.fstat(self._journal).st_size
            if os.write(self._journal, told) != len(told):
                os.ftruncate(self._journal, before)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _opened(self) -> int:
        return os.open(self.home.identity_log, os.O_RDWR | os.O_CREAT | os.O_APPEND, PRIVATE)

    def _turn(self) -> None:
        """A full file is laid aside, where the watch lets go of the oldest in time."""
        path, full = self.home.identity_log, self._journal
        path.rename(path.with_name(f"{path.stem}-{to_us(self.now()):020}{path.suffix}"))
        self._journal = self._opened()
        os.close(full)
