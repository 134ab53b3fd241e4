"""Every identity endpoint against its own OpenAPI document (schemathesis): whatever is sent, no failure and no surprise.

`make test-long` sends much more.
"""

import re
import socket
import threading
from contextlib import contextmanager

import pytest
import requests
import schemathesis
import uvicorn
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tools import openapi

from ostiary.foundation.api_key import PLACE
from ostiary.identity import provisioning, registration

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
DOCUMENT = openapi.document()
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY")
TIMEOUT_S = 30
few = settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
many = settings(max_examples=1_000, deadline=None, suppress_health_check=list(HealthCheck))


@contextmanager
def served(app):
    """By uvicorn in a thread, on loopback: its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None, http="httptools"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


class Fuzzed:
    """The server, and the credentials that open each endpoint."""

    def __init__(self, world, url):
        self.world, self.url, self.session, self.count = world, url, requests.Session(), 0
        secret = world.register("directory")
        world.do(provisioning.allow, client_id="directory", roles=["clerk"], takes_over=["anna"])
        answer = world.token(("directory", secret), grant_type="client_credentials")
        self.scim = f"Bearer {answer.json()['access_token']}"
        self.person = f"Bearer {world.signed_in()['access_token']}"
        self.own = self.registered()

    def registered(self):
        answer = self.session.post(
            f"{self.url}/identity/register", json={"redirect_uris": ["https://a.example/"]}, headers=self.initial()
        )
        return answer.json()

    def initial(self):
        self.count += 1
        (token,) = self.world.do(
            registration.open_registration, sealer=self.world.sealer, name=f"n{self.count}", scopes=["erp/sale.*:read"]
        )
        return {"authorization": f"Bearer {token.reveal()}"}

    def credentials(self, path):
        if "/scim/" in path:
            return {"authorization": self.scim}
        if path.endswith("/userinfo"):
            return {"authorization": self.person}
        if path.endswith("/register"):
            return self.initial()
        if "/register/" in path:
            return {"authorization": f"Bearer {self.own['registration_access_token']}"}
        return {}

    def send(self, case):
        """Half of them with the right credential, and to what there is."""
        self.count += 1
        headers = {}
        if self.count % 2:
            headers = self.credentials(case.operation.path)
            if "client_id" in case.path_parameters:
                case.path_parameters["client_id"] = self.own["client_id"]
            if "id" in case.path_parameters:
                case.path_parameters["id"] = self.there(case.operation.path)
        response = case.call(base_url=self.url, session=self.session, headers=headers, timeout=TIMEOUT_S)
        if response.status_code == 204 and "/register/" in case.operation.path:
            self.own = self.registered()
        case.validate_response(response, checks=CHECKS)

    def there(self, path):
        if "Users" not in path:
            return "clerk" if "Groups" in path else "User"
        headers, name = {"authorization": self.scim}, f"u{self.count}"
        answer = self.session.post(f"{self.url}/identity/scim/v2/Users", json={"userName": name}, headers=headers)
        return answer.json()["id"]


@pytest.fixture(scope="module")
def fuzzed(sqlite_world):
    with served(sqlite_world.app) as url:
        yield Fuzzed(sqlite_world, url)


@pytest.fixture(scope="module")
def fuzzed_long(lasting_world):
    with served(lasting_world.app) as url:
        yield Fuzzed(lasting_world, url)


@SCHEMA.parametrize()
@few
def test_no_request_fails_or_is_answered_as_nobody_said(fuzzed, case):
    fuzzed.send(case)


@pytest.mark.long
@SCHEMA.parametrize()
@many
def test_no_request_of_many_fails_or_is_answered_as_nobody_said(fuzzed_long, case):
    fuzzed_long.send(case)


def test_the_document_names_every_route_and_no_other(sqlite_world):
    """But for where the gate shows an API key: no caller reaches that."""
    served = [route for route in sqlite_world.app.routes if not route.path.startswith(PLACE)]
    routes = {(route.path, method) for route in served for method in route.methods - {"HEAD"}}
    named = {
        (path, method.upper())
        for path, told in DOCUMENT["paths"].items()
        for method in told
        if method in openapi.METHODS
    }
    scim = {one for one in named if "/scim/" in one[0]}
    assert {(path, method) for path, method in routes if "/scim/" not in path} == named - scim
    assert {method for _, method in scim} == {method for path, method in routes if "/scim/" in path}


def test_what_is_not_named_is_not_allowed(fuzzed):
    for path, told in DOCUMENT["paths"].items():
        place = re.sub(r"{\w+}", "x", path)
        for method in set(METHODS) - {name.upper() for name in told}:
            answer = requests.request(method, fuzzed.url + place, headers=fuzzed.credentials(path), timeout=TIMEOUT_S)
            assert answer.status_code == 405, (method, path, answer.text)
            assert method not in answer.headers["allow"].split(", ")


def test_every_content_type_but_the_right_one_is_refused(fuzzed):
    for path, told in DOCUMENT["paths"].items():
        for method in {"post", "put", "patch"} & told.keys():
            headers = {**fuzzed.credentials(path), "content-type": "application/xml"}
            url = fuzzed.url + re.sub(r"{\w+}", "x", path)
            answer = requests.request(
                method, url, headers=headers, data="<x/>", timeout=TIMEOUT_S, allow_redirects=False
            )
            assert 400 <= answer.status_code < 500 or path.endswith(("/account", "/logout", "/userinfo")), (
                method,
                path,
            )
