"""An Odoo behind the gate: what it offers, asked with the key of the gate's own user."""

from typing import Any, Final

import httpx

from ostiary.erp import odoo
from ostiary.erp.catalogue import Catalogue
from ostiary.guard.accounts import SystemVault
from ostiary.guard.erp import NotEstablished, NotLetIn, Tried, ask
from ostiary.plan.model import System
from ostiary.store.directory import ErpAccount

PAGE: Final = 5_000  # fields in one answer
REFUSES: Final = frozenset({httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN})
FIELDS: Final = "ir.model.fields"


class OdooErp:
    """Callers' keys are put on natively: nothing is handed over here."""

    def __init__(self, system: System, vault: SystemVault | Tried, timeout_s: float) -> None:
        self._database, self._vault, self.trouble = system.database, vault, ""
        self._http = httpx.AsyncClient(base_url=system.upstream, timeout=timeout_s, trust_env=False)

    async def close(self) -> None:
        await self._http.aclose()

    async def user(self, _: ErpAccount) -> str:
        """Which user's key it is, nobody has to know."""
        return ""

    async def learn(self, _: str) -> Catalogue:
        """What its ir.model.fields say; raises NotLetIn where they are not shown."""
        if (reader := await self._vault.reader()) is None:
            raise NotLetIn("the gate has no key of its own to ask with")
        key, rows = (await self._vault.password(reader)).reveal(), list[dict[str, Any]]()
        while len(page := await self._page(reader.login, key, len(rows))) == PAGE:
            rows += page
        if not (found := odoo.learn([*rows, *page])).models:
            raise NotLetIn(f"the ERP does not take this login and key, or shows no {FIELDS} by them")
        return found

    async def _page(self, login: str, key: str, offset: int) -> list[dict[str, Any]]:
        sent = {"domain": [], "fields": list(odoo.LEARNT), "offset": offset, "limit": PAGE, "order": "id"}
        headers = {"authorization": f"bearer {key}", "x-odoo-database": self._database}
        status, told = await ask(self._http, "the ERP", f"/json/2/{FIELDS}/search_read", json=sent, headers=headers)
        if status == httpx.codes.NOT_FOUND:  # before Odoo 19
            uid = await self._service("common", "authenticate", login, key, {})
            told = await self._service("object", "execute_kw", uid, key, FIELDS, "search_read", [], sent) if uid else []
        elif status not in REFUSES | {httpx.codes.OK}:
            raise NotEstablished(f"the ERP answers /json/2 with status {status}")
        return told if isinstance(told, list) else []

    async def _service(self, service: str, method: str, *args: Any) -> Any:
        params = {"service": service, "method": method, "args": [self._database, *args]}
        told = await ask(self._http, "the ERP", "/jsonrpc", json={"jsonrpc": "2.0", "method": "call", "params": params})
        return told[1].get("result") if isinstance(told[1], dict) else None
