"""What a person proves himself by, where he is signed in, and devices that he lets in (RFC 6238, 8628)."""

import json
import re
from contextlib import suppress
from datetime import timedelta
from html import unescape
from threading import Event
from urllib.parse import quote

import httpx
import pyotp
import pytest
from joserfc import jws
from sqlalchemy import delete

from ostiary.audit.log import Change, entries
from ostiary.foundation.errors import CallerFault
from ostiary.identity import app, factors, passwords, principals, registration, session
from ostiary.store.tables import PASSWORD


def form_of(page, act):
    """The fields of the form on the page that does this."""
    for form in re.findall(r"<form.*?</form>", page.text, re.DOTALL):
        if f'value="{act}"' in form:
            fields = re.findall(r'name="(\w+)" value="([^"]*)"', form)
            return {name: unescape(value) for name, value in fields if name != "act"} | {"act": act}
    raise AssertionError(page.text)


class Browser:
    """The account page, and an app with codes."""

    def __init__(self, world):
        self.world, self.app = world, None

    def page(self):
        return self.world.ask("GET", "/identity/account")

    def sign_in(self, **changed):
        answer = self.world.answer(self.page(), **changed)
        if answer.status_code == 303:
            assert answer.headers["location"].endswith("/identity/account")
        return answer

    def act(self, act, page=None, **changed):
        """The page after it, with a new proof where one is asked for."""
        return self.prove(self.begin(act, page, **changed))

    def begin(self, act, page=None, **changed):
        form = {**form_of(page or self.page(), act), **changed}
        return self.world.ask("POST", "/identity/account", data=form)

    def prove(self, page):
        if 'name="request"' not in page.text:
            return page
        page = self.world.answer(page)
        if 'name="half"' not in page.text:
            return page
        self.world.later(seconds=60)  # no code is good twice
        return self.whole(self.code(), page)

    def enrol(self):
        """The recovery codes."""
        page = self.act("app-new")
        self.app = pyotp.TOTP(re.search(r"<code>([A-Z2-7]{32})</code>", page.text)[1])
        page = self.act("app-confirm", page, code=self.code())
        return re.findall(r"<li><code>([\w-]+)</code>", page.text)

    def code(self, **later):
        return self.app.at(self.world.clock.now() + timedelta(**later))

    def forget(self):
        self.world.cookies.clear()

    def half(self, page=None, **changed):
        """The page that asks for the code."""
        return self.world.answer(page or self.page(), **changed)

    def whole(self, code, page=None):
        page = page or self.half()
        hidden = dict(re.findall(r'name="(request|csrf|half)" value="([^"]*)"', page.text))
        return self.world.ask("POST", "/identity/sign-in", data={**hidden, "code": code, "decision": "allow"})


@pytest.fixture
def browser(world):
    made = Browser(world)
    made.sign_in()
    return made


def test_whose_session_ended_while_he_waited_for_his_turn_changes_nothing(world, browser, monkeypatch):
    page = browser.act("app-new")
    code = pyotp.TOTP(re.search(r"<code>([A-Z2-7]{32})</code>", page.text)[1]).at(world.clock.now())

    def ended(connection, principal):
        principals.end(Change(connection, "uid:0", world.clock.now()), principal, "stolen")

    monkeypatch.setattr(session, "hold", ended)
    assert browser.act("app-confirm", page, code=code).status_code == 403
    with world.store.read() as connection:
        assert not factors.asked_for(connection, "user:anna")


@pytest.mark.standard("B4")
def test_an_app_is_enrolled_and_then_asked_for(world, browser):
    with world.store.read() as connection:
        assert principals.one(connection, "user:anna")["factors"] == []
    assert "<p>By your password.</p>" in world.ask("GET", "/identity/account").text
    assert len(browser.enrol()) == 10
    with world.store.read() as connection:
        assert principals.one(connection, "user:anna")["factors"] == ["recovery", "totp"]
        assert "factors" not in principals.one(connection, "client:shop")
    browser.forget()
    world.later(seconds=60)
    half = browser.half(world.authorize())
    assert (half.status_code, "code" in dict(re.findall(r'name="(code)"()', half.text))) == (200, True)
    back = browser.whole(browser.code(), half)
    tokens = world.redeem(world.sent_back(back)["code"]).json()
    claims = world.claims(tokens["access_token"])
    assert (claims.acr, claims.amr) == ("mfa", ("pwd", "otp", "mfa"))
    identity = json.loads(jws.extract_compact(tokens["id_token"].encode()).payload)
    assert (identity["acr"], identity["amr"]) == ("mfa", ["pwd", "otp", "mfa"])
    renewed = world.claims(world.refresh(tokens["refresh_token"]).json()["access_token"])
    assert renewed.acr == "mfa"


def test_a_code_is_good_once_and_near_its_time(world, browser):
    browser.enrol()
    browser.forget()
    assert browser.whole(browser.code()).status_code == 200  # the one that was enrolled with
    world.later(seconds=60)
    code = browser.code()
    assert browser.whole(browser.code(minutes=5)).status_code == 200
    assert browser.whole("000000").status_code == 200
    assert browser.whole("").status_code == 200
    assert browser.whole(code).status_code == 303
    browser.forget()
    assert browser.whole(code).status_code == 200
    assert "a code that is wrong or was used" in world.home.identity_log.read_text("utf-8").splitlines()[-1]


def test_codes_are_tried_as_often_as_passwords_and_the_right_one_comes_too_late(world, browser):
    browser.enrol()
    browser.forget()
    world.later(seconds=60)
    page = browser.half()
    for _ in range(5):
        browser.whole("000000", page)
    assert browser.whole(browser.code(), page).status_code == 200
    world.later(seconds=301)
    assert browser.whole(browser.code()).status_code == 303


def test_half_a_proof_is_nobody_s_and_lapses(world, browser):
    browser.enrol()
    browser.forget()
    world.later(seconds=60)
    page = browser.half()
    assert world.ask("GET", "/identity/account").text.count('name="username"') == 1  # no session yet
    world.later(seconds=301)
    late = browser.whole(browser.code(), page)
    assert (late.status_code, late.headers["content-type"]) == (400, "text/html; charset=utf-8")
    assert "this sign-in has lapsed" in late.text
    page = browser.half()
    world.do(principals.set_password, sealer=world.sealer, login="anna", hashed="x")
    assert browser.whole(browser.code(), page).status_code == 200


def test_a_recovery_code_is_not_used_up_where_the_other_half_counts_no_more(world, browser):
    codes = browser.enrol()
    browser.forget()
    page = browser.half()
    world.do(principals.next_generation, principal="user:anna", reason="a test")
    assert browser.whole(codes[0], page).status_code == 200
    assert browser.whole(codes[0]).status_code == 303


def test_a_recovery_code_is_good_once(world, browser):
    codes = browser.enrol()
    assert len(set(codes)) == 10
    browser.forget()
    assert browser.whole(codes[0]).status_code == 303
    browser.forget()
    assert browser.whole(codes[0].upper()).status_code == 200
    assert browser.whole(codes[1].upper()).status_code == 303


def test_once_there_is_an_app_no_session_by_the_password_alone_is_left(world, browser):
    """The one that showed password and code goes on, as one by both; a browser that showed less signs in anew."""
    mine = httpx.Cookies(world.cookies)
    browser.forget()
    browser.sign_in()
    other, world.cookies = httpx.Cookies(world.cookies), mine
    browser.enrol()
    assert "this browser" in browser.page().text
    told = world.redeem(world.sent_back(world.answer(world.authorize(acr_values="mfa"), username=""))["code"]).json()
    assert world.claims(told["access_token"]).acr == "mfa"
    assert "code" in world.sent_back(world.authorize(acr_values="mfa", prompt="none"))
    assert "shown only now" in browser.act("recovery-new").text
    world.cookies = other
    assert 'name="username"' in browser.page().text
    assert world.sent_back(world.authorize(prompt="none"))["error"] == "login_required"


def test_recovery_codes_come_with_an_app_alone(world, browser):
    form = {**form_of(browser.page(), "app-new"), "act": "recovery-new"}
    assert "shown only now" not in world.ask("POST", "/identity/account", data=form).text
    browser.forget()
    assert browser.sign_in().status_code == 303


def test_one_enrolment_is_one_app_however_often_it_is_confirmed_at_once(world, browser):
    page = browser.act("app-new")
    browser.app = pyotp.TOTP(re.search(r"<code>([A-Z2-7]{32})</code>", page.text)[1])
    form = {**form_of(page, "app-confirm"), "code": browser.code()}
    answers = world.ask_at_once(6, "POST", "/identity/account", data=form)
    assert sum("shown only now" in one.text for one in answers) == 1
    browser.forget()
    world.later(seconds=60)
    codes = [browser.whole(browser.code()).status_code for _ in range(3)]
    assert codes.count(303) == 1


def test_the_last_app_takes_the_recovery_codes_with_it(world, browser):
    codes = browser.enrol()
    browser.forget()
    world.later(seconds=60)
    browser.whole(browser.code())
    browser.act("remove")
    browser.forget()
    assert browser.sign_in().status_code == 303
    assert world.claims(world.signed_in(acr_values="pwd")["access_token"]).acr == "pwd"
    assert codes


def test_an_app_that_shows_another_code_is_not_kept(world, browser):
    page = browser.act("app-new")
    again = browser.act("app-confirm", page, code="000000", name='my "phone"')
    assert "not accepted" in again.text
    assert form_of(again, "app-confirm")["name"] == 'my "phone"'  # and need not be typed again
    assert "data:image/svg+xml" in page.text
    browser.forget()
    assert browser.sign_in().status_code == 303


def test_another_page_and_another_session_change_nothing(world, browser):
    form = form_of(browser.page(), "app-new")
    for headers, changed in [({"sec-fetch-site": "cross-site"}, {}), ({}, {"csrf": "x"}), ({}, {"act": "nothing"})]:
        answer = world.ask("POST", "/identity/account", data={**form, **changed}, headers=headers)
        assert answer.status_code in {400, 403}
    browser.forget()
    assert 'name="username"' in world.ask("POST", "/identity/account", data=form).text
    browser.sign_in()
    assert world.ask("POST", "/identity/account", data=form).status_code == 403


@pytest.mark.standard("A5")
def test_a_session_that_its_person_ends_takes_its_tokens_along(world, browser):
    tokens = world.redeem(world.sent_back(world.answer(world.authorize()))["code"]).json()
    page = browser.page()
    sid = world.claims(tokens["access_token"]).session
    assert f'value="{sid}"' in page.text
    world.ask("POST", "/identity/account", data={**form_of(page, "end"), "id": sid})
    assert f"sid:{sid}" in world.gone
    assert world.refresh(tokens["refresh_token"]).json()["error"] == "invalid_grant"
    assert 'name="username"' in browser.page().text


def test_nobody_ends_another_s_session(world, browser):
    world.do(principals.add_user, login="ben", hashed=principals_hash(world))
    other = world.redeem(world.sent_back(world.answer(world.authorize(prompt="login"), username="ben"))["code"]).json()
    sid = world.claims(other["access_token"]).session
    browser.forget()
    browser.sign_in()
    world.ask("POST", "/identity/account", data={**form_of(browser.page(), "end"), "id": sid})
    assert world.gone == []


def principals_hash(world):
    from ostiary.foundation.secret import Secret
    from ostiary.identity.passwords import hash_password

    return hash_password(Secret(world.password), login="")


def test_the_pages_speak_the_browser_s_language(world):
    for asked, word in [("de-AT,de;q=0.9,en;q=0.5", "Anmelden"), ("fr, en", "Sign in"), ("", "Sign in"), ("x" * 5000, "Sign in")]:  # fmt: skip
        page = world.ask("GET", "/identity/account", headers={"accept-language": asked})
        assert f"<h1>{word}</h1>" in page.text


def test_what_stops_a_sign_in_is_said_in_that_language_and_journalled_in_english(world):
    place = {"client_id": "nobody", "redirect_uri": "https://elsewhere.example/"}
    for path, asked, word, why in [
        ("authorize", place, "nicht eingetragen", "is not registered"),
        ("device", {"user_code": "BBBB-BBBB"}, "Kein Gerät", "no device waits"),
        ("authorize", "client_id=web&client_id=web", "doppelt", "given twice"),
    ]:
        page = world.ask("GET", f"/identity/{path}", params=asked, headers={"accept-language": "de"})
        assert (page.status_code, word in page.text, why in page.text) == (400, True, False)
        assert why in world.home.identity_log.read_text("utf-8").splitlines()[-1]


def test_who_does_not_want_to_sign_in_to_his_account_is_sent_nowhere_else(world):
    answer = world.answer(world.ask("GET", "/identity/account"), decision="deny")
    assert (answer.status_code, answer.headers["location"]) == (303, f"{world.settings.issuer}/account")


# --- devices


def begun(world, **form):
    with suppress(CallerFault):  # it is there
        world.register("screen", auth="none")
    return world.ask("POST", "/identity/device-authorization", data={"client_id": "screen", **form})


def polled(world, code, client="screen"):
    form = {"grant_type": "urn:ietf:params:oauth:grant-type:device_code", "client_id": client, "device_code": code}
    return world.token(**form)


def shown(world, code):
    return world.ask("GET", "/identity/device", params={"user_code": code})


@pytest.mark.standard("A2")
def test_a_device_gets_its_tokens_once_a_person_has_entered_its_code(world):
    told = begun(world, scope="openid erp/sale.*:read").json()
    assert re.fullmatch("[B-Z]{4}-[B-Z]{4}", told["user_code"])
    assert polled(world, told["device_code"]).json()["error"] == "authorization_pending"
    assert polled(world, told["device_code"]).json()["error"] == "slow_down"
    world.later(seconds=6)
    assert 'name="user_code"' in world.ask("GET", "/identity/device").text
    page = shown(world, told["user_code"].lower())
    assert told["user_code"] in page.text
    assert "screen" in page.text
    assert world.answer(page).status_code == 200
    tokens = polled(world, told["device_code"]).json()
    claims = world.claims(tokens["access_token"])
    assert (claims.subject, claims.client, claims.scopes) == ("user:anna", "screen", {"openid", "erp/sale.*:read"})
    assert "id_token" in tokens
    assert shown(world, told["user_code"]).status_code == 400
    world.later(seconds=6)
    assert polled(world, told["device_code"]).json()["error"] == "invalid_grant"  # came twice: all is taken back
    assert f"grant:{claims.grant}" in world.gone


@pytest.mark.parametrize("already", [False, True])
def test_no_page_that_names_one_client_lets_in_the_device_of_another(world, already):
    """A link to /authorize with a device's code beside what another client asks (RFC 8628 section 5.4)."""
    world.register("tv", auth="none")
    if already:
        world.signed_in()
    told = begun(world, client_id="tv", scope="erp/sale.*:write").json()
    page = world.authorize(scope="openid", user_code=told["user_code"])
    assert "web" in page.text
    assert "code" in world.sent_back(world.answer(page))
    assert polled(world, told["device_code"], client="tv").json()["error"] == "authorization_pending"
    for text in (
        f"device?user_code={told['user_code']}",
        f"\0device?user_code={told['user_code']}",
        "account?act=remove",
    ):
        assert world.ask("GET", f"/identity/authorize?{quote(text)}").status_code == 400
        assert world.ask("GET", "/identity/device", params={text: ""}).status_code == 400


def test_who_says_no_is_believed_and_who_waits_too_long_begins_again(world):
    told = begun(world).json()
    world.answer(shown(world, told["user_code"]), decision="deny")
    assert polled(world, told["device_code"]).json()["error"] == "access_denied"
    told = begun(world).json()
    world.later(seconds=601)
    assert polled(world, told["device_code"]).json()["error"] == "expired_token"
    assert shown(world, told["user_code"]).status_code == 400


def test_a_device_code_is_its_client_s_alone(world):
    world.register("other", auth="none")
    told = begun(world).json()
    world.answer(shown(world, told["user_code"]))
    assert polled(world, told["device_code"], "other").json()["error"] == "expired_token"
    forged = f"x{told['device_code']}"
    assert polled(world, forged).json()["error"] == "expired_token"
    assert polled(world, told["device_code"]).status_code == 200


def test_who_guesses_codes_is_stopped(world):
    told = begun(world).json()
    for number in range(5):
        assert shown(world, "BBBBBBB" + "BCDFG"[number]).status_code == 400
    stopped = shown(world, told["user_code"])
    assert (stopped.status_code, stopped.headers.get("retry-after")) == (400, "300")
    world.later(seconds=301)
    assert shown(world, told["user_code"]).status_code == 200


def test_codes_are_guessed_nowhere_else(world):
    told = begun(world).json()
    assert world.ask("GET", "/identity/authorize", params={"user_code": told["user_code"]}).status_code == 400
    code = told["user_code"].replace("-", "")
    for guess in (f"x{code}.{code}", "x.BBBBBBBB"):
        assert polled(world, guess).json()["error"] == "expired_token"
    asked = [shown_at_once(world, 20, "BBBBBBBB")]
    assert sum("no device waits" in one.text for one in asked[0]) <= 5


def shown_at_once(world, times, code):
    return world.ask_at_once(times, "GET", "/identity/device", params={"user_code": code})


def test_another_page_tries_no_codes(world):
    headers = {"sec-fetch-site": "cross-site"}
    answer = world.ask("GET", "/identity/device", params={"user_code": "BBBBBBBB"}, headers=headers)
    assert answer.status_code == 403


def test_nobody_s_name_counts_as_a_device(world):
    for number in range(5):
        shown(world, "BBBBBBB" + "BCDFG"[number])
    world.do(principals.add_user, login="device", hashed=principals_hash(world))
    assert world.answer(world.authorize(), username="device").status_code == 303
    assert shown(world, begun(world).json()["user_code"]).status_code == 400


def test_a_device_gets_what_its_client_may_when_the_person_answers(world):
    world.register("scanner", auth="none")
    told = begun(world, client_id="scanner", scope="erp/*:delete").json()
    world.do(registration.change_client, sealer=world.sealer, client_id="scanner", scopes=["erp/sale.sale:read"])
    assert shown(world, told["user_code"]).status_code == 400


def test_nobody_is_sent_a_code_for_an_application_that_people_come_back_to(world):
    """RFC 8628 section 5.4: whoever holds the code in his hands gets the tokens."""
    answer = world.ask("POST", "/identity/device-authorization", data={"client_id": "web"})
    assert (answer.status_code, answer.json()["error"]) == (400, "unauthorized_client")


@pytest.mark.parametrize("auth", ["none", "client_secret"])
def test_a_link_lets_no_device_in_by_itself_also_not_one_that_was_let_in_before(world, auth):
    secret = world.register("tv", auth=auth)
    auths = {} if secret is None else {"client_secret": secret}
    for _ in range(2):
        told = begun(world, client_id="tv", **auths).json()
        page = shown(world, told["user_code"])
        assert page.status_code == 200
        assert "tv" in page.text
        world.answer(page)


def test_a_device_stays_when_the_browser_signs_out_and_goes_with_its_own_button(world):
    told = begun(world, scope="openid erp/sale.*:read").json()
    world.answer(shown(world, told["user_code"]))
    tokens = polled(world, told["device_code"]).json()
    hinted = signed_out(world, id_token_hint=tokens["id_token"])
    assert (hinted.status_code, "a device revokes its tokens" in hinted.text, world.gone) == (400, True, [])
    form = form_of(world.ask("GET", "/identity/account"), "end")
    world.ask("POST", "/identity/account", data=form)
    assert world.gone
    assert polled_again(world, tokens).status_code == 200
    Browser(world).sign_in()
    page = world.ask("GET", "/identity/account")
    assert "Applications that act for you" in page.text
    assert "screen, last let in 2026-03-03 12:00 UTC" in page.text
    world.gone.clear()
    page = world.ask("POST", "/identity/account", data=form_of(page, "forget"))
    assert "Applications that act for you" not in page.text
    assert world.gone == [f"grant:{world.claims(tokens['access_token']).grant}"]
    assert polled_again(world, tokens).json()["error"] == "invalid_grant"


def polled_again(world, tokens):
    return world.refresh(tokens["refresh_token"], client_id="screen")


def test_nobody_takes_an_application_of_another_away(world, browser):
    world.do(principals.add_user, login="ben", hashed=principals_hash(world))
    told = world.signed_in()
    browser.forget()
    world.answer(world.authorize(scope="openid"), username="ben")
    form = {**form_of(world.ask("GET", "/identity/account"), "end"), "act": "forget", "id": "client:web"}
    assert world.ask("POST", "/identity/account", data=form).status_code == 200
    assert world.refresh(told["refresh_token"]).status_code == 200


def test_the_code_is_shown_as_the_device_shows_it(world):
    code = begun(world).json()["user_code"]
    page = shown(world, f"{code.lower()} <b>Erik</b>")
    assert f"<strong>{code}</strong>" in page.text or page.status_code == 400


def test_two_answers_at_once_open_a_device_once(world):
    told = begun(world).json()
    page = shown(world, told["user_code"])
    answers = world.answer_at_once(3, page)
    assert sorted(one.status_code for one in answers) == [200, 400, 400]


# --- signing out at the wish of a client


def signed_out(world, **given):
    return world.ask("GET", "/identity/logout", params=given)


@pytest.mark.standard("A4")
def test_a_client_signs_its_person_out_and_all_that_was_given_ends(world):
    told = world.signed_in(scope="openid erp/sale.*:read")
    more = {"post_logout_redirect_uri": world.back, "state": "s&t"}
    answer = signed_out(world, id_token_hint=told["id_token"], **more)
    assert (answer.status_code, answer.headers["location"]) == (303, f"{world.back}?state=s%26t")
    assert f"sid:{world.claims(told['access_token']).session}" in world.gone
    assert world.refresh(told["refresh_token"]).json()["error"] == "invalid_grant"
    assert 'name="username"' in world.authorize().text
    again = signed_out(world, id_token_hint=told["id_token"], **more)
    assert again.headers["location"].startswith(world.back)


def test_an_old_id_token_still_says_whose_session_it_was(world):
    told = world.signed_in()
    world.later(hours=7)
    signed_out(world, id_token_hint=told["id_token"])
    assert world.gone


def test_nobody_is_signed_out_blindly_and_sent_anywhere(world):
    told = world.signed_in()
    for given in ({}, {"client_id": "web"}, {"post_logout_redirect_uri": "https://evil.example"}):
        answer = signed_out(world, **given)
        assert (answer.status_code, world.gone) == (200, [])
        assert "Your account" in answer.text
    for hint in (told["access_token"], told["id_token"][:-4] + "AAAA", "nonsense"):
        assert signed_out(world, id_token_hint=hint).status_code == 400
    assert world.gone == []
    answer = signed_out(world, id_token_hint=told["id_token"], post_logout_redirect_uri="https://evil.example")
    assert answer.headers["location"] == f"{world.settings.issuer}/account"


def test_a_code_of_one_s_own_gives_no_more_guesses(world):
    """Whoever starts devices himself knows right codes: they must not wipe out the wrong ones."""
    own = begun(world).json()["user_code"]
    for number in range(4):
        assert shown(world, "BBBBBBB" + "BCDF"[number]).status_code == 400
    assert shown(world, own).status_code == 200
    assert shown(world, "BBBBBBBG").status_code == 400
    assert shown(world, own).status_code == 400


def test_a_client_does_not_sign_out_by_the_token_of_another(world):
    """RP-Initiated Logout section 2: the client_id that is sent is the one that the ID token was issued to."""
    told = world.signed_in()
    other = {"id_token_hint": told["id_token"], "client_id": "shop", "post_logout_redirect_uri": world.back}
    assert signed_out(world, **other).status_code == 400
    assert world.refresh(told["refresh_token"]).status_code == 200
    assert signed_out(world, **{**other, "client_id": "web"}).headers["location"] == world.back


NEW = "seven red kites above the mill"


def test_no_password_is_hashed_for_a_form_of_another_session(world, browser, monkeypatch):
    page = browser.act("password-new")
    monkeypatch.setattr(passwords, "hash_password", lambda *_, **__: pytest.fail("it was hashed"))
    told = {"password": NEW, "again": NEW, "csrf": "x"}
    assert browser.act("password-confirm", page, **told).status_code == 403


@pytest.mark.standard("A5")
def test_a_person_changes_his_own_password_after_a_new_proof_and_what_the_old_one_gave_ends(world, browser):
    told = world.signed_in()
    page = browser.act("password-new")
    assert 'autocomplete="new-password"' in page.text
    assert 'autocomplete="username" value="anna"' in page.text
    changed = browser.act("password-confirm", page, password=NEW, again=NEW)
    assert "has to sign in again" in changed.text
    assert world.refresh(told["refresh_token"]).status_code == 400
    assert browser.page().status_code == 200  # this session stays
    browser.forget()
    assert "not accepted" in browser.sign_in().text
    assert browser.sign_in(password=NEW).status_code == 303
    with world.store.read() as connection:
        assert [one["actor"] for one in entries(connection) if one["action"] == "user.password"] == ["user:anna"]


def test_new_passwords_are_hashed_two_at_a_time_and_the_store_is_free_meanwhile(world, browser, monkeypatch):
    """However many ask for it at once, sign-ins and the gate's news go on; who finds no room is told to come again."""
    page, full, busy, hashing, most = browser.act("password-new"), Event(), Event(), [], []
    real_hash, real_refusal = passwords.hash_password, app._refusal

    def hashed(*args, **told):
        hashing.append(1)
        most.append(len(hashing))
        if len(hashing) >= app.PASSWORD_THREADS:
            busy.set()
        assert full.wait(20)
        assert busy.wait(20)
        world.do(principals.set_roles, principal="user:anna", roles=["clerk"])  # another writer
        hashing.pop()
        return real_hash(*args, **told)

    def refused(server, request, refusal):
        full.set()
        return real_refusal(server, request, refusal)

    monkeypatch.setattr(passwords, "hash_password", hashed)
    monkeypatch.setattr(app, "_refusal", refused)
    monkeypatch.setattr(app, "WAITING_MAX", 1)
    form = {**form_of(page, "password-confirm"), "password": NEW, "again": NEW}
    answers = world.ask_at_once(4, "POST", "/identity/account", data=form)
    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 503]
    assert {answer.headers.get("retry-after") for answer in answers if answer.status_code == 503} == {"1"}
    assert max(most) == app.PASSWORD_THREADS
    assert sum("has to sign in again" in answer.text for answer in answers) == 1


@pytest.mark.parametrize(
    ("text", "again", "told"),
    [
        (NEW, f"{NEW}.", "not the same"),
        ("short", "short", "12 to 256 characters"),
        ("anna anna anna", "anna anna anna", "easily guessed"),
        ("x" * 257, "x" * 257, "12 to 256 characters"),
    ],
)
def test_a_new_password_that_is_none_changes_nothing_and_is_asked_for_again(world, browser, text, again, told):
    page = browser.act("password-new")
    answer = browser.act("password-confirm", page, password=text, again=again)
    assert told in answer.text
    assert 'value="password-confirm"' in answer.text
    assert text not in answer.text
    browser.forget()
    assert browser.sign_in().status_code == 303


def test_a_new_password_needs_a_new_proof_of_this_session(world, browser):
    form = form_of(browser.page(), "app-new")
    for odd in ({"id": ""}, {"id": "x" * 43}):
        answer = world.ask(
            "POST", "/identity/account", data={**form, **odd, "act": "password-confirm", "password": NEW, "again": NEW}
        )
        assert "took too long" in answer.text
    asked = browser.begin("password-new")
    assert 'name="password"' in asked.text  # the old one, by the sign-in form
    assert 'autocomplete="new-password"' not in asked.text


def test_who_has_no_password_here_is_asked_for_none(world, browser):
    with world.store.begin() as connection:
        connection.execute(delete(PASSWORD))
    assert "password-new" not in browser.page().text


def test_a_session_is_known_by_its_place_and_browser_whatever_that_calls_itself(world):
    page = world.ask("GET", "/identity/account")
    form = {**world.hidden(page), "username": "anna", "password": world.password, "decision": "allow"}
    headers = {"x-gw-source": "203.0.113.7", "user-agent": "<script>alert(1)</script>" + "x" * 200 + "\x01"}
    assert world.ask("POST", "/identity/sign-in", data=form, headers=headers).status_code == 303
    text = world.ask("GET", "/identity/account").text
    assert "203.0.113.7, &lt;script&gt;alert(1)" in text
    assert "<script>alert" not in text
    assert "x" * 96 not in text
