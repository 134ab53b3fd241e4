"""The gate's certificate is renewed while the gate runs: nobody restarts it."""

import os
import signal
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from ostiary.tls.authority import ensure
from running import APART, installed, until

pytestmark = APART


def served(site):
    """How long the certificate that callers get is still good for."""
    shown = x509.load_pem_x509_certificate(ssl.get_server_certificate(("127.0.0.1", site.port)).encode())
    return shown.not_valid_after_utc - datetime.now(UTC)


def told(site):
    return next(part for part in site.ask("status")["parts"] if part["name"] == "certificate")


@pytest.mark.standard("C2")
def test_a_certificate_near_its_end_is_told_and_renewed_while_the_gate_runs():
    with installed() as site:
        site.start()
        gate, control = (site.children()[name] for name in ("envoy", "control"))
        assert told(site)["ok"]
        (site.home.keys / "gate.crt").unlink()
        ensure(site.home, "localhost", datetime.now(UTC) - timedelta(days=65))
        until(lambda: served(site) < timedelta(days=26))
        assert "only 24 days" in told(site)["text"]
        assert "only 24 days" in site.ostiary("doctor").out
        os.kill(control, signal.SIGKILL)  # its next turn comes at once when it starts
        until(lambda: served(site) > timedelta(days=80))
        site.wait_until_up()
        assert site.children()["envoy"] == gate
