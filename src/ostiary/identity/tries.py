"""How often a password may be tried: five times for one account from one place in five minutes.

A key is half the account, half the place: so an administrator sees who is kept out, and lets him in again.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from sqlalchemy import Connection, bindparam, case, delete, select, update

from ostiary.identity.credentials import digest
from ostiary.store.database import insert_of
from ostiary.store.tables import THROTTLE

FAILURES_MAX: Final = 5
THROTTLE_S: Final = 300
_CLEAR: Final = delete(THROTTLE).where(THROTTLE.c.key == bindparam("place"))
HALF: Final = 32  # hex digits: 128 bits of each


def place_of(key: bytes, login: str, where: str) -> str:
    """What tries are counted by; neither the login, which may be a password in the wrong field, nor the place in clear."""
    return _account(key, login) + digest(key, "throttle-place", where)[:HALF]


def count(connection: Connection, place: str, now_s: int, most: int = FAILURES_MAX) -> int:
    """Counts the try before it is made, so that parallel ones count too: 0, or for how long it is not even looked at."""
    facts = {"place": place, "now_s": now_s, "until_s": now_s + THROTTLE_S}
    row = connection.execute(_counted(connection.dialect.name), facts).one()
    return int(row.expires_at_s) - now_s if row.failures > most else 0


@cache
def _counted(dialect: str) -> Any:
    until_s: Any = bindparam("until_s")
    lapsed = THROTTLE.c.expires_at_s <= bindparam("now_s")
    first = insert_of(dialect, THROTTLE).values(key=bindparam("place"), failures=1, expires_at_s=until_s)
    again = {
        "failures": case((lapsed, 1), else_=THROTTLE.c.failures + 1),
        "expires_at_s": case((lapsed, until_s), else_=THROTTLE.c.expires_at_s),
    }
    counted = first.on_conflict_do_update(index_elements=["key"], set_=again)
    return counted.returning(THROTTLE.c.failures, THROTTLE.c.expires_at_s)


def give_back(connection: Connection, place: str) -> None:
    """A try that was right counts for nothing, and wipes out no other."""
    here = (THROTTLE.c.key == place, THROTTLE.c.failures > 0)
    connection.execute(update(THROTTLE).where(*here).values(failures=THROTTLE.c.failures - 1))


def clear(connection: Connection, place: str) -> None:
    """After the right password."""
    connection.execute(_CLEAR, {"place": place})


def unlock(connection: Connection, key: bytes, login: str) -> None:
    """Every place counts from nothing again."""
    connection.execute(delete(THROTTLE).where(THROTTLE.c.key.between(half := _account(key, login), f"{half}g")))


def locked(connection: Connection, key: bytes, logins: list[str], now_s: int) -> Mapping[str, int]:
    """Login -> for how many seconds more some place is not let try, of those for whom there is such a place."""
    mine = (THROTTLE.c.failures >= FAILURES_MAX) & (THROTTLE.c.expires_at_s > now_s)
    rows = connection.execute(select(THROTTLE.c.key, THROTTLE.c.expires_at_s).where(mine)).all()
    ends: dict[str, int] = {}
    for row in rows:
        ends[row.key[:HALF]] = max(ends.get(row.key[:HALF], 0), row.expires_at_s)
    return {login: ends[half] - now_s for login in logins if rows and (half := _account(key, login)) in ends}


def _account(key: bytes, login: str) -> str:
    return digest(key, "throttle-account", login)[:HALF]
