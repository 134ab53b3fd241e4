"""What the guard asks of an ERP: a credential for a person's own ERP user, and what the ERP recorded."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import httpx
import msgspec

from ostiary.erp.operation import Request
from ostiary.store.directory import ErpAccount

ANSWER_MAX_BYTES: Final = 4 * 1024 * 1024


class NotEstablished(Exception):
    """The ERP did not say what had to be known; the text says what, and names nothing secret."""


class NotLetIn(NotEstablished):
    """The ERP answers, but there is no user that it lets in."""


async def ask(http: httpx.AsyncClient, who: str, place: str, **sent: Any) -> tuple[int, dict[str, Any]]:
    """Status and JSON object of the answer to a POST; raises NotEstablished where there is none to be had."""
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
    return response.status_code, answer if isinstance(answer, dict) else {}


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
