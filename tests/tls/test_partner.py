"""A partner's certificate: given by a command, told to the inside, and never believed from a header."""

import ssl
from http.client import HTTPSConnection

import pytest

from running import RUNNING, installed, until

pytestmark = RUNNING
FORGED = {"x-gw-client-cert": "Subject=forged", "x-forwarded-client-cert": "Subject=forged"}
ORDER = b'{"lines": []}'


@pytest.fixture
def pair(site, tmp_path):
    """Certificate and key of a client, as the command prints them."""
    site.token("clerk")
    made = site.ostiary("client", "certificate", "clerk-client", "--days", "7")
    assert made.code == 0, made.err
    (tmp_path / "pair.pem").write_text(made.out)
    return tmp_path / "pair.pem"


def order(site, token, pair=None):
    tls = ssl.create_default_context(cafile=str(site.authority))
    if pair:
        tls.load_cert_chain(pair)
    connection = HTTPSConnection("localhost", site.port, timeout=10, context=tls)
    try:
        shown = {**FORGED, "authorization": f"Bearer {token}", "content-type": "application/json"}
        connection.request("POST", "/shop/orders", ORDER, shown)
        return connection.getresponse().read()
    finally:
        connection.close()


def test_a_certificate_reaches_the_guard_and_a_forged_header_does_not(site, pair):
    token = site.token("clerk")
    with site.instead_of("guard") as guard:
        until(lambda: order(site, token, pair) and guard.seen)
        assert "CN=clerk-client" in guard.seen[-1]["headers"]["x-gw-client-cert"]
        assert "forged" not in str(guard.seen)
        seen = len(guard.seen)
        order(site, token)
        assert len(guard.seen) == seen + 1
        assert "CN=" not in str(guard.seen[-1])
        assert "forged" not in str(guard.seen)


def test_a_certificate_is_given_to_a_client_there_is_and_recorded_without_its_key(site, pair):
    key = pair.read_text().partition("PRIVATE KEY-----")[2][:60]
    noted = site.ask("audit.list", action="client.certificate", limit=1)[0]
    assert (noted["object"], noted["after"]) == ("client:clerk-client", {"days": 7})
    assert key not in str(noted)
    stranger = site.ostiary("client", "certificate", "nobody.example")
    assert (stranger.code, "no client:nobody.example" in stranger.err) == (3, True)


def test_where_the_gate_asks_for_none_none_is_given():
    with installed() as site:
        site.start()
        told = site.ostiary("client", "certificate", "carrier.example")
        assert (told.code, "ask_client_certificate = true" in told.err) == (2, True)
