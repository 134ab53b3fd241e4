"""Clients that others wrote, certified for FAPI 2.0 elsewhere, against the running gate: nothing is bent for them."""

import json

import pytest
from joserfc.jwk import ECKey
from tools.caller import answer_page

import others
from ostiary.foundation.secret import Secret
from running import RUNNING

pytestmark = RUNNING
BACK = "https://bank.example/back"
PASSWORD = "a long one, of many words"


@pytest.mark.standard("A2")
@pytest.mark.standard("A8")
def test_openid_client_goes_the_whole_way_of_fapi_2(site):
    key = ECKey.generate_key("P-256")
    keys = json.dumps({"keys": [key.as_dict(private=False)]})
    more = {"auth": "private_key_jwt", "profile": "fapi2", "jwks": keys, "redirects": [BACK]}
    site.ask("client.add", client_id="bank", **more)
    site.ask("user.add", login="frida", name="Frida", password=PASSWORD, roles=["clerk"])
    with others.running("fapi.mjs", site.home.keys / "ca.crt") as script:
        script.say({
            "issuer": f"{site.origin}/identity", "origin": site.origin, "client": "bank", "redirect": BACK,
            "key": key.as_dict(private=True), "scope": "openid profile shop/*:read shop/*:write",
        })  # fmt: skip
        caller = site.caller()
        page = caller.send("GET", script.hear()["url"].removeprefix(site.origin))
        script.say(answer_page(caller, page, "frida", Secret(PASSWORD)))
        told = script.hear()
    assert told == {
        "type": "dpop", "sub": "user:frida", "name": "Frida", "seen": True, "statuses": [200, 200], "stolen": 401,
        "gone": False,
    }  # fmt: skip
