"""One installation, opened, and who may operate it: its owner, root, and whom settings.toml names."""

import fcntl
import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import select

from ostiary.foundation.clock import Clock, SystemClock
from ostiary.foundation.errors import OperatorFault, SystemFault
from ostiary.foundation.home import PRIVATE, Home, Settings, load_settings
from ostiary.store.database import Sealer, Store, named_sealer, open_store
from ostiary.store.plans import revision_in_force
from ostiary.store.tables import REVISION

OTHERS_ENTER = 0o011  # a folder: its names can't be listed, what is named in it can be reached


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
    with closing(on.store):
        yield on


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
            told, hint = f"the installation in {home.root} runs already", "to end it: Ctrl-C, or systemctl stop"
            raise OperatorFault("already-running", told, hint=f"see `ostiary status`; {hint}") from None
        yield


def runs(home: Home) -> bool:
    """Whether `alone` is taken, by whom this does not disturb: who takes the lock to see it keeps `up` from starting."""
    with suppress(OSError):
        return f":{(home.run / 'up.lock').stat().st_ino} " in Path("/proc/locks").read_text()
    return False


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


class Administrators(NamedTuple):
    """Actors, as the control socket's peer names them: `uid:1000`."""

    owners: frozenset[str]
    named: frozenset[str]

    @property
    def approvers(self) -> frozenset[str]:
        """Whose yes counts: whoever may become root is not somebody else once there are others."""
        return self.named or self.owners

    def refuse_other(self, actor: str) -> None:
        """Raises where the actor may not operate this installation."""
        if actor not in self.owners | self.named:
            told = f"{actor} is no administrator of this installation"
            raise OperatorFault("no-administrator", told, hint="`administrators` in settings.toml names who is")

    def refuse_silent(self, actor: str) -> None:
        """Raises where the actor's yes does not count."""
        if actor not in self.approvers:
            told = f"the approval of {actor} does not count: settings.toml names others as administrators"
            raise OperatorFault("no-approver", told, hint=f"one of: {', '.join(sorted(self.approvers))}")


def administrators(home: Home, settings: Settings) -> Administrators:
    named = frozenset(map(_actor, settings.administrators))
    owner = home.root.stat().st_uid if home.root.exists() else os.geteuid()
    owners = frozenset({"uid:0", f"uid:{owner}"})
    return Administrators(owners, named)


def let_in(home: Home, socket: Path, *, others: bool) -> None:
    """Lets other users of the machine connect, or nobody: the kernel tells who it is, and strangers are refused."""
    for folder in (home.root, home.run):
        mode = stat.S_IMODE(folder.stat().st_mode)
        folder.chmod(mode | OTHERS_ENTER if others else mode & ~OTHERS_ENTER)
    if others:
        socket.chmod(0o666)


def _actor(user: str) -> str:
    try:
        return f"uid:{int(user) if user.isdecimal() else pwd.getpwnam(user).pw_uid}"
    except KeyError:
        told = f"administrators in settings.toml names {user}, which is no user of this machine"
        raise OperatorFault("settings-invalid", told, hint="the name of a login, or its number") from None
