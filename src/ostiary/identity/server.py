"""What every endpoint stands on: store, keys, the systems of the current plan, and the journal."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from threading import Lock
from typing import Any, Final

from sqlalchemy import Connection
from starlette.requests import Request

from ostiary.foundation.clock import Clock
from ostiary.foundation.home import Appended, Home, Settings
from ostiary.foundation.jose import Claims, SigningKey
from ostiary.identity import keys
from ostiary.identity.credentials import Drawer, nonces, pepper
from ostiary.identity.published import Published
from ostiary.identity.request import Refused, call, source
from ostiary.store.database import Sealer, Store
from ostiary.store.plans import read_plan, revision_in_force

NO_STORE: Final = {"cache-control": "no-store"}  # of whatever is somebody's
DECISIONS: Final = ("x-gw-decision", "x-gw-key-decision")  # of a request to us, and of one to a system with an API key
Revoked = Callable[[Sequence[str]], None]
Arrived = Callable[[Mapping[str, Any]], Any]
# Has control change the directory: (act, actor, what is told of it) -> what came of it; raises Refused.
Changing = Callable[[str, str, Mapping[str, Any]], Mapping[str, Any]]


class Server:
    """Opened once for each process; makes the keys at first start."""

    def __init__(  # noqa: PLR0917  the composition root names them once
        self, store: Store, sealer: Sealer, settings: Settings, clock: Clock, home: Home, revoked: Revoked,
        arrived: Arrived, changing: Changing,
    ) -> None:  # fmt: skip
        self.store, self.sealer, self.settings, self.clock, self.home = store, sealer, settings, clock, home
        self.revoked, self.arrived, self.changing = revoked, arrived, changing
        self.life_s, self.published = settings.token_life_s, Published(settings.upstream_authorities, clock)
        # What a token for an API key says, and the key that signs it -> the one that was made of late.
        self.keyed: dict[tuple[str, Claims], tuple[Claims, str]] = {}
        self._signing: Mapping[str, SigningKey] = {}  # by kid
        self._systems: tuple[str, Mapping[str, str]] = ("", {})
        with store.begin() as connection:
            keys.ensure(connection, sealer, clock.now())
            self.key = pepper(connection, sealer)
        self.nonces = nonces(self.key, settings)
        home.events.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._writing, self._journal = Lock(), Appended(home.identity_log)
        self._journal.open()

    def close(self) -> None:
        self._journal.close()

    @property
    def issuer(self) -> str:
        return self.settings.issuer

    def url(self, request: Request) -> str:
        """Where the request was sent, as its caller knows it: under the gate's own name, whatever it called itself."""
        return f"{self.settings.origin}{request.scope['path']}"

    @contextmanager
    def transaction(self, request: Request, form: Mapping[str, str], *, writes: bool) -> Iterator[Connection]:
        """One that writes where it must: a proof or an assertion is marked as seen."""
        seen = "dpop" in request.headers or "client_assertion" in form
        with self.store.begin() if writes or seen else self.store.read() as connection:
            yield connection

    def drawer(self, connection: Connection, kind: str) -> Drawer:
        """The one-time things of this kind."""
        return Drawer(connection, self.key, kind, self.now_s())

    def seen_first(self, connection: Connection, request: Request, kind: str, text: str, life_s: int) -> bool:
        """Whether nobody has shown this one-time text; that it was shown stays so where the request is refused."""
        request.state.shown = [*getattr(request.state, "shown", ()), (kind, text, life_s)]
        return self.drawer(connection, kind).first(text, life_s)

    def keep_seen(self, request: Request) -> None:
        """After a refusal, which took everything back."""
        if shown := getattr(request.state, "shown", ()):
            with self.store.begin() as connection:
                for kind, text, life_s in shown:
                    self.drawer(connection, kind).first(text, life_s)

    def now(self) -> datetime:
        return self.clock.now()

    def now_s(self) -> int:
        return int(self.clock.now().timestamp())

    def signing(self, connection: Connection) -> Mapping[str, SigningKey]:
        """Purpose -> the key that signs now; asked each time, so that no token is signed with one that was taken back."""
        active = keys.active_kids(connection)
        known = {kid: self._signing.get(kid) or keys.load(connection, self.sealer, kid) for kid in active.values()}
        self._signing = known  # of several threads the last one's; each signs with what it was asked for
        return {purpose: known[kid] for purpose, kid in active.items()}

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

    def take_back(self, keys: Sequence[str]) -> None:
        """Whatever is revoked is refused at the gate before the answer goes out; called where requests are answered."""
        if keys:
            self.revoked(keys)

    def arrive(self, told: Mapping[str, Any]) -> None:
        """Has control see to the account and the roles of who comes by a provider's word; raises with why that can't be."""
        self.arrived(told)

    def note(self, request: Any, outcome: str, **facts: str) -> None:
        """One line for each request of an authorization or a token (standard A7); no secret, no token.

        Written whole or not at all, whichever thread it comes from; what cannot be written is not answered.
        """
        decisions = map(request.headers.get, DECISIONS)
        line = {
            "at": self.now().isoformat(timespec="milliseconds"), "action": call(request), "outcome": outcome,
            "decision": next(filter(None, decisions), "-"), "source": source(request), **facts,
        }  # fmt: skip
        with self._writing:
            self._journal.add(json.dumps(line).encode() + b"\n")
        request.state.noted = True

    @staticmethod
    def noted(request: Request) -> bool:
        return getattr(request.state, "noted", False)
