"""The authority's certificates hold in the real ssl module, for the right name and purpose only."""

import ssl
from datetime import UTC, datetime, timedelta

import pytest

from ostiary.foundation.errors import OperatorFault
from ostiary.foundation.home import Home
from ostiary.tls.authority import ages, ensure, issue_client


@pytest.fixture
def home(tmp_path):
    made = Home(root=tmp_path / "home")
    made.create()
    return made


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, host: str) -> ssl.SSLObject:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(to_client, to_server, server_hostname=host)
    far = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(6):
        for side in (near, far):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return far


def contexts(home):
    made = ensure(home, "erp.example.com")
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(made.ca))
    server.load_cert_chain(made.certificate, made.key)
    return server, ssl.create_default_context(cafile=str(made.ca))


@pytest.mark.parametrize("host", ["erp.example.com", "localhost", "127.0.0.1"])
def test_the_gate_is_trusted_under_its_names(home, host):
    server, client = contexts(home)
    assert handshake(server, client, host).version() == "TLSv1.3"


def test_the_gate_is_refused_under_another_name(home):
    server, client = contexts(home)
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(server, client, "other.example.com")


def test_a_partner_shows_its_certificate(home, tmp_path):
    server, client = contexts(home)
    issued = issue_client(home, "carrier")
    both = tmp_path / "partner.pem"
    both.write_bytes(issued.certificate + issued.key)
    client.load_cert_chain(both)
    server.verify_mode = ssl.CERT_REQUIRED
    peer = handshake(server, client, "localhost").getpeercert()
    assert ("DNS", "carrier") in peer["subjectAltName"]


def test_the_certificate_of_the_gate_is_no_client_certificate(home):
    server, client = contexts(home)
    client.load_cert_chain(home.keys / "gate.crt", home.keys / "gate.key")
    server.verify_mode = ssl.CERT_REQUIRED
    with pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
        handshake(server, client, "localhost")


def test_it_is_kept_while_fresh_and_renewed_when_a_third_remains(home):
    now = datetime.now(UTC)
    first = ensure(home, "a.example", now).certificate.read_bytes()
    assert ensure(home, "a.example", now + timedelta(days=59)).certificate.read_bytes() == first
    assert ensure(home, "a.example", now + timedelta(days=61)).certificate.read_bytes() != first


def test_another_host_gets_another_certificate(home):
    first = ensure(home, "a.example").certificate.read_bytes()
    assert ensure(home, "b.example").certificate.read_bytes() != first


def test_keys_are_private_and_refused_when_they_are_not(home):
    ensure(home, "a.example")
    assert {(home.keys / name).stat().st_mode & 0o777 for name in ("ca.key", "gate.key")} == {0o600}
    (home.keys / "ca.key").chmod(0o640)
    with pytest.raises(OperatorFault, match="others may read"):
        ensure(home, "a.example")


def test_ages_say_how_long_each_certificate_lasts(home):
    now = datetime.now(UTC)
    ensure(home, "a.example", now)
    assert {name: left.days for name, left in ages(home, now).items()} == {"ca.crt": 3649, "gate.crt": 89} or {
        name: left.days for name, left in ages(home, now).items()
    } == {"ca.crt": 3650, "gate.crt": 90}
