"""The authorization server as callers reach it: through the gate, by TLS, and nothing else."""

import socket
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace
from tools.caller import sign_in

from ostiary.control.installation import open_installation
from ostiary.foundation.jose import sign_access_token, verify_access_token
from ostiary.foundation.secret import Secret
from ostiary.identity import keys
from ostiary.store.directory import access_keys
from running import RUNNING, site, until  # noqa: F401

pytestmark = RUNNING
BACK = "http://127.0.0.1/back"
PASSWORD = "a long one, of many words"


def plainly(port, request):
    """What a request without TLS gets."""
    with socket.create_connection(("localhost", port), timeout=10) as connection:
        connection.sendall(request)
        try:
            return connection.recv(1000)
        except ConnectionResetError:
            return b""


@pytest.mark.standard("A8")
def test_every_endpoint_is_reached_by_tls_only(site):  # noqa: F811
    told = site.once("GET", "/identity/.well-known/openid-configuration").json()
    places = [told[name] for name in told if name.endswith(("_endpoint", "_uri"))]
    assert len(places) == 10
    for place in places:
        assert place.startswith(f"{site.origin}/identity/")
        path = place.removeprefix(site.origin)
        assert site.once("PATCH", path).status == 405
        for version in ("1.1", "1.0"):
            assert plainly(site.port, f"GET {path} HTTP/{version}\r\nHost: localhost\r\n\r\n".encode()) == b""


@pytest.mark.standard("A8")
def test_the_gate_looks_at_the_token_of_every_request(site):  # noqa: F811
    """On one connection, right after a good one: another's, one that has lapsed, a changed one, none."""
    good = site.token("clerk")
    caller = site.caller()

    def reason(token):
        caller.token = token
        answer = caller.send("GET", "/shop/stock")
        return answer.reason if answer.status != 200 else "allowed"

    lapsed = aged(site, good, timedelta(hours=-2))
    for wrong in (lapsed, good[:-6] + "AAAAAA", good.rpartition(".")[0] + "."):
        assert reason(good) == "allowed"
        assert reason(wrong) == "token-invalid"
    assert reason(good) == "allowed"
    assert reason("") == "token-missing"
    assert reason(aged(site, good, timedelta())) == "allowed"


@pytest.mark.standard("A5")
def test_a_refresh_token_that_comes_again_takes_its_whole_family_away_at_the_gate_too(site):  # noqa: F811
    """RFC 9700 section 4.14.2: owner and thief cannot be told apart, so neither goes on."""

    def renewed(token):
        return site.caller().form(
            "/identity/token", grant_type="refresh_token", client_id="till", refresh_token=token
        )  # fmt: skip

    site.ask("client.add", client_id="till", auth="none", redirects=[BACK])
    site.ask("user.add", login="tina", password=PASSWORD, roles=["visitor"])
    first = sign_in(site.caller(), "till", BACK, "tina", Secret(PASSWORD), "openid shop/*:read")
    second = renewed(first["refresh_token"]).json()
    third = renewed(second["refresh_token"]).json()
    family = [site.caller(told["access_token"]) for told in (first, second, third)]
    assert [caller.send("GET", "/shop/stock").status for caller in family] == [200, 200, 200]
    assert renewed(first["refresh_token"]).json()["error"] == "invalid_grant"
    for caller in family:
        until(lambda caller=caller: caller.send("GET", "/shop/stock").reason == "token-revoked", patience_s=5)
    assert renewed(third["refresh_token"]).json()["error"] == "invalid_grant"


def aged(site, token, by):  # noqa: F811
    """The token as it would be if it had been given then, signed by the real key."""
    on = open_installation(site.home)
    now = datetime.now(UTC)
    with on.store.read() as connection:
        facts = {"issuer": on.settings.issuer, "audience": "https://localhost/shop", "now": now}
        claims = verify_access_token(token, access_keys(connection), **facts)
        key = keys.load(connection, on.sealer, keys.active_kids(connection)["access"])
    on.store.close()
    times = {name: int((now + by).timestamp()) + life for name, life in (("issued_at", 0), ("expires_at", 3600))}
    return sign_access_token(key, replace(claims, **times))
