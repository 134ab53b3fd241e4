"""HTTP over a UNIX socket: how our processes, and Envoy's admin side, are asked on one machine."""

import json
import socket
from collections.abc import Mapping
from contextlib import suppress
from errno import EPROTO
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Final, NamedTuple

from msgspec import to_builtins

from ostiary.foundation.errors import SystemFault, retold

TIMEOUT_S: Final = 60.0


class Answer(NamedTuple):
    status: int
    body: bytes


def ask(path: Path, method: str, target: str, body: bytes = b"", *, timeout_s: float = TIMEOUT_S) -> Answer:
    """The answer of the server at socket `path`; raises OSError when there is none."""
    connection = _UnixConnection(path, timeout_s)
    try:
        connection.connect()
        with suppress(ConnectionError):  # who was refused before he had asked is told why
            connection.request(method, target, body, {"content-type": "application/json"} if body else {})
        response = connection.getresponse()
        return Answer(response.status, response.read())
    except HTTPException as problem:
        raise problem if isinstance(problem, OSError) else OSError(EPROTO, "it broke off") from problem
    finally:
        connection.close()


def call(path: Path, name: str, told: Mapping[str, Any], *, timeout_s: float = TIMEOUT_S) -> Any:
    """What the process at socket `path` answers to operation `name`; its failure is raised as the error it was there.

    Raises OSError where nobody answers.
    """
    answer = ask(path, "POST", f"/{name}", json.dumps(told, default=to_builtins).encode(), timeout_s=timeout_s)
    try:
        content = json.loads(answer.body)
    except ValueError as problem:
        what = f"{name.rpartition('/')[2]} got no answer: it broke off"
        raise SystemFault("no-answer", what, hint="try `ostiary doctor`") from problem
    if "result" not in content:
        raise retold(content["error"])
    return content["result"]


class _UnixConnection(HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("ostiary", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
