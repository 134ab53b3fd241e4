"""The authorization server keeps its profile, through the real application and a real store."""

import asyncio
import base64
import hashlib
import re
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.foundation.clock import FixedClock
from ostiary.foundation.home import Home
from ostiary.foundation.jose import verify_access_token
from ostiary.foundation.secret import Secret
from ostiary.foundation.settings import Settings
from ostiary.identity import app, grants, keys, principals
from ostiary.identity.request import Refused, parse
from ostiary.plan.model import Kind, Limit, Limits, Plan, Source, System, seal, to_json
from ostiary.store.database import open_store
from ostiary.store.directory import access_keys
from ostiary.store.seal import Sealer

SOURCE = Source(file="p", line=1, text="")
PASSWORD = "a long walk by the sea"
BACK = "https://shop.example/back"
VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
AUDIENCE = "https://erp"


class World:
    def __init__(self, root):
        self.home = Home(root=root)
        self.home.create()
        system = System(
            name="erp", kind=Kind.TRYTON, host="erp", prefix="", upstream="http://x", audience=AUDIENCE, source=SOURCE
        )
        limit = Limit(name="default", requests=1, seconds=1)
        plan = seal(
            Plan(policy="p", systems=(system,), roles=(), grants=(), limits=Limits(anonymous=limit, default=limit))
        )
        (self.home.plans / f"{plan.revision}.json").write_bytes(to_json(plan))
        (self.home.plans / "current").write_text(plan.revision)
        self.store = open_store(f"sqlite:///{self.home.database}")
        self.sealer = Sealer(b"k" * 32)
        self.clock = FixedClock(datetime(2026, 3, 3, 12, tzinfo=UTC))
        self.settings = Settings()
        self.gone = []

        async def revoked(keys):
            self.gone += keys

        self.app = app.create(self.store, self.sealer, self.settings, self.clock, revoked=revoked, home=self.home)
        with self.store.begin() as connection:
            told = {"actor": "uid:0", "now": self.clock.now()}
            principals.add_user(connection, login="anna", password=Secret(PASSWORD), roles=["clerk"], **told)
            made = principals.add_client(
                connection, sealer=self.sealer, client_id="shop", roles=["bot"], scopes=["erp/sale.*:read"], **told
            )
            principals.add_client(
                connection, sealer=self.sealer, client_id="web", redirects=[BACK], public=True, **told
            )
        self.secret = made.secret.reveal()
        self.cookies = httpx.Cookies()

    def ask(self, method, path, **more):
        async def go():
            transport = httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(
                transport=transport, base_url="https://localhost:8443", cookies=self.cookies
            ) as client:
                answer = await client.request(method, path, **more)
                self.cookies = client.cookies
                return answer

        return asyncio.run(go())

    def token(self, auth=None, **form):
        return self.ask("POST", "/identity/token", data=form, auth=auth or httpx.USE_CLIENT_DEFAULT)

    def authorize(self, **changed):
        asked = {
            "response_type": "code", "client_id": "web", "redirect_uri": BACK, "scope": "openid profile", "state": "s" * 1200,
            "nonce": "n" * 64, "code_challenge": CHALLENGE, "code_challenge_method": "S256", **changed,
        }  # fmt: skip
        return self.ask("GET", "/identity/authorize", params={k: v for k, v in asked.items() if v is not None})

    def answer(self, page, *, password=PASSWORD, **changed):
        hidden = dict(re.findall(r'name="(request|csrf)" value="([^"]*)"', page.text))
        form = {**hidden, "username": "anna", "password": password, "decision": "allow", **changed}
        return self.ask("POST", "/identity/sign-in", data=form)

    def code(self):
        answer = self.answer(self.authorize())
        assert answer.status_code == 303, answer.text
        return parse_qs(urlsplit(answer.headers["location"]).query)["code"][0]

    def redeem(self, code, **changed):
        form = {"grant_type": "authorization_code", "client_id": "web", "code": code, "redirect_uri": BACK}
        return self.token(**{**form, "code_verifier": VERIFIER, **changed})

    def refresh(self, token):
        return self.token(grant_type="refresh_token", client_id="web", refresh_token=token)


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    yield made
    made.app.state.server.close()
    made.store.close()


def error_of(answer):
    return answer.json()["error"]


def test_a_machine_gets_a_token_that_the_gate_accepts(world):
    answer = world.token(("shop", world.secret), grant_type="client_credentials")
    with world.store.read() as connection:
        claims = verify_access_token(
            answer.json()["access_token"], access_keys(connection), issuer=world.settings.issuer, audience=AUDIENCE,
            now=world.clock.now(),
        )  # fmt: skip
    assert claims.subject == "client:shop"
    assert claims.generation == claims.client_generation == "client:shop#1"
    assert claims.scopes == {"erp/sale.*:read"}
    assert claims.expires_at - claims.issued_at == 3600


def test_a_scope_beyond_the_clients_own_is_refused(world):
    given = {"grant_type": "client_credentials"}
    assert world.token(("shop", world.secret), scope="erp/sale.sale:read", **given).status_code == 200
    assert error_of(world.token(("shop", world.secret), scope="erp/sale.sale:write", **given)) == "invalid_scope"


def test_a_wrong_secret_is_refused_with_401(world):
    assert world.token(("shop", "wrong"), grant_type="client_credentials").status_code == 401


def test_two_secrets_live_and_the_third_ends_the_first(world):
    def rotate():
        world.clock.at += timedelta(seconds=1)
        with world.store.begin() as connection:
            principals.rotate_secret(
                connection, actor="uid:0", now=world.clock.now(), sealer=world.sealer, client_id="shop"
            )

    rotate()
    assert world.token(("shop", world.secret), grant_type="client_credentials").status_code == 200
    rotate()
    assert world.token(("shop", world.secret), grant_type="client_credentials").status_code == 401


def test_a_person_signs_in_and_state_and_iss_come_back(world):
    page = world.authorize()
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    assert page.headers["referrer-policy"] == "no-referrer"
    back = parse_qs(urlsplit(world.answer(page).headers["location"]).query)
    assert back["state"] == ["s" * 1200]
    assert back["iss"] == [world.settings.issuer]
    told = world.redeem(back["code"][0]).json()
    assert {"access_token", "refresh_token", "id_token"} <= set(told)
    bearer = {"authorization": f"Bearer {told['access_token']}"}
    assert world.ask("GET", "/identity/userinfo", headers=bearer).json() == {"sub": "user:anna", "name": "anna"}


@pytest.mark.parametrize(
    "changed", [{"code_challenge": None}, {"code_challenge_method": "plain"}, {"response_type": "token"}]
)
def test_what_is_wrong_goes_back_to_a_known_client_only(world, changed):
    answer = world.authorize(**changed)
    assert answer.status_code == 303
    assert "error=" in answer.headers["location"]
    assert "iss=" in answer.headers["location"]
    assert world.authorize(redirect_uri="https://evil.example", **changed).status_code == 400


def test_a_code_works_once_and_its_replay_revokes_what_it_gave(world):
    code = world.code()
    first = world.redeem(code).json()
    assert error_of(world.redeem(code)) == "invalid_grant"
    assert world.gone[0].startswith("grant:")
    assert error_of(world.refresh(first["refresh_token"])) == "invalid_grant"


@pytest.mark.parametrize("changed", [{"code_verifier": "w" * 43}, {"code_verifier": ""}, {"redirect_uri": "https://x"}])
def test_a_code_is_bound_to_verifier_and_redirect(world, changed):
    assert error_of(world.redeem(world.code(), **changed)) == "invalid_grant"


def test_a_refresh_may_be_retried_once_and_then_ends_the_family(world):
    token = world.redeem(world.code()).json()["refresh_token"]
    new = world.refresh(token).json()["refresh_token"]
    assert world.refresh(token).status_code == 200
    assert error_of(world.refresh(token)) == "invalid_grant"
    assert world.gone
    assert error_of(world.refresh(new)) == "invalid_grant"


def test_refresh_ends_thirty_days_after_sign_in(world):
    token = world.redeem(world.code()).json()["refresh_token"]
    world.clock.at += timedelta(days=30)
    assert error_of(world.refresh(token)) == "invalid_grant"


def test_a_client_revokes_its_own_token_only(world):
    token = world.token(("shop", world.secret), grant_type="client_credentials").json()["access_token"]
    assert world.ask("POST", "/identity/revoke", data={"token": token, "client_id": "web"}).status_code == 200
    assert not world.gone
    world.ask("POST", "/identity/revoke", data={"token": token}, auth=("shop", world.secret))
    assert world.gone[0].startswith("jti:")


def test_a_form_from_elsewhere_is_refused(world):
    assert world.answer(world.authorize(), csrf="0" * 64).status_code == 400


@pytest.mark.parametrize("path", ["token", "revoke"])
def test_another_web_page_cannot_make_a_visitors_browser_guess(world, path):
    """Neither 400 nor 401, which the watch counts towards a block of the visitor's address."""
    form = {"grant_type": "client_credentials", "client_id": "shop", "client_secret": "wrong", "token": "x"}
    for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 401), ("none", 401)):
        answer = world.ask("POST", f"/identity/{path}", data=form, headers={"sec-fetch-site": site})
        assert (site, answer.status_code) == (site, status)


def test_guessing_locks_only_the_guessers_address(world):
    page = world.authorize()
    for _ in range(6):
        assert "location" not in world.answer(page, password="guess guess guess").headers
    assert "location" not in world.answer(page).headers
    hidden = dict(re.findall(r'name="(request|csrf)" value="([^"]*)"', page.text))
    form = {**hidden, "username": "anna", "password": PASSWORD, "decision": "allow"}
    assert world.ask("POST", "/identity/sign-in", data=form, headers={"x-gw-source": "192.0.2.9"}).status_code == 303


def test_a_disabled_user_gets_nothing_more(world):
    token = world.redeem(world.code()).json()["refresh_token"]
    with world.store.begin() as connection:
        keys = principals.disable(connection, actor="uid:0", now=world.clock.now(), principal="user:anna")
    assert keys == ("gen:user:anna#1",)
    assert error_of(world.refresh(token)) == "invalid_grant"


def test_the_journal_holds_no_token_and_no_secret(world):
    told = world.redeem(world.code()).json()
    world.token(("shop", world.secret), grant_type="client_credentials")
    text = (world.home.events / "identity.jsonl").read_text()
    assert '"issued"' in text
    for planted in (told["access_token"], told["refresh_token"], told["id_token"], world.secret, PASSWORD):
        assert planted not in text


def test_duplicates_and_query_parameters_are_refused(world):
    assert error_of(world.ask("POST", "/identity/token?a=b", data={"grant_type": "x"})) == "invalid_request"
    with pytest.raises(Refused):
        parse(b"a=1&a=2")


@given(st.binary(max_size=300))
def test_any_bytes_are_parsed_or_refused(data):
    try:
        parsed = parse(data)
    except Refused:
        return
    assert all(parsed.values())


def test_a_rotated_key_signs_next_and_the_old_one_stays_published(world):
    with world.store.begin() as connection:
        before = {key["kid"] for key in keys.published(connection)["keys"]}
        kid = keys.rotate(connection, actor="uid:0", sealer=world.sealer, now=world.clock.now())
        after = {key["kid"] for key in keys.published(connection)["keys"]}
    assert kid in before
    assert before < after


def test_only_a_loopback_redirect_may_choose_its_port():
    client = grants.Client("client:cli", "cli", True, ("http://127.0.0.1/cb", BACK), frozenset())
    assert grants.redirect_known(client, "http://127.0.0.1:5123/cb")
    for other in ("http://127.0.0.1:5123/x", "http://127.0.0.1.evil/cb", "https://shop.example:1/back", f"{BACK}/"):
        assert not grants.redirect_known(client, other)
