"""Who may operate an installation: its owner, root, and whom `administrators` in settings.toml names."""

import os
import pwd
import stat
from pathlib import Path
from typing import NamedTuple

from ostiary.foundation.errors import OperatorFault
from ostiary.foundation.home import Home
from ostiary.foundation.settings import Settings

OTHERS_ENTER = 0o011  # a folder: its names can't be listed, what is named in it can be reached


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
