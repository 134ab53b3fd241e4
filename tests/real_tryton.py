"""A real, seeded Tryton 8.2 for tests: one server for each worker, on its own copy of one template.

`from real_tryton import tryton` in a folder's conftest gives the fixture; the server is the same in every folder.
Tests share the database, so each makes the records it needs.
"""

import atexit
import base64
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest

from ostiary.cli.demo.stand import DemoErp, prepare, serving

CACHE = Path(os.environ.get("OSTIARY_CACHE") or Path.home() / ".cache/ostiary")
IN_THE_COMPANY = {"company": 1, "companies": [1]}


class ErpError(Exception):
    """The ERP said no; the text is its own."""


@dataclass(frozen=True, kw_only=True)
class RealTryton:
    """Calls straight at the server, as any of its users, and looks at its database without it."""

    erp: DemoErp
    http: httpx.Client
    after: ExitStack
    sessions: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def database(self) -> Path:
        return self.erp.folder / "db" / f"{self.erp.database}.sqlite"

    def session(self, login: str) -> str:
        """The value of the `authorization` header that acts as this ERP user."""
        if login not in self.sessions:
            uid, token, _ = self.post("common.db.login", login, {"password": self.erp.users[login].reveal()}, "en")
            text = base64.b64encode(f"{login}:{uid}:{token}".encode()).decode()
            self.sessions[login] = f"Session {text}"
        return self.sessions[login]

    def call(self, login: str, method: str, *params: Any, context: Mapping[str, Any] = IN_THE_COMPANY) -> Any:
        try:
            return self.post(method, *params, dict(context), authorization=self.session(login))
        except ErpError as refused:
            if "401" not in str(refused):
                raise
            del self.sessions[login]  # a test took it away
            return self.post(method, *params, dict(context), authorization=self.session(login))

    def post(self, method: str, *params: Any, authorization: str = "") -> Any:
        """The call's result; raises ErpError where there is none."""
        headers = {"authorization": authorization} if authorization else {}
        body = {"id": 1, "method": method, "params": list(params)}
        answer = self.http.post(f"/{self.erp.database}/rpc/", json=body, headers=headers)
        told = answer.json() if answer.status_code == httpx.codes.OK else {}
        if "result" not in told:
            raise ErpError(f"{answer.status_code} {told.get('error')}")
        return told["result"]

    def execute(self, sql: str, *values: Any) -> None:
        """A change behind the server's back."""
        connection = sqlite3.connect(self.database, timeout=30)
        try:
            with connection:
                connection.execute(sql, values)
        finally:
            connection.close()

    def select(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """A second look: what the database holds, whatever the server says of it."""
        connection = sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)
        try:
            return connection.execute(sql, values).fetchall()
        finally:
            connection.close()


def begin(folder: Path, port: int = 0) -> RealTryton:
    """A server of its own on a fresh copy, for a test that stops or spoils it; `end` it."""
    after = ExitStack()
    erp = after.enter_context(serving(template(), folder, port))
    http = after.enter_context(httpx.Client(base_url=erp.url, timeout=60, trust_env=False))
    return RealTryton(erp=erp, http=http, after=after)


def end(server: RealTryton) -> None:
    server.after.close()


@cache
def template() -> Path:
    """Built once on a machine; a second worker waits for the first."""
    return prepare(CACHE, lambda _: None)


@cache
def shared() -> RealTryton:
    """The one of this worker; gone with it."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else "/tmp"
    folder = Path(tempfile.mkdtemp(prefix="erp-", dir=memory))
    server = begin(folder)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(end, server)
    return server


@pytest.fixture(scope="session")
def tryton() -> RealTryton:
    return shared()
