"""Clients that others wrote, some of them certified elsewhere, against the running gate: nothing is bent for them."""

import json
import subprocess
from functools import partial
from types import SimpleNamespace

import pytest
import requests
from authlib.integrations.requests_client import OAuth2Session
from google.auth import exceptions
from google.auth.transport.requests import Request
from google.oauth2 import sts
from google.oauth2.utils import ClientAuthentication, ClientAuthType
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet
from requests_oauth2client import AuthorizationPending, DeviceAuthorizationPollingJob, OAuth2Client
from tools.caller import HIDDEN, _cookies, answer_page, sign_in

import others
from ostiary.foundation.secret import Secret
from running import RUNNING, until

pytestmark = RUNNING
BACK = "https://bank.example/back"
PASSWORD = "a long one, of many words"
SCOPE = "openid profile shop/*:read shop/*:write"
ACCESS = "urn:ietf:params:oauth:token-type:access_token"


@pytest.fixture(scope="module", autouse=True)
def people():
    """Who signs in below, made once for the worker's installation."""
    made = set()

    def person(site, login):
        if login not in made:
            site.ask("user.add", login=login, name=login.title(), password=PASSWORD, roles=["clerk"])
            made.add(login)
        return login

    return person


@pytest.fixture
def session(site):
    """Of `requests`, which trusts the gate's authority."""
    with requests.Session() as made:
        made.verify = str(site.authority)
        made.trust_env = False
        yield made


def walked(site, script, login):
    """The whole way of FAPI 2.0, by one of the scripts; what it says at the end."""
    key, name = ECKey.generate_key("P-256"), script.partition(".")[0]
    keys = json.dumps({"keys": [key.as_dict(private=False)]})
    more = {"auth": "private_key_jwt", "profile": "fapi2", "jwks": keys, "redirects": [BACK], "roles": ["clerk"]}
    site.ask("client.add", client_id=name, **more)
    with others.running(script, site.authority) as running:
        running.say({
            "issuer": f"{site.origin}/identity", "origin": site.origin, "client": name, "redirect": BACK,
            "key": key.as_dict(private=True), "scope": SCOPE, "audience": "https://localhost/shop",
        })  # fmt: skip
        caller = site.caller()
        page = caller.send("GET", running.hear()["url"].removeprefix(site.origin))
        running.say(answer_page(caller, page, login, Secret(PASSWORD)))
        return running.hear()


@pytest.mark.standard("A2")
@pytest.mark.standard("A8")
def test_openid_client_goes_the_whole_way_of_fapi_2(site, people):
    assert walked(site, "fapi.mjs", people(site, "frida")) == {
        "type": "dpop", "sub": "user:frida", "name": "Frida", "seen": True, "statuses": [200, 200], "stolen": 401,
        "gone": False,
    }  # fmt: skip


@pytest.mark.standard("A2")
@pytest.mark.standard("A8")
def test_oauth4webapi_goes_it_too_and_reads_our_tokens_as_a_resource_server_does(site, people):
    assert walked(site, "web-api.mjs", people(site, "frida")) == {
        "same": True, "type": "dpop", "sub": "user:frida", "name": "Frida", "read": ["user:frida", "web-api"],
        "statuses": [200, 200], "machine": "dpop", "gone": False,
    }  # fmt: skip


def test_openid_client_is_served_where_it_knows_neither_pkce_nor_any_algorithm_but_rs256(site, people):
    """The first client here that asks for RS256: openid-client checks the signature by the keys that we publish."""
    facts = {"redirects": [BACK], "id_token_alg": "RS256", "pkce": "optional"}
    made = site.ask("client.add", client_id="by-the-book", **facts)
    with others.running("by-the-book.mjs", site.authority) as running:
        running.say({
            "issuer": f"{site.origin}/identity", "client": "by-the-book", "secret": made["client_secret"], "redirect": BACK,
        })  # fmt: skip
        caller = site.caller()
        page = caller.send("GET", running.hear()["url"].removeprefix(site.origin))
        running.say(answer_page(caller, page, people(site, "frida"), Secret(PASSWORD)))
        assert running.hear() == {"sub": "user:frida", "by": ["RS256", "RS256", "ES256"]}


def let_in(site, address, login):
    """The person enters the device's code and says yes."""
    caller = site.caller()
    page = caller.send("GET", address.removeprefix(site.origin))
    fields = {**dict(HIDDEN.findall(page.body.decode())), "username": login, "password": PASSWORD, "decision": "allow"}
    assert caller.form("/identity/sign-in", cookie=_cookies(page), **fields).status == 200


@pytest.mark.standard("A2")
def test_requests_oauth2client_gets_tokens_for_a_machine_a_device_and_a_service(site, session, people):
    login, issuer = people(site, "deva"), f"{site.origin}/identity"
    site.ask("client.add", client_id="scanner", auth="none")
    made = site.ask("client.add", client_id="roc", roles=["clerk"], exchange=["scanner"], redirects=[BACK])
    secret = made["client_secret"]
    client = OAuth2Client.from_discovery_endpoint(issuer=issuer, client_id="roc", client_secret=secret, session=session)
    place = session.get(f"{issuer}/.well-known/openid-configuration").json()["device_authorization_endpoint"]
    more = {"device_authorization_endpoint": place}  # which it does not take from there itself
    scanner = OAuth2Client.from_discovery_endpoint(issuer=issuer, client_id="scanner", session=session, **more)
    machine = client.client_credentials(scope="shop/*:read")
    assert client.introspect_token(machine)["client_id"] == "roc"
    waits = scanner.authorize_device(scope="openid shop/*:read")
    with pytest.raises(AuthorizationPending):
        scanner.device_code(waits.device_code)
    let_in(site, waits.verification_uri_complete, login)
    job = DeviceAuthorizationPollingJob(scanner, waits.device_code, interval=waits.interval)
    while (given := job()) is None:
        pass  # the job itself waits as long as the server asked for
    assert given.id_token.sub == f"user:{login}"
    passed_on = client.token_exchange(subject_token=given.access_token, subject_token_type="access_token")
    assert client.introspect_token(passed_on)["sub"] == f"user:{login}"
    for token in (machine, given, passed_on):
        assert session.get(f"{site.origin}/shop/stock", auth=token).status_code == 200
    assert client.revoke_access_token(passed_on)
    assert client.introspect_token(passed_on)["active"] is False
    pushed = client.pushed_authorization_request(client.authorization_request(redirect_uri=BACK, scope="openid"))
    assert pushed.request_uri


@pytest.mark.standard("A2")
def test_authlib_signs_a_person_in_renews_looks_and_takes_back(site, session, people):
    login = people(site, "ada")
    site.ask("client.add", client_id="authlib", redirects=[BACK], auth="none")
    told = session.get(f"{site.origin}/identity/.well-known/openid-configuration").json()
    with OAuth2Session(
        "authlib", scope=SCOPE, redirect_uri=BACK, code_challenge_method="S256", token_endpoint_auth_method="none"
    ) as client:  # fmt: skip
        client.verify, client.trust_env = session.verify, False
        verifier, endpoint = "v" * 64, told["token_endpoint"]
        url, state = client.create_authorization_url(
            told["authorization_endpoint"], code_verifier=verifier, nonce="n-1"
        )
        caller = site.caller()
        back = answer_page(caller, caller.send("GET", url.removeprefix(site.origin)), login, Secret(PASSWORD))
        tokens = client.fetch_token(endpoint, authorization_response=back, code_verifier=verifier, state=state)
        keys = KeySet.import_key_set(session.get(told["jwks_uri"]).json())
        claims = jwt.decode(tokens["id_token"], keys).claims
        assert (claims["sub"], claims["nonce"], claims["aud"]) == (f"user:{login}", "n-1", "authlib")
        assert client.get(f"{site.origin}/shop/stock").status_code == 200
        renewed = client.refresh_token(endpoint)
        assert renewed["refresh_token"] != tokens["refresh_token"]
        assert client.get(told["userinfo_endpoint"]).json()["name"] == login.title()
        assert client.revoke_token(told["revocation_endpoint"], renewed["access_token"]).status_code == 200
        until(lambda: client.get(f"{site.origin}/shop/stock").status_code == 401)


def test_google_s_own_exchange_of_tokens_works_here(site, session, people):
    """As Workload Identity Federation asks for one (RFC 8693)."""
    login, secrets = people(site, "gina"), {}
    site.ask("client.add", client_id="phone", auth="none", redirects=[BACK])
    for name, exchange in (("sts", ["phone"]), ("stranger", [])):
        secrets[name] = site.ask("client.add", client_id=name, exchange=exchange)["client_secret"]
    given = sign_in(site.caller(), "phone", BACK, login, Secret(PASSWORD), "openid shop/*:read shop/*:write")

    def exchanged(name, **asked):
        proves = ClientAuthentication(ClientAuthType.basic, name, secrets[name])
        client = sts.Client(f"{site.origin}/identity/token", proves)
        kind = "urn:ietf:params:oauth:grant-type:token-exchange"
        return client.exchange_token(Request(session), kind, given["access_token"], ACCESS, **asked)

    told = exchanged("sts", scopes=["shop/*:read"], audience="https://localhost/shop", requested_token_type=ACCESS)
    assert (told["token_type"], told["scope"], told["issued_token_type"]) == ("Bearer", "shop/*:read", ACCESS)
    assert site.once("GET", "/shop/stock", token=told["access_token"]).status == 200
    assert site.once("POST", "/shop/orders", b'{"lines": []}', token=told["access_token"]).reason == "scope"
    for name, asked in (("stranger", {}), ("sts", {"scopes": ["shop/*:delete"]}), ("sts", {"audience": "https://x"})):
        with pytest.raises(exceptions.OAuthError):
            exchanged(name, **asked)


def test_curl_asks_for_a_token_uses_it_looks_at_it_and_takes_it_back(site):
    """What `client add` prints, and what every shell script does."""
    secret = site.ask("client.add", client_id="sh", roles=["clerk"])["client_secret"]
    base = SimpleNamespace(token=f"{site.origin}/identity/token", me=["-u", f"sh:{secret}"])

    def curl(*arguments):
        command = [
            "curl",
            "-q",
            "--noproxy",
            "*",
            "-sS",
            "--cacert",
            str(site.authority),
            "-w",
            "\n%{http_code}",
            *arguments,
        ]
        body, _, status = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=30
        ).stdout.rpartition("\n")
        return int(status), json.loads(body) if body.startswith("{") else body

    for version in ("--http1.1", "--http2"):
        status, told = curl(version, *base.me, "-d", "grant_type=client_credentials", base.token)
        assert (status, told["token_type"]) == (200, "Bearer")
        bearer = ["--oauth2-bearer", told["access_token"]]
        assert curl(version, *bearer, f"{site.origin}/shop/stock")[0] == 200
        about = ["-d", f"token={told['access_token']}", *base.me]
        assert curl(version, *about, f"{site.origin}/identity/introspect")[1]["active"] is True
        assert curl(version, *about, f"{site.origin}/identity/revoke")[0] == 200
        assert curl(version, *about, f"{site.origin}/identity/introspect")[1] == {"active": False}
        use = partial(curl, version, *bearer, f"{site.origin}/shop/stock")
        until(lambda use=use: use()[0] == 401)
        assert use()[1]["reason"] == "token-revoked"
