"""Tells alerts to one web address; what cannot be told is counted, and never holds up the watch."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import Final

import httpx
import msgspec

from ostiary.foundation.errors import OperatorFault, counted
from ostiary.monitor.alerts import Notice

QUEUE_MAX: Final = 1000
TRIES_MAX: Final = 5
BACKOFF_S: Final = 2.0  # doubled after each try
TIMEOUT_S: Final = 10.0
LOOK_EVERY_S: Final = 0.5
HEADERS: Final = {"content-type": "application/json", "user-agent": "ostiary"}

log = logging.getLogger(__name__)


class Webhook:
    """`offer` returns at once, in whatever thread; `run` delivers in order until it is cancelled."""

    def __init__(
        self,
        url: str,
        *,
        client: httpx.AsyncClient | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        place = httpx.URL(checked(url))
        self._url = place.copy_with(userinfo=b"")  # what the client logs holds no password
        self._auth = (place.username, place.password) if place.userinfo else None
        self._sleep = sleep
        self._client = client or httpx.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False, trust_env=False)
        self._waiting: deque[Notice] = deque()
        self.lost = 0
        self._trouble = ""  # why the last try failed; "" once one gets through
        self._place = f"{place.scheme}://{place.netloc.decode()}"  # the path may be the secret of it

    @property
    def untold(self) -> str:
        """What is lost, and that the receiver does not take alerts now; "" where all is well."""
        lost = f"{counted(self.lost, 'notice')} to {self._place} lost since the start" if self.lost else ""
        failing = f"{self._place} does not take alerts ({self._trouble})" if self._trouble else ""
        return "; ".join(filter(None, [failing, lost]))

    def offer(self, notice: Notice) -> None:
        if len(self._waiting) < QUEUE_MAX:
            self._waiting.append(notice)
        else:
            self.lost += 1

    async def run(self) -> None:
        async with self._client:
            while True:
                while self._waiting:
                    try:
                        await self.deliver(self._waiting.popleft())
                    except Exception:  # whatever one answer breaks, the next alert is told
                        self.lost += 1
                        log.exception("webhook")
                await asyncio.sleep(LOOK_EVERY_S)

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
            async with self._client.stream("POST", self._url, content=body, headers=HEADERS, auth=self._auth) as answer:
                status = answer.status_code
        except httpx.HTTPError as problem:
            return self._ended(0, type(problem).__name__)
        return self._ended(status, "" if httpx.codes.is_success(status) else f"status {status}")

    def _ended(self, status: int, trouble: str) -> int:
        self._trouble = trouble
        if trouble:
            log.warning("webhook %s: %s", self._place, trouble)
        return status


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
