"""Who may leave PKCE out, by an administrator's word alone, and what stands in its place."""

import json

import pytest
from joserfc import jws

from ostiary.foundation.errors import CallerFault
from ostiary.identity import registration

BARE = {"code_challenge": None, "code_challenge_method": None}


def error_of(answer):
    assert answer.status_code in (400, 401), answer.text
    return answer.json()["error"]


class Lax:
    """A confidential client that may ask without PKCE."""

    def __init__(self, world):
        self.world, self.secret = world, world.register("lax", redirects=[world.back], pkce="optional")

    def asked(self, **changed):
        return self.world.authorize(**{"client_id": "lax", **BARE, **changed})

    def code(self, **changed):
        return self.world.sent_back(self.world.answer(self.asked(**changed)))["code"]

    def redeem(self, code, **form):
        told = {"grant_type": "authorization_code", "code": code, "redirect_uri": self.world.back, **form}
        return self.world.token(("lax", self.secret), **told)


@pytest.fixture
def lax(world):
    return Lax(world)


def test_a_client_that_may_signs_people_in_without_pkce_and_with_a_nonce(world, lax):
    told = lax.redeem(lax.code()).json()
    assert world.claims(told["access_token"]).subject == "user:anna"
    assert json.loads(jws.extract_compact(told["id_token"].encode()).payload)["nonce"] == "n" * 64


def test_what_certifies_sends_neither_challenge_nor_nonce(world, lax):
    """OpenID Connect's module oidcc-ensure-request-without-nonce-succeeds-for-code-flow; PKCE is what it does without as well."""
    world.do(registration.change_client, sealer=world.sealer, client_id="lax", pkce="off")
    told = lax.redeem(lax.code(nonce=None)).json()
    assert "nonce" not in json.loads(jws.extract_compact(told["id_token"].encode()).payload)
    assert error_of(lax.redeem(lax.code(nonce=None), code_verifier=world.verifier)) == "invalid_grant"


def test_a_verifier_without_a_challenge_tells_that_somebody_took_the_challenge_away(world, lax):
    """The downgrade of RFC 9700 section 2.1.1: the thief strips the challenge, the client knows of nothing."""
    code = lax.code()
    assert error_of(lax.redeem(code, code_verifier=world.verifier)) == "invalid_grant"
    assert world.gone == []


def test_with_a_challenge_its_code_is_bound_as_everybodys(world, lax):
    code = lax.code(code_challenge=world.challenge, code_challenge_method="S256")
    assert error_of(lax.redeem(code)) == "invalid_grant"
    assert error_of(lax.redeem(code, code_verifier="w" * 43)) == "invalid_grant"
    assert lax.redeem(code, code_verifier=world.verifier).status_code == 200


@pytest.mark.parametrize(
    "changed",
    [
        {"nonce": None}, {"nonce": ""}, {"scope": None}, {"scope": "profile erp/sale.*:read"}, {"scope": "openidx"},
        {"code_challenge": "c" * 43}, {"code_challenge_method": "S256"}, {"code_challenge_method": "plain"},
        {"code_challenge": "c" * 43, "code_challenge_method": "plain"}, {"code_challenge": "short", "code_challenge_method": "S256"},
    ],
)  # fmt: skip
def test_without_pkce_a_nonce_is_a_must_and_half_of_pkce_is_none(world, lax, changed):
    back = world.sent_back(lax.asked(**changed))
    assert back["error"] == "invalid_request"
    assert "code" not in back


def test_its_pushed_requests_are_held_to_the_same(world, lax):
    asked = {"response_type": "code", "redirect_uri": world.back, "scope": "openid"}
    auth = ("lax", lax.secret)
    assert error_of(world.ask("POST", "/identity/par", data=asked, auth=auth)) == "invalid_request"
    uri = world.ask("POST", "/identity/par", data={**asked, "nonce": "n"}, auth=auth).json()["request_uri"]
    page = world.ask("GET", "/identity/authorize", params={"client_id": "lax", "request_uri": uri})
    code = world.sent_back(world.answer(page))["code"]
    assert error_of(lax.redeem(code, code_verifier="v" * 43)) == "invalid_grant"
    assert lax.redeem(code).status_code == 200


def test_a_code_without_pkce_is_nothing_to_another_client_and_good_once(world, lax):
    code, form = lax.code(), {"grant_type": "authorization_code", "redirect_uri": world.back}
    assert error_of(world.token(**form, client_id="web", code=code)) == "invalid_grant"
    assert error_of(world.token(("shop", world.secret), **form, code=code)) == "invalid_grant"
    assert error_of(world.token(**form, client_id="lax", code=code)) == "invalid_client"
    assert lax.redeem(code).status_code == 200
    assert error_of(lax.redeem(code)) == "invalid_grant"
    assert world.gone[0].startswith("grant:")


def test_a_code_given_without_pkce_ends_when_the_client_must_use_it_again(world, lax):
    code = lax.code()
    assert world.do(registration.change_client, sealer=world.sealer, client_id="lax", pkce="required")
    assert error_of(lax.redeem(code)) == "invalid_grant"
    assert world.sent_back(lax.asked())["error"] == "invalid_request"


@pytest.mark.parametrize("pkce", ["optional", "off"])
@pytest.mark.parametrize("told", [{"auth": "none"}, {"auth": "tls_client_auth", "profile": "fapi2"}])
def test_neither_a_public_client_nor_one_of_fapi2_may(world, lax, told, pkce):
    with pytest.raises(CallerFault, match="always use PKCE"):
        world.register("never", redirects=[world.back], pkce=pkce, **told)
    with pytest.raises(CallerFault, match="always use PKCE"):
        world.do(registration.change_client, sealer=world.sealer, client_id="lax", **told)
