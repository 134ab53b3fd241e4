"""The tutorial, played on a running installation: what it says is what happens."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from ostiary.foundation.secret import Secret
from running import RUNNING

pytestmark = RUNNING
PAGE = Path(__file__).parents[2] / "docs/guide/partner.md"
GATE = "https://gate.example.com:8443"


def curl(site, line, given=""):
    """What the partner sees, from its network, who types the secret at the terminal."""
    words = shlex.split(line.replace("ca.crt", str(site.authority)).replace(GATE, site.origin))
    more = ["--fail-with-body", "-s", "-H", "X-Forwarded-For: 203.0.113.7"]
    command = ["curl", *more, *words]
    done = subprocess.run(
        command, input=f"{given}\n", capture_output=True, text=True, check=True, start_new_session=True
    )
    return done.stdout


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

    first, second = re.findall(r"^\$ curl (.*)$", text, re.MULTILINE)
    printed = site.ostiary("client", "rotate", "carrier").out
    secret = re.search("^client_secret: (.*)", printed)[1]
    assert f"curl {first}" == re.search("^  (curl .*)", printed, re.MULTILINE)[1].replace(
        str(site.authority), "ca.crt"
    ).replace(site.origin, GATE)
    told = json.loads(curl(site, first, secret))
    assert told.keys() == json.loads(re.search(r"^\{.*", text, re.MULTILINE)[0]).keys()
    assert curl(site, second.replace("TOKEN", told["access_token"]))

    assert asked("GET", "/shop/stock", "203.0.113.7") == "allowed"
    assert asked("GET", "/shop/stock", "192.0.2.1") == "context"
    assert asked("GET", "/shop/orders", "203.0.113.7") == "role"
    assert asked("DELETE", "/shop/orders/1", "203.0.113.7") == "role"
