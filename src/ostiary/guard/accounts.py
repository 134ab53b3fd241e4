"""Persons and their ERP users, from the store: looked up off the event loop, remembered until control says more."""

import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import anyio
import anyio.to_thread
from sqlalchemy import Connection, delete, insert, select, update

from ostiary.erp.operation import Call, Pattern, operation_named
from ostiary.foundation.clock import to_us
from ostiary.foundation.errors import OperatorFault
from ostiary.foundation.secret import Secret
from ostiary.guard.erp import Erp, NotEstablished, NotLetIn
from ostiary.plan.model import Apart
from ostiary.store.database import Sealer, Store, upsert
from ostiary.store.directory import ErpAccount, erp_account, person_of, persons_of_erp_user, roles_of, sealed_for
from ostiary.store.tables import ERP_ACCOUNT, ERP_PAST, GUARD_HISTORY, GUARD_KEY

REMEMBERED_S: Final = 30.0  # at most: control says when the directory changes
REMEMBERED_MAX: Final = 10_000
KEPT: Final = timedelta(days=3_700)  # longer than a rule may look back: `policy.words.WITHIN_MAX_DAYS`
WRITERS_MAX: Final = 4  # threads that may wait for the store's turn; the others read, also to keep the guard open

P = ParamSpec("P")
T = TypeVar("T")


class Accounts:
    """Also what passed the guard."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._remembered: dict[tuple[Any, ...], tuple[float, Any]] = {}
        self._writers = anyio.CapacityLimiter(WRITERS_MAX)

    def forget(self) -> None:
        """Also what is being read at this moment, which may be what was before."""
        self._remembered = {}

    async def account(self, principal: str, system: str) -> ErpAccount | None:
        return await self._remember(erp_account, principal, system)

    async def person(self, principal: str) -> str:
        return await self._remember(person_of, principal)

    async def roles(self, system: str, login: str) -> frozenset[str]:
        """Of whoever is mapped to this ERP user."""
        return await self._remember(roles_of, system, login)

    async def persons(self, system: str, uid: str, erp: Erp) -> frozenset[str]:
        """Every human who acts or acted as this ERP user: by its id, else by the login that the ERP has for the id."""
        found = await self.read(persons_of_erp_user, system, uid)
        if found:
            return found
        try:
            login = await erp.login_of(uid)
        except NotEstablished:
            return frozenset()
        return await self.read(persons_of_erp_user, system, uid, login)

    async def did(self, person: str, first: Pattern, records: tuple[str, Sequence[str]], since: datetime) -> bool:
        """Whether `person` did `first` to one of the `records` (object, ids) through the guard."""
        table, (name, ids) = GUARD_HISTORY.c, records
        these = (table.system == first.system, table.object == name, table.record.in_(ids))
        found = select(table.permission).where(*these, table.at_us >= to_us(since), table.person == person)
        permissions = await self.read(lambda connection: connection.scalars(found).all())
        done = map(operation_named, permissions)
        return any(one is None or first.holds(one) for one in done)  # what can't be read may have been it

    async def remember(self, rules: Sequence[Apart], call: Call, person: str, at: datetime) -> None:
        """Keeps what this call is about to do, where a rule may ask for it later."""
        who = {"person": person, "at_us": to_us(at)}
        rows = [
            {"system": one.system, "object": one.object, "record": record, "permission": one.permission, **who}
            for one in call.operations
            if any(rule.first.holds(one) for rule in rules)
            for record in one.ids
        ]
        if rows:
            await self.write(lambda connection: connection.execute(insert(GUARD_HISTORY), rows))

    async def forget_old(self, now: datetime) -> None:
        def forget(connection: Connection) -> None:
            for table in (GUARD_HISTORY, ERP_PAST):
                connection.execute(delete(table).where(table.c.at_us < to_us(now - KEPT)))

        await self.write(forget)

    async def _remember(self, ask: Callable[..., T], *what: str) -> T:
        known, asked = self._remembered, (ask, *what)
        until, value = known.get(asked, (0.0, None))
        if until < time.monotonic():
            if len(known) >= REMEMBERED_MAX:
                known.clear()
            value = await self.read(ask, *what)
            known[asked] = time.monotonic() + REMEMBERED_S, value
        return value  # type: ignore[no-any-return] # each function gives one type only

    async def read(self, ask: Callable[Concatenate[Connection, P], T], *what: P.args, **told: P.kwargs) -> T:
        return await anyio.to_thread.run_sync(partial(self._store.ask, ask, *what, **told))

    async def write(self, change: Callable[[Connection], object]) -> None:
        def within() -> None:
            with self._store.begin() as connection:
                change(connection)

        await anyio.to_thread.run_sync(within, limiter=self._writers)


class SystemVault:
    """The sealed secrets of one system's ERP accounts."""

    def __init__(self, accounts: Accounts, sealer: Sealer, system: str) -> None:
        self._accounts, self._sealer, self._system = accounts, sealer, system

    async def reader(self) -> ErpAccount | None:
        """The account that the guard itself reads with: that of the principal `system:<name>`."""
        return await self._accounts.account(f"system:{self._system}", self._system)

    async def password(self, account: ErpAccount) -> Secret:
        try:
            return self._sealer.open(account.sealed_secret, sealed_for(self._system, account.principal))
        except OperatorFault as problem:
            raise NotLetIn(f"the password kept for {account.login} does not open") from problem

    async def rest_key(self, account: ErpAccount) -> Secret | None:
        where = (GUARD_KEY.c.system == self._system, GUARD_KEY.c.login == account.login)
        kept = select(GUARD_KEY.c.sealed_key).where(*where)
        sealed = await self._accounts.read(lambda connection: connection.scalar(kept))
        try:
            return None if sealed is None else self._sealer.open(sealed, self._key_purpose(account))
        except OperatorFault:
            return None  # sealed under another master key: a new one is made

    async def keep_rest_key(self, account: ErpAccount, key: Secret) -> None:
        sealed = self._sealer.seal(key, self._key_purpose(account))
        place = {"system": self._system, "login": account.login}
        await self._accounts.write(lambda connection: upsert(connection, GUARD_KEY, place, {"sealed_key": sealed}))

    async def learn_uid(self, account: ErpAccount, uid: str) -> None:
        table = ERP_ACCOUNT.c
        where = (table.principal == account.principal, table.system == self._system, table.uid == "")
        learnt = update(ERP_ACCOUNT).where(*where).values(uid=uid)
        await self._accounts.write(lambda connection: connection.execute(learnt))

    def _key_purpose(self, account: ErpAccount) -> str:
        return f"erp-key:{self._system}:{account.login}"
