"""Signing in by a provider that others wrote (npm's oidc-provider), through the running gate."""

import base64
import hashlib
import os
import re
import secrets
import ssl
from contextlib import closing
from html import unescape
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

import others
from certificates import served
from ostiary.cli.demo.stand import free_port
from ostiary.foundation.errors import OstiaryError
from running import ADMINISTRATORS, APART, SECOND, THIRD, installed, until

pytestmark = APART
BACK = "https://till.example/back"
SCOPE = "openid profile shop/*:read shop/*:write"
ANNA = {
    "sub": "0f-a1", "name": "Anna of sales", "preferred_username": "anna@acme.example", "groups": ["ERP-Sales", "all"],
    "realm_access": {"roles": ["stock"]}, "amr": ["pwd", "mfa"],
}  # fmt: skip


class Site:
    """The gate, the provider, and a client that people sign in with."""

    def __init__(self, gate, provider, issuer, trust):
        self.gate, self.provider, self.issuer, self.trust = gate, provider, issuer, trust

    def ask(self, operation, **told):
        return self.gate.ask(operation, **told)

    def say(self, **command):
        self.provider.say(command)
        assert self.provider.hear() == {"done": True}

    def browser(self):
        return closing(Browser(self))

    def audit(self, action):
        return self.ask("audit.list", action=action)


class Browser:
    """One person's, with its cookies, following whoever sends it on."""

    def __init__(self, site):
        self.site = site
        self.http = httpx.Client(verify=site.trust, follow_redirects=False, timeout=20)
        self.verifier = secrets.token_urlsafe(48)

    def close(self):
        self.http.close()

    def page(self, **more):
        challenge = base64.urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest()).rstrip(b"=").decode()
        asked = {
            "response_type": "code", "client_id": "till", "redirect_uri": BACK, "scope": SCOPE, "state": "s",
            "code_challenge": challenge, "code_challenge_method": "S256", **more,
        }  # fmt: skip
        return self.http.get(f"{self.site.gate.origin}/identity/authorize", params=asked)

    def sign_in(self, **more):
        """Where the provider's button leads to: back at the client, or a page that says why not."""
        page = self.page(**more)
        form = dict(re.findall(r'name="(request|csrf)" value="([^"]*)"', page.text))
        place = unescape(re.search(r'formaction="([^"]*)"', page.text)[1])
        answer = self.http.post(place, data=form)
        for _ in range(10):
            if answer.status_code not in {302, 303}:
                return answer
            place = answer.headers["location"]
            if place.startswith(BACK):
                return answer
            answer = self.http.get(httpx.URL(answer.url).join(place))
        raise AssertionError("sent on without end")

    def tokens(self, **more):
        answer = self.sign_in(**more)
        assert answer.headers.get("location", "").startswith(BACK), answer.text
        (code,) = parse_qs(urlsplit(answer.headers["location"]).query)["code"]
        form = {"grant_type": "authorization_code", "client_id": "till", "code": code, "redirect_uri": BACK}
        told = self.http.post(
            f"{self.site.gate.origin}/identity/token", data={**form, "code_verifier": self.verifier}
        )  # fmt: skip
        assert told.status_code == 200, told.text
        return told.json()

    def sign_out_there(self):
        """At the provider, which tells everybody."""
        page = self.http.get(f"{self.site.issuer}/session/end")
        (xsrf,) = re.findall(r'name="xsrf" value="([^"]*)"', page.text)
        done = self.http.post(f"{self.site.issuer}/session/end/confirm", data={"xsrf": xsrf, "logout": "yes"})
        assert done.status_code == 303, done.text


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("provider")
    certificate, key = served(folder)
    issuer = f"https://localhost:{free_port()}"
    with installed(upstream_authorities=str(certificate), administrators=ADMINISTRATORS) as gate:
        gate.start()
        with others.running("provider.mjs", gate.authority) as provider:
            place, secret = f"{gate.origin}/identity/provider/acme", secrets.token_urlsafe()
            provider.say({
                "issuer": issuer, "port": urlsplit(issuer).port, "key": str(key), "cert": str(certificate),
                "client": {
                    "client_id": "ostiary", "client_secret": secret, "redirect_uris": [f"{place}/callback"],
                    "backchannel_logout_uri": f"{place}/logout", "backchannel_logout_session_required": True,
                },
            })  # fmt: skip
            assert provider.hear() == {"up": True}
            trust = ssl.create_default_context(cafile=str(gate.authority))
            trust.load_verify_locations(str(certificate))
            facts = {"issuer": issuer, "client_id": "ostiary", "title": "Acme", "accounts": "jit", "mfa": "trusted"}
            made = gate.ask("provider.add", name="acme", secret=secret, scopes="openid profile groups", **facts)
            assert made == {"redirect_uri": f"{place}/callback", "backchannel_logout_uri": f"{place}/logout"}
            for claim, value, role in (
                ("groups", "ERP-Sales", "clerk"),
                ("realm_access.roles", "stock", "visitor"),
            ):
                gate.ask("provider.map", name="acme", claim=claim, value=value, role=role)
            gate.ask("client.add", client_id="till", auth="none", redirects=[BACK])
            yield Site(gate, provider, issuer, trust)


@pytest.mark.standard("A9")
@pytest.mark.standard("B7")
def test_who_comes_for_the_first_time_gets_an_account_and_the_roles_of_his_claims_and_loses_them_with_these(site):
    site.say(claims=ANNA)
    with site.browser() as browser:
        first = browser.tokens()
        user = site.ask("principal.show", principal="user:anna@acme")
        assert (user["name"], user["roles"]) == ("Anna of sales", ["clerk", "visitor"])
        caller = site.gate.caller(first["access_token"])
        assert caller.send("GET", "/shop/orders").status == 200
    site.say(claims={**ANNA, "groups": ["all"]})
    with site.browser() as browser:
        second = browser.tokens()
        until(lambda: caller.send("GET", "/shop/orders").reason == "token-revoked")
        caller = site.gate.caller(second["access_token"])
        assert caller.send("GET", "/shop/orders").reason == "role"
        assert caller.send("GET", "/shop/stock").status == 200
    entry = site.audit("principal.roles")[0]
    assert (entry["actor"], entry["object"]) == ("provider:acme", "user:anna@acme")
    assert (entry["before"]["roles"], entry["after"]["roles"]) == (["clerk", "visitor"], ["visitor"])
    site.say(claims={**ANNA, "groups": [], "realm_access": {}})
    with site.browser() as browser:
        assert "nothing is allowed to you here" in browser.sign_in().text
        until(lambda: caller.send("GET", "/shop/stock").reason == "token-revoked")
    assert site.ask("principal.show", principal="user:anna@acme")["roles"] == []


@pytest.mark.standard("A5")
def test_what_ends_at_the_provider_ends_at_the_gate(site):
    site.say(claims=ANNA)
    with site.browser() as browser:
        caller = site.gate.caller(browser.tokens()["access_token"])
        assert caller.send("GET", "/shop/orders").status == 200
        browser.sign_out_there()
        until(lambda: caller.send("GET", "/shop/orders").reason == "token-revoked")
        assert "Sign in by Acme" in browser.http.get(f"{site.gate.origin}/identity/account").text


@pytest.mark.standard("A9")
def test_its_word_counts_for_more_than_one_factor_as_the_administrator_says(site):
    site.say(claims=ANNA)
    with site.browser() as browser:
        assert "code=" in browser.sign_in(acr_values="mfa").headers["location"]
    site.say(claims={**ANNA, "amr": ["pwd"]})
    with site.browser() as browser:
        assert "unmet_authentication_requirements" in browser.sign_in(acr_values="mfa").headers["location"]
    site.ask("provider.change", name="acme", mfa="no")
    site.say(claims=ANNA)
    with site.browser() as browser:
        assert "unmet_authentication_requirements" in browser.sign_in(acr_values="mfa").headers["location"]


def test_who_is_disabled_here_stays_out_whatever_the_provider_says(site):
    site.say(claims={**ANNA, "sub": "0f-b2", "preferred_username": "berta"})
    with site.browser() as browser:
        browser.tokens()
    site.ask("principal.disable", principal="user:berta@acme")
    with site.browser() as browser:
        assert "is switched off" in browser.sign_in().text


@pytest.mark.skipif(os.getuid() != 0, reason="only root can act as somebody else")
def test_roles_that_others_have_to_say_yes_to_wait_for_one_more_than_who_may_have_mapped_them(site):
    """Else who maps a claim of his own to a role, signs in and says yes, has given it to himself alone."""
    site.gate.apply(site.gate.policy() + "approvals: {roles: 1}\n")
    site.say(claims={**ANNA, "sub": "0f-c3", "preferred_username": "carl", "realm_access": {}})
    with site.browser() as browser:
        assert "not yet" in browser.sign_in().text
    (waiting,) = [one for one in site.ask("roles.list") if one["principal"] == "user:carl@acme"]
    assert (waiting["gains"], waiting["who"], waiting["missing"]) == (["clerk"], "provider:acme", 2)
    for _ in range(2):
        assert site.gate.ask_as(SECOND, "roles.approve", proposal=waiting["id"])["missing"] == 1
    with site.browser() as browser:
        assert "nothing is allowed" in browser.sign_in().text or "not yet" in browser.sign_in().text
    assert site.gate.ask_as(THIRD, "roles.approve", proposal=waiting["id"])["missing"] == 0
    with site.browser() as browser:
        browser.tokens()
    site.gate.apply(site.gate.policy())


def test_a_claim_brings_only_roles_that_the_policy_has(site):
    told = {"name": "acme", "claim": "groups", "value": "x"}
    with pytest.raises(OstiaryError, match="no role nothing"):
        site.ask("provider.map", role="nothing", **told)
    with pytest.raises(OstiaryError, match="brings no role clerk"):
        site.ask("provider.unmap", role="clerk", **told)
    with pytest.raises(OstiaryError, match="exists already"):
        site.ask("provider.add", name="again", issuer=site.issuer, client_id="x", secret="x")
    with pytest.raises(OstiaryError, match="secret"):
        site.ask("provider.add", name="again", issuer=site.issuer, client_id="x", secret="")


def test_a_provider_that_is_another_one_than_named_is_not_trusted(site):
    facts = {"issuer": f"{site.issuer}/", "client_id": "x"}
    with pytest.raises(OstiaryError, match="of another issuer"):
        site.ask("provider.add", name="other", secret="x", **facts)


def test_the_provider_may_turn_its_keys_and_sign_by_another_algorithm(site):
    site.say(claims={**ANNA, "sub": "0f-d4", "preferred_username": "dora", "groups": []}, rotate="EdDSA")
    with site.browser() as browser:
        assert browser.tokens()["id_token"]
