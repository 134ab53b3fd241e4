"""What the guard asks of an ERP: a credential for a person's own ERP user, and what the ERP recorded."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ostiary.erp.operation import Request
from ostiary.store.directory import ErpAccount


class NotEstablished(Exception):
    """The ERP did not say what had to be known; the text says what, and names nothing secret."""


class NotLetIn(NotEstablished):
    """The ERP answers, but there is no user that it lets in."""


class Erp(Protocol):
    """One system's ERP. Every method raises NotEstablished where the ERP can't or won't answer."""

    async def credential(self, account: ErpAccount, request: Request) -> str:
        """The value of the `authorization` header that makes the ERP act as this account."""
        ...

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
