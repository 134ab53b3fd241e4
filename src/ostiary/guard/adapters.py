"""The ERPs behind the gate, each by its own protocol: credentials of mapped ERP users, and what its records say.

Tryton 8.2 binds a session to the address that logged in, so the gate must not hand callers' addresses on
(`X-Forwarded-For`): then guard and gate are one address to it.
"""

import asyncio
import base64
import re
import ssl
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Final
from urllib.parse import quote

import httpx
import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from ostiary.erp import odoo, tryton
from ostiary.erp.catalogue import Catalogue
from ostiary.erp.operation import Request
from ostiary.foundation.secret import Secret
from ostiary.guard.accounts import SystemVault
from ostiary.guard.erp import TIMEOUT_S, Given, Held, NotEstablished, NotLetIn, Tried, ask
from ostiary.plan.model import System
from ostiary.store.directory import ErpAccount

HELD_MAX: Final = 10_000  # credentials that are kept; past it all are fetched anew
REFUSES: Final = frozenset({httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN})
# Tryton's: it forgets an idle session after [session] timeout, 300 s by default.
PROVE_EVERY_S: Final = 30.0
STORED: Final = frozenset({"integer", "float", "numeric", "boolean", "many2one", "selection"})
# Odoo's.
PAGE: Final = 5_000  # fields in one answer
FIELDS: Final = "ir.model.fields"
# A token endpoint's.
RENEW_S: Final = 300.0  # a token that was withdrawn there serves no longer, however long it was given for
LIFE_MAX_S: Final = 86_400.0
SPARE: Final = 0.9  # of its life: it has still to arrive


class _Erp:
    """What all of them have. `trouble`: why the gate's own ERP user was not let in the last time."""

    def __init__(self, vault: SystemVault | Tried, **client: Any) -> None:
        self._vault, self.trouble = vault, ""
        self._held: dict[tuple[str, bytes, str], Held] = {}
        self._http = httpx.AsyncClient(trust_env=False, **client)

    def held(self, account: ErpAccount, what: str = "") -> Held:
        """What is held for this account; with a new password it is fetched anew."""
        name = (account.login, account.sealed_secret, what)
        if name not in self._held and len(self._held) >= HELD_MAX:
            self._held.clear()
        return self._held.setdefault(name, Held())

    async def close(self) -> None:
        await self._http.aclose()


class TrytonErp(_Erp):
    def __init__(self, url: str, database: str, vault: SystemVault | Tried, timeout_s: float = TIMEOUT_S) -> None:
        super().__init__(vault, base_url=url, timeout=timeout_s)
        self._database, self._uids = database, dict[str, str]()
        self._described: dict[tuple[str, str], Mapping[str, Any]] = {}

    async def credential(self, account: ErpAccount, request: Request) -> str:
        if request.path.startswith(f"/{self._database}/rest/"):
            return f"bearer {(await self._rest_key(account)).reveal()}"
        return (await self._session(account)).reveal()

    async def rows(self, name: str, ids: Sequence[str], fields: Sequence[str]) -> Sequence[Mapping[str, Any]]:
        numbers = sorted({_number(text) for text in ids})
        refused = f"shows no such {name}: there is none, or the gate's own user may not read it"
        rows = await self._ask(f"model.{name}.read", [numbers, list(fields), {}], refused)
        if not isinstance(rows, list) or sorted(row.get("id", 0) for row in rows) != numbers:
            raise NotEstablished(f"the ERP does not show every {name} asked for")
        return rows

    async def stored(self, name: str, field: str) -> str:
        """What Tryton computes, and what it keeps for each company or language, it loads late."""
        about = await self._about(name, field)
        if about.get("loading") != "eager" or about.get("type") not in STORED:
            raise NotEstablished(f"{field} of {name} is no plain field that the ERP stores")
        return str(about.get("relation", "")) if about["type"] == "many2one" else ""

    async def companies(self, account: ErpAccount) -> Sequence[Any]:
        """As the user itself is told them: who may read that of others is another matter."""
        _, answer = await self._call("model.res.user.get_preferences", [True, {}], await self._session(account))
        match answer.get("result"):
            case {"companies": list(found)}:
                return found
        raise NotEstablished(f"the ERP does not say which companies {account.login} works for")

    async def _about(self, name: str, field: str) -> Mapping[str, Any]:
        if (name, field) not in self._described:
            described = await self._ask(f"model.{name}.fields_get", [[field], {}])
            self._described[name, field] = described.get(field, {}) if isinstance(described, dict) else {}
        return self._described[name, field]

    async def login_of(self, uid: str) -> str:
        (row,) = await self.rows("res.user", [uid], ["login"])
        return str(row.get("login", ""))

    async def user(self, account: ErpAccount) -> str:
        """The ERP's id of this user, who has to log in for it."""
        await self._session(account)
        return self._uids[account.login]

    async def learn(self, system: str) -> Catalogue:
        """What the database offers, and to whom, asked as the gate's own ERP user."""
        loop = asyncio.get_running_loop()

        def ask(method: str, *params: Any) -> Any:
            return asyncio.run_coroutine_threadsafe(self._ask(method, params), loop).result()

        def learn() -> Catalogue:
            found = tryton.learn(ask)
            return replace(found, groups=tryton.groups(ask, found, system))

        return await asyncio.to_thread(learn)

    async def _ask(self, method: str, params: Sequence[Any], refused: str = "") -> Any:
        """What the ERP answers; `refused`: what an error, which is an answer too, says of it."""
        reader = await self._vault.reader()
        if reader is None:
            raise NotLetIn("the gate has no ERP user of its own to read with")
        session = await self._session_of(reader)
        status, answer = await self._call(method, params, session)
        if status == httpx.codes.UNAUTHORIZED:
            session = await self._session_of(reader, lapsed=session)
            status, answer = await self._call(method, params, session)
        if status != httpx.codes.OK:
            raise NotEstablished(f"the ERP answers {method} with status {status}")
        if "error" in answer or "result" not in answer:
            raise NotEstablished(f"the ERP {refused or f'refuses {method}'}")
        return answer["result"]

    async def _session_of(self, reader: ErpAccount, lapsed: Secret | None = None) -> Secret:
        try:
            session = await self._session(reader, lapsed)
        except NotLetIn as problem:
            self.trouble = str(problem)
            raise
        self.trouble = ""
        return session

    async def _session(self, account: ErpAccount, lapsed: Secret | None = None) -> Secret:
        """A session that was alive a moment ago; logs in when there is none."""
        return await self.held(account).get(partial(self._alive, account), lapsed)

    async def _alive(self, account: ErpAccount, before: Secret | None) -> Given:
        session = before if before and await self._session_lives(before) else await self._login(account)
        return Given(session, PROVE_EVERY_S, PROVE_EVERY_S)

    async def _session_lives(self, session: Secret) -> bool:
        status, _ = await self._call("model.res.user.get_preferences", [True, {}], session)
        return status == httpx.codes.OK

    async def _login(self, account: ErpAccount) -> Secret:
        password = await self._vault.password(account)
        params = [account.login, {"password": password.reveal()}, "en"]
        status, answer = await self._call("common.db.login", params, None)
        match answer.get("result"):
            case [int(uid), str(token), *_] if status == httpx.codes.OK and uid > 0:
                pass
            case _:
                if status not in REFUSES | {httpx.codes.OK}:  # 404: it has no such database
                    raise NotEstablished(f"the ERP answers a login at database {self._database} with status {status}")
                raise NotLetIn(f"the ERP does not let {account.login} in with the password given for it")
        if account.uid not in {"", str(uid)}:
            raise NotEstablished(f"{account.login} is another user of the ERP than the one that was mapped")
        self._uids[account.login] = str(uid)
        if not account.uid:
            await self._vault.learn_uid(account, str(uid))
        text = base64.b64encode(f"{account.login}:{uid}:{token}".encode()).decode()
        return Secret(f"Session {text}")

    async def _rest_key(self, account: ErpAccount) -> Secret:
        """The user's own key for Tryton's REST interface, which takes no session; made with the user's session."""
        session = await self._session(account)
        return await self.held(account, "key").get(partial(self._key, account, session))

    async def _key(self, account: ErpAccount, session: Secret, before: Secret | None) -> Given:
        key = before or await self._vault.rest_key(account)
        if key is None or not await self._key_lives(key, session):
            key = await self._make_key(self._uids[account.login], session)
            await self._vault.keep_rest_key(account, key)
        return Given(key, PROVE_EVERY_S, PROVE_EVERY_S)

    async def _key_lives(self, key: Secret, session: Secret) -> bool:
        domain = [["key", "=", key.reveal()], ["state", "=", "validated"], ["application", "=", "rest"]]
        _, answer = await self._call("model.res.user.application.search_count", [domain, {}], session)
        return answer.get("result") == 1

    async def _make_key(self, uid: str, session: Secret) -> Secret:
        values = {"user": _number(uid), "application": "rest"}
        _, made = await self._call("model.res.user.application.create", [[values], {}], session)
        _, read = await self._call("model.res.user.application.read", [made.get("result"), ["key"], {}], session)
        match read.get("result"):
            case [{"key": str(key)}]:
                return Secret(key)
        raise NotEstablished("the ERP makes no REST key for this user")

    async def _call(self, method: str, params: Sequence[Any], session: Secret | None) -> tuple[int, dict[str, Any]]:
        headers = {"authorization": session.reveal()} if session else {}
        body = {"id": 1, "method": method, "params": params}
        status, answer = await ask(self._http, "the ERP", f"/{self._database}/rpc/", json=body, headers=headers)
        return status, answer if status == httpx.codes.OK else {}


def _number(text: str) -> int:
    if not text.isascii() or not text.isdecimal():
        raise NotEstablished("a record has no number")
    return int(text)


class OdooErp(_Erp):
    """Callers' keys are put on natively: nothing is handed over here."""

    def __init__(self, system: System, vault: SystemVault | Tried, timeout_s: float) -> None:
        super().__init__(vault, base_url=system.upstream, timeout=timeout_s)
        self._database = system.database

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


class _Told(Struct, kw_only=True):
    """RFC 6749 section 5.1. The gate takes a header of 8,000 characters."""

    access_token: Annotated[str, Meta(pattern="^[!-~]{1,7900}$")]
    token_type: Annotated[str, Meta(pattern="^[Bb]earer$")] = "Bearer"  # noqa: S105  no secret
    expires_in: Annotated[float, Meta(ge=1)] = RENEW_S


class TokenErp(_Erp):
    """Takes tokens of its own authorization server, fetched by client credentials (RFC 6749 section 4.4).

    The login is the id of an OAuth client, the password that client's secret.
    """

    def __init__(self, system: System, vault: SystemVault | Tried, authorities: str) -> None:
        super().__init__(vault, timeout=TIMEOUT_S, verify=ssl.create_default_context(cafile=authorities or None))
        self._system = system

    async def credential(self, account: ErpAccount, _: Request) -> str:
        return f"Bearer {(await self.held(account).get(partial(self._fetch, account))).reveal()}"

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
        if status in REFUSES | {httpx.codes.BAD_REQUEST}:
            error = re.sub("[^a-z_]", "", str(told.get("error")))[:40]
            raise NotLetIn(f"the token endpoint gives {account.login} no token: {error}")
        try:
            given = msgspec.convert(told if status == httpx.codes.OK else {}, _Told, strict=False)
        except msgspec.ValidationError as problem:  # which names the field, and no value
            told_of = f"the token endpoint answers with status {status}, and without a bearer's token: {problem}"
            raise NotEstablished(told_of) from None
        life_s = min(given.expires_in, LIFE_MAX_S)
        return Given(Secret(given.access_token), min(life_s / 2, RENEW_S), SPARE * life_s)
