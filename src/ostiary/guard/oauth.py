"""An ERP that takes tokens of its own authorization server, fetched by client credentials (RFC 6749 section 4.4)."""

import re
import ssl
from functools import partial
from typing import Annotated, Final
from urllib.parse import quote

import httpx
import msgspec
from msgspec import Meta, Struct

from ostiary.erp.operation import Request
from ostiary.foundation.secret import Secret
from ostiary.guard.accounts import SystemVault
from ostiary.guard.erp import TIMEOUT_S, AllHeld, Given, NotEstablished, NotLetIn, Tried, ask
from ostiary.plan.model import System
from ostiary.store.directory import ErpAccount

RENEW_S: Final = 300.0  # a token that was withdrawn there serves no longer, however long it was given for
LIFE_MAX_S: Final = 86_400.0
SPARE: Final = 0.9  # of its life: it has still to arrive
REFUSES: Final = frozenset({httpx.codes.BAD_REQUEST, httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN})


class _Told(Struct, kw_only=True):
    """RFC 6749 section 5.1. The gate takes a header of 8,000 characters."""

    access_token: Annotated[str, Meta(pattern="^[!-~]{1,7900}$")]
    token_type: Annotated[str, Meta(pattern="^[Bb]earer$")] = "Bearer"  # noqa: S105  no secret
    expires_in: Annotated[float, Meta(ge=1)] = RENEW_S


class TokenErp:
    """Whose login is the id of an OAuth client, and whose password that client's secret."""

    def __init__(self, system: System, vault: SystemVault | Tried, authorities: str) -> None:
        self._system, self._vault, self.trouble = system, vault, ""
        verify = ssl.create_default_context(cafile=authorities or None)
        self._http = httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False, verify=verify)
        self._held = AllHeld()

    async def close(self) -> None:
        await self._http.aclose()

    async def credential(self, account: ErpAccount, _: Request) -> str:
        return f"Bearer {(await self._held.of(account).get(partial(self._fetch, account))).reveal()}"

    async def user(self, account: ErpAccount) -> str:
        """The ERP's id of it is not known; raises where no token is given."""
        await self._fetch(account)
        return ""

    async def _fetch(self, account: ErpAccount, _: Secret | None = None) -> Given:
        secret = await self._vault.password(account)
        form = {"grant_type": "client_credentials", "scope": self._system.token_scope}
        sent = {name: value for name, value in form.items() if value}
        auth = quote(account.login, safe=""), quote(secret.reveal(), safe="")  # RFC 6749 section 2.3.1
        status, told = await ask(self._http, "the token endpoint", self._system.token_from, data=sent, auth=auth)
        if status in REFUSES:
            error = re.sub("[^a-z_]", "", str(told.get("error")))[:40]
            raise NotLetIn(f"the token endpoint gives {account.login} no token: {error}")
        try:
            given = msgspec.convert(told if status == httpx.codes.OK else {}, _Told, strict=False)
        except msgspec.ValidationError as problem:  # which names the field, and no value
            told_of = f"the token endpoint answers with status {status}, and without a bearer's token: {problem}"
            raise NotEstablished(told_of) from None
        life_s = min(given.expires_in, LIFE_MAX_S)
        return Given(Secret(given.access_token), min(life_s / 2, RENEW_S), SPARE * life_s)
