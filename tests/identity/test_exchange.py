"""Token exchange (RFC 8693): a service acts for a person, visibly, and never with more than the person's token."""

import pytest

from ostiary.foundation.errors import CallerFault
from ostiary.identity import principals, registration

KIND = "urn:ietf:params:oauth:grant-type:token-exchange"
TYPE = "urn:ietf:params:oauth:token-type:access_token"


@pytest.fixture
def service(world):
    secret = world.register("service", exchange=["web"])
    return lambda token, who=("service", secret), **more: world.token(
        who, **{"grant_type": KIND, "subject_token": token, "subject_token_type": TYPE, **more}
    )


@pytest.mark.standard("A9")
def test_the_token_says_who_acts_for_whom_and_lives_shortly(world, service):
    own = world.claims((subject := world.signed_in(scope="openid erp/sale.*:read"))["access_token"])
    answer = service(subject["access_token"])
    told = answer.json()
    assert (answer.status_code, told["issued_token_type"], told["expires_in"]) == (200, TYPE, 300)
    claims = world.claims(told["access_token"])
    assert (claims.subject, claims.client, claims.actor) == ("user:anna", "service", {"sub": "client:service"})
    assert (claims.grant, claims.session, claims.role_set) == (own.grant, own.session, own.role_set)
    assert claims.scopes == {"erp/sale.*:read"}
    assert "refresh_token" not in told
    world.later(seconds=3500)
    again = service(subject["access_token"]).json()
    assert again["expires_in"] == 100


def test_never_more_than_the_subject_had(world, service):
    token = world.signed_in(scope="openid erp/sale.*:read")["access_token"]
    assert service(token, scope="erp/sale.line:read").json()["scope"] == "erp/sale.line:read"
    for more, said in [
        ({"scope": "erp/sale.sale:write"}, "invalid_scope"),
        ({"scope": "erp/*:read"}, "invalid_scope"),
        ({"scope": "erp/sale.sale:read erp/party:read"}, "invalid_scope"),
        ({"resource": "https://other"}, "invalid_target"),
        ({"audience": "https://other"}, "invalid_target"),
        ({"actor_token": token}, "invalid_request"),
        ({"subject_token_type": "urn:ietf:params:oauth:token-type:id_token"}, "invalid_request"),
        ({"subject_token_type": ""}, "invalid_request"),
        ({"requested_token_type": "urn:ietf:params:oauth:token-type:refresh_token"}, "invalid_request"),
        ({"subject_token": "nonsense"}, "invalid_request"),
        ({"subject_token": token[:-4] + "AAAA"}, "invalid_request"),
    ]:
        assert service(token, **more).json()["error"] == said, more


def test_only_who_may_exchanges(world, service):
    token, secret = world.signed_in()["access_token"], world.register("stranger")
    assert service(token, who=("stranger", secret)).json()["error"] == "unauthorized_client"
    assert service(token, who=("shop", world.secret)).json()["error"] == "unauthorized_client"
    public = world.token(grant_type=KIND, client_id="web", subject_token=token, subject_token_type=TYPE)
    assert public.json()["error"] == "unauthorized_client"


def test_what_was_revoked_is_not_exchanged(world, service):
    told = world.signed_in()
    world.ask("POST", "/identity/revoke", data={"client_id": "web", "token": told["refresh_token"]})
    assert service(told["access_token"]).json()["error"] == "invalid_request"
    told = world.signed_in()
    world.do(principals.disable, principal="user:anna")
    assert service(told["access_token"]).status_code == 400


def test_each_who_acts_is_named_and_not_without_end(world, service):
    token = world.signed_in(scope="erp/sale.*:read")["access_token"]
    names = ["service"]
    told = service(token)
    for number in range(4):
        name = f"next-{number}"
        secret = world.register(name, exchange=names[-1:])
        names.append(name)
        before, told = told, service(told.json()["access_token"], who=(name, secret))
        if told.status_code != 200:
            break
    assert told.json()["error_description"] == "it was exchanged too often"
    actor, chain = world.claims(before.json()["access_token"]).actor, []
    while actor:
        chain.append(actor["sub"].removeprefix("client:"))
        actor = actor.get("act")
    assert chain == names[:-1][::-1]


def test_a_token_that_allows_nothing_is_exchanged_for_nothing(world, service):
    """Of a client that limits nothing, no scope would mean all."""
    token = world.signed_in(scope="openid")["access_token"]
    for scope in ({}, {"scope": " "}, {"scope": "openid"}):
        assert service(token, **scope).json()["error"] == "invalid_scope"


def test_what_is_exchanged_has_the_subject_s_device_and_roles(world, service):
    token = world.signed_in(scope="erp/sale.*:read")["access_token"]
    fingerprint = "ab" * 32
    world.do(principals.add_device, name="desk", principal="", fingerprint=fingerprint)
    world.headers = {"x-gw-device": fingerprint}
    claims = world.claims(service(token).json()["access_token"])
    assert (claims.device, claims.role_set) == ("", world.claims(token).role_set)


def test_whose_tokens_may_be_exchanged_is_there(world):
    with pytest.raises(CallerFault, match="there is no client:nobody"):
        world.register("odd", exchange=["nobody"])
    world.register("even")
    with pytest.raises(CallerFault, match="there is no client:nobody"):
        world.do(registration.change_client, sealer=world.sealer, client_id="even", exchange=["nobody"])
