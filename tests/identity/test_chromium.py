"""The pages in a real browser, through the running gate by TLS: passkeys, no script, no word of complaint."""

import secrets
from io import BytesIO
from urllib.parse import parse_qs, urlsplit

import pyotp
import pytest
import zxingcpp
from PIL import Image
from tools.caller import authorization

import chromium
from ostiary.control.installation import opened
from ostiary.foundation.jose import verify_access_token
from ostiary.store.directory import access_keys
from running import RUNNING, site  # noqa: F401

pytestmark = RUNNING
PASSWORD = "a long one, of many words"


@pytest.fixture(scope="module")
def browser():
    from running import shared

    with chromium.running(shared().home.keys / "gate.crt") as made:
        yield made


@pytest.fixture
def tab(browser):
    made = chromium.Tab(browser, locale="en-GB")
    yield made
    made.context.close()
    assert made.complaints == []  # no word of CSP, no error of the script


@pytest.fixture
def login(site):  # noqa: F811
    name = f"chrome-{secrets.token_hex(3)}"
    site.ask("user.add", login=name, password=PASSWORD, roles=["visitor"])
    return name


@pytest.fixture
def app(site):  # noqa: F811
    """A client that people sign in with; its name."""
    name = f"app-{secrets.token_hex(3)}"
    site.ask("client.add", client_id=name, auth="none", redirects=[back(site)])
    return name


def back(site):  # noqa: F811
    """Where the browser is sent then: to one that answers anything."""
    return f"http://127.0.0.1:{site.upstream.server_port}/back"


def by_password(page, login):
    page.get_by_label("User name").fill(login)
    page.get_by_label("Password").fill(PASSWORD)
    page.locator("button", has_text="Go on").first.click()


def account(site, page):  # noqa: F811
    page.goto(f"{site.origin}/identity/account")


def enrol(site, page, login, name):  # noqa: F811
    """The recovery codes."""
    account(site, page)
    by_password(page, login)
    page.get_by_role("button", name="Add a passkey").click()
    by_password(page, login)
    page.get_by_label("A name to know it by").fill(name)
    page.get_by_role("button", name="Add a passkey").click()
    page.get_by_role("status").wait_for()
    assert name in page.content()
    return page.locator("li code").all_inner_texts()


def signed_in(site, page, app, act, **asked):  # noqa: F811
    """The claims of the token of a sign-in that `act` completes."""
    verifier = secrets.token_urlsafe(48)
    page.goto(
        f"{site.origin}{authorization(app, back(site), verifier, scope='openid shop/*:read', state='s', **asked)}"
    )
    assert app in page.content()
    with page.expect_request(lambda request: request.url.startswith(back(site))) as sent:
        act()
    code = parse_qs(urlsplit(sent.value.url).query)["code"][0]
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": back(site), "client_id": app}
    told = site.caller().form("/identity/token", **form, code_verifier=verifier).json()
    with opened(site.home) as on, on.store.read() as connection:
        facts = {"issuer": on.settings.issuer, "audience": "https://localhost/shop", "now": on.clock.now()}
        return verify_access_token(told["access_token"], access_keys(connection), **facts)


@pytest.mark.standard("B4")
def test_a_passkey_is_enrolled_and_signs_in_without_name_and_password(site, tab, login, app):  # noqa: F811
    device = tab.add_device()
    assert len(enrol(site, tab.page, login, "Laptop")) == 10
    (kept,) = tab.device("getCredentials", device)["credentials"]
    assert (kept["isResidentCredential"], kept["rpId"]) == (True, "localhost")
    account(site, tab.page)
    assert "this browser" in tab.page.content(), "it goes on: password and passkey were shown"
    tab.context.clear_cookies()
    account(site, tab.page)
    with_passkey = tab.page.get_by_role("button", name="with a passkey")
    with_passkey.click()
    tab.page.get_by_role("heading", name="Your account").wait_for()
    assert "last used" in tab.page.content()
    claims = signed_in(site, tab.page, app, lambda: tab.page.get_by_role("button", name="Allow with a passkey").click(), prompt="login", acr_values="mfa")  # fmt: skip
    assert (claims.subject, claims.acr, claims.amr) == (f"user:{login}", "mfa", ("hwk", "user", "mfa"))


def test_a_passkey_stands_in_for_the_code_and_a_device_without_one_is_told(site, tab, login):  # noqa: F811
    device = tab.add_device()
    enrol(site, tab.page, login, "Laptop")
    tab.context.clear_cookies()
    account(site, tab.page)
    by_password(tab.page, login)
    tab.page.get_by_label("Code of your app").wait_for()
    tab.device("setUserVerified", device, isUserVerified=False)
    tab.page.get_by_role("button", name="with a passkey").click()
    tab.page.get_by_text("Nothing came of it").wait_for()
    tab.device("setUserVerified", device, isUserVerified=True)
    tab.page.get_by_role("button", name="with a passkey").click()
    tab.page.get_by_role("heading", name="Your account").wait_for()


def test_the_picture_reads_as_the_address_of_the_key_and_what_was_read_makes_the_codes(site, tab, login):  # noqa: F811
    """By a reader of somebody else's, from what the browser shows."""
    account(site, tab.page)
    by_password(tab.page, login)
    tab.page.get_by_role("button", name="Add an app with codes").click()
    by_password(tab.page, login)
    picture = tab.page.get_by_role("img")
    key = tab.page.locator("p code").inner_text()
    (read,) = zxingcpp.read_barcodes(Image.open(BytesIO(picture.screenshot())))
    assert read.format == zxingcpp.BarcodeFormat.QRCode
    assert read.text == f"otpauth://totp/localhost:{login}?secret={key}&issuer=localhost"
    tab.page.get_by_label("A name to know it by").fill("Phone")
    tab.page.get_by_label("The code that the app shows").fill(pyotp.parse_uri(read.text).now())
    tab.page.get_by_role("button", name="Go on").click()
    tab.page.get_by_text("Recovery codes").first.wait_for()
    assert "Phone" in tab.page.content()


def test_without_javascript_everything_but_passkeys_works(site, browser, login, app):  # noqa: F811
    tab = chromium.Tab(browser, java_script_enabled=False, locale="de-DE")
    page = tab.page
    account(site, page)
    assert page.get_by_role("button", name="mit Passkey").count() == 0
    page.get_by_label("Benutzername").fill(login)
    page.get_by_label("Passwort").fill(PASSWORD)
    page.get_by_role("button", name="Weiter").click()
    page.get_by_role("heading", name="Ihr Konto").wait_for()

    def allow():
        page.get_by_role("button", name="Erlauben").click()

    claims = signed_in(site, page, app, allow)
    assert (claims.subject, claims.amr) == (f"user:{login}", ("pwd",))
    account(site, page)
    page.get_by_role("button", name="Passkey hinzufügen").click()
    page.get_by_label("Benutzername").fill(login)
    page.get_by_label("Passwort").fill(PASSWORD)
    page.get_by_role("button", name="Weiter").click()
    assert page.get_by_text("JavaScript ist ausgeschaltet").is_visible()
    assert [one for one in tab.complaints if "Content Security" in one] == []
    tab.context.close()


BROUGHT_IN = [
    "document.body.innerHTML = '<b>x</b>'",
    "document.createElement('script').text = 'window.bad = 1'",
    "document.createElement('script').src = '/shop/stock'",
    "document.body.setAttribute('onclick', 'window.bad = 1')",
]


@pytest.mark.parametrize("script", BROUGHT_IN)
def test_the_pages_take_no_script_that_somebody_brings_in(site, browser, script):  # noqa: F811
    tab = chromium.Tab(browser)
    account(site, tab.page)
    with pytest.raises(Exception, match="Trusted"):
        tab.page.evaluate(f"() => {{ {script}; }}")
    tab.context.close()
