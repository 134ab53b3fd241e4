"""Every page of ours, in each language, breaks no rule of WCAG 2 A and AA that axe-core can judge, in a real browser."""

import secrets

import pyotp
import pytest
from tools.caller import authorization

import chromium
import others
from identity.test_chromium import PASSWORD, app, back, browser, login  # noqa: F401
from running import RUNNING, site  # noqa: F401

pytestmark = RUNNING
LEVELS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
PAGES = {
    "sign-in", "wrong", "account", "again", "password-new", "passkey-new", "app-new", "app-wrong", "recovery",
    "consent", "code", "device", "device-wrong", "device-consent", "done", "denied", "stopped",
}  # fmt: skip


def broken(page):
    """(rule, element) of each violation."""
    page.evaluate((others.installed() / "node_modules/axe-core/axe.min.js").read_text())
    told = page.evaluate("levels => axe.run({runOnly: levels})", LEVELS)
    assert len(told["passes"]) >= 5
    return {(one["id"], node["html"]) for one in told["violations"] for node in one["nodes"]}


class Walk:
    """Whoever goes through all pages of theirs, by what the forms are called and not by what they say."""

    def __init__(self, site, page, login, app):  # noqa: F811
        self.site, self.page, self.login, self.app = site, page, login, app

    def goes(self, path):
        self.page.goto(f"{self.site.origin}{path}")

    def presses(self, value, name="act"):
        self.page.locator(f"button[name={name}][value={value}]").first.click()

    def signs_in(self, password=PASSWORD):
        self.page.locator("#username").fill(self.login)
        self.page.locator("#password").fill(password)
        self.presses("allow", "decision")

    def asks(self, **more):
        self.goes(authorization(self.app, back(self.site), "v" * 43, scope="openid shop/*:read", state="s", **more))

    def device(self):
        screen = f"screen-{secrets.token_hex(3)}"
        self.site.ask("client.add", client_id=screen, auth="none")
        answer = self.site.caller().form("/identity/device-authorization", client_id=screen, scope="shop/*:read")
        self.goes(f"/identity/device?user_code={answer.json()['user_code']}")

    def own_pages(self):
        self.goes("/identity/account")
        yield "sign-in"
        self.signs_in("wrong")
        yield "wrong"
        self.signs_in()
        yield "account"
        self.presses("password-new")
        yield "again"
        self.signs_in()
        yield "password-new"
        for act in ("passkey-new", "app-new"):
            self.goes("/identity/account")
            self.presses(act)
            self.signs_in()
            yield act
        for name, code in (("app-wrong", "000000"), ("recovery", self.code())):
            self.page.locator("#code").fill(code)
            self.presses("app-confirm")
            yield name

    def code(self):
        return pyotp.TOTP(self.page.locator("p code").inner_text()).now()

    def asked_pages(self):
        self.asks()
        yield "consent"
        self.asks(prompt="login")
        self.signs_in()
        yield "code"
        self.goes("/identity/device")
        yield "device"
        self.goes("/identity/device?user_code=BBBB-BBBB")
        yield "device-wrong"
        for decision, name in (("allow", "done"), ("deny", "denied")):
            self.device()
            yield "device-consent"
            self.presses(decision, "decision")
            yield name
        self.app = "nobody"
        self.asks()
        yield "stopped"


@pytest.mark.parametrize("language", ["en", "de"])
def test_every_page_is_accessible(site, browser, login, app, language):  # noqa: F811
    tab = chromium.Tab(browser, locale=f"{language}-{language}", bypass_csp=True)
    walk, seen, wrong = Walk(site, tab.page, login, app), set(), {}
    for pages in (walk.own_pages(), walk.asked_pages()):
        for name in pages:
            tab.page.wait_for_load_state()
            assert tab.page.locator("html").get_attribute("lang") == language, name
            seen.add(name)
            if found := broken(tab.page):
                wrong[name] = found
    tab.context.close()
    assert wrong == {}
    assert seen == PAGES
