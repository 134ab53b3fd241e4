"""The tutorial, played on a running installation: what it says is what happens."""

import re
import shlex
from pathlib import Path

import pytest

from ostiary.foundation.secret import Secret
from running import RUNNING

pytestmark = RUNNING
PAGE = Path(__file__).parents[2] / "docs/guide/partner.md"


@pytest.mark.standard("B5")
def test_a_partner_reads_shipments_from_its_network_and_nothing_else(site):
    text = PAGE.read_text("utf-8").replace("shipment:", "stock:").replace("shop/shipment", "shop/stock")
    added = dict(
        re.findall(r"^(\w+):\n((?:  .*\n)+)", re.search(r"```yaml\n(.*?)```", text, re.DOTALL)[1], re.MULTILINE)
    )
    policy = site.policy()
    for key in ("contexts", "roles"):
        policy = policy.replace(f"{key}:\n", f"{key}:\n{added[key]}", 1)
    policy += "".join(f"{key}:\n{added[key]}" for key in ("never", "tests"))
    before = site.home.policy.read_text()
    site.home.policy.write_text(policy)
    try:
        out = {}
        for line in re.findall(r"^\$ ostiary (.*)$", text, re.MULTILINE):
            done = site.ostiary(*shlex.split(line), *(["--json"] if "client add" in line else []))
            assert done.code == 0, (line, done.err)
            out[line] = done
    finally:
        site.home.policy.write_text(before)
    assert "carrier" not in out[next(line for line in out if "--outside" in line)].out
    assert "client:carrier" in out["policy who-can shop/stock:read"].out
    site.secrets["carrier"] = Secret(out["client add carrier --role carrier"].json["client_secret"])
    token = site.fresh("carrier")

    def asked(method, path, source):
        return site.once(method, path, token=token, x_forwarded_for=source).headers.get("ostiary-reason", "allowed")

    assert asked("GET", "/shop/stock", "203.0.113.7") == "allowed"
    assert asked("GET", "/shop/stock", "192.0.2.1") == "context"
    assert asked("GET", "/shop/orders", "203.0.113.7") == "role"
    assert asked("DELETE", "/shop/orders/1", "203.0.113.7") == "role"
