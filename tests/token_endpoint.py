"""An authorization server that others wrote (Authlib), as an ERP's own: opaque tokens by client credentials."""

import json
import secrets
import ssl
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from authlib.oauth2.rfc6749 import AuthorizationServer, ClientMixin, OAuth2Request
from authlib.oauth2.rfc6749.grants import ClientCredentialsGrant
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload

from upstream import Echo, Server


class Client(ClientMixin):  # type: ignore[misc]  Authlib has no types
    def __init__(self, client_id: str, secret: str) -> None:
        self.client_id, self.secret = client_id, secret

    def check_client_secret(self, client_secret: str) -> bool:
        return client_secret == self.secret

    def check_endpoint_auth_method(self, method: str, _: str) -> bool:
        return method == "client_secret_basic"

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type == "client_credentials"

    def get_allowed_scope(self, scope: str) -> str:
        return scope if scope in {"", None, "erp"} else ""


class _Server(AuthorizationServer):  # type: ignore[misc]
    def __init__(self, endpoint: "TokenEndpoint") -> None:
        super().__init__(scopes_supported=["erp"])
        self._endpoint = endpoint
        self.register_grant(ClientCredentialsGrant)
        self.register_token_generator("default", endpoint.new_token)

    def query_client(self, client_id: str) -> Client | None:
        return self._endpoint.clients.get(client_id)

    def save_token(self, *_: Any) -> None: ...
    def send_signal(self, *_: Any, **__: Any) -> None: ...

    def create_oauth2_request(self, request: Any) -> OAuth2Request:
        made = OAuth2Request(request["method"], "https://erp.test/token", headers=request["headers"])
        made.payload = BasicOAuth2Payload(dict(parse_qsl(request["body"])))
        return made

    def handle_response(self, status: int, payload: Any, headers: Any) -> tuple[int, dict[str, str], str]:
        return status, dict(headers), json.dumps(payload)


class TokenEndpoint:
    """`good(token)`: whether the ERP takes it. `odd`: an answer instead of the server's own."""

    def __init__(self, life_s: int = 3600, certificate: tuple[Path, Path] | None = None) -> None:
        self.clients = {"erp-client": Client("erp-client", "planted-oauth-secret")}
        self.life_s, self.running = life_s, True
        self.odd: tuple[int, dict[str, str], str] | None = None
        self._given: dict[str, float] = {}
        self.server = Server(("127.0.0.1", 0), Echo)
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self._rules = _Server(self)
        self.server.start(self._reply)
        self.url = f"http{'s' * bool(certificate)}://localhost:{self.server.server_port}/token"

    def _reply(self, seen: Any) -> Any:
        headers = {name.title(): value for name, value in seen["headers"].items()}
        return self.odd or self._rules.create_token_response({**seen, "headers": headers})

    def new_token(self, **_: Any) -> dict[str, Any]:
        token = secrets.token_urlsafe(32)
        self._given[token] = time.monotonic() + self.life_s
        return {"access_token": token, "token_type": "Bearer", "expires_in": self.life_s}

    def good(self, header: str) -> bool:
        scheme, _, token = header.partition(" ")
        return scheme == "Bearer" and time.monotonic() < self._given.get(token, 0)

    @property
    def asked(self) -> int:
        return len(self.server.seen)

    def stop(self) -> None:
        """Also to connections that are open."""
        self.running, self.odd = False, (503, {"connection": "close"}, "")
        self.server.stop()
