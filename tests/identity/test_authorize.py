"""Authorization code flow with sign-in: each line of the checklist of the profile, through the real application."""

import json
import re
from html import unescape
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostiary.foundation.secret import Secret
from ostiary.identity import principals, registration
from ostiary.identity.credentials import pepper
from ostiary.identity.names import same_redirect
from ostiary.identity.passwords import hash_password


def test_a_client_that_has_ended_asks_nobody(world):
    world.register("short", auth="none", redirects=[world.back], days=1)
    assert world.authorize(client_id="short").status_code == 200
    world.later(days=2)
    assert world.authorize(client_id="short").status_code == 400


def test_a_person_signs_in_and_state_nonce_and_iss_come_back(world):
    back = world.sent_back(world.answer(world.authorize()))
    assert back["state"] == "s" * 1200
    assert back["iss"] == world.settings.issuer
    told = world.redeem(back["code"]).json()
    assert {"access_token", "refresh_token", "id_token"} <= set(told)
    assert world.userinfo(told["access_token"]).json() == {
        "sub": "user:anna",
        "name": "anna",
        "preferred_username": "anna",
    }


def test_the_longest_state_that_is_taken_comes_back(world):
    state = "é ü/+&=" * 140
    assert world.sent_back(world.answer(world.authorize(state=state)))["state"] == state
    too_long = world.authorize(state="s" * 6000)
    assert too_long.status_code == 400
    assert "location" not in too_long.headers


def test_the_page_names_client_and_scopes_and_can_be_framed_and_scripted_by_nobody(world):
    world.do(
        registration.add_client, sealer=world.sealer, client_id="odd", name="<b>Odd & Co</b>",
        redirects=[world.back], auth="none", scopes=["erp/sale.*:read"],
    )  # fmt: skip
    page = world.authorize(client_id="odd", scope="openid erp/sale.*:read")
    assert "&lt;b&gt;Odd &amp; Co&lt;/b&gt;" in page.text
    assert re.findall("<script[^>]*>", page.text) == [f'<script src="{world.settings.issuer}/passkey.js" defer>']
    assert re.search(r"\son\w+=|style=|javascript:", page.text) is None
    assert "erp/sale.*:read" in unescape(page.text)
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    assert page.headers["referrer-policy"] == "no-referrer"
    assert page.headers["cache-control"] == "no-store"


def test_a_client_that_asks_for_everything_is_said_to_get_what_the_roles_allow(world):
    page = world.authorize(scope=None)
    assert "<li>all that your roles allow in erp</li>" in page.text
    assert "erp/*" not in unescape(page.text)
    part = unescape(world.authorize(scope="openid erp/*:read").text)
    assert "<code>erp/*:read</code>" in part
    assert "your roles" not in part
    assert "<li>know which account is yours</li>" in part
    assert "openid</code>" not in part


@pytest.mark.parametrize(
    ("language", "texts"),
    [
        ("en", ["know which account is yours", "know your name"]),
        ("de", ["wissen, welches Konto Ihres ist", "Ihren Namen wissen"]),
    ],
)
def test_what_openid_connect_calls_its_scopes_nobody_has_to_know(world, language, texts):
    world.headers = {"accept-language": language}
    assert re.findall("<li>(.*?)</li>", world.authorize().text) == texts


WRONG = [
    ({"code_challenge": None}, "invalid_request"),
    ({"code_challenge_method": None}, "invalid_request"),
    ({"code_challenge_method": "plain"}, "invalid_request"),
    ({"code_challenge": "short"}, "invalid_request"),
    ({"code_challenge": "ü" * 43}, "invalid_request"),
    ({"response_type": "token"}, "unsupported_response_type"),
    ({"response_type": "code id_token"}, "unsupported_response_type"),
    ({"response_type": None}, "unsupported_response_type"),
    ({"response_mode": "fragment"}, "invalid_request"),
    ({"request": "eyJhbGciOiJub25lIn0.e30."}, "request_not_supported"),
    ({"request_uri": "https://evil.example/r"}, "request_not_supported"),
    ({"resource": "https://other"}, "invalid_target"),
    ({"scope": "openid admin"}, "invalid_scope"),
    ({"scope": "other/sale.*:read"}, "invalid_scope"),
    ({"scope": "erp/<script>:read"}, "invalid_scope"),
    ({"prompt": "none login"}, "invalid_request"),
    ({"prompt": "dance"}, "invalid_request"),
    ({"prompt": "none"}, "login_required"),
]


@pytest.mark.parametrize(("changed", "error"), WRONG)
def test_what_is_wrong_goes_back_to_a_known_client_only(sqlite_world, changed, error):
    world = sqlite_world
    world.cookies.clear()
    back = world.sent_back(world.authorize(**changed))
    assert (back["error"], back["iss"], back["state"]) == (error, world.settings.issuer, "s" * 1200)
    for unknown in ({"redirect_uri": "https://evil.example"}, {"client_id": "nobody"}, {"redirect_uri": None}):
        refused = world.authorize(**{**changed, **unknown})
        assert refused.status_code == 400
        assert "location" not in refused.headers
        assert "evil" not in refused.text


@pytest.mark.parametrize(
    "redirect",
    [
        "https://shop.example/back/", "https://shop.example/back?x=1", "https://shop.example/back#x", "https://shop.example/bac",
        "https://shop.example:443/back", "https://shop.example/%62ack", "https://SHOP.example/back", "http://shop.example/back",
        "https://shop.example/back\n", " https://shop.example/back", "https://shop.example\\@evil.example/back", "javascript:alert(1)",
        "https://shop.example/back/../evil", "//shop.example/back", "data:text/html,x",
    ],
)  # fmt: skip
def test_a_redirect_is_the_registered_one_to_the_letter(sqlite_world, redirect):
    assert sqlite_world.authorize(redirect_uri=redirect).status_code == 400


def test_only_a_loopback_redirect_may_choose_its_port():
    for registered in ("http://127.0.0.1/cb", "http://127.0.0.1:9999/cb", "http://[::1]/cb?a=b"):
        place, _, rest = registered.partition("/cb")
        host = place.removesuffix(":9999")
        assert same_redirect(registered, f"{host}:5123/cb{rest}")
        assert same_redirect(registered, f"{host}/cb{rest}")
        for other in (f"{host}:5123/x", f"{host}.evil/cb{rest}", f"{host}:1@evil/cb{rest}", f"{host}:5123/cb{rest}#",
                      f"{host}:5123/cb{rest}\n", f"{host}:5123\\@evil/cb{rest}", f"https{host[4:]}:5123/cb{rest}",
                      f"{host}:abc/cb{rest}", f"{host}:/cb{rest}", "http://localhost:5123/cb", ""):  # fmt: skip
            assert not same_redirect(registered, other), other
    assert not same_redirect("https://shop.example/back", "https://shop.example:1/back")


@given(st.text(max_size=40) | st.from_regex(r"https?://[a-z0-9.@:\\/\[\]-]{1,20}/cb", fullmatch=True))
def test_no_other_address_is_taken_for_a_registered_one(asked):
    assert not same_redirect("https://shop.example/back", asked)
    if same_redirect("http://127.0.0.1/cb", asked):
        assert urlsplit(asked).hostname == "127.0.0.1"
        assert urlsplit(asked).path == "/cb"


@pytest.mark.parametrize(
    "redirect",
    [
        "http://shop.example/cb", "http://localhost/cb", "http://127.0.0.1.evil/cb", "http://127.0.0.1:99999/cb", "https://a#b",
        "https://user@a/cb", "javascript:alert(1)", "data:text/html,x", "app:/cb", "https://", "https:///cb", "//a/cb", "",
        "https://a\\.evil/cb", "https://a/c b", "https://a/cb\nhttps://b/cb", "https://a/\u00e9", "https://a:0/", "https://[x/",
        "HTTPS://a/cb", "https://a/" + "x" * 1000, "https://*.example/cb",
    ],
)  # fmt: skip
def test_no_unsafe_redirect_is_registered(sqlite_world, redirect):
    with pytest.raises(principals.CallerFault, match="safe redirect"):
        sqlite_world.do(registration.add_client, sealer=sqlite_world.sealer, client_id="x", redirects=[redirect])


def test_the_answer_to_credentials_is_303_and_nothing_is_sent_on_with_them(world):
    page = world.authorize()
    assert world.answer(page).status_code == 303
    assert world.answer(page, decision="deny").status_code == 303
    for path in ("sign-in/", "token/", "revoke/"):  # a redirect with 307 would carry the form along
        assert world.ask("POST", f"/identity/{path}", data={"password": "x"}).status_code == 404


def test_who_denies_goes_back_without_showing_a_password(world):
    back = world.sent_back(world.answer(world.authorize(), decision="deny", username="", password=""))
    assert back["error"] == "access_denied"
    assert back["iss"] == world.settings.issuer


@pytest.mark.parametrize("csrf", ["0" * 64, "", "ü" * 10, "\U0001f511"])
def test_a_form_from_elsewhere_is_refused(world, csrf):
    page = world.authorize()
    assert world.answer(page, csrf=csrf).status_code == 400


def test_a_form_belongs_to_one_browser_and_one_request(world):
    page, other = world.authorize(), world.authorize(state="other")
    assert world.answer(page, csrf=world.hidden(other)["csrf"]).status_code == 400
    world.cookies.clear()
    assert world.answer(page).status_code == 400


def test_cookies_stay_in_the_browser_and_on_this_origin(world):
    answers = [world.authorize()]
    answers.append(world.answer(answers[0]))
    for answer in answers:
        assert answer.headers.get_list("set-cookie")
        for cookie in answer.headers.get_list("set-cookie"):
            assert cookie.startswith("__Host-")
            assert {"HttpOnly", "Secure", "Path=/", "SameSite=lax"} <= set(cookie.split("; "))


def test_who_is_signed_in_only_confirms_until_the_session_ends(world):
    world.code()
    page = world.authorize(prompt="consent")
    assert "You are signed in as anna" in page.text
    assert "code" in world.sent_back(world.answer(page, username="", password=""))
    world.later(hours=8)
    assert world.answer(world.authorize(), username="", password="").status_code == 200


@pytest.mark.standard("A9")
def test_what_a_person_allowed_is_not_asked_again_while_it_lives(world):
    """OpenID Connect Core section 3.1.2.1: prompt=none is answered by what was agreed to before."""
    world.register("desk", redirects=[world.back])
    assert world.sent_back(world.authorize(prompt="none"))["error"] == "login_required"
    told = world.signed_in()
    assert "code" in world.sent_back(world.authorize())
    silent = world.redeem(world.sent_back(world.authorize(prompt="none"))["code"]).json()
    assert world.claims(silent["access_token"]).scopes == world.claims(told["access_token"]).scopes
    for other in ({"scope": "openid"}, {"scope": "openid profile erp/*:read"}, {"client_id": "desk"}):
        assert world.sent_back(world.authorize(prompt="none", **other))["error"] == "consent_required"
        assert world.authorize(**other).status_code == 200
    assert world.authorize(prompt="consent").status_code == 200
    assert 'name="password"' in world.authorize(prompt="login").text
    world.gone += world.do(principals.end_application, principal="user:anna", client="client:web", reason="a test")
    assert world.sent_back(world.authorize(prompt="none"))["error"] == "consent_required"


def test_a_client_in_whose_place_another_may_listen_is_agreed_to_each_time(world):
    """RFC 8252 section 8.6: any program on the person's machine can take the loopback address of a public client."""
    back = "http://127.0.0.1:7777/back"
    for client, auth in (("app", "none"), ("kept", "client_secret")):
        world.register(client, auth=auth, redirects=[back])
        world.answer(world.authorize(client_id=client, redirect_uri=back))
        assert (world.authorize(client_id=client, redirect_uri=back).status_code == 303) is (auth != "none")


def test_a_client_that_asks_for_more_since_is_agreed_to_anew(world):
    world.signed_in()
    world.do(registration.change_client, sealer=world.sealer, client_id="web", redirects=[world.back, f"{world.back}2"])
    assert world.authorize().status_code == 200


@pytest.mark.parametrize(
    ("scope", "given"),
    [
        ("openid email", "openid"),
        ("openid profile offline_access email", "openid profile"),
        ("address erp/*:read", "erp/*:read"),
    ],
)
def test_scopes_of_openid_that_nothing_answers_to_are_passed_over(world, scope, given):
    """OpenID Connect Core section 3.1.2.1; what was given is said (RFC 6749 section 5.1)."""
    told = world.signed_in(scope=scope)
    assert told["scope"] == given
    assert world.refresh(told["refresh_token"], scope=scope).json()["scope"] == given


@pytest.mark.parametrize("scope", ["email", "offline_access phone", "openid orders:read", "openid nonsense"])
def test_what_is_no_scope_here_gives_none(world, scope):
    assert world.sent_back(world.authorize(scope=scope))["error"] == "invalid_scope"
    last = json.loads(world.journal().splitlines()[-1])
    assert (last["client"], last.get("sent", "")) == ("web", scope.partition(" ")[2] if "openid" in scope else "")


def test_the_journal_says_which_address_was_sent_and_no_more_of_it(world):
    world.authorize(redirect_uri="https://evil.example/x?secret=1")
    last = json.loads(world.journal().splitlines()[-1])
    assert last["sent"] == "client_id=web redirect_uri=https://evil.example/x"


@pytest.mark.parametrize("changed", [{"prompt": "login"}, {"prompt": "consent login"}, {"max_age": "0"}])
def test_a_client_can_have_the_password_asked_again(world, changed):
    first = world.signed_in()
    page = world.authorize(**changed)
    assert 'name="password"' in page.text
    assert world.answer(page, username="", password="").status_code == 200
    world.later(seconds=60)
    second = world.redeem(world.sent_back(world.answer(page))["code"]).json()
    authenticated = [world.claims(told["access_token"]).authenticated_at for told in (first, second)]
    assert authenticated[1] - authenticated[0] == 60


@pytest.mark.parametrize(("age_s", "asked"), [(600, False), (601, True)])
def test_a_session_answers_while_it_is_as_young_as_the_client_asks_for(world, age_s, asked):
    """OpenID Connect Core section 3.1.2.1."""
    world.code()
    world.later(seconds=age_s)
    page = world.authorize(max_age="600", prompt="consent")
    assert ('name="password"' in page.text) is asked
    silent = world.sent_back(world.authorize(prompt="none", max_age="600"))
    assert silent.get("error") == ("login_required" if asked else None)
    answer = world.answer(page) if asked else world.answer(page, username="", password="")
    claims = world.claims(world.redeem(world.sent_back(answer)["code"]).json()["access_token"])
    assert world.clock.now().timestamp() - claims.authenticated_at == (0 if asked else 600)


def test_a_session_that_grew_too_old_over_its_form_answers_no_more(world):
    world.code()
    world.later(seconds=599)
    page = world.authorize(max_age="600", prompt="consent")
    world.later(seconds=2)
    again = world.answer(page, username="", password="")
    assert (again.status_code, 'name="password"' in again.text) == (200, True)


@pytest.mark.parametrize("age", ["-1", "x", "1.5", "²", "9" * 10])
def test_an_age_that_is_no_number_of_seconds_goes_back_to_the_client(world, age):
    assert world.sent_back(world.authorize(max_age=age))["error"] == "invalid_request"


def test_who_asks_for_more_than_a_password_is_told_that_it_can_t_be_had(world):
    """RFC 9470 section 5, rather than a sign-in that leads to the same challenge again."""
    asked = world.authorize(acr_values="mfa")
    assert world.sent_back(world.answer(asked))["error"] == "unmet_authentication_requirements"
    assert world.sent_back(world.authorize(acr_values="gold"))["error"] == "unmet_authentication_requirements"
    assert "code" in world.sent_back(world.answer(world.authorize(acr_values="mfa pwd")))


@pytest.mark.parametrize("end", [principals.disable, principals.revoke_principal])
def test_a_session_ends_with_its_person(world, end):
    world.code()
    world.do(end, principal="user:anna")
    assert "signed in as" not in world.authorize().text


def test_a_new_password_ends_the_sessions(world):
    world.code()
    new_password(world, "another walk by the sea")
    assert world.answer(world.authorize()).status_code == 200
    assert world.answer(world.authorize(), password="another walk by the sea").status_code == 303


@pytest.mark.parametrize(
    ("username", "password"),
    [("anna", "wrong " * 3), ("nobody", "a long walk by the sea"), ("", ""), ("anna", "x" * 5000)],
)
def test_a_wrong_name_and_a_wrong_password_look_the_same(world, username, password):
    page = world.authorize()
    answer = world.answer(page, username=username, password=password)
    assert answer.status_code == 200
    assert "are not accepted" in answer.text
    assert username == "" or username not in answer.text
    assert '"wrong"' in world.journal()


def test_guessing_locks_only_the_guessers_address_and_only_for_that_account(world):
    world.do(principals.add_user, login="ben", hashed=hash_password(Secret(world.password), login=""))
    page, guesser = world.authorize(), "192.0.2.1"
    for _ in range(5):
        world.answer(page, password="guess guess guess", source=guesser)
    assert_locked(world.answer(page, source=guesser))
    assert world.answer(page, source="192.0.2.9").status_code == 303
    world.cookies.delete("__Host-ostiary-session")
    assert world.answer(page, username="ben", source=guesser).status_code == 303
    world.cookies.delete("__Host-ostiary-session")
    world.later(minutes=5)
    assert world.answer(page, source=guesser).status_code == 303


def assert_locked(answer):
    """The page says nothing of it, the header when to come again."""
    assert (answer.status_code, answer.headers.get("retry-after")) == (200, "300")
    assert "are not accepted" in answer.text


def test_a_name_that_there_is_not_is_locked_as_any_other(world):
    page = world.authorize()
    tried = [world.answer(page, username="zoe", password="guess guess guess", source="192.0.2.1") for _ in range(6)]
    assert [one.headers.get("retry-after") for one in tried[:5]] == [None] * 5
    assert_locked(tried[5])


def new_password(world, text):
    hashed = hash_password(Secret(text), login="")
    world.do(principals.set_password, sealer=world.sealer, login="anna", hashed=hashed)


def locked_s(world):
    with world.store.read() as connection:
        rows = principals.with_locks(
            connection,
            pepper(connection, world.sealer),
            principals.users(connection),
            int(world.clock.now().timestamp()),
        )
    return {row["id"]: row["locked_s"] for row in rows}


def test_an_administrator_sees_who_is_locked_out_and_a_new_password_lets_her_in(world):
    world.do(principals.add_user, login="ben", hashed=hash_password(Secret(world.password), login=""))
    page = world.authorize()
    for n in range(5):
        assert locked_s(world) == {"user:anna": 0, "user:ben": 0}, n
        world.answer(page, password="guess guess guess")
    world.later(seconds=100)
    assert locked_s(world) == {"user:anna": 200, "user:ben": 0}
    assert world.answer(page).status_code == 200
    new_password(world, "another walk by the sea")
    assert locked_s(world) == {"user:anna": 0, "user:ben": 0}
    assert world.answer(page, password="another walk by the sea").status_code == 303


def test_enabling_a_user_lets_her_in_whom_wrong_passwords_keep_out(world):
    page = world.authorize()
    for _ in range(6):
        world.answer(page, password="guess guess guess")
    assert locked_s(world) == {"user:anna": 300}
    world.do(principals.enable, sealer=world.sealer, principal="user:anna")
    assert locked_s(world) == {"user:anna": 0}
    assert world.answer(page).status_code == 303


def test_a_lock_that_has_lapsed_is_shown_no_more(world):
    for _ in range(6):
        world.answer(world.authorize(), password="guess guess guess")
    world.later(minutes=5)
    assert locked_s(world) == {"user:anna": 0}


def test_the_journal_names_the_account_of_a_wrong_try_but_no_name_that_there_is_not(world):
    page = world.authorize()
    world.answer(page, username="my secret sentence", password="anna")
    for _ in range(6):
        world.answer(page, password="guess guess guess")
    lines = [json.loads(line) for line in world.journal().splitlines()][1:]
    told = [(line["outcome"], line.get("account"), line.get("locked_s")) for line in lines]
    assert told == [("wrong", None, None), *[("wrong", "user:anna", None)] * 5, ("locked", "user:anna", "300")]
    assert "my secret sentence" not in world.journal()


def test_the_addresses_of_one_ipv6_network_count_as_one(world):
    page = world.authorize()
    for n in range(5):
        world.answer(page, password="guess guess guess", source=f"2001:db8::{n}")
    assert world.answer(page, source="2001:db8::ffff").status_code == 200
    assert world.answer(page, source="2001:db8:0:1::1").status_code == 303
    world.cookies.delete("__Host-ostiary-session")
    for _ in range(5):
        world.answer(page, password="guess guess guess", source="::ffff:192.0.2.1")
    assert world.answer(page, source="192.0.2.1").status_code == 200


def test_a_right_password_clears_the_count(world):
    page = world.authorize()
    for _ in range(3):
        for _ in range(4):
            world.answer(page, password="guess guess guess")
        assert world.answer(page).status_code == 303
        world.cookies.delete("__Host-ostiary-session")


def test_no_origin_may_read_what_authorize_answers(world):
    """No CORS: a browser's request of another origin gets no leave, before or after."""
    for method in ("GET", "OPTIONS"):
        answer = world.ask(
            method, "/identity/authorize",
            headers={"origin": "https://evil.example", "access-control-request-method": "GET"},
        )  # fmt: skip
        assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_every_authorization_request_is_in_the_journal_with_its_outcome_and_address(world):
    page = world.authorize()
    world.answer(page, source="192.0.2.7")
    world.authorize(client_id="nobody")
    world.authorize(response_type="token")
    lines = [json.loads(line) for line in world.journal().splitlines()]
    assert [(line["action"], line["outcome"]) for line in lines] == [
        ("authorize", "shown"), ("sign-in", "allowed"), ("authorize", "invalid_request"),
        ("authorize", "unsupported_response_type"),
    ]  # fmt: skip
    assert lines[1]["source"] == "192.0.2.7"
    assert lines[1]["subject"] == "user:anna"


@settings(max_examples=40, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=200))
def test_any_state_survives(sqlite_world, state):
    back = sqlite_world.sent_back(sqlite_world.authorize(state=state, response_type="x"))
    assert back.get("state", "") == state
