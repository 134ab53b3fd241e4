"""The guard's two ASGI applications: `check` for the gate, `inside` for the control side; each on its own socket."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import msgspec
from starlette.applications import Starlette
from starlette.responses import Response

from ostiary.erp.operation import Request
from ostiary.foundation.clock import Clock
from ostiary.foundation.errors import CallerFault, OperatorFault, SystemFault
from ostiary.foundation.home import Home, Settings, write_atomically
from ostiary.foundation.inside import Operation, in_loop, route
from ostiary.foundation.jose import TokenRefused
from ostiary.foundation.proof import Nonces
from ostiary.foundation.secret import Secret
from ostiary.guard.accounts import Accounts, SystemVault
from ostiary.guard.adapters import OdooErp, TokenErp, TrytonErp
from ostiary.guard.answer import Trace
from ostiary.guard.check import Check
from ostiary.guard.erp import PATIENCE_S, TIMEOUT_S, HandsOver, NotEstablished, NotLetIn, Tried
from ostiary.guard.journal import Journal
from ostiary.guard.knowledge import Knowledge, Ready
from ostiary.guard.locks import Locks
from ostiary.guard.proof import UNPROVED, Proofs
from ostiary.plan.decide import Reason, problem
from ostiary.plan.model import HandOver, Kind, System
from ostiary.store.database import Sealer, Store

PREFIX: Final = b"/check"
PROOF: Final = "/proof"
STANDING: Final = "/standing"
REVOKED: Final = 410  # `envoy.listener` knows it too
BODY_MAX_BYTES: Final = 64 * 1024 * 1024  # the gate holds to the policy's own limit; this one only bounds memory
FORGET_EVERY_S: Final = 3_600.0
RETRY_AFTER_S: Final = "1"
FOR: Final = {503: 424, 502: 423}  # RFC 4918 sections 11.4 and 11.3; `envoy.listener` knows them

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Behind = TrytonErp | TokenErp | OdooErp

log = logging.getLogger(__name__)


class Guard:
    """The guard of one installation. It answers inside `async with guard.running()`, and only there."""

    def __init__(  # noqa: PLR0917  the composition root names them once
        self, home: Home, store: Store, sealer: Sealer, settings: Settings, clock: Clock, nonces: Nonces
    ) -> None:
        self._home, self._sealer, self._clock = home, sealer, clock
        self._accounts, self._knowledge = Accounts(store), Knowledge(home, store, settings.issuer, clock)
        self._erps: dict[tuple[str, ...], Behind] = {}
        self._authorities = settings.upstream_authorities
        self._check: Check | None = None
        self._proofs = Proofs(settings.port, clock, nonces)
        # The control side's wishes.
        told: dict[str, Operation] = {
            "plan": self._knowledge.take_plan, "changed-over": self._knowledge.changed_over, "state": self.state,
            "revoked": self._knowledge.take_revoked, "directory": self._read_directory,
            "learn": self._learn, "account": self._account,
        }  # fmt: skip
        self.inside = Starlette(routes=[route("internal", told, in_loop)])

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Guard"]:
        """Knows the plan and the store before it yields; afterwards nothing of it is left running."""
        journal, locks = Journal(self._home.guard_log), Locks(self._home.access_log)
        await self._knowledge.begin()
        self._check = Check(self._knowledge, self._accounts, self.erp_of, self.hands_over, journal, locks, self._clock)
        tasks = [asyncio.create_task(self._knowledge.keep_fresh()), asyncio.create_task(self._keep_short())]
        try:
            yield self
        finally:
            self._check = None
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            locks.stop()
            await journal.end()
            for erp in self._erps.values():
                await erp.close()

    async def _keep_short(self) -> None:
        while True:
            try:
                await self._accounts.forget_old(self._clock.now())
            except Exception:
                log.exception("old history could not be removed")
            await asyncio.sleep(FORGET_EVERY_S)

    def erp_of(self, system: System) -> TrytonErp | None:
        """The ERP of a system that can say who made a record; None for any other."""
        erp = self._kept(system)
        return erp if isinstance(erp, TrytonErp) else None

    def hands_over(self, system: System) -> HandsOver | None:
        """What knows a credential for each account of this system."""
        erp = self._kept(system) if system.hand_over is HandOver.OAUTH else self.erp_of(system)
        return None if isinstance(erp, OdooErp) else erp

    def _kept(self, system: System) -> Behind | None:
        name, vault = _named(system), SystemVault(self._accounts, self._sealer, system.name)
        if name not in self._erps and (made := self._made(system, vault, TIMEOUT_S)):
            self._erps[name] = made
        return self._erps.get(name)

    def _made(self, system: System, vault: SystemVault | Tried, timeout_s: float) -> Behind | None:
        if system.hand_over is HandOver.OAUTH:
            return TokenErp(system, vault, self._authorities)
        if system.kind is Kind.TRYTON:
            return TrytonErp(system.upstream, system.database, vault, timeout_s)
        if system.kind is Kind.ODOO:
            return OdooErp(system, vault, timeout_s)
        return None

    async def check(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ext_authz: the caller's method and path below /check, its headers, its whole body."""
        if scope["type"] != "http":
            return
        if scope["path"].startswith(PROOF):
            await self._prove(scope, receive, send)
            return
        if scope["path"].startswith(STANDING):
            await Response(status_code=await self._standing(scope))(scope, receive, send)
            return
        try:
            asked = await _asked(scope, receive)
            if self._check is None or isinstance(asked, Trace):
                answer = asked if isinstance(asked, Trace) else Trace(detail="the guard is starting")
            else:
                answer = await self._check.answer(asked, receive)  # after the body, it says when the peer is gone
        except ConnectionError:
            return
        except Exception:
            log.exception("a request could not be judged")
            answer = Trace(detail="the request can't be judged")
        await Response(_body(answer), _status(answer.reason), _headers(answer))(scope, receive, send)

    async def _prove(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The other filter's question: does who shows this bound token hold its key? No more is known of it yet."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        path = (scope.get("raw_path") or b"").decode("latin-1").removeprefix(PROOF)
        status, told = UNPROVED, dict[str, str]()
        try:
            if len(headers) == len(scope["headers"]):
                status, told = self._proofs.answer(scope["method"], path, headers)
        except Exception:
            log.exception("a proof could not be judged")
        await Response(status_code=status, headers=told)(scope, receive, send)

    async def _standing(self, scope: Scope) -> int:
        """What the gate asks while control is silent: was revoked what its headers name of the caller's token, or the key
        that signed it? The gate knows the keys of when it last heard of control.
        """
        told = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
        named = [f"{name.removeprefix('x-gw-')}:{value}" for name, value in told.items() if name.startswith("x-gw-")]
        path = (scope.get("raw_path") or b"").decode("latin-1").removeprefix(STANDING)
        system = ready.system(told.get("host", ""), path) if (ready := self._knowledge.current) else None
        if not self._knowledge.fresh or (named and not system):
            return 503
        if not self._knowledge.revoked(named):
            with suppress(TokenRefused):
                if system and named:  # else no token was shown
                    await self._knowledge.caller(told.get("authorization", "").partition(" ")[2], system.audience)
                return 200
        return REVOKED

    async def _read_directory(self) -> None:
        self._accounts.forget()
        await self._knowledge.refresh()

    def state(self) -> dict[str, Any]:
        """How the guard stands: what it judges by, whether that is fresh, and who does not let it in."""
        revisions, ready = self._knowledge.revisions, self._knowledge.current
        state = {"revision": ready.plan.revision if ready else "", "revisions": list(revisions)}
        return {**state, "fresh": self._knowledge.fresh, "troubles": self._troubles(ready)}

    def _troubles(self, ready: Ready | None) -> dict[str, str]:
        """Why an ERP of the plan in force, and of no other, does not let the gate's own user in."""
        erps = {system.name: self._erps.get(_named(system)) for system in (ready.plan.systems if ready else ())}
        return {name: erp.trouble for name, erp in erps.items() if erp and erp.trouble}

    @asynccontextmanager
    async def _asking(self, name: str, tried: Tried) -> AsyncIterator[Any]:
        """The ERP of this system; as a user that is only tried, where one is given, else as the one kept for the gate."""
        ready = self._knowledge.current
        system = next((one for one in ready.plan.systems if one.name == name), None) if ready else None
        kept = self._kept(system) if system else None
        if system is None or kept is None:
            raise CallerFault("no-system", f"{name} is no system that can be asked", hint="see the policy in force")
        erp = (self._made(system, tried, PATIENCE_S) if tried.account.login else None) or kept
        try:
            yield erp
        except NotLetIn as problem:
            hint = f"the login and password of a user that is in the ERP: ostiary system account {system.name} --login LOGIN"
            raise OperatorFault("erp-refuses", str(problem), hint=hint) from problem
        except NotEstablished as problem:
            hint = "start the ERP, or mend `upstream` and `database` in the policy"
            raise SystemFault("erp-silent", f"{system.upstream}: {problem}", hint=hint) from problem
        finally:
            if erp is not kept:
                await erp.close()

    async def _learn(self, system: str, login: str = "", password: str = "") -> dict[str, Any]:
        """Asks the ERP what it offers; from the next request on, the adapter knows it."""
        tried = Tried(login, Secret(password))
        async with self._asking(system, tried) as erp:
            found = await erp.learn(system)
            write_atomically(self._home.catalogue(system), msgspec.json.encode(found))
            told = {"objects": len(found.models), "methods": sum(map(len, found.methods.values()))}
            return {**told, "uid": await erp.user(tried.account)} if login else told

    async def _account(self, system: str, login: str, password: str) -> dict[str, Any]:
        tried = Tried(login, Secret(password))
        async with self._asking(system, tried) as erp:
            return {"uid": await erp.user(tried.account)}


def _named(system: System) -> tuple[str, ...]:
    """One ERP: a system that a new policy points elsewhere is another one."""
    return system.name, system.upstream, system.database, system.token_from, system.token_scope


async def _asked(scope: Scope, receive: Receive) -> Request | Trace:
    """The request behind an ext_authz call; a Trace that ends here where it can't even be looked at."""
    raw: bytes = scope.get("raw_path") or b""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    known = {"decision": headers.get("x-gw-decision", "-"), "revision": headers.get("x-gw-revision", "-")}
    body = await _read(receive, BODY_MAX_BYTES)
    if len(headers) < len(scope["headers"]):  # two answers to one question: the ERP might read the other
        return Trace(reason=Reason.INVALID, detail="a header stands more than once", **known)
    if not raw.startswith(PREFIX + b"/") or not (raw + scope["query_string"]).isascii():
        return Trace(reason=Reason.INVALID, detail="the path is not plain", **known)
    if body is None:
        return Trace(reason=Reason.TOO_LARGE, detail="the body is too large", **known)
    return Request(
        method=scope["method"],
        path=raw.removeprefix(PREFIX).decode(),
        query=scope["query_string"].decode(),
        headers=headers,
        body=body,
    )


async def _read(receive: Receive, max_bytes: int) -> bytes | None:
    """The whole body; None when it is too large. Raises ConnectionError when the peer went away."""
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ConnectionError("the peer went away before the body's end")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > max_bytes:
            return None
        if not message.get("more_body"):
            return b"".join(parts)


def _status(reason: Reason) -> int:
    """Of an answer with 5xx the gate would take the status alone, so it gets another one and puts that in its place."""
    return FOR.get(reason.status, reason.status)


def _headers(answer: Trace) -> dict[str, str]:
    said = {
        "ostiary-reason": str(answer.reason),
        "ostiary-decided": f"{answer.us} {answer.reason} {answer.rule} {answer.draft} {answer.subject or '-'} {answer.operation}",
        "ostiary-decision": answer.decision,
    }
    if answer.reason is Reason.ALLOWED:
        said |= answer.credentials
        said["x-envoy-auth-headers-to-remove"] = "cookie" if "authorization" in said else "authorization,cookie"
    else:
        said |= {"content-type": "application/problem+json", "cache-control": "no-store"}
        challenge = answer.challenge or answer.reason.challenge
        said |= {"www-authenticate": challenge} if challenge else {}
        said |= {"retry-after": RETRY_AFTER_S} if answer.reason.status == Reason.UNAVAILABLE.status else {}
    return {name: _plain(value) for name, value in said.items()}


def _plain(text: str) -> str:
    """A header value that can't end early, whatever a request put into an operation's name."""
    return "".join(char if " " <= char <= "~" else "?" for char in text)[:8_000]


def _body(answer: Trace) -> bytes:
    """Problem details (RFC 9457), as the gate writes them too."""
    if answer.reason is Reason.ALLOWED:
        return b""
    told = problem(answer.reason, detail=answer.detail, decision=answer.decision)
    if answer.pointer:
        told["pointer"] = answer.pointer
    return json.dumps(told).encode()
