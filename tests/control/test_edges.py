"""What the installation shows to the outside, and what of the outside reaches the inside."""

import json
import os
import ssl
import stat
import subprocess
import sys
from http.client import HTTPSConnection

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ostiary.foundation.unix import _UnixConnection
from ostiary.tls.authority import issue_client
from running import AS_ROOT, RUNNING, until

pytestmark = RUNNING
NOBODY = 65534


def context(site, pair=None, folder=None):
    made = ssl.create_default_context(cafile=str(site.authority))
    if pair:
        (folder / "pair.pem").write_bytes(pair)
        made.load_cert_chain(folder / "pair.pem")
    return made


def seen_inside(site, tls, **headers):
    """What reaches one of our own processes of such a request."""
    connection = HTTPSConnection("localhost", site.port, timeout=10, context=tls)
    try:
        connection.request("GET", "/identity/jwks", headers={name.replace("_", "-"): v for name, v in headers.items()})
        return json.loads(connection.getresponse().read()).get("headers", {})
    finally:
        connection.close()


def stranger():
    """A certificate of nobody's authority, and its key."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    made = issue_client_dates(x509.CertificateBuilder().subject_name(name).issuer_name(name), key)
    return made.public_bytes(serialization.Encoding.PEM) + pem(key)


def issue_client_dates(builder, key):
    from datetime import UTC, datetime, timedelta

    now = datetime.now(UTC)
    return (
        builder.public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )


def pem(key):
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def test_a_client_certificate_reaches_the_inside_and_a_forged_header_does_not(site, tmp_path):
    issued = issue_client(site.home, "carrier.example")
    shown = context(site, issued.certificate + issued.key, tmp_path)
    forged = {"x_gw_client_cert": "forged", "x_forwarded_client_cert": "Subject=forged"}
    with site.instead_of("identity"):
        told = until(lambda: seen_inside(site, shown, **forged).get("x-gw-client-cert"))
        assert "CN=carrier.example" in told
        assert "forged" not in told
        without = seen_inside(site, context(site), **forged)
        assert without["x-gw-source"]
        assert "forged" not in str(without)


def test_a_client_certificate_of_another_authority_is_not_taken(site, tmp_path):
    with pytest.raises((ssl.SSLError, ConnectionError)):
        seen_inside(site, context(site, stranger(), tmp_path))


@pytest.mark.standard("D7")
def test_no_inside_header_and_no_cookie_of_the_caller_reaches_the_erp(site):
    sent = {
        "cookie": "session=planted",
        "x_gw_sub": "planted",
        "x_gw_client_cert": "planted",
        "ostiary_reason": "planted",
        "x_forwarded_client_cert": "planted",
        "proxy_authorization": "planted",
    }
    answer = site.once("GET", "/shop/stock", token=site.token("clerk"), **sent)
    reached = answer.json()
    assert "planted" not in str(reached)
    assert {"cookie", "authorization"}.isdisjoint(reached["names"])
    assert not [name for name in reached["names"] if name.startswith(("x-gw-", "ostiary-"))]


def test_no_cookie_of_the_erp_comes_back(site):
    site.upstream.reply = lambda _: (200, {"Set-Cookie": "session=erp", "X-Powered-By": "erp"}, "")
    try:
        answer = site.once("GET", "/shop/stock", token=site.token("clerk"))
    finally:
        site.upstream.reply = lambda _: (200, {}, None)
    assert answer.status == 200
    assert {"set-cookie", "x-powered-by"}.isdisjoint(answer.headers)


@pytest.mark.standard("C1")
def test_only_tls_1_3_is_spoken_and_every_answer_says_so_for_the_future(site):
    old = context(site)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        seen_inside(site, old)
    new = HTTPSConnection("localhost", site.port, timeout=10, context=context(site))
    new.connect()
    assert new.sock.version() == "TLSv1.3"
    new.close()
    for path, status in (("/shop/stock", 401), ("/identity/jwks", 200), ("/elsewhere", 401)):
        answer = site.once("GET", path)
        assert (answer.status, answer.headers["strict-transport-security"][:16]) == (status, "max-age=31536000")
    assert site.once("GET", "/shop/stock", token=site.token("clerk")).headers["strict-transport-security"]


def test_sockets_and_files_are_for_their_owner_alone(site):
    sockets = [path for path in site.home.run.iterdir() if stat.S_ISSOCK(path.stat().st_mode)]
    assert {path.stem for path in sockets} == {"control", "identity", "guard", "guard-control", "envoy"}
    modes = {path.stem: stat.S_IMODE(path.stat().st_mode) for path in sockets}
    assert modes.pop("control") == 0o666  # others are named as administrators here; who they are tells the kernel
    assert set(modes.values()) == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (site.home.root, site.home.run)} == {0o711}
    private = [site.home.keys, site.home.plans, site.home.envoy, site.home.events]
    assert {stat.S_IMODE(path.stat().st_mode) for path in private} == {0o700}
    others = [path for path in site.home.root.rglob("*") if path.is_file() and path.stat().st_mode & 0o077]
    assert {path.suffix for path in others} <= {".crt"}


def test_no_header_chooses_the_actor(site):
    connection = _UnixConnection(site.home.socket("control"), 10)
    forged = {"x-forwarded-for": "uid:1", "forwarded": "for=uid:1", "x-real-ip": "uid:1", "authorization": "uid:1"}
    connection.request("POST", "/operations/client.add", b'{"client_id": "forger"}', forged)
    assert connection.getresponse().status == 200
    connection.close()
    (entry,) = site.ask("audit.list", action="client.add", limit=1)
    assert (entry["object"], entry["actor"]) == ("client:forger", f"uid:{os.getuid()}")


@AS_ROOT
def test_the_actor_is_the_user_at_the_other_end_who_is_let_in_only_by_the_owner(site):
    asked = [sys.executable, "-c", AS_SOMEBODY, str(site.home.socket("control")), str(NOBODY)]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert "PermissionError" in done.stderr
    ways = [site.root, site.home.root, site.home.run, site.home.socket("control")]
    before = [stat.S_IMODE(path.stat().st_mode) for path in ways]
    try:
        for path in ways:
            path.chmod(0o777)
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
    finally:
        for path, mode in zip(ways, before, strict=True):
            path.chmod(mode)
    assert done.returncode == 0, done.stderr
    (entry,) = site.ask("audit.list", action="client.add", limit=1)
    assert (entry["object"], entry["actor"]) == ("client:somebody", f"uid:{NOBODY}")


AS_SOMEBODY = """
import os, socket, sys
_, path, uid = sys.argv
os.setuid(int(uid))
with socket.socket(socket.AF_UNIX) as caller:
    caller.connect(path)
    body = b'{"client_id": "somebody"}'
    caller.sendall(b"POST /operations/client.add HTTP/1.0\\r\\ncontent-length: %d\\r\\n\\r\\n%s" % (len(body), body))
    assert b" 200 " in caller.recv(100)
"""
