"""SCIM through the running gate: by a client and a tester that we did not write; whom a directory disables is out at once."""

import ssl
import time

import httpx
import pytest
from scim2_client.client import BaseSyncSCIMClient
from scim2_tester import Status, check_server
from tools.caller import sign_in

from ostiary.foundation.secret import Secret
from running import RUNNING, site, until  # noqa: F401

pytestmark = RUNNING
BACK = "http://127.0.0.1/back"
PASSWORD = "a long one, of many words"


class Client(BaseSyncSCIMClient):
    """The library's own engine is for a client that we do not have."""

    def __init__(self, http):
        super().__init__()
        self.http = http

    def _stays_under_base_url(self, endpoint):
        return True

    def _parse_json(self, response):
        return response.json()

    def request(self, method, url, **told):
        return self.http.request(method, url, **told)


@pytest.fixture
def directory(site):  # noqa: F811
    """(a client of ours for SCIM, a plain one)."""
    name = f"dir-{time.monotonic_ns()}"
    site.client(name, "visitor")
    site.ask("provisioning.allow", client_id=name, roles=["visitor"], takes_over=[])
    token = site.fresh(name)
    headers = {"authorization": f"Bearer {token}"}
    trust = ssl.create_default_context(cafile=str(site.authority))
    with httpx.Client(base_url=f"{site.origin}/identity/scim/v2", verify=trust, headers=headers, timeout=30) as http:
        yield Client(http), http


def test_a_tester_that_we_did_not_write_finds_no_fault(directory):
    client, _ = directory
    client.discover()
    # Not Group: it tests only groups that it makes itself and deletes, and here a group is a role that an administrator
    # opened, which nobody makes from outside (`POST /Groups` is refused, as test_scim shows, with what can be done to one).
    results = check_server(client, resource_types=["User"])
    wrong = [
        f"{one.title}: {one.reason}"
        for one in results
        if one.status not in {Status.SUCCESS, Status.ACCEPTABLE, Status.SKIPPED}
    ]
    assert not wrong, "\n".join(wrong)
    assert len(results) > 30


@pytest.mark.standard("A5")
def test_whom_a_directory_disables_the_gate_refuses_on_an_open_connection(site, directory):  # noqa: F811
    _, http = directory
    login = f"eva-{time.monotonic_ns()}"
    made = http.post("/Users", json={"userName": login}).json()
    members = {"Operations": [{"op": "add", "path": "members", "value": [{"value": made["id"]}]}]}
    assert http.patch("/Groups/visitor", json=members).status_code == 200
    site.ask("user.password", login=login, password=PASSWORD)
    site.ask("client.add", client_id=f"app-{login}", auth="none", redirects=[BACK])
    given = sign_in(site.caller(), f"app-{login}", BACK, login, Secret(PASSWORD), "openid shop/*:read")
    caller = site.caller(given["access_token"])
    assert caller.send("GET", "/shop/stock").status == 200
    off = {"Operations": [{"op": "Replace", "path": "active", "value": "False"}]}
    assert http.patch(f"/Users/{made['id']}", json=off).json()["active"] is False
    until(lambda: caller.send("GET", "/shop/stock").reason == "token-revoked")  # how soon, the benchmark measures
    entry = site.ask("audit.list", action="principal.disable", limit=1)[0]
    assert (entry["actor"].startswith("client:dir-"), entry["object"]) == (True, f"user:{login}")


def test_a_large_group_passes_the_gate_and_a_larger_body_does_not(directory):
    _, http = directory
    strange = {"members": [{"value": f"scim-{number:032}"} for number in range(1000)]}
    assert http.put("/Groups/visitor", json=strange).status_code == 400  # read, and nobody of it is known
    assert http.put("/Groups/visitor", content=b" " * 300_000).status_code == 413


def test_policy_and_duties_hold_for_directories_too(site, directory):  # noqa: F811
    _, http = directory
    made = http.post("/Users", json={"userName": f"kai-{time.monotonic_ns()}"}).json()
    site.ask("provisioning.allow", client_id=http_client(site, made), roles=["packer"], takes_over=[])
    site.apply(site.policy(("packer:", "wrapper:")))  # the role went after it was opened
    members = {"Operations": [{"op": "add", "path": "members", "value": [{"value": made["id"]}]}]}
    answer = http.patch("/Groups/packer", json=members)
    site.apply(site.policy())
    assert answer.status_code == 400
    assert "has no role packer" in answer.json()["detail"]


def http_client(site, made):  # noqa: F811
    entry = site.ask("audit.list", action="user.add", limit=1)[0]
    assert entry["object"] == f"user:{made['userName']}"
    return entry["actor"].removeprefix("client:")
