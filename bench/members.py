"""Those who ask the authorization server: a machine and a person each, over its own socket and one connection."""

import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final, NamedTuple

from msgspec import Struct
from tools.caller import Caller, sign_in

from bench.process import CORES, cpu_s, on
from bench.stand import Client, Stand
from ostiary.foundation.errors import OstiaryError
from ostiary.foundation.secret import Secret

TIMEOUT_S: Final = 30
WEB: Final = "web"
BACK: Final = "https://web.example/back"
PASSWORD: Final = Secret("a long walk by the sea")
OK: Final = 200


class Act(NamedTuple):
    seconds: float
    ok: bool


class Round(Struct, frozen=True, kw_only=True):
    """What all members did together in `seconds`, and what CPU time the process that answered them has used."""

    acts: tuple[Act, ...]
    seconds: float
    cpu_s: float

    @property
    def rate(self) -> float:
        return len(self.acts) / self.seconds

    @property
    def cpu_us(self) -> float:
        """Of one act."""
        return self.cpu_s / len(self.acts) * 1e6


class Inside(Caller):
    """Speaks to a process of ours as the gate does."""

    def __init__(self, path: Path) -> None:
        self._connection: Any = _Socket(path)
        self.token = ""


class _Socket(HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("identity", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock: Any = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(str(self._path))


@dataclass(slots=True, kw_only=True)
class Member:
    """Each act says whether it was granted."""

    client: Client
    login: str
    tokens: list[str] = field(default_factory=list)
    renewal: str = ""

    def grant(self, caller: Caller) -> bool:
        answer = caller.form("/identity/token", basic=self.client.basic, grant_type="client_credentials")
        self.tokens += [answer.json()["access_token"]] if answer.status == OK else []
        return answer.status == OK

    def revoke(self, caller: Caller) -> bool:
        answer = caller.form("/identity/revoke", basic=self.client.basic, token=self.tokens.pop())
        return answer.status == OK

    def sign_in(self, caller: Caller) -> bool:
        """The page, the password, the code, the tokens: three requests."""
        try:
            self.renewal = sign_in(caller, WEB, BACK, self.login, PASSWORD)["refresh_token"]
        except (OstiaryError, KeyError):
            return False
        return True

    def refresh(self, caller: Caller) -> bool:
        fields = {"grant_type": "refresh_token", "client_id": WEB, "refresh_token": self.renewal}
        answer = caller.form("/identity/token", **fields)
        self.renewal = answer.json().get("refresh_token", "")
        return answer.status == OK


def enrolled(stand: Stand, count: int) -> list[Member]:
    stand.ask("client.add", client_id=WEB, redirects=[BACK], auth="none")
    members = []
    for number in range(count):
        client, login = stand.client(f"c{number}", ["r0"], []), f"u{number}"
        stand.ask("user.add", login=login, password=PASSWORD.reveal(), roles=["r0"])
        members.append(Member(client=client, login=login))
    return members


def together(opened: Callable[[], Caller], acts: Sequence[Callable[[Caller], bool]], times: int, pid: int) -> Round:
    """Everyone does his act so many times, one after the other, all of them at once, from a core of their own."""
    with on(CORES.load), ThreadPoolExecutor(len(acts)) as pool:
        began, before = time.perf_counter(), cpu_s(pid)
        found = list(pool.map(lambda act: _repeated(opened, act, times), acts))
        took, used = time.perf_counter() - began, cpu_s(pid) - before
    return Round(acts=tuple(one for some in found for one in some), seconds=took, cpu_s=used)


def _repeated(opened: Callable[[], Caller], act: Callable[[Caller], bool], times: int) -> list[Act]:
    caller, found = opened(), []
    for _ in range(times):
        began = time.perf_counter()
        ok = act(caller)
        found.append(Act(time.perf_counter() - began, ok))
    caller.close()
    return found
