"""What is around us fails: an ERP that does not answer, a disk that is full."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from tools.caller import basic

from running import APART, RUNNING, installed, until

NOWHERE = 'store: {kind: openapi, at: localhost/store, upstream: "http://127.0.0.1:9", spec: specs/shop.openapi.yaml}'


def both(site):
    """The policy with a second system, which nobody serves."""
    second = NOWHERE
    words = (
        ("departments:", f"  {second}\n\ndepartments:"),
        ('"stock: read"', '"shop/stock: read", "store/stock: read"'),
    )
    return site.policy(
        *words,
        ('"order: read, write"', '"shop/order: read, write"'),
        ('do: "order: write"', 'do: "shop/order: write"'),
        ('"invoice: read"', '"shop/invoice: read"'),
    )


def token_for(site, name, system):
    fields = {"grant_type": "client_credentials", "resource": f"https://localhost/{system}"}
    caller = site.caller()
    return caller.form("/identity/token", basic=basic(name, site.secrets[name]), **fields).json()["access_token"]


@RUNNING
def test_an_erp_that_does_not_answer_is_told_and_the_others_are_served(site):
    site.client("both", "clerk")
    site.apply(both(site))
    shop, store = (token_for(site, "both", system) for system in ("shop", "store"))
    refused = until(lambda: (one := site.once("GET", "/store/stock", token=store)).reason == "unavailable" and one)
    assert refused.status == 503
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["decision"] == refused.decision
    assert site.once("GET", "/shop/stock", token=shop).status == 200
    status = until(lambda: "does not reach http://127.0.0.1:9" in (one := site.ostiary("status")).out and one)
    assert status.code == 1
    assert "ok      system shop" in status.out
    assert "start the ERP" in status.out


@pytest.fixture
def disk():
    """(a running installation on a disk of its own, how to make that disk larger and smaller)."""
    folder = Path(tempfile.mkdtemp(prefix="ost-", dir="/tmp"))
    mount = ["mount", "-t", "tmpfs", "-o", "size=1g", "tmpfs", str(folder)]
    if os.getuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        folder.rmdir()
        pytest.skip("no disk of its own can be mounted here: needs root and CAP_SYS_ADMIN")

    def size(text):
        subprocess.run(["mount", "-o", f"remount,size={text}", str(folder)], check=True)

    try:
        with installed(root=folder) as made:
            yield made.start(), size
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
        folder.rmdir()


@APART
def test_a_disk_that_fills_closes_the_gate_before_an_event_is_lost_and_loses_nothing(disk):
    site, size = disk
    token, (granted, used) = site.token("clerk"), (site.policy(("stock: read", "invoice: read")), shutil.disk_usage)

    def look(path="/shop/stock"):
        return site.once("GET", path, token=token)

    assert look().status == 200
    size("200m")  # nearly full
    refused = until(lambda: (one := look()).status == 503 and one)
    assert refused.reason == "closed"
    status = until(lambda: "MiB free" in (one := site.ostiary("status")).out and one)
    assert (status.code, "make room" in status.out) == (1, True)
    size(str(used(site.root).used + 4096))  # full
    (site.root / "filler").write_bytes(b"")
    failed = site.ostiary("policy", "apply", "--reason", "on a full disk")
    assert failed.code == 4, failed
    assert "what to do: " in failed.err
    assert look().status == 503
    size("1g")
    until(lambda: look().status == 200)
    site.wait_until_up(without=["watch", "policy"])
    verified = site.ostiary("audit", "verify")
    assert (verified.code, "holds" in verified.out) == (0, True)
    site.apply(granted)
    assert look("/shop/invoices").status == 200
    decided = site.ask("explain", decision=refused.decision)["event"]
    assert decided["reason"] == "closed"
