"""The adapter beside the server whose requests it reads."""

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import httpx
import pytest

from ostiary.erp.adapters import understood
from ostiary.erp.catalogue import Catalogue, Site
from ostiary.erp.operation import Call, Request, Unreadable
from ostiary.erp.tryton import learn
from real_tryton import RealTryton


@dataclass(frozen=True)
class Pair:
    """One request shown to both: what the adapter reads, and what the server does with the same bytes."""

    server: RealTryton
    catalogue: Catalogue
    login: str = "admin"

    def reads(self, request: Request) -> Call | Unreadable:
        return understood("tryton", request, Site(name="erp", database="erp", catalogue=self.catalogue))

    def does(self, request: Request, **extra: str) -> httpx.Response:
        rest = request.path.startswith("/erp/rest/")
        own = {"authorization": f"bearer {self.key}" if rest else self.server.session(self.login)}
        url = request.path + (f"?{request.query}" if request.query else "")
        headers = {**own, **request.headers, **extra}
        return self.server.http.request(request.method, url, headers=headers, content=request.body)

    @cached_property
    def key(self) -> str:
        """A key for the REST interface, which takes no session."""
        values = {"user": self.server.erp.uids[self.login], "application": "rest"}
        (made,) = self.server.call(self.login, "model.res.user.application.create", [values])
        (row,) = self.server.call(self.login, "model.res.user.application.read", [made], ["key"])
        return str(row["key"])


def rpc(method: str, *params: Any, **headers: str) -> Request:
    """A JSON-RPC request as it goes over the wire, in the company."""
    body = json.dumps({"id": 1, "method": method, "params": [*params, {"company": 1}]}).encode()
    headers = {"content-type": "application/json", **{name.replace("_", "-"): v for name, v in headers.items()}}
    return Request(method="POST", path="/erp/rpc/", headers=headers, body=body)


def rest(method: str, path: str, query: str = "", body: Any = None, **headers: str) -> Request:
    sent = b"" if body is None else json.dumps(body).encode()
    told = {"content-type": "application/json"} if sent or method == "POST" else {}
    told |= {name.replace("_", "-"): value for name, value in headers.items()}
    return Request(method=method, path=f"/erp/rest/{path}", query=query, headers=told, body=sent)


@pytest.fixture(scope="session")
def pair(tryton) -> Pair:
    tryton.sessions.pop("gateway", None)  # another test may have ended it
    session = tryton.session("gateway")  # the user that a policy's system is learned with
    return Pair(tryton, learn(lambda method, *params: tryton.post(method, *params, authorization=session)))
