"""Nothing that an installation writes holds a token, a secret or a password that was shown to it."""

import base64
import json
import socket
import ssl
from urllib.parse import quote, urlencode

import pytest
from tools.caller import basic, machine_token, sign_in

from ostiary.foundation.errors import OstiaryError
from ostiary.foundation.secret import Secret
from running import APART, installed

pytestmark = APART
BACK = "http://127.0.0.1/back"
SCOPE = "openid shop/*:read"
FORM = "application/x-www-form-urlencoded"
PASSWORDS = {
    "right": "Pl4nted-right-password/with+marks",
    "wrong": "Pl4nted-wrong-password",
    "new": "Pl4nted-new-password",
    "erp": "Pl4nted-erp-password",
    "client": "Pl4nted-wrong-client-secret",
}


@pytest.fixture(scope="module")
def told():
    """(an installation that was shown every kind of secret in every place, and ended; what it was shown)."""
    with installed() as site:
        site.start()
        shown = [*PASSWORDS.values(), *everything(site)]
        site.ostiary("backup", str(site.home.root / "backup"))
        assert site.stop() == 0
        yield site, shown


def everything(site):
    """Plays a day with its mistakes; every secret of it."""
    token = site.client("planter", "clerk")
    secret = site.secrets["planter"]
    yield from (token, secret.reveal(), basic("planter", secret))
    yield site.ask("client.rotate", client_id="planter")["client_secret"]
    yield from tokens_of_a_person(site)
    clients_that_fail(site, secret)
    requests_in_order_and_not(site, token)
    passwords_on_the_command_line(site)
    site.ask("token.revoke", principal="client:planter")
    site.once("GET", "/shop/stock", token=token)
    yield site.fresh("planter")


def tokens_of_a_person(site):
    site.ask("client.add", client_id="portal", auth="none", redirects=[BACK])
    site.ask("user.add", login="anna", password=PASSWORDS["right"], roles=["clerk"])
    with pytest.raises(OstiaryError):
        sign_in(site.caller(), "portal", BACK, "anna", Secret(PASSWORDS["wrong"]), SCOPE)
    given = sign_in(site.caller(), "portal", BACK, "anna", Secret(PASSWORDS["right"]), SCOPE)
    again = site.caller().form(
        "/identity/token", client_id="portal", grant_type="refresh_token", refresh_token=given["refresh_token"]
    )
    for one in (given, again.json()):
        yield from (one["access_token"], one["refresh_token"], one["id_token"])
    for _ in range(2):  # one that was used before
        site.caller().form(
            "/identity/token", client_id="portal", grant_type="refresh_token", refresh_token=given["refresh_token"]
        )
    site.once("GET", "/identity/userinfo", token=given["access_token"])
    site.caller().form("/identity/revoke", client_id="portal", token=again.json()["refresh_token"])


def clients_that_fail(site, secret):
    wrong = Secret(PASSWORDS["client"])
    assert machine_token(site.caller(), "planter", wrong).status == 401
    assert machine_token(site.caller(), "nobody", secret).status == 401
    both = {"client_id": "planter", "client_secret": secret.reveal()}
    site.caller().form("/identity/token", **both, grant_type="client_credentials")
    site.caller().form("/identity/token", **both, grant_type="password", username="anna", password=PASSWORDS["right"])
    site.once("GET", f"/identity/token?{urlencode(both)}")
    site.once("POST", f"/identity/token?{urlencode(both)}", b"grant_type=client_credentials", content_type=FORM)
    site.once("GET", f"/identity/authorize?{urlencode({**both, 'password': PASSWORDS['right']})}")
    site.once("POST", "/identity/sign-in", urlencode({"password": PASSWORDS["right"]}).encode(), content_type=FORM)
    site.once("POST", "/identity/token", json.dumps(both).encode())


def requests_in_order_and_not(site, token):
    """The token where it belongs, and in each place where it does not."""
    value = json.dumps({"lines": [], "customer": token[:40], "due": token}).encode()
    for path in ("/shop/stock", "/shop/invoices", "/shop/orders", "/elsewhere"):
        site.once("GET", path, token=token)
        site.once("GET", f"{path}?access_token={token}")
        site.once("GET", f"{path}?limit={token}&{token}=1", token=token)
        site.once("GET", path, cookie=f"session={token}", authorization=f"Session {token}")
        site.once("GET", f"{path}/{token}", token=token)
        site.once("GET", f"{path}/{quote(PASSWORDS['right'], safe='')}", token=token)
    for body in (value, value[:-1], token.encode(), json.dumps({token: token}).encode(), value + b" " * 1_100_000):
        site.once("POST", "/shop/orders", body, token=token)
    site.once("GET", "/shop/stock", token=token + "x")
    site.once("GET", "/shop/stock", authorization=basic("anna", Secret(PASSWORDS["right"])))
    broken(site, f"GET /shop/stock HTTP/9.9\r\nauthorization: Bearer {token}\r\n\r\n")
    broken(site, f"BREW {token} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\ncontent-length: 7\r\n\r\n{token}")


def broken(site, text):
    """No HTTP, or a bad one."""
    context = ssl.create_default_context(cafile=str(site.authority))
    with (
        socket.create_connection(("localhost", site.port), 10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        secure.sendall(text.encode())
        assert b" 400 " in secure.recv(4096)


def passwords_on_the_command_line(site):
    file = site.root / "password"
    for command, password in (
        (["user", "password", "anna"], "new"),
        (["user", "account", "anna", "--system", "shop", "--login", "anna"], "erp"),
        (["system", "account", "shop", "--login", "gateway"], "erp"),
        (["user", "password", "nobody"], "wrong"),
    ):
        file.write_text(PASSWORDS[password] + "\n")
        site.ostiary(*command, "--password-file", str(file))
        site.ostiary(*command, "--password-file", "-", given=PASSWORDS[password])
    file.unlink()
    with pytest.raises(OstiaryError):
        site.ask("user.add", login="anna", password=PASSWORDS["right"], colour=PASSWORDS["wrong"])


def traces(shown):
    """What would give a secret away: whole, encoded, or the half of a token that nobody else could write."""
    for secret in shown:
        yield secret
        yield quote(secret, safe="")
        yield base64.b64encode(secret.encode()).decode().rstrip("=")[:-1]
        if secret.count(".") == 2:
            _, payload, signature = secret.split(".")
            yield payload[60:100]
            yield signature[:40]


def test_no_file_and_no_log_holds_a_secret_that_was_shown(told):
    site, shown = told
    assert len(shown) > 12
    assert all(len(secret) > 16 for secret in shown)
    kept = [path for path in site.root.rglob("*") if path.is_file() and site.home.keys not in path.parents]
    stored = site.home.root / "backup" if site.store else site.home.database
    assert {site.log, stored, site.home.access_log, site.home.guard_log} <= set(kept)
    found = {
        (path.name, secret[:20])
        for path in kept
        for secret in set(traces(shown))
        if secret.encode() in path.read_bytes()
    }
    assert found == set()


def test_what_was_shown_would_be_found(told):
    """The search itself: a secret planted in a log is seen."""
    _, shown = told
    line = json.dumps({"path": f"/x?{quote(shown[0], safe='')}", "token": shown[5]})
    assert any(trace in line for trace in traces(shown[:1]))
    assert any(trace in line for trace in traces(shown[5:6]))
