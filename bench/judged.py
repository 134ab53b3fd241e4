"""The guard's whole judgement of one request, in this process: token, adapter, decision, validation, journal."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

import msgspec
from starlette.requests import Request

from bench import shop
from bench import tryton as small
from bench.process import free_port
from ostiary.audit.log import Change
from ostiary.control.installation import Installation, open_installation
from ostiary.control.prepare import initialise
from ostiary.erp.operation import Request as Asked
from ostiary.foundation.home import Home
from ostiary.foundation.secret import Secret, new_id
from ostiary.guard.accounts import Accounts, SystemVault
from ostiary.guard.adapters import TrytonErp
from ostiary.guard.check import Check
from ostiary.guard.journal import Journal
from ostiary.guard.knowledge import Knowledge
from ostiary.guard.locks import Locks
from ostiary.identity import principals, registration, tokens
from ostiary.identity.server import Server

POLICY: Final = """
policy: judged
systems:
  erp: {{kind: tryton, at: erp.test, upstream: "{erp}", database: erp, hand-over: session}}
  shop: {{kind: openapi, at: shop.test, upstream: "{erp}", spec: "{spec}"}}
departments: {{staff: {{}}}}
contexts:
  office: {{days: "{days}", hours: "08:00-18:00", zone: {zone}}}
roles:
  clerk: {{level: user, of: staff, when: office, may: ["erp/sale.*: read, write", "erp/party.*: read", "shop/order: write"]}}
"""
SCOPES: Final = frozenset({"erp/sale.*:read", "erp/sale.*:write", "erp/party.*:read", "shop/order:write"})
CLIENT: Final = "client:c"


class Judge:
    """A guard that knows one policy and one caller; what it asks of the ERP is asked once and remembered."""

    def __init__(self, check: Check, known: Mapping[str, str], issued: Mapping[str, str]) -> None:
        self._check, self._known, self._tokens = check, known, issued
        self._numbers = itertools.count()

    def asked(self, host: str, path: str, body: bytes) -> Asked:
        own = {"host": host, "x-gw-decision": f"d{next(self._numbers)}", "content-type": "application/json"}
        headers = {**self._known, **own, "authorization": f"Bearer {self._tokens[host]}"}
        return Asked(method="POST", path=path, query="", headers=headers, body=body)

    async def each_s(self, requests: list[Asked], at_once: int) -> float:
        """Seconds for one request, `at_once` of them together; raises where one of them is refused."""
        began = time.perf_counter()
        for start in range(0, len(requests), at_once):
            some = requests[start : start + at_once]
            decisions = await asyncio.gather(*(self._check.answer(one, _never) for one in some))
            assert all(one.reason == "allowed" for one in decisions), decisions[0]
        return (time.perf_counter() - began) / len(requests)


async def _never() -> None:
    await asyncio.Event().wait()


@asynccontextmanager
async def judging(home: Home, spec: str, erp: str) -> AsyncIterator[Judge]:
    """The parts that a running guard wires, on an installation made for it."""
    on = _installed(home, spec, erp)
    revision = (home.plans / "current").read_text("ascii")
    accounts, knowledge = Accounts(on.store), Knowledge(home, on.store, on.settings.issuer, on.clock)
    journal, locks = Journal(home.guard_log), Locks(home.access_log)
    tryton = TrytonErp(erp, "erp", SystemVault(accounts, on.sealer, "erp"))
    await knowledge.begin()
    check = Check(knowledge, accounts, lambda _: tryton, lambda _: tryton, journal, locks, on.clock)
    try:
        known = {"x-gw-revision": revision, "x-gw-source": "10.7.0.1"}
        yield Judge(check, known, {host: _token(on, f"https://{host}") for host in ("erp.test", "shop.test")})
    finally:
        locks.stop()
        await journal.end()
        await tryton.close()
        on.store.close()


def _installed(home: Home, spec: str, erp: str) -> Installation:
    days, zone = shop.office()
    document = home.root.parent / "spec.json"
    document.write_text(spec, "utf-8")
    text = POLICY.format(erp=erp, spec=f"specs/{document.name}", days=days, zone=zone)
    initialise(home, text=text, spec=document, port=free_port())
    home.catalogue("erp").write_bytes(msgspec.json.encode(small.CATALOGUE))
    on = open_installation(home)
    with on.store.begin() as connection:
        change = Change(connection, "bench", on.clock.now())
        registration.add_client(change, sealer=on.sealer, client_id="c", roles=["clerk"])
        account = {"principal": CLIENT, "system": "erp", "login": "clerk", "password": Secret("x" * 12)}
        principals.set_erp_account(change, sealer=on.sealer, **account)
    return on


def _token(on: Installation, audience: str) -> str:
    server = Server(on.store, on.sealer, on.settings, on.clock, on.home, _tell_nobody)
    with on.store.read() as connection:
        grant = tokens.Given(new_id("gr"), CLIENT, CLIENT, audience)
        claims = tokens.claims_for(server, connection, grant, Request({"type": "http", "headers": []}), scopes=SCOPES)
        key = server.signing(connection)["access"]
    server.close()
    return str(tokens.answer(key, claims)["access_token"])


async def _tell_nobody(_: Sequence[str]) -> None:
    """Nothing is revoked here."""
