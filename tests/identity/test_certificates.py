"""Clients that prove themselves by the certificate of their connection (RFC 8705), as the gate tells of it."""

from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc.jwk import ECKey

from certificates import public_pem, signed_by_itself
from client_keys import Keyed, jwks
from ostiary.identity import registration
from ostiary.tls import authority


def shown(certificate):
    """The two headers that the gate sets, and nobody else."""
    pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
    told = f'Hash=00;Cert="{quote(pem, safe="")}";Subject="CN=x";DNS=x'
    return {"x-gw-client-cert": told, "x-gw-device": certificate.fingerprint(hashes.SHA256()).hex()}


def asked(world, client, headers, **form):
    form = {"grant_type": "client_credentials", "client_id": client, **form}
    return world.ask("POST", "/identity/token", data=form, headers=headers)


@pytest.fixture
def tls(world):
    authority.ensure(world.home, "localhost", world.clock.now())
    world.register("mill", auth="tls_client_auth", profile="fapi2", roles=["bot"])
    return world, given(world, "mill")


def given(world, client):
    """As `ostiary client certificate` gives it."""
    issued = authority.issue_client(world.home, client, now=world.clock.now())
    world.do(registration.note_certificate, client_id=client, days=7, key=issued.public_key)
    return x509.load_pem_x509_certificate(issued.certificate)


def test_a_certificate_of_our_authority_proves_its_client_and_binds_its_tokens(tls):
    world, ours = tls
    answer = asked(world, "mill", shown(ours))
    assert (answer.status_code, answer.json()["token_type"]) == (200, "Bearer")
    claims = world.claims(answer.json()["access_token"])
    assert claims.bound == f"x5t:{ours.fingerprint(hashes.SHA256()).hex()}"


def test_no_other_certificate_does(tls):
    world, ours = tls
    other = authority.issue_client(world.home, "other", now=world.clock.now())
    strange = signed_by_itself(ec.generate_private_key(ec.SECP256R1()), "mill")
    for headers in (shown(x509.load_pem_x509_certificate(other.certificate)), shown(strange), {},
                    {"x-gw-client-cert": 'Subject="CN=mill"'}):  # fmt: skip
        assert asked(world, "mill", headers).status_code == 401
    assert asked(world, "mill", shown(ours), client_secret="x").status_code == 401
    world.later(days=4000)
    assert asked(world, "mill", shown(ours)).status_code == 401


def test_of_a_self_signed_certificate_the_registered_key_counts(world):
    key, thief = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    public = ECKey.import_key(public_pem(key))
    told = {"auth": "self_signed_tls_client_auth", "jwks": jwks(public), "bound": "certificate"}
    world.register("smith", roles=["bot"], **told)
    good = signed_by_itself(key, "anything")
    answer = asked(world, "smith", shown(good))
    assert world.claims(answer.json()["access_token"]).bound.startswith("x5t:")
    assert asked(world, "smith", shown(signed_by_itself(thief, "anything"))).status_code == 401
    assert asked(world, "smith", {}).status_code == 401


def test_who_binds_to_a_certificate_must_show_one(world):
    secret = world.register("baker", bound="certificate", roles=["bot"])
    bare = world.token(("baker", secret), grant_type="client_credentials")
    assert (bare.status_code, bare.json()["error"]) == (400, "invalid_request")


def test_a_device_s_certificate_and_one_from_before_prove_nobody(tls):
    """Our authority makes both with the same name: what counts is the key that was given last, or before it."""
    world, first = tls
    device = authority.issue_client(world.home, "mill", now=world.clock.now())
    assert asked(world, "mill", shown(x509.load_pem_x509_certificate(device.certificate))).status_code == 401
    second, third = given(world, "mill"), given(world, "mill")
    assert [asked(world, "mill", shown(one)).status_code for one in (first, second, third)] == [401, 200, 200]


def test_who_must_show_a_certificate_does_not_get_by_with_a_proof(world):
    one = Keyed(world, bound="certificate")
    assert one.token(proof=one.proof()).json()["error"] == "invalid_dpop_proof"
