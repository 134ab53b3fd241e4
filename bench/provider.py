"""npm `oidc-provider`, certified and widely used, on the same core and asked in the same way: what it gives is kept in memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests import others
from tools.caller import Caller, basic

from bench.members import TIMEOUT_S
from bench.process import CORES, free_port, running, wait_for_port
from ostiary.foundation.secret import Secret

SCRIPT: Final = Path(__file__).with_suffix(".mjs")
CLIENT: Final = "c0"
SECRET: Final = Secret("a-secret-as-long-as-those-that-ostiary-generates")
OK: Final = 200


class Plain(Caller):
    """Over a connection without TLS, as ours is asked over a socket."""

    def __init__(self, port: int) -> None:
        self._connection: Any = HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
        self.token = ""


class Other(NamedTuple):
    port: int
    pid: int

    def caller(self) -> Caller:
        return Plain(self.port)


@contextmanager
def provider(folder: Path) -> Iterator[Other]:
    """While it runs, on the core of what is tested."""
    port, log = free_port(), folder / "provider.log"
    command = [others.NODE, SCRIPT, others.installed(), str(port), SECRET.reveal()]
    with running(command, log, env={"NODE_ENV": "production"}, cores=CORES.tested) as process:
        wait_for_port(port, process, log)
        yield Other(port, process.pid)


def grant(caller: Caller) -> bool:
    answer = caller.form("/token", basic=basic(CLIENT, SECRET), grant_type="client_credentials")
    return answer.status == OK and answer.json()["access_token"].count(".") == 2
