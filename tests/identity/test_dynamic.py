"""Clients that register themselves (RFC 7591, 7592): as far as the initial access token goes, and no step further."""

import json
from urllib.parse import urlsplit

import pytest
from joserfc import jws
from sqlalchemy import select

from client_keys import KEYS
from ostiary.audit.log import entries
from ostiary.foundation.errors import CallerFault
from ostiary.identity import clients, principals, registration, tokens
from ostiary.store.tables import REGISTERED

BACK = "https://app.example/back"
SCOPES = ["erp/sale.*:read", "erp/party.party:read"]
ES256 = KEYS["ES256"]()


def opened(world, name="partners", **told):
    """One token, or as many as there are uses."""
    made = world.do(registration.open_registration, sealer=world.sealer, name=name, **{"scopes": SCOPES, **told})
    tokens = [one.reveal() for one in made]
    return tokens if len(tokens) > 1 else tokens[0]


def register(world, token, times=1, **told):
    said = {"redirect_uris": [BACK], **told}
    headers = {"authorization": f"Bearer {token}"}
    answers = world.ask_at_once(times, "POST", "/identity/register", json=said, headers=headers)
    return answers if times > 1 else answers[0]


def registered(world, token=None, **told):
    answer = register(world, token or opened(world), **told)
    assert answer.status_code == 201, answer.text
    return answer.json()


def manage(world, one, method, *, token=None, **more):
    headers = {"authorization": f"Bearer {token or one['registration_access_token']}", **more.pop("headers", {})}
    return world.ask(method, urlsplit(one["registration_client_uri"]).path, headers=headers, **more)


def change(world, one, **told):
    kept = {"client_id": one["client_id"], "redirect_uris": [BACK]}
    return manage(world, one, "PUT", json={**kept, **told})


def error(answer):
    return answer.status_code, answer.json()["error"]


def test_a_client_registers_and_signs_people_in(world):
    one = registered(world, client_name="Orders", scope="openid erp/sale.sale:read")
    assert one["client_secret_expires_at"] == one["client_id_issued_at"] + 365 * 24 * 3600
    assert one["token_endpoint_auth_method"] == "client_secret_basic"
    assert one["scope"] == "erp/sale.sale:read openid profile"
    asked = {"client_id": one["client_id"], "redirect_uri": BACK, "scope": "openid erp/sale.sale:read"}
    page = world.authorize(**asked)
    assert "Orders (app.example)" in page.text  # whatever it calls itself: where it sends people stands beside
    code = world.sent_back(world.answer(page))["code"]
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": BACK, "code_verifier": world.verifier}
    answer = world.token((one["client_id"], one["client_secret"]), **form)
    assert world.claims(answer.json()["access_token"]).scopes == {"openid", "erp/sale.sale:read"}


def public(world, **told):
    """A public client that may have all of this, and asks for `told`."""
    token = opened(world, scopes=["erp/sale.*:read", "erp/*:write"])
    return registered(world, token, token_endpoint_auth_method="none", **told)


def test_what_a_client_changes_while_its_page_is_read_was_not_agreed_to(world):
    one = public(world, scope="erp/sale.order:read")
    page = world.authorize(client_id=one["client_id"], redirect_uri=BACK, scope=None)
    assert "erp/sale.order:read" in page.text
    wider = change(world, one, token_endpoint_auth_method="none", scope="erp/*:write erp/sale.*:read")
    assert wider.status_code == 200
    answer = world.answer(page)
    assert (answer.status_code, "changed meanwhile" in answer.text) == (400, True)
    again = world.authorize(client_id=one["client_id"], redirect_uri=BACK, scope=None)
    assert "erp/*:write" in again.text
    assert "code" in world.sent_back(world.answer(again))


def test_what_an_administrator_took_from_it_it_does_not_take_back(world):
    one = public(world, scope="erp/*:write erp/sale.*:read")
    narrower = {"scopes": ["erp/sale.order:read"], "bound": "dpop"}
    world.do(registration.change_client, sealer=world.sealer, client_id=one["client_id"], **narrower)
    assert error(change(world, one, scope="erp/*:write", token_endpoint_auth_method="none")) == (
        400,
        "invalid_client_metadata",
    )
    kept = change(world, one, token_endpoint_auth_method="none").json()
    assert (kept["scope"], kept["dpop_bound_access_tokens"]) == ("erp/sale.order:read openid profile", True)


def test_what_an_administrator_bound_it_to_it_does_not_change(world):
    one = registered(world, opened(world, scopes=["erp/*:write"]))
    world.do(registration.change_client, sealer=world.sealer, client_id=one["client_id"], bound="certificate")
    told = change(world, one, token_endpoint_auth_method="client_secret_basic", dpop_bound_access_tokens=True).json()
    assert told["tls_client_certificate_bound_access_tokens"] is True
    assert not told.get("dpop_bound_access_tokens")


def test_it_cannot_ask_to_leave_pkce_out(world):
    one = registered(world, scope="openid", pkce="optional", require_pkce=False)
    asked = {"client_id": one["client_id"], "redirect_uri": BACK, "code_challenge": None, "code_challenge_method": None}
    assert world.sent_back(world.authorize(**asked))["error"] == "invalid_request"
    with world.store.read() as connection:
        assert clients.find(connection, one["client_id"]).pkce == "required"


def test_it_says_by_what_its_id_tokens_are_signed_and_is_told_it(world):
    """The standard's own default is RS256 (OpenID Connect Registration section 2): who says nothing is told otherwise."""
    one = registered(world)
    assert one["id_token_signed_response_alg"] == "ES256"
    assert change(world, one, id_token_signed_response_alg="RS256").json()["id_token_signed_response_alg"] == "RS256"
    asked = {"client_id": one["client_id"], "redirect_uri": BACK, "scope": "openid"}
    form = {"grant_type": "authorization_code", "redirect_uri": BACK, "code_verifier": world.verifier}
    told = world.token((one["client_id"], one["client_secret"]), **form, code=world.code(**asked)).json()
    assert jws.extract_compact(told["id_token"].encode()).headers()["alg"] == "RS256"
    assert registered(world, id_token_signed_response_alg="RS256")["id_token_signed_response_alg"] == "RS256"
    for other in ("HS256", "none", "PS256", ["RS256"], None):
        assert error(change(world, one, id_token_signed_response_alg=other)) == (400, "invalid_client_metadata")


def test_rs256_is_refused_to_who_registers_for_fapi2(world):
    keys = {"token_endpoint_auth_method": "private_key_jwt", "jwks": {"keys": [ES256.as_dict(private=False)]}}
    token = opened(world, profile="fapi2")
    answer = register(world, token, id_token_signed_response_alg="RS256", **keys)
    assert error(answer) == (400, "invalid_client_metadata")
    one = registered(world, token, **keys)  # what is refused uses nothing up
    assert error(change(world, one, id_token_signed_response_alg="RS256", **keys)) == (400, "invalid_client_metadata")


@pytest.mark.standard("A9")
def test_it_holds_no_role_and_its_registration_is_in_the_audit_log(world):
    one = registered(world, opened(world, name="partners"))
    for kind in ("client_credentials", "urn:ietf:params:oauth:grant-type:token-exchange"):
        answer = world.token((one["client_id"], one["client_secret"]), grant_type=kind)
        assert (answer.status_code, answer.json()["error"]) == (400, "unauthorized_client")
    with world.store.read() as connection:
        made = next(entry for entry in entries(connection) if entry["action"] == "client.add")
    assert made["actor"] == "registration:partners"
    assert made["after"]["roles"] == []
    assert one["client_secret"] not in str(made)


def test_what_it_says_of_its_keys_and_tokens_holds(world):
    told = {
        "token_endpoint_auth_method": "private_key_jwt", "jwks": {"keys": [ES256.as_dict(private=False)]},
        "dpop_bound_access_tokens": True, "require_pushed_authorization_requests": True,
    }  # fmt: skip
    one = registered(world, opened(world, profile="fapi2"), **told)
    assert {name: one[name] for name in told if name != "jwks"} == {name: told[name] for name in told if name != "jwks"}
    assert "client_secret" not in one
    assert one["jwks"]["keys"][0]["x"] == ES256.as_dict(private=False)["x"]


@pytest.mark.parametrize(
    "told",
    [
        {"software_statement": "e30.e30."},
        {"jwks_uri": "https://app.example/jwks"},
        {"token_endpoint_auth_method": "tls_client_auth"},
        {"token_endpoint_auth_method": "private_key_jwt"},
        {"token_endpoint_auth_method": "private_key_jwt", "jwks": {"keys": []}},
        {"token_endpoint_auth_method": "private_key_jwt", "jwks": {"keys": [{"kty": "oct", "k": "A" * 43}]}},
        {"grant_types": ["client_credentials"]},
        {"grant_types": ["implicit"]},
        {"response_types": ["token"]},
        {"id_token_signed_response_alg": "none"},
        {"require_pushed_authorization_requests": True},
        {"dpop_bound_access_tokens": True, "tls_client_certificate_bound_access_tokens": True},
        {"scope": "erp/*:read"},
        {"scope": "erp/sale.sale:write"},
        {"scope": "anything"},
        {"client_name": "x" * 81},
        {"client_name": "a\u202eb"},
        {"client_name": 7},
        {"redirect_uris": "https://app.example"},
        {"redirect_uris": None},
        {"jwks": "[]"},
        {"dpop_bound_access_tokens": "false"},
    ],
)
def test_what_cannot_hold_is_refused_and_takes_no_use(sqlite_world, told):
    token = opened(sqlite_world, name=f"n{abs(hash(json.dumps(told)))}")
    status, said = error(register(sqlite_world, token, **told))
    assert (status, said) == (400, "invalid_client_metadata")
    assert register(sqlite_world, token).status_code == 201


@pytest.mark.parametrize(
    "redirect",
    [
        "http://app.example/back",
        "javascript:alert(1)",
        "data:text/html,x",
        "https://app.example/back#x",
        "https://app.example@evil.example/",
        "https://app.example\\@evil.example/",
        "//app.example/back",
        "http://localhost/back",
        "http://127.0.0.1.evil.example/",
        "https://app.example/*|x",
        "com.example.app:/back",
        "",
        "https:///back",
        "https://app.example/" + "x" * 1000,
    ],
)
def test_a_redirect_that_leads_elsewhere_is_refused(sqlite_world, redirect):
    token = opened(sqlite_world, name=f"r{abs(hash(redirect))}")
    assert error(register(sqlite_world, token, redirect_uris=[BACK, redirect])) == (400, "invalid_redirect_uri")
    one = registered(sqlite_world, token)
    assert error(change(sqlite_world, one, redirect_uris=[redirect])) == (400, "invalid_redirect_uri")


def test_nobody_registers_before_it_is_opened_nor_after(world):
    for token in ("", "x", "x" * 10_000):
        assert error(register(world, token)) == (401, "invalid_token")
    token = opened(world, days=1)
    world.do(registration.close_registration, name="partners")
    answer = register(world, token)
    assert error(answer) == (401, "invalid_token")
    assert answer.headers["ostiary-reason"] == "credential-invalid"  # guesses count at the gate
    assert answer.headers["www-authenticate"].startswith("Bearer")
    token = opened(world, days=1)
    world.later(days=1)
    assert error(register(world, token)) == (401, "invalid_token")


def test_of_many_at_once_one_registers_by_a_token(world):
    answers = register(world, opened(world), times=10)
    assert sorted(answer.status_code for answer in answers) == [201] + [401] * 9


def test_a_thousand_registrations_end_at_the_limit(world, monkeypatch):
    monkeypatch.setattr(registration, "REGISTERED_MAX", 2)
    assert [register(world, token).status_code for token in opened(world, uses=5)] == [201, 201, 403, 403, 403]
    with world.store.read() as connection:
        (told,) = registration.listed(connection)
    assert told["uses"] == 3  # who was refused has used nothing up


def test_a_client_reads_changes_and_removes_itself(world):
    one = registered(world, client_name="Orders", scope="erp/sale.sale:read")
    read = manage(world, one, "GET").json()
    assert read == {name: value for name, value in one.items() if name != "client_secret"}
    whole = {**read, "client_name": "Sales", "redirect_uris": [BACK, "https://app.example/two"]}
    changed = manage(world, one, "PUT", json=whole).json()
    assert changed == whole
    changed = change(world, one).json()
    assert (changed["client_name"], changed["redirect_uris"]) == ("App", [BACK])  # what is left out is as if never said
    assert changed["scope"] == "erp/party.party:read erp/sale.*:read openid profile"
    assert manage(world, one, "DELETE").status_code == 204
    assert error(manage(world, one, "GET")) == (401, "invalid_token")
    assert world.token((one["client_id"], one["client_secret"]), grant_type="client_credentials").status_code == 401


def test_a_change_ends_what_the_client_was_given(world):
    one = registered(world)
    assert change(world, one, scope="erp/sale.sale:read").status_code == 200
    assert f"cgen:client:{one['client_id']}#1" in world.gone
    manage(world, one, "DELETE")
    assert f"cgen:client:{one['client_id']}#2" in world.gone


def test_a_client_that_becomes_confidential_gets_a_secret_and_one_that_becomes_public_loses_it(world):
    one = registered(world, token_endpoint_auth_method="none")
    assert "client_secret" not in one
    secret = change(world, one).json()["client_secret"]
    machine = {"grant_type": "refresh_token", "refresh_token": "none"}
    assert error(world.token((one["client_id"], secret), **machine)) == (400, "invalid_grant")
    assert "client_secret" not in change(world, one, client_secret=secret).json()
    assert change(world, one, token_endpoint_auth_method="none").status_code == 200
    assert world.token((one["client_id"], secret), **machine).status_code == 401


@pytest.mark.standard("A9")
def test_an_update_raises_nothing_beyond_the_initial_token(world):
    one = registered(world, scope="erp/sale.sale:read")
    for more in ({"scope": "erp/*:write"}, {"scope": "shop/*:read"}, {"client_id": "shop"}):
        assert error(change(world, one, **more)) == (400, "invalid_client_metadata")
    assert change(world, one, profile="oauth21", roles=["clerk"], exchange=["shop"]).status_code == 200
    with world.store.read() as connection:
        row = connection.execute(select(REGISTERED)).one()
    assert row.scopes.split() == SCOPES


def test_a_profile_is_kept(world):
    keys = {"token_endpoint_auth_method": "private_key_jwt", "jwks": {"keys": [ES256.as_dict(private=False)]}}
    one = registered(world, opened(world, profile="fapi2"), **keys)
    assert error(change(world, one)) == (400, "invalid_client_metadata")  # a secret, in fapi2
    assert change(world, one, **keys).json()["require_pushed_authorization_requests"]


def test_a_registration_token_opens_its_own_client_alone(world):
    first, second, token = opened(world, uses=3)
    one, other = registered(world, first), registered(world, second)
    for method in ("GET", "PUT", "DELETE"):
        for shown in (other["registration_access_token"], token, one["client_secret"], "x"):
            answer = manage(world, one, method, token=shown)
            assert error(answer) == (401, "invalid_token")
    place = {**one, "registration_client_uri": "https://localhost:8443/identity/register/shop"}
    assert error(manage(world, place, "DELETE")) == (401, "invalid_token")
    basic = world.ask(
        "GET", urlsplit(one["registration_client_uri"]).path, auth=(one["client_id"], one["client_secret"])
    )
    assert error(basic) == (401, "invalid_token")


def test_a_client_that_an_administrator_disables_cannot_change_itself(world):
    one = registered(world)
    world.do(principals.disable, principal=f"client:{one['client_id']}")
    assert error(manage(world, one, "GET")) == (401, "invalid_token")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b"null", 400),
        (b'{"redirect_uris": [' + b"[" * 5000, 400),
        (b'{"redirect_uris": [], "redirect_uris": []}', 400),
        (b"\xff", 400),
        (json.dumps({"redirect_uris": [BACK] * 101}).encode(), 400),
        (json.dumps({"redirect_uris": [BACK], "contacts": ["x" * 20_000]}).encode(), 413),
    ],
)
def test_metadata_without_end_or_form_is_refused(sqlite_world, sent, status):
    token = opened(sqlite_world, name=f"m{abs(hash(sent))}")
    answer = sqlite_world.ask(
        "POST", "/identity/register", content=sent, headers={"authorization": f"Bearer {token}"}
    )  # fmt: skip
    assert answer.status_code == status, answer.text


def test_a_client_that_has_ended_neither_signs_anybody_in_nor_changes_itself(world):
    one = registered(world, opened(world, client_days=1))
    world.later(days=1)
    assert error(manage(world, one, "GET")) == (401, "invalid_token")
    assert error(manage(world, one, "DELETE")) == (401, "invalid_token")
    assert world.token((one["client_id"], one["client_secret"]), grant_type="client_credentials").status_code == 401


def test_no_other_web_page_registers_or_changes(world):
    token, foreign = opened(world), {"sec-fetch-site": "cross-site"}
    headers = {"authorization": f"Bearer {token}", **foreign}
    answer = world.ask("POST", "/identity/register", json={"redirect_uris": [BACK]}, headers=headers)
    assert answer.status_code == 403
    one = registered(world, token)
    assert manage(world, one, "DELETE", headers=foreign).status_code == 403


def test_a_registration_is_opened_with_what_it_allows(world):
    for wrong in ({"scopes": ["all"]}, {"name": "a b"}):
        with pytest.raises(CallerFault):
            opened(world, **wrong)
    opened(world)
    opened(world)
    with pytest.raises(CallerFault, match="is open"):
        world.do(registration.close_registration, name="others")
    with world.store.read() as connection:
        (told,) = registration.listed(connection)
    assert told == {"name": "partners", "uses": 2, "profile": "oauth21", "scopes": SCOPES, "client_days": 365}


def test_what_has_expired_goes(world):
    opened(world)
    world.later(days=8)
    tokens.purge(world.store, int(world.clock.now().timestamp()))
    with world.store.read() as connection:
        assert registration.listed(connection) == []


def test_a_person_sees_every_host_that_a_code_may_go_to(world):
    places = ["https://known.example/back", "https://evil.example/back", "https://known.example/other"]
    one = registered(world, client_name="Known", redirect_uris=places)
    page = world.authorize(client_id=one["client_id"], redirect_uri=places[1], scope="openid erp/sale.sale:read")
    assert "<strong>Known (known.example, evil.example)</strong>" in page.text
    assert one["client_name"] == "Known"
    many = [f"https://{'a' * 60}{number}.example/" for number in range(9)]  # more than can be shown
    assert error(register(world, opened(world, "many"), redirect_uris=many)) == (400, "invalid_client_metadata")


def test_a_client_that_is_called_otherwise_while_its_page_is_read_was_not_agreed_to(world):
    one = public(world, scope="erp/sale.order:read", client_name="Orders")
    page = world.authorize(client_id=one["client_id"], redirect_uri=BACK, scope=None)
    told = {"token_endpoint_auth_method": "none", "scope": "erp/sale.order:read"}
    assert change(world, one, **told, client_name="Payroll").status_code == 200
    assert world.answer(page).status_code == 400
