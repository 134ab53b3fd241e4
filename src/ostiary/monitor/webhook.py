"""Tells alerts to one web address; what cannot be told is counted, and never holds up the watch."""

import asyncio
import hashlib
import hmac
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from ipaddress import ip_address
from typing import Final

import httpx
import msgspec
from sqlalchemy import Connection, delete, insert, select

from ostiary.audit.log import Entry, append
from ostiary.foundation.clock import Clock
from ostiary.foundation.errors import OperatorFault
from ostiary.foundation.secret import Secret
from ostiary.monitor.alerts import Notice
from ostiary.store.seal import Sealer
from ostiary.store.tables.monitor import WATCH_STATE

QUEUE_MAX: Final = 1000
TRIES_MAX: Final = 5
BACKOFF_S: Final = 2.0  # doubled after each try
TIMEOUT_S: Final = 10.0
SECRET: Final = "webhook-secret"  # noqa: S105  the name of a row

log = logging.getLogger(__name__)


class Webhook:
    """`offer` returns at once; `run` delivers in order until it is cancelled."""

    def __init__(
        self,
        url: str,
        secret: Secret | None,
        clock: Clock,
        *,
        client: httpx.AsyncClient | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        place = httpx.URL(checked(url))
        self._url = place.copy_with(userinfo=b"")  # what the client logs holds no password
        self._auth = (place.username, place.password) if place.userinfo else None
        self._secret, self._clock, self._sleep = secret, clock, sleep
        self._client = client or httpx.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False, trust_env=False)
        self._queue: asyncio.Queue[Notice] = asyncio.Queue(QUEUE_MAX)
        self.lost = 0

    def offer(self, notice: Notice) -> None:
        try:
            self._queue.put_nowait(notice)
        except asyncio.QueueFull:
            self.lost += 1

    async def run(self) -> None:
        async with self._client:
            while True:
                notice = await self._queue.get()
                try:
                    await self.deliver(notice)
                except Exception:  # whatever one answer breaks, the next alert is told
                    self.lost += 1
                    log.exception("webhook")

    async def deliver(self, notice: Notice) -> bool:
        """Tries `TRIES_MAX` times; an answer of 4xx but 429 is final."""
        body = msgspec.json.encode(notice)
        for n in range(TRIES_MAX):
            status = await self._post(body)
            if httpx.codes.is_success(status):
                return True
            if httpx.codes.is_client_error(status) and status != httpx.codes.TOO_MANY_REQUESTS:
                break
            if n + 1 < TRIES_MAX:
                await self._sleep(BACKOFF_S * 2**n)
        self.lost += 1
        return False

    async def _post(self, body: bytes) -> int:
        """The status of the answer, 0 where there is none; what else it says is not read, however long it is."""
        try:
            headers = self._headers(body)
            async with self._client.stream("POST", self._url, content=body, headers=headers, auth=self._auth) as answer:
                status = answer.status_code
        except httpx.HTTPError as problem:
            log.warning("webhook: %s", type(problem).__name__)
            return 0
        if not httpx.codes.is_success(status):
            log.warning("webhook: status %d", status)
        return status

    def _headers(self, body: bytes) -> dict[str, str]:
        told = {"content-type": "application/json", "user-agent": "ostiary"}
        if self._secret is None:
            return told
        return {**told, "ostiary-signature": signature(self._secret, int(self._clock.now().timestamp()), body)}


def signature(secret: Secret, at_s: int, body: bytes) -> str:
    """`t=<seconds>,v1=<hex>`: HMAC-SHA-256 (RFC 2104) over "<seconds>.<body>", so that an old one can be told."""
    made = hmac.new(secret.reveal().encode(), f"{at_s}.".encode() + body, hashlib.sha256)
    return f"t={at_s},v1={made.hexdigest()}"


def checked(url: str) -> str:
    """The address, if it is https, or http on this machine; read by who will connect to it."""
    try:
        place = httpx.URL(url)
    except httpx.InvalidURL:
        place = httpx.URL()
    if (place.scheme == "https" and place.host) or (place.scheme == "http" and _is_loopback(place.host)):
        return url
    raise OperatorFault(
        "webhook-address",
        "alerts are posted to https addresses only, or to http on this machine",
        hint="set `webhook` in settings.toml to an address that begins with https://",
    )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def set_secret(connection: Connection, sealer: Sealer, secret: Secret, *, actor: str, now: datetime) -> None:
    """The key of the signature header; kept sealed."""
    connection.execute(delete(WATCH_STATE).where(WATCH_STATE.c.name == SECRET))
    connection.execute(insert(WATCH_STATE).values(name=SECRET, value=sealer.seal(secret, SECRET)))
    append(connection, Entry(at=now, actor=actor, action="webhook.secret", object="webhook"))


def stored_secret(connection: Connection, sealer: Sealer) -> Secret | None:
    chosen = select(WATCH_STATE.c.value).where(WATCH_STATE.c.name == SECRET)
    sealed = connection.execute(chosen).scalar_one_or_none()
    return None if sealed is None else sealer.open(sealed, SECRET)
