"""One installation, opened: what every process of it stands on."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import select

from ostiary.foundation.clock import Clock, SystemClock
from ostiary.foundation.errors import OperatorFault, SystemFault
from ostiary.foundation.files import PRIVATE
from ostiary.foundation.home import Home
from ostiary.foundation.settings import Settings, load_settings
from ostiary.store.database import Store, open_store
from ostiary.store.plans import revision_in_force
from ostiary.store.seal import Sealer, named_sealer
from ostiary.store.tables.control import REVISION


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    home: Home
    settings: Settings
    store: Store
    sealer: Sealer
    clock: Clock


def refuse_empty(home: Home) -> None:
    """A folder that holds no installation."""
    if not home.settings.exists():
        hint = "make one with `ostiary init --erp tryton --upstream URL`, or name its folder with --home"
        raise OperatorFault("no-installation", f"{home.root} holds no installation", hint=hint)


def open_installation(home: Home) -> Installation:
    """The installation in `home`; refuses a folder that holds none, and a store that is not its own."""
    refuse_empty(home)
    settings = load_settings(home.settings)
    sealer = named_sealer(settings, home.keys / "master.key")
    store = open_store(settings.store or f"sqlite:///{home.database}")
    try:
        _refuse_foreign(store, home)
    except BaseException:
        store.close()
        raise
    return Installation(home=home, settings=settings, store=store, sealer=sealer, clock=SystemClock())


@contextmanager
def opened(home: Home) -> Iterator[Installation]:
    """`open_installation`, closed at the end of the block."""
    on = open_installation(home)
    try:
        yield on
    finally:
        on.store.close()


@contextmanager
def alone(home: Home) -> Iterator[None]:
    """While nothing of it runs, nor starts."""
    refuse_empty(home)  # makes no folder where there is none: a demo may just have removed it
    home.run.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(home.run / "up.lock", os.O_WRONLY | os.O_CREAT, PRIVATE)
    with os.fdopen(descriptor, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            told = f"the installation in {home.root} runs already"
            raise OperatorFault("already-running", told, hint="see `ostiary status`") from None
        yield


def _refuse_foreign(store: Store, home: Home) -> None:
    """A store that was emptied, or is another one: an installation that has a policy in force has it recorded."""
    with store.read() as connection:
        known = connection.execute(select(REVISION.c.number).limit(1)).first()
    if known is None and revision_in_force(home):
        raise unrecorded()


def unrecorded() -> SystemFault:
    return SystemFault(
        "policy-unrecorded",
        "the store knows of no policy: it was emptied, or is not the one this installation was made with",
        hint="mend `store` in settings.toml, or restore the last backup with `ostiary restore`; `ostiary backup` and "
        "`restore --store URL` move to another database",
    )
