"""What an attacker tries at the sign-in page and at the endpoints, and what he gets: nothing."""

import base64
import re
from urllib.parse import parse_qsl, urlencode

import pytest
from nacl.pwhash import argon2id

from ostiary.foundation.secret import Secret
from ostiary.identity import passwords, principals, registration

JSON = "application/json"
FORM = {"content-type": "application/x-www-form-urlencoded"}


def signed_in_as(world, answer):
    """Whose token the code in this answer gives."""
    return world.claims(world.redeem(world.sent_back(answer)["code"]).json()["access_token"]).subject


@pytest.fixture
def ben(world):
    hashed = passwords.hash_password(Secret(world.password), login="ben")
    return world.do(principals.add_user, login="ben", hashed=hashed)


def test_a_form_that_named_one_person_is_not_confirmed_by_another(world, ben):
    world.code()
    page = world.authorize(prompt="consent")
    assert "signed in as anna" in page.text
    world.cookies.delete("__Host-ostiary-session")
    world.answer(world.authorize(), username="ben")
    assert "signed in as ben" in world.authorize(prompt="consent").text
    assert world.answer(page, username="", password="").status_code == 400


def test_a_form_that_asked_for_a_password_is_answered_by_its_owner_whoever_signed_in_meanwhile(world, ben):
    page = world.authorize()
    world.answer(world.authorize(), username="ben")
    assert signed_in_as(world, world.answer(page, username="anna")) == "user:anna"
    assert world.answer(page, username="", password="").status_code == 200


@pytest.mark.parametrize(
    "changed",
    [{"scope": "openid profile erp/*:write"}, {"redirect_uri": "https://shop.example/other"}, {"client_id": "desk"}],
)
def test_what_was_shown_cannot_be_exchanged_for_what_was_not(world, changed):
    more = {"redirects": ["https://shop.example/other", world.back], "auth": "none"}
    world.do(registration.add_client, sealer=world.sealer, client_id="desk", **more)
    page = world.authorize(scope="openid")
    asked = dict(parse_qsl(base64.urlsafe_b64decode(world.hidden(page)["request"]).decode()))
    forged = base64.urlsafe_b64encode(urlencode({**asked, **changed}).encode()).decode()
    answer = world.answer(page, request=forged)
    assert answer.status_code == 400
    assert "location" not in answer.headers


@pytest.mark.parametrize("name", ["client_id", "redirect_uri", "scope", "state", "code_challenge", "resource", "x"])
def test_a_parameter_that_comes_twice_is_refused_and_sends_nobody_on(world, name):
    asked = [("response_type", "code"), ("client_id", "web"), ("redirect_uri", world.back), ("scope", "openid")]
    asked += [("code_challenge", world.challenge), ("code_challenge_method", "S256")]
    assert world.ask("GET", "/identity/authorize", params=asked).status_code == 200
    twice = [*asked, (name, "a"), (name, dict(asked).get(name, "b"))]
    answer = world.ask("GET", "/identity/authorize", params=twice)
    assert answer.status_code == 400
    assert "location" not in answer.headers


def test_a_session_that_somebody_else_planted_is_not_taken_over(world):
    world.cookies.set("__Host-ostiary-session", "planted" * 6, domain="localhost.local", path="/")
    answer = world.answer(world.authorize())
    (session,) = [one for one in answer.headers.get_list("set-cookie") if "-session=" in one]
    assert "planted" not in session
    world.cookies.clear()
    again = world.ask("GET", "/identity/authorize", headers={"cookie": f"__Host-ostiary-session={'planted' * 6}"})
    assert "signed in as" not in again.text


def test_no_answer_with_a_form_a_code_or_a_fault_is_framed_kept_or_told_to_others(world):
    page = world.authorize()
    answers = [
        page, world.answer(page, password="guess guess guess"), world.answer(page, csrf="0" * 64), world.authorize(client_id="nobody"),
        world.authorize(response_type="token"), world.answer(page, decision="deny"), world.answer(page),
    ]  # fmt: skip
    assert {answer.status_code for answer in answers} == {200, 303, 400}
    for answer in answers:
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_what_tells_of_tokens_is_json_and_kept_by_nobody(world):
    told = world.signed_in()
    web = {"client_id": "web"}
    answers = [
        world.machine(), world.redeem("x"), world.refresh(told["refresh_token"]), world.token(("shop", "wrong"), grant_type="client_credentials"),
        world.userinfo(told["access_token"]), world.userinfo("x"), world.ask("POST", "/identity/revoke", data=web),
        world.ask("POST", "/identity/revoke", data={**web, "token": "x"}),
    ]  # fmt: skip
    for answer in answers:
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers.get("content-type") == (JSON if answer.content else None)


@pytest.mark.parametrize("path", ["token", "revoke", "userinfo"])
@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_another_web_page_does_not_make_its_visitors_browsers_try(world, path, site):
    """403, which counts towards no block, whatever was tried."""
    form = {"grant_type": "client_credentials", "client_id": "shop", "client_secret": world.secret, "token": "x"}
    answer = world.ask("POST", f"/identity/{path}", data=form, headers={"sec-fetch-site": site})
    assert answer.status_code == 403
    assert "access_token" not in answer.text


@pytest.mark.parametrize("username", ["anna", "nobody", "gone", ""])
def test_every_try_costs_one_password_hash_whoever_is_named(world, monkeypatch, username):
    hashed = passwords.hash_password(Secret("seven green lanterns"), login="gone")
    world.do(principals.add_user, login="gone", hashed=hashed)
    world.do(principals.disable, principal="user:gone")
    tried, page = [], world.authorize()

    class Counting:
        def verify(self, stored, text):
            tried.append(stored)
            return argon2id.verify(stored, text)

    monkeypatch.setattr(passwords, "argon2id", Counting())
    assert world.answer(page, username=username, password="guess guess guess").status_code == 200
    (stored,) = tried
    assert stored.startswith(b"$argon2id$v=19$m=19456,t=2,p=1$")
    assert (stored.decode() == passwords._NOBODY) is (username != "anna")


def test_who_guesses_from_the_same_office_keeps_nobody_out_of_his_own_browser(world):
    office = "192.0.2.1"
    world.answer(world.authorize(), source=office)
    known = world.cookies["__Host-ostiary-device"]
    world.cookies.clear()
    page = world.authorize()
    for _ in range(6):
        world.answer(page, password="guess guess guess", source=office)
    assert world.answer(page, source=office).status_code == 200
    world.cookies.set("__Host-ostiary-device", known, domain="localhost.local", path="/")
    assert world.answer(page, source=office).status_code == 303


def test_a_known_browser_guesses_no_more_often_than_any_other_and_for_its_own_account_only(world, ben):
    world.answer(world.authorize())
    page = world.authorize(prompt="login")
    for username in ("anna", "ben"):
        for number in range(6):
            world.answer(page, username=username, password="guess guess guess", source=f"192.0.2.{number}")
    assert world.answer(page, source="192.0.2.77").status_code == 200
    world.later(minutes=5)
    for _ in range(5):
        world.answer(page, username="ben", password="guess guess guess", source="192.0.2.78")
    assert world.answer(page, username="ben", source="192.0.2.78").status_code == 200


def test_a_browser_that_is_known_for_one_account_is_a_stranger_to_every_other(world, ben):
    """Else whoever has an account of his own could keep another out of her own browser."""
    world.answer(world.authorize())
    own = world.cookies["__Host-ostiary-device"]
    world.cookies.clear()
    page = world.authorize(prompt="login")
    world.answer(page, username="ben")
    for _ in range(6):
        world.answer(page, username="anna", password="guess guess guess")
    assert world.answer(page).status_code == 200
    world.cookies.set("__Host-ostiary-device", own, domain="localhost.local", path="/")
    assert world.answer(page).status_code == 303


def known_browser(world, **changed):
    """The cookie of a browser that anna signs in with, one more."""
    world.cookies.clear()
    assert world.answer(world.authorize(), **changed).status_code == 303
    return world.cookies["__Host-ostiary-device"]


def lets_in(world, cookie, source="192.0.2.1"):
    """Whether it is known for anna still: from its address nobody else gets in any more."""
    world.cookies.clear()
    page = world.authorize(prompt="login")
    for _ in range(6):
        world.answer(page, password="guess guess guess", source=source)
    world.cookies.set("__Host-ostiary-device", cookie, domain="localhost.local", path="/")
    return world.answer(page, source=source).status_code == 303


def test_each_browser_is_known_by_itself_and_a_copy_is_void_once_its_owner_signs_in_again(world):
    first, second = known_browser(world), known_browser(world)
    assert first != second
    world.cookies.set("__Host-ostiary-device", first, domain="localhost.local", path="/")
    world.answer(world.authorize(prompt="login"))
    third = world.cookies["__Host-ostiary-device"]
    assert third not in {first, second}
    assert [lets_in(world, one) for one in (first, second, third)] == [False, True, True]


def test_who_copied_a_known_browser_s_cookie_keeps_its_owner_out_of_that_browser_alone(world):
    copied, other = known_browser(world), known_browser(world)
    page = world.authorize(prompt="login")
    world.cookies.set("__Host-ostiary-device", copied, domain="localhost.local", path="/")
    for _ in range(6):
        world.answer(page, password="guess guess guess")
    assert world.answer(page).status_code == 200
    world.cookies.set("__Host-ostiary-device", other, domain="localhost.local", path="/")
    assert world.answer(page).status_code == 303


def ended_by_its_person(world):
    page = world.ask("GET", "/identity/account")
    for form in re.findall(r"<form.*?</form>", page.text, re.DOTALL):
        if 'value="end"' in form:
            fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', form))
            world.ask("POST", "/identity/account", data={**fields, "act": "end"})


@pytest.mark.parametrize(
    "end",
    [
        ended_by_its_person,
        lambda world: world.do(principals.set_password, sealer=world.sealer, login="anna", hashed=world.hashed),
        lambda world: world.do(principals.revoke_principal, principal="user:anna"),
        lambda world: world.do(principals.forget_factors, login="anna"),
        lambda world: world.later(days=366),
    ],
)
def test_a_browser_is_known_until_its_session_is_ended_or_the_password_changed(world, end):
    world.hashed = passwords.hash_password(Secret(world.password), login="")
    cookie = known_browser(world)
    end(world)
    assert not lets_in(world, cookie)


def test_a_browser_stays_known_after_its_session_has_lapsed(world):
    cookie = known_browser(world)
    world.later(days=30)
    assert lets_in(world, cookie)


def test_a_token_of_one_kind_is_none_of_another(world):
    told, code = world.signed_in(), world.code()
    for token in (told["access_token"], told["id_token"], code):
        assert world.refresh(token).json()["error"] == "invalid_grant"
    for token in (told["refresh_token"], told["id_token"], code):
        assert world.userinfo(token).status_code == 401
    for token in (told["access_token"], told["refresh_token"], told["id_token"]):
        assert world.redeem(token).json()["error"] == "invalid_grant"
    assert world.gone == []
    assert world.redeem(code).status_code == 200


def test_a_code_or_a_token_is_in_no_address_but_the_codes_own(world):
    answer = world.answer(world.authorize())
    back = world.sent_back(answer)
    assert set(back) == {"code", "state", "iss"}
    told = world.redeem(back["code"])
    assert "location" not in told.headers
    for name in ("code", "refresh_token", "client_secret"):
        asked = {"grant_type": "authorization_code", "client_id": "web", name: "x"}
        refused = world.ask("POST", "/identity/token", params=asked, content=urlencode(asked), headers=FORM)
        assert refused.json()["error"] == "invalid_request"


def test_an_answer_says_to_the_gate_whether_a_credential_was_wrong(world):
    """What it does not say blocks no address: see `monitor.rules`."""

    def said(answer):
        return answer.headers.get("ostiary-reason")

    def token(auth=None, **form):
        return said(world.token(auth, grant_type="client_credentials", **form))

    right, told, page = ("shop", world.secret), world.signed_in(), world.authorize(prompt="login")
    wrong = [
        token(("shop", "wrong")), token(("nobody", world.secret)), token(client_id="shop", client_secret="wrong"),
        said(world.ask("POST", "/identity/revoke", data={"token": "x"}, auth=("shop", "wrong"))),
        said(world.redeem("wrong")), said(world.redeem(world.code(), code_verifier="wrong")),
        said(world.refresh("wrong")), said(world.answer(page, password="wrong")),
    ]  # fmt: skip
    assert wrong == ["credential-invalid"] * len(wrong)
    post = {"path": "/identity/token", "method": "POST"}
    innocent = [
        token(right), token(right, scope="erp/nothing:fly"), token(right, resource="https://x"), token(client_id="shop"),
        token(), said(world.ask(**post)), said(world.ask(**post, json={})), said(world.redeem("")),
        said(world.refresh("")), said(world.ask("POST", "/identity/revoke", data={"token": "x"})),
        said(page), said(world.answer(page, decision="deny")), said(world.answer(page, csrf="x", password="wrong")),
        said(world.userinfo(told["access_token"])),
    ]  # fmt: skip
    assert innocent == [None] * len(innocent)
    assert said(world.ask("GET", "/identity/userinfo")) == said(world.userinfo("")) == "token-missing"
    assert said(world.userinfo("wrong")) == "token-invalid"
    world.ask("POST", "/identity/revoke", data={"token": told["refresh_token"], "client_id": "web"})
    assert said(world.userinfo(told["access_token"])) == "token-revoked"
    assert said(world.refresh(told["refresh_token"])) is None, "it has ended, and was right"
    world.redeem(code := world.code())
    assert said(world.redeem(code)) == "credential-invalid", "a code that comes again is told as no success"
