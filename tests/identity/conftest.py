"""A world with one system, one user and two clients, against the real application and a real store of either kind."""

import asyncio
import base64
import hashlib
import re
from collections.abc import Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from databases import CHOSEN, KINDS
from fixed_clock import FixedClock
from ostiary.audit.log import Change
from ostiary.control import people
from ostiary.foundation.errors import OperatorFault
from ostiary.foundation.home import Home, Settings
from ostiary.foundation.jose import verify_access_token
from ostiary.foundation.secret import Secret
from ostiary.identity import app, principals, providers, registration
from ostiary.identity.passwords import hash_password
from ostiary.identity.provisioning import Lent
from ostiary.plan.model import Kind, Limit, Limits, Plan, Source, System, seal, to_json
from ostiary.store.database import Sealer, open_store
from ostiary.store.directory import access_keys

SOURCE = Source(file="p", line=1, text="")


def plan_of(*names):
    systems = tuple(
        System(
            name=name, kind=Kind.TRYTON, host=name, prefix="", upstream="http://x", audience=f"https://{name}",
            source=SOURCE,
        )
        for name in names
    )  # fmt: skip
    limit = Limit(name="default", requests=1, seconds=1)
    return seal(Plan(policy="p", systems=systems, roles=(), grants=(), limits=Limits(anonymous=limit, default=limit)))


def dict_items(headers):
    return headers if isinstance(headers, list) else list((headers or {}).items())


class World:
    """The application and what its callers do."""

    password = "a long walk by the sea"
    back = "https://shop.example/back"
    verifier = "v" * 43
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    audience = "https://erp"

    def __init__(self, store, root, **settings):
        self.store, self.home = store, Home(root=root)
        self.home.create()
        self.use("erp")
        self.sealer = Sealer(b"k" * 32)
        self.clock = FixedClock(datetime(2026, 3, 3, 12, tzinfo=UTC))
        self.settings = Settings(**settings)
        self.gone = []

        def revoked(keys):
            self.gone += keys

        def arrived(told):
            return self.arrive(**told)

        told = {"revoked": revoked, "arrived": arrived, "changing": self.changing, "home": self.home}
        self.app = app.create(self.store, self.sealer, self.settings, self.clock, **told)
        hashed = hash_password(Secret(self.password), login="")
        self.do(principals.add_user, login="anna", hashed=hashed, roles=["clerk"])
        made = self.do(
            registration.add_client, sealer=self.sealer, client_id="shop", roles=["bot"], scopes=["erp/sale.*:read"]
        )
        self.do(registration.add_client, sealer=self.sealer, client_id="web", redirects=[self.back], auth="none")
        self.secret = made.secret.reveal()
        self.cookies = httpx.Cookies()

    def may(self, change, principal, roles):
        """Raises where the policy would."""
        if "admin" in roles:
            raise OperatorFault("roles-apart", f"{principal} would hold what is kept apart")

    def changing(self, act, actor, told):
        """What control does; its own side is tested where it runs."""
        with self.store.begin() as connection:
            change = Change(connection, actor, self.clock.now())
            done, keys = people.ACTS[act](change, Lent(self.sealer, self.may), **told)
        self.gone += keys
        return done

    def close(self):
        self.app.state.server.close()

    def arrive(self, *, provider, subject, roles, login, title):
        """As control does it, where no policy has a say."""
        with self.store.read() as connection:
            one = providers.find(connection, provider)
            account = providers.account(connection, one.issuer, subject)
        if account is None:
            more = {"subject": subject, "login": login, "name": title}
            account = {"id": self.do(providers.add_account, provider=one, **more)}
        self.gone += self.do(principals.set_roles, principal=account["id"], roles=roles)
        return ""

    def use(self, *systems):
        """These systems are in force from now on."""
        plan = plan_of(*systems)
        (self.home.plans / f"{plan.revision}.json").write_bytes(to_json(plan))
        (self.home.plans / "current").write_text(plan.revision)

    def do(self, act, **told):
        """An administrator's act, in its transaction."""
        with self.store.begin() as connection:
            return act(Change(connection, "uid:0", self.clock.now()), **told)

    def register(self, client_id, **told):
        """A client more; its secret, where it has one."""
        made = self.do(registration.add_client, sealer=self.sealer, client_id=client_id, **told)
        return made.secret.reveal() if made.secret else None

    def later(self, **passed):
        self.clock.at += timedelta(**passed)

    def ask(self, method, path, **more):
        return self.ask_at_once(1, method, path, **more)[0]

    headers: Mapping[str, str] = {}  # what the gate adds to each request

    def ask_at_once(self, times, method, path, **more):
        """The same request several times at one moment, as from several connections."""
        more["headers"] = [*dict(self.headers).items(), *dict_items(more.get("headers"))]

        async def go():
            transport = httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(
                transport=transport, base_url="https://localhost:8443", cookies=self.cookies
            ) as client:
                answers = await asyncio.gather(*(client.request(method, path, **more) for _ in range(times)))
                self.cookies = client.cookies
                return answers

        return asyncio.run(go())

    def token(self, auth=None, **form):
        return self.token_at_once(1, auth, **form)[0]

    def token_at_once(self, times, auth=None, **form):
        return self.ask_at_once(times, "POST", "/identity/token", data=form, auth=auth or httpx.USE_CLIENT_DEFAULT)

    def machine(self, **form):
        return self.token(("shop", self.secret), grant_type="client_credentials", **form)

    def authorize(self, method="GET", **changed):
        asked = {
            "response_type": "code", "client_id": "web", "redirect_uri": self.back, "scope": "openid profile",
            "state": "s" * 1200, "nonce": "n" * 64, "code_challenge": self.challenge, "code_challenge_method": "S256",
            **changed,
        }  # fmt: skip
        return self.ask(method, "/identity/authorize", params={k: v for k, v in asked.items() if v is not None})

    @staticmethod
    def hidden(page):
        return dict(re.findall(r'name="(request|csrf)" value="([^"]*)"', page.text))

    def answer(self, page, **changed):
        return self.answer_at_once(1, page, **changed)[0]

    def answer_at_once(self, times, page, *, source=None, **changed):
        if page.status_code == 303:  # he was not asked: he had allowed it before
            return [page] * times
        form = {**self.hidden(page), "username": "anna", "password": self.password, "decision": "allow", **changed}
        headers = {"x-gw-source": source} if source else {}
        return self.ask_at_once(times, "POST", "/identity/sign-in", data=form, headers=headers)

    @staticmethod
    def sent_back(answer):
        """What the client gets."""
        assert answer.status_code == 303, answer.text
        return {name: value for name, (value,) in parse_qs(urlsplit(answer.headers["location"]).query).items()}

    def code(self, **changed):
        return self.sent_back(self.answer(self.authorize(**changed)))["code"]

    def redeem(self, code, times=1, **changed):
        form = {"grant_type": "authorization_code", "client_id": "web", "code": code, "redirect_uri": self.back}
        answers = self.token_at_once(times, **{**form, "code_verifier": self.verifier, **changed})
        return answers if times > 1 else answers[0]

    def signed_in(self, **changed):
        """Everything that the token endpoint gives for a sign-in."""
        return self.redeem(self.code(**changed)).json()

    def refresh(self, token, times=1, **changed):
        form = {"grant_type": "refresh_token", "client_id": "web", "refresh_token": token, **changed}
        answers = self.token_at_once(times, **form)
        return answers if times > 1 else answers[0]

    def claims(self, token, audience="https://erp"):
        """As the gate and the guard read them."""
        with self.store.read() as connection:
            jwks = access_keys(connection)
        return verify_access_token(token, jwks, issuer=self.settings.issuer, audience=audience, now=self.clock.now())

    def userinfo(self, token):
        return self.ask("GET", "/identity/userinfo", headers={"authorization": f"Bearer {token}"})

    def journal(self):
        return (self.home.events / "identity.jsonl").read_text()


@pytest.fixture
def world(store, tmp_path):
    with closing(World(store, tmp_path / "home")) as made:
        yield made


@pytest.fixture
def world_with(store, tmp_path):
    """A world with other settings."""
    return lambda **settings: closing(World(store, tmp_path / "home", **settings))


@contextmanager
def made_world(databases, kind, root):
    with (
        databases.one(kind) as url,
        closing(open_store(url)) as store,
        closing(World(store, root)) as world,
    ):
        yield world


@pytest.fixture(scope="module")
def sqlite_world(databases, tmp_path_factory):
    """One for many examples, where the database does not matter: of the chosen kind."""
    with made_world(databases, CHOSEN, tmp_path_factory.mktemp("world")) as world:
        yield world


@pytest.fixture(scope="module", params=KINDS)
def lasting_world(request, databases, tmp_path_factory):
    """One for many examples, on each database."""
    with made_world(databases, request.param, tmp_path_factory.mktemp("world")) as world:
        yield world


@pytest.fixture
def concurrent_world(databases, tmp_path):
    """On PostgreSQL, where what another has committed is seen from one statement to the next."""
    with made_world(databases, "postgresql", tmp_path / "home") as world:
        yield world
