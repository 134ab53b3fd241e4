"""An honest small world around the guard: a policy, people with tokens, an ERP that remembers, and a gate that asks.

The guard is the real one, reached as the gate reaches it. The ERP is a twin (`TwinErp`) or a real Tryton.
"""

import asyncio
import atexit
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import insert

from databases import chosen
from fixed_clock import FixedClock
from lines import written
from ostiary.control.documents import files_of, read_document
from ostiary.erp.catalogue import Catalogue
from ostiary.erp.operation import Request
from ostiary.erp.tryton import learn
from ostiary.foundation.home import Home, Settings, write_atomically
from ostiary.foundation.ids import role_set_id
from ostiary.foundation.jose import Claims, SigningKey, sign_access_token
from ostiary.foundation.proof import Nonces
from ostiary.foundation.secret import Secret
from ostiary.guard import app
from ostiary.guard.erp import NotEstablished
from ostiary.plan.model import System, to_json
from ostiary.policy.document import Document
from ostiary.store.database import Sealer, Store, open_store
from ostiary.store.directory import ErpAccount, sealed_for
from ostiary.store.tables import ERP_ACCOUNT, PRINCIPAL, ROLE_SET, SIGNING_KEY
from running import until

NOW = datetime(2026, 3, 3, 10, 0, tzinfo=UTC)
NUMBERS = count(1)
EVERYTHING = frozenset({"erp/*:read", "erp/*:write", "erp/*:execute", "erp/*:delete"})
POLICY = """
policy: world
systems:
  erp: {kind: tryton, at: localhost, upstream: "UPSTREAM", database: erp, hand-over: session}
departments:
  finance: {}
contexts:
  by-day: {days: mon-sun, hours: "08:00-18:00", zone: UTC}
roles:
  payments:
    level: user
    of: finance
    may:
      - "party.*: read, write"
      - "account.payment: read, write, execute submit, execute approve"
      - "account.payment.journal: read"
  day: {level: user, of: finance, may: ["party.party: read"], when: by-day}
apart:
  - name: create a supplier and approve its payment
    permissions: ["party.party: write", "account.payment: execute approve"]
    link: party
    within: 30 days
limits:
  anonymous: {requests: 120/minute}
  default: {requests: 6000/hour, body: 10 MB}
"""
ROWS = [
    ("party.party", "name", "char", None),
    ("party.party", "addresses", "one2many", "party.address"),
    ("party.address", "city", "char", None),
    ("party.address", "party", "many2one", "party.party"),
    ("account.payment", "party", "many2one", "party.party"),
    ("account.payment", "amount", "numeric", None),
    ("account.payment", "state", "selection", None),
    ("account.payment", "company", "many2one", "company.company"),
    ("account.payment.group", "payments", "one2many", "account.payment"),
]
METHODS = ("read", "search", "search_read", "create", "write", "delete", "copy")


def small_catalogue() -> Catalogue:
    models = sorted({model for model, *_ in ROWS})
    listed = [f"model.{model}.{method}" for model in models for method in METHODS]
    listed += ["model.account.payment.approve", "model.account.payment.submit"]
    fields = [dict(zip(("model", "name", "ttype", "relation"), row, strict=True)) for row in ROWS]
    return learn(lambda method, *_: listed if method == "system.listMethods" else described(fields, method))


def described(fields: Sequence[Mapping[str, Any]], method: str) -> Any:
    """What an ERP says of its fields: each of them, or those of one object, which it stores all."""
    if not method.endswith(".fields_get"):
        return fields
    about = {"loading": "eager", "searchable": True, "sortable": True, "relation_field": "x"}
    own = {row["name"]: row["ttype"] for row in fields if f"model.{row['model']}.fields_get" == method}
    return {name: {**about, "type": kind} for name, kind in {**own, "create_uid": "many2one"}.items()}


@dataclass
class TwinErp:
    """Keeps records as an ERP does: who made one, who changed it last, and what it links to."""

    clock: FixedClock
    up: bool = True
    refuses: frozenset[str] = frozenset()  # logins it does not let in
    tables: dict[str, dict[int, dict[str, Any]]] = field(default_factory=dict)
    hidden: set[tuple[str, int]] = field(default_factory=set)  # records the guard's own user may not see
    logins: dict[str, str] = field(default_factory=dict)  # uid -> login, as far as it says
    companies_of: dict[str, list[int]] = field(default_factory=dict)
    uids: dict[str, int] = field(default_factory=lambda: dict(zip(LOGINS, range(5, 99), strict=False)))

    async def credential(self, account: ErpAccount, request: Request) -> str:
        if not self.up:
            raise NotEstablished("the ERP does not answer")
        if account.login in self.refuses:
            raise NotEstablished(f"the ERP does not let {account.login} in with the password kept for it")
        return f"as:{account.login}"

    async def rows(self, name: str, ids: Sequence[str], fields: Sequence[str]) -> Sequence[Mapping[str, Any]]:
        if not self.up:
            raise NotEstablished("the ERP does not answer")
        numbers = [int(one) for one in ids]
        held = self.tables.get(name, {})
        if any(n not in held or (name, n) in self.hidden for n in numbers):
            raise NotEstablished(f"the ERP does not show every {name} asked for")
        return [{"id": n, **{one: held[n].get(one) for one in fields}} for n in numbers]

    async def stored(self, name: str, field: str) -> str:
        kinds = {"create_uid": "res.user", "company": "company.company"}
        known = {(model, one): target for model, one, _, target in ROWS}
        if field not in kinds and (name, field) not in known:
            raise NotEstablished(f"{field} of {name} is no plain field that the ERP stores")
        return kinds.get(field) or known[name, field] or ""

    async def companies(self, account: ErpAccount) -> Sequence[int]:
        return self.companies_of.get(account.login, [])

    async def login_of(self, uid: str) -> str:
        if uid not in self.logins:
            raise NotEstablished(f"nobody says who {uid} is")
        return self.logins[uid]

    def create(self, login: str, kind: str, /, **values: Any) -> int:
        table = self.tables.setdefault(kind, {})
        made = {"create_uid": self.uids[login], "create_date": self._now(), "write_uid": None, "write_date": None}
        table[number := len(table) + 1] = {**made, **values}
        return number

    def write(self, login: str, kind: str, number: int, /, **values: Any) -> None:
        self.tables[kind][number] |= {"write_uid": self.uids[login], "write_date": self._now(), **values}

    def carry_out(self, login: str, request: Request) -> Any:
        """The few calls that these tests send."""
        body = json.loads(request.body)
        name, _, method = body["method"].removeprefix("model.").rpartition(".")
        first, *rest = body["params"]
        match method:
            case "create":
                return [self.create(login, name, **values) for values in first]
            case "write":
                return [self.write(login, name, number, **rest[0]) for number in first]
            case "submit" | "approve":
                return [self.write(login, name, number, state=method) for number in first]
        return None

    def _now(self) -> dict[str, Any]:
        at = self.clock.at
        parts = ("year", "month", "day", "hour", "minute", "second", "microsecond")
        return {"__class__": "datetime", **{part: getattr(at, part) for part in parts}}


WORLDS = ExitStack()  # what the worlds of one test hold
LOGINS = ("approver", "treasurer", "clerk", "stranger")


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    problem: dict[str, Any]

    @property
    def reason(self) -> str:
        return self.headers["ostiary-reason"]

    @property
    def rule(self) -> str:
        return self.headers["ostiary-decided"].split(" ", 5)[2]

    @property
    def draft(self) -> str:
        return self.headers["ostiary-decided"].split(" ", 5)[3]

    @property
    def operation(self) -> str:
        return self.headers["ostiary-decided"].split(" ", 5)[5]

    @property
    def detail(self) -> str:
        return str(self.problem.get("detail", ""))

    @property
    def allowed(self) -> bool:
        return self.status == 200


@dataclass
class World:
    home: Home
    store: Store
    sealer: Sealer
    clock: FixedClock
    key: SigningKey
    revision: str
    settings: Settings = field(default_factory=Settings)
    guard: app.Guard | None = None

    # -- people

    def person(self, principal: str, login: str = "", *, person: str = "", uid: str = "", password: str = "x") -> None:
        """A user or a client, the human behind it, and perhaps the ERP user it acts as."""
        rows = {"id": principal, "name": principal, "person": person or principal, "generation": 1, "active": True}
        with self.store.begin() as connection:
            connection.execute(insert(PRINCIPAL), [{**rows, "made_at_us": 0}])
            if login:
                sealed = self.sealer.seal(Secret(password), sealed_for("erp", principal))
                row = {"principal": principal, "system": "erp", "login": login, "uid": uid, "sealed_secret": sealed}
                connection.execute(insert(ERP_ACCOUNT), [row])

    def token(self, subject: str, roles: Sequence[str] = ("payments",), **claims: Any) -> str:
        at = int(self.clock.now().timestamp())
        told = Claims(
            issuer=self.settings.issuer, audience=self.audience, subject=subject, client="client:app",
            jti=f"jti-{next(NUMBERS)}", grant="g", session="", generation=f"{subject}#1", client_generation="client:app#1",
            role_set=self.role_set(roles), scopes=EVERYTHING, issued_at=at, expires_at=at + 3600,
        )  # fmt: skip
        return sign_access_token(self.key, msgspec.structs.replace(told, **claims))

    @property
    def audience(self) -> str:
        return self.audiences["erp"]

    @property
    def audiences(self) -> dict[str, str]:
        plan = msgspec.json.decode((self.home.plans / f"{self.revision}.json").read_bytes())
        return {system["name"]: system["audience"] for system in plan["systems"]}

    def role_set(self, roles: Sequence[str]) -> str:
        name = role_set_id(roles)
        with self.store.begin() as connection:
            known = connection.execute(ROLE_SET.select().where(ROLE_SET.c.id == name)).first()
            if known is None:
                connection.execute(insert(ROLE_SET), [{"id": name, "roles": ",".join(sorted(roles))}])
        return name

    # -- the gate

    async def ask(
        self, token: str, request: Request, *, decision: str = "", drop: Sequence[str] = (), **headers: str
    ) -> Answer:
        """As the gate asks (ext_authz): the caller's request, and what the gate itself knows of it."""
        told = {"host": "localhost", "authorization": f"Bearer {token}", **request.headers}
        told |= {
            "x-gw-decision": decision or f"d{next(NUMBERS)}",
            "x-gw-revision": self.revision,
            "x-gw-source": "127.0.0.1",
        }
        told |= {name.replace("_", "-"): value for name, value in headers.items()}
        listed = [(name.encode(), value.encode()) for name, value in told.items() if name not in drop]
        return await self.raw(request, listed)

    async def raw(
        self, request: Request, headers: list[tuple[bytes, bytes]], gone: asyncio.Event | None = None
    ) -> Answer:
        scope = {
            "type": "http", "method": request.method, "path": "/check" + request.path,
            "raw_path": b"/check" + request.path.encode(), "query_string": request.query.encode(), "headers": headers,
        }  # fmt: skip
        sent: list[Any] = []
        parts = [{"type": "http.request", "body": request.body}]

        async def receive() -> Any:
            if parts:
                return parts.pop()
            await (gone or asyncio.Event()).wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.guard.check(scope, receive, send)
        if not sent:
            raise ConnectionError("no answer")
        told = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return Answer(sent[0]["status"], told, json.loads(sent[1]["body"] or b"{}"))

    def logged(self, decision: str) -> None:
        """The gate has answered: the line that lets the records go."""
        with self.home.access_log.open("ab") as file:
            file.write(written(at="2026-03-03T10:00:00Z", decision=decision, upstream_us=1))

    async def through(self, token: str, request: Request, carry_out: Any) -> tuple[Answer, Any]:
        """Through the gate: asked, then carried out by the ERP as the user handed over, then logged."""
        decision = f"d{next(NUMBERS)}"
        answer = await self.ask(token, request, decision=decision)
        done = carry_out(answer.headers["authorization"], request) if answer.allowed else None
        self.logged(decision)
        return answer, done

    def journal(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.home.guard_log.read_text().splitlines()]


def make(
    root: Path,
    *,
    policy: str = POLICY,
    upstream: str = "http://127.0.0.1:9",
    catalogue: Catalogue | None = None,
) -> World:
    home = Home(root=root)
    home.create()
    if not (url := WORLDS.enter_context(chosen())):
        shutil.copyfile(_new_database(), home.database)
    store = open_store(url or f"sqlite:///{home.database}")
    WORLDS.callback(_end, store)
    key = SigningKey.generate()
    with store.begin() as connection:
        row = {
            "kid": key.kid,
            "purpose": "access",
            "state": "active",
            "sealed_private": b"",
            "made_at_us": 0,
            "since_us": 0,
        }
        connection.execute(insert(SIGNING_KEY), [{**row, "public_jwk": json.dumps(key.public())}])
    text = policy.replace("UPSTREAM", upstream)
    _, plan, _ = read_document(Document(text=text, file="policy.yaml", files=files_of(root, "policy.yaml", text)))
    write_atomically(home.plans / f"{plan.revision}.json", to_json(plan))
    write_atomically(home.plans / "current", plan.revision.encode())
    write_atomically(home.catalogue("erp"), msgspec.json.encode(catalogue or small_catalogue()))
    return World(home, store, Sealer(b"k" * 32), FixedClock(NOW), key, plan.revision)


def _end(store: Store) -> None:
    """A thread may be reading still when the guard ends: it waits for none."""
    until(lambda: not store._engine.pool.checkedout())
    store.close()


@cache
def _new_database() -> Path:
    """Made once: a copy is quicker than every migration."""
    path = Path(tempfile.mkdtemp(prefix="guard-")) / "new.db"
    atexit.register(shutil.rmtree, path.parent, ignore_errors=True)
    open_store(f"sqlite:///{path}").close()
    return path


NONCES = Nonces(b"k" * 32, demanded=False)


class TwinGuard(app.Guard):
    twin: TwinErp

    @classmethod
    def around(cls, world: World, twin: TwinErp) -> "TwinGuard":
        made = cls(world.home, world.store, world.sealer, world.settings, world.clock, NONCES)
        made.twin = twin
        return made

    def erp_of(self, system: System) -> Any:
        return self.twin


@asynccontextmanager
async def guarded(world: World, twin: TwinErp | None = None) -> AsyncIterator[World]:
    """The guard runs; with a twin, that is the ERP it asks."""
    if twin is None:
        guard = app.Guard(world.home, world.store, world.sealer, world.settings, world.clock, NONCES)
    else:
        guard = TwinGuard.around(world, twin)
    async with guard.running():
        world.guard = guard
        yield world


def rpc(method: str, *params: Any, context: Mapping[str, Any] | None = None) -> Request:
    body = json.dumps({"id": 1, "method": method, "params": [*params, dict(context or {})]}).encode()
    return Request(method="POST", path="/erp/rpc/", headers={"content-type": "application/json"}, body=body)


def later(world: World, **time: float) -> None:
    world.clock.at += timedelta(**time)
