"""An ERP that takes tokens of its own authorization server, fetched by client credentials (RFC 6749 section 4.4)."""

import asyncio
import re
import ssl
from typing import Annotated, Final
from urllib.parse import quote

import httpx
import msgspec
from msgspec import Meta, Struct

from ostiary.erp.operation import Request
from ostiary.foundation.secret import Secret
from ostiary.guard.accounts import SystemVault
from ostiary.guard.erp import NotEstablished, NotLetIn, ask
from ostiary.guard.tryton import HELD_MAX, TIMEOUT_S, Tried, monotonic
from ostiary.plan.model import System
from ostiary.store.directory import ErpAccount

AGAIN_S: Final = 10.0  # a refusal, or silence, is not asked about at every request
RENEW_S: Final = 300.0  # a token that was withdrawn there serves no longer, however long it was given for
SPARE: Final = 0.9  # of its life: it has still to arrive
REFUSES: Final = frozenset({httpx.codes.BAD_REQUEST, httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN})


class _Given(Struct, kw_only=True):
    """RFC 6749 section 5.1. The gate takes a header of 8,000 characters."""

    access_token: Annotated[str, Meta(pattern="^[!-~]{1,7900}$")]
    token_type: Annotated[str, Meta(pattern="^[Bb]earer$")] = "Bearer"  # noqa: S105  no secret
    expires_in: Annotated[float, Meta(ge=1, le=86_400)] = RENEW_S


class _Held:
    """What is held for one account; `lock` makes one fetch serve everyone who waits for it."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.token = Secret("")
        self.ends_at = self.again_at = float("-inf")
        self.refused = NotEstablished()


class TokenErp:
    """Whose login is the id of an OAuth client, and whose password that client's secret."""

    def __init__(self, system: System, vault: SystemVault | Tried, authorities: str) -> None:
        self._system, self._vault, self.trouble = system, vault, ""
        verify = ssl.create_default_context(cafile=authorities or None)
        self._http = httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False, verify=verify)
        self._held: dict[tuple[str, bytes], _Held] = {}  # a new secret is a new fetch

    async def close(self) -> None:
        await self._http.aclose()

    async def credential(self, account: ErpAccount, _: Request) -> str:
        """While it is renewed the one before serves; where it can't be, until that ends."""
        name = (account.login, account.sealed_secret)
        if name not in self._held and len(self._held) >= HELD_MAX:
            self._held.clear()
        held = self._held.setdefault(name, _Held())
        if monotonic() >= held.ends_at or not (held.lock.locked() or monotonic() < held.again_at):
            async with held.lock:
                if monotonic() >= held.again_at:
                    await self._renew(account, held)
        if monotonic() >= held.ends_at:
            raise held.refused.with_traceback(None)
        return f"Bearer {held.token.reveal()}"

    async def user(self, account: ErpAccount) -> str:
        """The ERP's id of it is not known; raises where no token is given."""
        await self._fetch(account)
        return ""

    async def _renew(self, account: ErpAccount, held: _Held) -> None:
        try:
            given = await self._fetch(account)
        except NotEstablished as problem:
            held.refused, held.again_at = problem, monotonic() + AGAIN_S
            if isinstance(problem, NotLetIn):  # taken back: what was given before is not used up
                held.ends_at = float("-inf")
        else:
            held.token, held.ends_at = Secret(given.access_token), monotonic() + SPARE * given.expires_in
            held.again_at = monotonic() + min(given.expires_in / 2, RENEW_S)

    async def _fetch(self, account: ErpAccount) -> _Given:
        secret = await self._vault.password(account)
        form = {"grant_type": "client_credentials", "scope": self._system.token_scope}
        sent = {name: value for name, value in form.items() if value}
        auth = quote(account.login, safe=""), quote(secret.reveal(), safe="")  # RFC 6749 section 2.3.1
        status, told = await ask(self._http, "the token endpoint", self._system.token_from, data=sent, auth=auth)
        if status in REFUSES:
            error = re.sub("[^a-z_]", "", str(told.get("error")))[:40]
            raise NotLetIn(f"the token endpoint gives {account.login} no token: {error}")
        try:
            return msgspec.convert(told if status == httpx.codes.OK else {}, _Given, strict=False)
        except msgspec.ValidationError:
            told_of = f"the token endpoint answers with status {status}, and without a bearer's token"
            raise NotEstablished(told_of) from None
