"""What the guard asks of an ERP: a credential for a person's own ERP user, and what the ERP recorded."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

import httpx
import msgspec

from ostiary.erp.operation import Request
from ostiary.foundation.secret import Secret
from ostiary.store.directory import ErpAccount

TIMEOUT_S: Final = 4.0  # below the guard's own
PATIENCE_S: Final = 40.0  # where an administrator waits: an ERP that just started loads its modules at the first call

AGAIN_S: Final = 10.0  # a wrong password is not tried at every request: the ERP would lock the user out ...
SILENT_S: Final = 1.0  # ... and whatever fails otherwise not by each who waits for it
ANSWER_MAX_BYTES: Final = 4 * 1024 * 1024


class NotEstablished(Exception):
    """The ERP did not say what had to be known; the text says what, and names nothing secret."""


class NotLetIn(NotEstablished):
    """The ERP answers, but there is no user that it lets in."""


async def ask(http: httpx.AsyncClient, who: str, place: str, **sent: Any) -> tuple[int, Any]:
    """Status and JSON object or list of the answer to a POST; raises NotEstablished where there is none to be had."""
    try:
        async with http.stream("POST", place, **sent) as response:
            data = b""
            async for chunk in response.aiter_bytes():
                data += chunk
                if len(data) > ANSWER_MAX_BYTES:
                    raise NotEstablished(f"{who}'s answer is too large")
    except (httpx.ReadTimeout, httpx.WriteTimeout):
        raise NotEstablished(f"{who} is slow: no answer in {http.timeout.read:g} s; try again") from None
    except httpx.HTTPError:
        raise NotEstablished(f"{who} does not answer") from None
    try:
        answer = msgspec.json.decode(data)
    except (msgspec.MsgspecError, RecursionError):
        if response.status_code == httpx.codes.OK:
            raise NotEstablished(f"{who}'s answer is no JSON") from None
        answer = None
    return response.status_code, answer if isinstance(answer, dict | list) else {}


class HandsOver(Protocol):
    async def credential(self, account: ErpAccount, request: Request) -> str:
        """The value of the `authorization` header that makes the ERP act as this account; else raises NotEstablished."""
        ...


class Erp(HandsOver, Protocol):
    """One system's ERP. Every method raises NotEstablished where the ERP can't or won't answer."""

    async def rows(self, name: str, ids: Sequence[str], fields: Sequence[str]) -> Sequence[Mapping[str, Any]]:
        """The records of object `name`, one for each of `ids`, as the ERP holds them now."""
        ...

    async def stored(self, name: str, field: str) -> str:
        """The object that a field of object `name` leads to, "" for a value; for fields alone that the ERP stores."""
        ...

    async def companies(self, account: ErpAccount) -> Sequence[Any]:
        """The ids of the companies that this user works for."""
        ...

    async def login_of(self, uid: str) -> str:
        """The login that the ERP has for the id of one of its users."""
        ...


class Tried:
    """The vault of one password that nobody keeps yet."""

    def __init__(self, login: str, password: Secret) -> None:
        self.account = ErpAccount(principal="", login=login, uid="", sealed_secret=b"")
        self._password = password

    async def reader(self) -> ErpAccount:
        return self.account

    async def password(self, _: ErpAccount) -> Secret:
        return self._password

    async def rest_key(self, _: ErpAccount) -> Secret | None:
        return None

    async def keep_rest_key(self, account: ErpAccount, key: Secret) -> None: ...
    async def learn_uid(self, account: ErpAccount, uid: str) -> None: ...


class Given(NamedTuple):
    """A credential: after how long it is renewed, or proved, and how long it serves where that fails."""

    secret: Secret
    renew_s: float
    life_s: float


Fetch = Callable[[Secret | None], Awaitable[Given]]  # given the one before, which may be good yet


class Held:
    """One credential of one account: fetched once for all who wait for it, renewed in time."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._secret: Secret | None = None
        self._ends_at = self._again_at = float("-inf")
        self._problem = NotEstablished()

    async def get(self, fetch: Fetch, lapsed: Secret | None = None) -> Secret:
        """While it is renewed the one before serves; where it can't be, until that ends; `lapsed` serves no longer.

        Raises what `fetch` raised, a while without asking again.
        """
        if lapsed is not None and lapsed is self._secret:
            self._drop()
        if monotonic() >= self._ends_at or not (self._lock.locked() or monotonic() < self._again_at):
            async with self._lock:
                if monotonic() >= self._again_at:
                    await self._renew(fetch)
        if self._secret is None or monotonic() >= self._ends_at:
            raise self._problem.with_traceback(None)
        return self._secret

    async def _renew(self, fetch: Fetch) -> None:
        try:
            self._secret, renew_s, life_s = await fetch(self._secret)
        except NotLetIn as problem:  # taken back: what was given before is not used up
            self._drop()
            self._problem, self._again_at = problem, monotonic() + AGAIN_S
        except NotEstablished as problem:
            self._problem, self._again_at = problem, monotonic() + SILENT_S
        else:
            self._again_at, self._ends_at = monotonic() + renew_s, monotonic() + life_s

    def _drop(self) -> None:
        self._secret, self._ends_at, self._again_at = None, float("-inf"), float("-inf")


def monotonic() -> float:
    """Seconds by the loop's own clock."""
    return asyncio.get_running_loop().time()
