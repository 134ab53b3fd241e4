"""The outbox: what is told outside, of alerts to one web address, of the end of sessions to clients; one sender for both.

It is kept, in the transaction that it tells of, until it is taken or given up: a restart loses nothing, and may tell it
twice. Each receiver is told in order, by a task of its own; none waits for another.
"""

import asyncio
import json
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from ssl import SSLContext, create_default_context
from typing import Any, Final

import httpx
from sqlalchemy import Connection, Row, delete, func, select, update

from ostiary.audit.log import Change
from ostiary.control.installation import Installation
from ostiary.foundation.errors import OperatorFault, counted
from ostiary.identity import farewell, keys
from ostiary.monitor.alerts import OURSELVES, WEBHOOK
from ostiary.store.tables import OUTBOX

LOOK_EVERY_S: Final = 1.0
TIMEOUT_S: Final = 10.0
TRIES_MAX: Final = 5
PAUSE_S: Final = 15  # times the square of the tries: the fifth comes after some eight minutes; above `TIMEOUT_S`
WAITING_MAX: Final = 1000  # for one receiver that takes nothing; the newest beyond are given up
LOOKUPS_MAX: Final = 64  # of names: one that nobody resolves holds a thread for longer than a try
TROUBLE_MAX_CHARS: Final = 200
FINAL: Final = {*range(400, 500)} - {429}  # it was understood, and is not wanted
HEADERS: Final = {"content-type": "application/json", "user-agent": "ostiary"}
_O: Final = OUTBOX.c
_FIRST: Final = select(func.min(_O.id)).group_by(_O.receiver)

log = logging.getLogger(__name__)


class Outbox:
    """`run` until cancelled; raises for a web address that nothing may be sent to."""

    def __init__(self, on: Installation) -> None:
        self._on, self._webhook = on, httpx.URL(checked(on.settings.webhook) if on.settings.webhook else "")
        self._named = f"{self._webhook.scheme}://{self._webhook.netloc.decode()}"  # the path may be the secret of it
        self._trouble = ""  # why the last try there failed; "" once one gets through
        self.lost = 0

    @property
    def untold(self) -> str:
        """What alerts are lost, and that the web address does not take them now; "" where all is well."""
        lost = f"{counted(self.lost, 'notice')} to {self._named} lost since the start" if self.lost else ""
        failing = f"{self._named} does not take alerts ({self._trouble})" if self._trouble else ""
        return "; ".join(filter(None, [failing, lost]))

    async def run(self) -> None:
        """What can't be done now, of one receiver or all, is told, and tried again."""
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(LOOKUPS_MAX))
        async with asyncio.TaskGroup() as tellers:
            while True:
                try:
                    for receiver in await asyncio.to_thread(self.due):
                        tellers.create_task(self.tell(receiver))
                except Exception:
                    log.exception("the outbox can't be looked into")
                await asyncio.sleep(LOOK_EVERY_S)

    def call(self, notice: str) -> bool:
        """Whether the web address, where there is one, took it: tried once, for what no store keeps."""
        return bool(self._on.settings.webhook) and httpx.codes.is_success(asyncio.run(self._answer(WEBHOOK, notice)))

    def due(self) -> Sequence[str]:
        """The receivers for whom something waits, whose time has come."""
        due = select(_O.receiver).where(_O.id.in_(_FIRST), _O.due_at_s <= self._now_s())
        with self._on.store.read() as connection:
            return connection.scalars(due).all()

    async def tell(self, receiver: str) -> None:
        """In order, until something is not taken."""
        try:
            while row := await asyncio.to_thread(self._next, receiver):
                await asyncio.to_thread(self._settle, row, await self._answer(receiver, row.body))
        except Exception:
            log.exception("%s can't be told now", receiver)

    def _next(self, receiver: str) -> Row[Any] | None:
        """The first that waits, if its time has come. One statement takes it for the time of a try: nobody else sends it."""
        now_s, tries = self._now_s(), _O.tries + 1
        due = _O.id.in_(_FIRST.where(_O.receiver == receiver)), _O.due_at_s <= now_s
        taken = update(OUTBOX).where(*due).values(tries=tries, due_at_s=now_s + PAUSE_S * tries * tries)
        with self._on.store.begin() as connection:
            return connection.execute(taken.returning(OUTBOX)).one_or_none()

    async def _answer(self, receiver: str, body: str) -> int:
        """The status of the answer, 0 where there is none; what else it says is not read, however long it is."""
        status = 0
        try:
            place, trust, sent = await asyncio.to_thread(self._letter, receiver, body)
            if not place:
                return httpx.codes.NO_CONTENT  # nobody wants to know
            client = httpx.AsyncClient(verify=trust, timeout=TIMEOUT_S, follow_redirects=False, trust_env=False)
            async with asyncio.timeout(TIMEOUT_S), client, client.stream("POST", place, **sent) as answer:
                status = answer.status_code
                trouble = "" if answer.is_success else f"status {status}"
        except Exception as problem:  # noqa: BLE001  whatever one breaks, the next is told
            trouble = f"{type(problem).__name__} {problem}".strip()[:TROUBLE_MAX_CHARS]
        if trouble:
            log.warning("%s: %s", f"webhook {self._named}" if receiver == WEBHOOK else receiver, trouble)
        if receiver == WEBHOOK:
            self._trouble = trouble
        return status

    def _letter(self, receiver: str, body: str) -> tuple[str, SSLContext, dict[str, Any]]:
        """Where it goes, whom that is believed by, and what: made for each try, for a logout token does not live long."""
        if receiver == WEBHOOK:
            bare = self._webhook.copy_with(userinfo=b"")  # what the client logs holds no password
            auth = (self._webhook.username, self._webhook.password) if self._webhook.userinfo else None
            return str(bare), create_default_context(), {"content": body, "headers": HEADERS, "auth": auth}
        on = self._on
        with on.store.read() as connection:
            place, algorithm = farewell.wanted(connection, receiver)
            key = keys.load(connection, on.sealer, keys.active_kids(connection)[keys.purpose_of("logout", algorithm)])
        token = farewell.token(key, on.settings.issuer, receiver, body, self._now_s())
        trust = create_default_context(cafile=on.settings.upstream_authorities or None)
        return place, trust, {"data": {"logout_token": token}}

    def _settle(self, row: Row[Any], status: int) -> None:
        """What was taken goes; so does what is given up, which is noted."""
        taken = httpx.codes.is_success(status)
        done = taken or status in FINAL or row.tries >= TRIES_MAX
        waiting = select(_O.id).where(_O.receiver == row.receiver).order_by(_O.id)
        gone = delete(OUTBOX).where(_O.id == row.id if done else _O.id.in_(waiting.offset(WAITING_MAX)))
        with self._on.store.begin() as connection:
            for one in connection.execute(gone.returning(OUTBOX)).all():
                if not taken:
                    self._give_up(connection, one, status)

    def _give_up(self, connection: Connection, row: Row[Any], status: int) -> None:
        log.warning("%s can't be told: status %d, tries %d", row.receiver, status, row.tries)
        if row.receiver == WEBHOOK:
            self.lost += 1
        else:
            after = {"sid": json.loads(row.body)["sid"], "status": status, "tries": row.tries}
            Change(connection, OURSELVES, self._on.clock.now()).note("client.untold", row.receiver, after=after)

    def _now_s(self) -> int:
        return int(self._on.clock.now().timestamp())


def checked(url: str) -> str:
    """The address, if it is https, or http on this machine; read by who will connect to it."""
    try:
        place = httpx.URL(url)
    except httpx.InvalidURL:
        place = httpx.URL()
    if (place.scheme == "https" and place.host) or (place.scheme == "http" and _is_loopback(place.host)):
        return url
    told = "alerts are posted to https addresses only, or to http on this machine"
    hint = "set `webhook` in settings.toml to an address that begins with https://"
    raise OperatorFault("webhook-address", told, hint=hint)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
