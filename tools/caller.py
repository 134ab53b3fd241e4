"""Callers of a gate for tour, tests and bench: one connection that stays open, and signing in as people do."""

import base64
import json
import re
import secrets
import ssl
from http.client import HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs, urlencode, urlsplit

from ostiary.cli.demo.stand import authorization
from ostiary.foundation.errors import SystemFault
from ostiary.foundation.secret import Secret

TIMEOUT_S: Final = 30
SCOPE: Final = "openid erp/*:read erp/*:write erp/*:execute"
FORM: Final = "application/x-www-form-urlencoded"
HIDDEN: Final = re.compile(r'<input[^>]*type="hidden"[^>]*name="([^"]+)"[^>]*value="([^"]*)"')


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def decision(self) -> str:
        return self.headers.get("ostiary-decision", "")

    @property
    def reason(self) -> str:
        """The word of a refusal, or "" where the body holds none."""
        try:
            return str(self.json().get("reason", ""))
        except (ValueError, AttributeError):
            return ""


class Caller:
    """One connection to the gate, opened once: what changes must reach it as it is."""

    def __init__(self, origin: str, authority: Path, token: str = "") -> None:
        place = urlsplit(origin)
        context = ssl.create_default_context(cafile=str(authority))
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        self._connection = HTTPSConnection(place.hostname or "", place.port, timeout=TIMEOUT_S, context=context)
        self._connection.connect()
        self._connection.auto_open = 0  # never silently a new one
        self.token = token

    def send(
        self, method: str, path: str, body: bytes = b"", *, content_type: str = "application/json", **headers: str
    ) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.token:
            named.setdefault("authorization", f"Bearer {self.token}")
        if body:
            named["content-type"] = content_type
        self._connection.request(method, path, body or None, named)
        return _answer(self._connection.getresponse())

    def rpc(self, method: str, *params: Any) -> Answer:
        """A JSON-RPC call to the demo's Tryton."""
        body = {"id": 1, "method": method, "params": [*params, {"company": 1, "companies": [1]}]}
        return self.send("POST", "/erp/rpc/", json.dumps(body).encode())

    def form(self, path: str, *, basic: str = "", cookie: str = "", **fields: str) -> Answer:
        headers = {"authorization": f"Basic {basic}"} if basic else {}
        if cookie:
            headers["cookie"] = cookie
        return self.send("POST", path, urlencode(fields).encode(), content_type=FORM, **headers)

    def close(self) -> None:
        self._connection.close()


def _answer(response: HTTPResponse) -> Answer:
    headers: dict[str, str] = {}
    for name, value in response.getheaders():
        key = name.lower()
        headers[key] = f"{headers[key]}\n{value}" if key in headers else value
    return Answer(response.status, headers, response.read())


def basic(name: str, secret: Secret) -> str:
    return base64.b64encode(f"{name}:{secret.reveal()}".encode()).decode()


def machine_token(caller: Caller, client: str, secret: Secret) -> Answer:
    """Client credentials (RFC 6749 section 4.4)."""
    return caller.form("/identity/token", basic=basic(client, secret), grant_type="client_credentials")


def sign_in(  # noqa: PLR0917  who signs in, by which client
    caller: Caller, client: str, redirect: str, login: str, password: Secret, scope: str = SCOPE
) -> dict[str, Any]:
    """A person's tokens, by authorization code with PKCE, through the sign-in page as a browser would."""
    verifier, state = secrets.token_urlsafe(48), secrets.token_urlsafe(16)
    more = {"scope": scope, "state": state, "nonce": secrets.token_urlsafe(16)}
    page = caller.send("GET", authorization(client, redirect, verifier, **more))
    back = answer_page(caller, page, login, password)
    given = parse_qs(urlsplit(back).query)
    if given.get("state") != [state]:
        told = "the sign-in came back with another state"
        raise SystemFault("sign-in-state", told, hint="see RFC 6749 section 10.12")
    fields = {"grant_type": "authorization_code", "code": given["code"][0], "redirect_uri": redirect}
    answer = caller.form("/identity/token", client_id=client, code_verifier=verifier, **fields)
    return dict(answer.json())


def answer_page(caller: Caller, page: Answer, login: str, password: Secret) -> str:
    """Fills the form, follows our own redirects, and returns the address the person is sent back to."""
    cookie = _cookies(page)
    for _ in range(4):
        hidden = dict(HIDDEN.findall(page.body.decode()))
        fields = {**hidden, "username": login, "password": password.reveal(), "decision": "allow"}
        action = re.search(r'<form[^>]*action="([^"]+)"', page.body.decode())
        target = action[1].replace("&amp;", "&") if action else "/identity/sign-in"
        answer = caller.form(urlsplit(target).path, cookie=cookie, **fields)
        cookie = "; ".join(filter(None, (cookie, _cookies(answer))))
        back = answer.headers.get("location", "")
        if parse_qs(urlsplit(back).query).get("code"):
            return back
        page = caller.send("GET", back, cookie=cookie) if back else answer
    told = f"{login} could not sign in (status {page.status})"
    raise SystemFault("sign-in-failed", told, hint="see `ostiary event list`")


def _cookies(answer: Answer) -> str:
    return "; ".join(line.split(";")[0] for line in answer.headers.get("set-cookie", "").split("\n") if line)
