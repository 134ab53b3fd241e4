"""A signing key in wrong hands: one command, and it opens nothing any more."""

import pytest

from running import APART, installed

pytestmark = APART


def published(site):
    return {key["kid"] for key in site.once("GET", "/identity/jwks").json()["keys"]}


@pytest.mark.standard("A5")
def test_of_a_compromised_key_every_token_is_refused_at_once_and_a_new_one_signs():
    with installed() as site:
        site.start()
        site.ask("client.add", client_id="old", redirects=["https://old.example/back"], id_token_alg="RS256")
        caller, before = site.caller(site.client("shop", "visitor")), published(site)
        assert caller.send("GET", "/shop/stock").status == 200
        early = site.ostiary("token", "rotate")
        assert (early.code, "clients may not know it" in early.err) == (3, True)
        assert published(site) == before
        done = site.ostiary("token", "rotate", "--compromised", "--reason", "a backup was stolen")
        assert done.code == 0, done.err
        assert caller.send("GET", "/shop/stock").reason == "token-invalid"  # the same connection
        assert site.once("POST", "/shop/orders", b"{}", token=caller.token).reason == "token-invalid"
        assert published(site).isdisjoint(before)
        assert site.once("GET", "/shop/stock", token=site.fresh("shop")).status == 200
        noted = site.ask("audit.list", action="key.rotate", limit=9)
        assert {one["object"] for one in noted} == {"access", "id", "id-rs256", "logout", "logout-rs256"}
        assert {(one["after"]["compromised"], one["reason"]) for one in noted} == {(True, "a backup was stolen")}
        assert all(one["actor"].startswith("uid:") for one in noted)
        (alert,) = [one for one in site.ask("alert.list") if one["rule"] == "keys-compromised"]
        assert (alert["severity"], alert["state"]) == ("critical", "firing")
        assert alert["evidence"] == {"by": noted[0]["actor"], "reason": "a backup was stolen"}
