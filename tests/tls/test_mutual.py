"""Mutual TLS through the running gate: who a client is, and whose its tokens are (RFC 8705)."""

import ssl

import httpx
import pytest
from joserfc.jwk import ECKey

from certificates import pair_of, self_signed
from client_keys import jwks
from running import APART, installed

pytestmark = APART


@pytest.fixture(scope="module")
def site():
    with installed(ask_client_certificate=True, any_client_certificate=True) as made:
        yield made.start()


def connection(site, pem):
    trust = ssl.create_default_context(cafile=str(site.authority))
    if pem:
        trust.load_cert_chain(pem)
    return httpx.Client(base_url=site.origin, verify=trust)


@pytest.mark.standard("A6")
@pytest.mark.standard("A8")
def test_a_token_given_to_a_certificate_is_good_on_its_connections_alone(site, tmp_path):
    key, pem = self_signed(tmp_path, "smith")
    _, stolen = self_signed(tmp_path, "thief")
    told = {"auth": "self_signed_tls_client_auth", "jwks": jwks(ECKey.import_key(key)), "profile": "fapi2"}
    site.ask("client.add", client_id="smith", roles=["visitor"], **told)
    site.ask("client.add", client_id="mill", roles=["visitor"], auth="tls_client_auth", bound="certificate")
    ours = pair_of(tmp_path, site.ask("client.certificate", client_id="mill", days=7))
    for client, mine in (("smith", pem), ("mill", ours)):
        form = {"grant_type": "client_credentials", "client_id": client}
        with connection(site, mine) as own, connection(site, stolen) as thief, connection(site, None) as bare:
            for other in (thief, bare):
                assert other.post("/identity/token", data=form).json()["error"] == "invalid_client"
            token = own.post("/identity/token", data=form).json()["access_token"]
            shown = {"authorization": f"Bearer {token}"}
            assert own.get("/shop/stock", headers=shown).status_code == 200
            for other in (thief, bare):
                answer = other.get("/shop/stock", headers=shown)
                assert (answer.status_code, answer.headers["ostiary-reason"]) == (401, "token-unbound")
