"""DPoP nonces through the running gate, by a client that others wrote (RFC 9449 sections 8 and 9)."""

import pytest

import others
from running import APART, installed

pytestmark = APART


@pytest.mark.standard("A8")
def test_oauth4webapi_is_told_the_nonce_at_token_endpoint_and_gate_and_each_takes_the_other_s():
    with installed(dpop_nonce=True) as site:
        site.start()
        secret = site.ask("client.add", client_id="fresh", bound="dpop", roles=["clerk"])["client_secret"]
        with others.running("nonce.mjs", site.authority) as running:
            running.say({
                "issuer": f"{site.origin}/identity", "origin": site.origin, "client": "fresh", "secret": secret,
            })  # fmt: skip
            assert running.hear() == {"type": "dpop", "statuses": [200] * 3, "asked": ["token endpoint", "gate"]}
