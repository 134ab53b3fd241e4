"""The ERP's keys as Envoy reads them: each in a file of its own, which only its owner may read, named by no one else."""

import base64
import re
from collections.abc import Mapping
from typing import Final

from sqlalchemy import Connection, select

from ostiary.envoy.edge import Resources
from ostiary.foundation.files import write_atomically
from ostiary.foundation.home import Home
from ostiary.foundation.ids import content_hash
from ostiary.plan.model import HandOver, Plan, System
from ostiary.store import directory
from ostiary.store.database import Sealer
from ostiary.store.tables.directory import ERP_ACCOUNT

PLACES: Final = re.compile("{(key|login|basic)}")
FIT: Final = re.compile("[ -~]{1,8000}")  # of a header's value: no line of it ends early
NAME_CHARS: Final = 32


def values(system: System, login: str, key: str) -> dict[str, str]:
    """By header, what it holds for this account, where that turns on the account."""
    basic = base64.b64encode(f"{login}:{key}".encode()).decode()
    parts = {"key": key, "login": login, "basic": basic}
    return {
        name: PLACES.sub(lambda place: parts[place[1]], form)
        for name, form in system.sent.items()
        if PLACES.search(form)
    }


def fit(system: System, login: str, key: str) -> bool:
    return all(FIT.fullmatch(value) for value in values(system, login, key).values())


def write_keys(
    connection: Connection, sealer: Sealer, home: Home, plan: Plan
) -> Mapping[tuple[str, str], Mapping[str, str]]:
    """(system, principal) -> header -> the file with its value, for systems whose keys Envoy puts on.

    The name of a file follows from what is sealed, of which nobody can guess the key; a new key is another file.
    """
    handed = {system.name: system for system in plan.systems if system.hand_over is HandOver.KEY}
    (folder := home.envoy / "keys").mkdir(mode=0o700, exist_ok=True)
    found: dict[tuple[str, str], dict[str, str]] = {}
    chosen = select(ERP_ACCOUNT).where(ERP_ACCOUNT.c.system.in_(handed), ~ERP_ACCOUNT.c.principal.startswith("system:"))
    for row in connection.execute(chosen) if handed else ():
        system, sealed_for = handed[row.system], directory.sealed_for(row.system, row.principal)
        key = sealer.open(row.sealed_secret, sealed_for).reveal()
        if not fit(system, row.login, key):
            continue  # sealed for another kind of hand-over: whose it is has no key
        files = found[row.system, row.principal] = {}
        for name, value in values(system, row.login, key).items():
            told = f"{sealed_for} {row.login} {system.sends} {name} ".encode()
            path = folder / content_hash(told + row.sealed_secret, chars=NAME_CHARS)
            if not path.exists():
                write_atomically(path, value.encode())
            files[name] = str(path)
    return found


def forget_keys(home: Home, resources: Resources) -> None:
    """Takes away the files that nothing in `resources` names, which Envoy has in force."""
    named = str(resources["ecds/inject.json"])
    for path in (home.envoy / "keys").glob("*"):
        if path.name not in named:
            path.unlink(missing_ok=True)
