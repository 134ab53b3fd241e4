"""A client that we did not write, against the server as it runs: real sockets, TLS, both databases (Authlib)."""

import re
import socket
import ssl
import threading
import warnings
from contextlib import closing, contextmanager
from datetime import timedelta
from html import unescape

import httpx
import pytest
import uvicorn
from authlib.integrations.base_client import OAuthError
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.jwk import KeySet

from ostiary.foundation.errors import OperatorFault
from ostiary.foundation.home import load_settings
from ostiary.identity import registration
from ostiary.tls.authority import ensure

with warnings.catch_warnings():  # it tells every user of httpx about a successor
    warnings.simplefilter("ignore")
    from authlib.integrations.httpx_client import OAuth2Client

REDIRECT = "http://127.0.0.1:49152/callback"


@contextmanager
def served(app, listener, keys):
    """By uvicorn in a thread, over TLS, until the block ends."""
    config = uvicorn.Config(
        app, ssl_certfile=keys / "gate.crt", ssl_keyfile=keys / "gate.key", lifespan="off", log_config=None
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()


class Site:
    """The server's address, who trusts it, and what it says of itself."""

    def __init__(self, world, ca):
        self.world, self.trust = world, ssl.create_default_context(cafile=str(ca))
        with httpx.Client(verify=self.trust) as client:
            self.told = client.get(f"{world.settings.issuer}/.well-known/openid-configuration").json()
            self.keys = KeySet.import_key_set(client.get(self.told["jwks_uri"]).json())

    def client(self, client_id, secret=None, **more):
        method = "client_secret_basic" if secret else "none"
        return OAuth2Client(
            client_id, secret, token_endpoint=self.told["token_endpoint"], token_endpoint_auth_method=method,
            verify=self.trust, **more,
        )  # fmt: skip

    def sign_in(self, url, *, password):
        """What a browser does: the page, the form, and the address it is sent back to."""
        with httpx.Client(verify=self.trust) as browser:
            page = browser.get(url)
            if page.status_code == 303:
                return page.headers["location"]
            action = unescape(re.search(r'action="([^"]*)"', page.text)[1])
            hidden = {
                name: unescape(value) for name, value in re.findall(r'name="(request|csrf)" value="([^"]*)"', page.text)
            }
            form = {**hidden, "username": "anna", "password": password, "decision": "allow"}
            return browser.post(action, data=form).headers["location"]

    def tokens(self, client, **more):
        verifier = "w" * 64
        url, state = client.create_authorization_url(
            self.told["authorization_endpoint"], code_verifier=verifier, nonce="n" * 64, **more
        )
        back = self.sign_in(url, password=self.world.password)
        return client.fetch_token(authorization_response=back, state=state, code_verifier=verifier)


@pytest.fixture
def site(world_with):
    listener = socket.create_server(("127.0.0.1", 0))
    with world_with(port=listener.getsockname()[1]) as world:
        ensure(world.home, "localhost")
        world.do(
            registration.add_client,
            sealer=world.sealer,
            client_id="desk",
            redirects=["http://127.0.0.1/callback"],
            auth="none",
        )
        with served(world.app, listener, world.home.keys):
            yield Site(world, world.home.keys / "ca.crt")


def desk(site):
    return site.client(
        "desk", redirect_uri=REDIRECT, scope="openid profile erp/sale.*:read", code_challenge_method="S256"
    )


@pytest.mark.standard("A2")
def test_authlib_gets_tokens_by_code_and_pkce_and_by_client_credentials(site):
    with closing(desk(site)) as client:
        token = site.tokens(client)
        assert token["token_type"] == "Bearer"
        assert set(token["scope"].split()) == {"openid", "profile", "erp/sale.*:read"}
        assert site.world.claims(token["access_token"]).subject == "user:anna"
    with closing(site.client("shop", site.world.secret)) as machine:
        token = machine.fetch_token(grant_type="client_credentials", scope="erp/sale.sale:read")
        assert site.world.claims(token["access_token"]).scopes == {"erp/sale.sale:read"}


@pytest.mark.standard("A4")
@pytest.mark.standard("A8")
def test_authlib_accepts_the_id_token_and_userinfo_agrees_with_it(site):
    with closing(desk(site)) as client:
        token = site.tokens(client)
        decoded = jwt.decode(
            token["id_token"], site.keys, algorithms=site.told["id_token_signing_alg_values_supported"]
        )
        claims = CodeIDToken(
            decoded.claims, decoded.header,
            {"iss": {"value": site.told["issuer"]}, "aud": {"value": "desk"}},
            {"nonce": "n" * 64, "client_id": "desk"},
        )  # fmt: skip
        claims.validate(now=int(site.world.clock.now().timestamp()))
        told = client.get(site.told["userinfo_endpoint"]).json()
        assert told == {"sub": claims["sub"], "name": "anna", "preferred_username": "anna"}


def test_authlib_accepts_rs256_where_its_client_asked_for_that_alone(site):
    site.world.do(registration.change_client, sealer=site.world.sealer, client_id="desk", id_token_alg="RS256")
    with closing(desk(site)) as client:
        token = site.tokens(client)
        with httpx.Client(verify=site.trust) as anybody:  # whoever has kept the keys asks again for one that he lacks
            fetched = KeySet.import_key_set(anybody.get(site.told["jwks_uri"]).json())
        decoded = jwt.decode(token["id_token"], fetched, algorithms=["RS256"])
        told = {"iss": {"value": site.told["issuer"]}, "aud": {"value": "desk"}}
        claims = CodeIDToken(decoded.claims, decoded.header, told, {"nonce": "n" * 64, "client_id": "desk"})
        claims.validate(now=int(site.world.clock.now().timestamp()))
        assert client.get(site.told["userinfo_endpoint"]).json()["sub"] == claims["sub"]


@pytest.mark.standard("A1")
def test_access_ends_after_an_hour_and_refreshing_after_thirty_days(site, tmp_path):
    clock, began = site.world.clock, site.world.clock.at
    with closing(desk(site)) as client:
        token = site.tokens(client)
        assert token["expires_in"] == 3600
        asked = {"headers": {"authorization": f"Bearer {token['access_token']}"}, "verify": site.trust}
        assert httpx.get(site.told["userinfo_endpoint"], **asked).status_code == 200
        clock.at = began + timedelta(hours=1, seconds=1)
        assert httpx.get(site.told["userinfo_endpoint"], **asked).status_code == 401
        for day in range(1, 30):
            clock.at = began + timedelta(days=day)
            token = client.refresh_token(site.told["token_endpoint"], token["refresh_token"])
        clock.at = began + timedelta(days=30)
        with pytest.raises(OAuthError, match="invalid_grant"):
            client.refresh_token(site.told["token_endpoint"], token["refresh_token"])
    (tmp_path / "settings.toml").write_text("token_life_s = 7201\n")
    with pytest.raises(OperatorFault, match="token_life_s"):
        load_settings(tmp_path / "settings.toml")


@pytest.mark.standard("A6")
def test_a_secret_or_pkce_is_needed_and_the_certificate_is_checked(site):
    with closing(site.client("shop", "guessed")) as machine, pytest.raises(OAuthError, match="invalid_client"):
        machine.fetch_token(grant_type="client_credentials")
    with closing(site.client("desk", redirect_uri=REDIRECT, scope="openid")) as client:
        url, _ = client.create_authorization_url(site.told["authorization_endpoint"])
        assert "error=invalid_request" in site.sign_in(url, password=site.world.password)
        challenge = create_s256_code_challenge("w" * 64)
        url, state = client.create_authorization_url(
            site.told["authorization_endpoint"], code_challenge=challenge, code_challenge_method="S256"
        )
        back = site.sign_in(url, password=site.world.password)
        for verifier in ("v" * 64, None):
            with pytest.raises(OAuthError, match="invalid_grant"):
                client.fetch_token(authorization_response=back, state=state, code_verifier=verifier)
    with httpx.Client() as stranger, pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        stranger.get(site.told["jwks_uri"])


def test_what_authlib_revokes_is_revoked(site):
    with closing(desk(site)) as client:
        token = site.tokens(client)
        assert client.revoke_token(site.told["revocation_endpoint"], token["access_token"]).status_code == 200
        assert client.get(site.told["userinfo_endpoint"]).status_code == 401
        client.revoke_token(site.told["revocation_endpoint"], token["refresh_token"], token_type_hint="refresh_token")
        with pytest.raises(OAuthError, match="invalid_grant"):
            client.refresh_token(site.told["token_endpoint"], token["refresh_token"])
    assert [key.partition(":")[0] for key in site.world.gone] == ["jti", "grant"]


@pytest.mark.standard("A8")
def test_authlib_refuses_an_answer_with_another_state(site):
    with closing(desk(site)) as client:
        url, _ = client.create_authorization_url(site.told["authorization_endpoint"], code_verifier="w" * 64)
        back = site.sign_in(url, password=site.world.password)
        with pytest.raises(Exception, match="state"):
            client.fetch_token(authorization_response=back, state="another", code_verifier="w" * 64)
