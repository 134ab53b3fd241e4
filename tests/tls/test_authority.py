"""The authority's certificates hold in the real ssl module, for the right name and purpose only."""

import ssl
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta

import pytest

from ostiary.foundation.errors import OperatorFault, SystemFault
from ostiary.foundation.home import Home, write_atomically
from ostiary.tls.authority import ages, ensure, issue_client, standing


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


def ensured(home, host, now=None):
    """The gate's certificate as it is afterwards."""
    ensure(home, host, now)
    return (home.keys / "gate.crt").read_bytes()


def contexts(home):
    ensure(home, "erp.example.com")
    ca = str(home.keys / "ca.crt")
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ca)
    server.load_cert_chain(home.keys / "gate.crt", home.keys / "gate.key")
    return server, ssl.create_default_context(cafile=ca)


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
    first = ensured(home, "a.example", now)
    assert ensured(home, "a.example", now + timedelta(days=59)) == first
    assert ensured(home, "a.example", now + timedelta(days=61)) != first


def test_another_host_gets_another_certificate(home):
    first = ensured(home, "a.example")
    assert ensured(home, "b.example") != first


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


def test_a_certificate_that_is_missing_is_named(home):
    ensure(home, "a.example")
    for name in ("gate.crt", "ca.crt"):
        (home.keys / name).unlink()
        with pytest.raises(OperatorFault, match=name):
            standing(home)


@pytest.mark.parametrize(
    ("days", "told"), [(0, ""), (60, ""), (62, r"gate\.crt is good for only 28 days"), (91, r"gate\.crt has lapsed")]
)
def test_a_certificate_that_was_not_renewed_in_time_is_told(home, days, told):
    now = datetime.now(UTC)
    ensure(home, "a.example", now)
    with pytest.raises(SystemFault, match=told) if told else nullcontext():
        assert standing(home, now + timedelta(days=days, minutes=-1)).startswith(f"good for {90 - days} days")


def test_an_authority_near_its_end_is_told_though_the_certificate_is_fresh(home):
    now = datetime.now(UTC)
    ensure(home, "a.example", now - timedelta(days=3650 - 89))
    ensure(home, "a.example", now)
    with pytest.raises(SystemFault, match=r"ca\.crt is good for only 8[89] days") as told:
        standing(home, now)
    assert "ca.key" in told.value.hint


def test_a_certificate_of_another_authority_is_replaced_though_its_name_is_the_same(home, tmp_path):
    before = ensured(home, "a.example")
    other = Home(root=tmp_path / "other")
    other.create()
    ensure(other, "a.example")
    for name in ("ca.key", "ca.crt"):
        write_atomically(home.keys / name, (other.keys / name).read_bytes())
    assert ensured(home, "a.example") != before
    server, client = contexts(home)
    assert handshake(server, client, "localhost").version() == "TLSv1.3"


def test_a_key_that_is_not_the_authoritys_own_is_refused(home, tmp_path):
    ensure(home, "a.example")
    other = Home(root=tmp_path / "other")
    other.create()
    ensure(other, "a.example")
    write_atomically(home.keys / "ca.key", (other.keys / "ca.key").read_bytes())
    for act in (lambda: ensure(home, "a.example"), lambda: issue_client(home, "carrier")):
        with pytest.raises(OperatorFault, match=r"does not belong to ca\.key"):
            act()


@pytest.mark.parametrize("name", ["ca.key", "ca.crt", "gate.key", "gate.crt"])
def test_a_file_that_is_damaged_is_named_and_never_replaced_in_silence(home, name):
    ensure(home, "a.example")
    write_atomically(home.keys / name, b"no PEM")
    with pytest.raises(OperatorFault, match=name) as caught:
        ensure(home, "a.example")
    assert "backup" in caught.value.hint
    assert (home.keys / name).read_bytes() == b"no PEM"


def test_a_missing_authority_key_is_named(home):
    ensure(home, "a.example")
    (home.keys / "ca.key").unlink()
    for act in (lambda: ensure(home, "a.example"), lambda: standing(home)):
        with pytest.raises(OperatorFault, match=r"ca\.key is missing"):
            act()


def test_a_first_start_that_stopped_half_way_is_finished(home):
    """Killed after any of its four files: the authority stays the same, and in the end everything fits."""
    for missing in (["gate.crt"], ["gate.crt", "gate.key"], ["gate.crt", "gate.key", "ca.crt"]):
        ensure(home, "a.example")
        before = (home.keys / "ca.key").read_bytes()
        for name in missing:
            (home.keys / name).unlink()
        assert handshake(*contexts(home), "localhost").version() == "TLSv1.3"
        assert (home.keys / "ca.key").read_bytes() == before


def test_a_renewal_that_stopped_between_key_and_certificate_is_done_again(home):
    ensure(home, "erp.example.com")
    old = (home.keys / "gate.crt").read_bytes()
    (home.keys / "gate.crt").unlink()
    ensure(home, "erp.example.com")
    write_atomically(home.keys / "gate.crt", old)  # the new key is there, the new certificate is not
    assert handshake(*contexts(home), "erp.example.com").version() == "TLSv1.3"


@pytest.mark.parametrize("days", range(0, 400, 37))
def test_whenever_it_is_asked_for_the_certificate_has_a_third_of_its_life_before_it(home, days):
    now = datetime.now(UTC) + timedelta(days=days)
    ensure(home, "a.example", now - timedelta(days=45))
    ensure(home, "a.example", now)
    assert timedelta(days=30) < ages(home, now)["gate.crt"] <= timedelta(days=90)
    assert {path.stat().st_mode & 0o777 for path in home.keys.glob("*.key")} == {0o600}


@pytest.mark.parametrize("name", ["", "a b", "ä", "-a", "a" * 65, "a,CN=b", "a\n", "*"])
def test_no_certificate_is_made_for_a_name_that_is_none(home, name):
    with pytest.raises(OperatorFault, match="no certificate can be made"):
        issue_client(home, name)


@pytest.mark.parametrize("days", [0, -1, 4000])
def test_no_certificate_is_made_for_an_odd_time(home, days):
    with pytest.raises(OperatorFault, match="no certificate can be made"):
        issue_client(home, "carrier", days=days)


def test_a_partners_certificate_of_another_authority_is_refused(home, tmp_path):
    server, client = contexts(home)
    other = Home(root=tmp_path / "other")
    other.create()
    issued = issue_client(other, "carrier")
    both = tmp_path / "partner.pem"
    both.write_bytes(issued.certificate + issued.key)
    client.load_cert_chain(both)
    server.verify_mode = ssl.CERT_REQUIRED
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, client, "localhost")


def test_a_partners_certificate_lapses(home, tmp_path):
    server, client = contexts(home)
    issued = issue_client(home, "carrier", days=1, now=datetime.now(UTC) - timedelta(days=2))
    both = tmp_path / "partner.pem"
    both.write_bytes(issued.certificate + issued.key)
    client.load_cert_chain(both)
    server.verify_mode = ssl.CERT_REQUIRED
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        handshake(server, client, "localhost")


def test_a_partners_key_is_kept_by_nobody_here(home):
    issued = issue_client(home, "carrier")
    assert b"PRIVATE KEY" in issued.key
    for path in home.root.rglob("*"):
        assert path.is_dir() or issued.key not in path.read_bytes()
