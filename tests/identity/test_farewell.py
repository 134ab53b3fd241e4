"""Clients are told that a session has ended (OpenID Connect Back-Channel Logout 1.0), on both databases."""

import asyncio
import json
import ssl
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from urllib.parse import parse_qs

import pytest
from joserfc import jws, jwt
from joserfc.jwk import KeySet
from sqlalchemy import select

from certificates import served
from ostiary.audit.log import entries
from ostiary.control.installation import Installation
from ostiary.control.outbox import PAUSE_S, Outbox
from ostiary.foundation.errors import CallerFault
from ostiary.foundation.proof import LOGOUT
from ostiary.identity import keys, principals, registration
from ostiary.store.tables import OUTBOX, SIGNING_KEY
from upstream import Echo, Server


class App:
    """The client's own server, by https; `answers` says how it takes what it is told."""

    def __init__(self, folder):
        certificate, key = served(folder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.authorities, self.answers = str(certificate), []
        self.server = Server(("127.0.0.1", 0), Echo)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.place = f"https://localhost:{self.server.server_port}/signed-out"
        self.server.start(lambda _: (self.answers.pop(0) if self.answers else 200, {"location": "/elsewhere"}, ""))

    def close(self):
        self.server.stop()

    @property
    def told(self):
        return [parse_qs(seen["body"])["logout_token"][0] for seen in self.server.seen]


@pytest.fixture
def app(tmp_path):
    with closing(App(tmp_path)) as made:
        yield made


@pytest.fixture
def world(world_with, app):
    with world_with(upstream_authorities=app.authorities) as made:
        made.do(registration.change_client, sealer=made.sealer, client_id="web", backchannel_logout_uri=app.place)
        yield made


def round_of(world, times=1):
    """As a sender does that was just started."""
    named = {name: getattr(world, name) for name in ("home", "settings", "store", "sealer", "clock")}
    outbox = Outbox(Installation(**named))

    async def told():
        await asyncio.gather(*(outbox.tell(receiver) for receiver in outbox.due()))

    for _ in range(times):
        asyncio.run(told())


def waiting(world):
    with world.store.read() as connection:
        return len(connection.execute(select(OUTBOX)).all())


def newest(world, action):
    with world.store.read() as connection:
        return next(entries(connection, action=action), None)


def sid_of(world, told):
    return world.claims(told["access_token"]).session


def test_what_the_client_is_told(world, app):
    told = world.signed_in()
    sid = sid_of(world, told)
    world.do(principals.end_session, principal="user:anna", sid=sid, reason="why")
    round_of(world)
    (text,) = app.told
    with world.store.read() as connection:
        published = KeySet.import_key_set(keys.published(connection))
        purposes = {row.kid: row.purpose for row in connection.execute(select(SIGNING_KEY))}
    token, now = jwt.decode(text, published, algorithms=["ES256"]), int(world.clock.now().timestamp())
    assert token.header["typ"] == "logout+jwt"
    assert purposes[token.header["kid"]] == "logout"
    assert purposes[jws.extract_compact(told["id_token"].encode()).headers()["kid"]] == "id"
    jti = token.claims.pop("jti")
    assert jti.startswith("lt-")
    assert token.claims == {
        "iss": world.settings.issuer, "aud": "web", "sub": "user:anna", "sid": sid, "iat": now, "exp": now + 120,
        "events": {LOGOUT: {}},
    }  # fmt: skip
    assert (waiting(world), newest(world, "client.untold")) == (0, None)
    assert world.userinfo(text).status_code == 401
    assert world.ask("GET", "/identity/logout", params={"id_token_hint": text}).status_code == 400
    round_of(world)
    assert len(app.told) == 1


def test_a_client_of_rs256_is_told_by_rs256_too(world, app):
    """Back-Channel Logout section 2.6: what it registered for ID tokens counts; by a key of its own all the same."""
    world.do(registration.change_client, sealer=world.sealer, client_id="web", id_token_alg="RS256")
    for _ in range(2):
        told = world.signed_in()
        world.do(principals.end_session, principal="user:anna", sid=sid_of(world, told), reason="why")
        round_of(world)
        text = app.told.pop()
        with world.store.read() as connection:
            published = KeySet.import_key_set(keys.published(connection))
            purposes = {row.kid: row.purpose for row in connection.execute(select(SIGNING_KEY))}
        token = jwt.decode(text, published, algorithms=["RS256"])
        assert (token.header["typ"], purposes[token.header["kid"]]) == ("logout+jwt", "logout-rs256")
        assert token.claims["sid"] == sid_of(world, told)
        assert world.ask("GET", "/identity/logout", params={"id_token_hint": text}).status_code == 400
        world.do(keys.rotate, sealer=world.sealer, purpose="logout-rs256", compromised=True)


ENDS = {
    "his password": lambda world: world.do(principals.set_password, sealer=world.sealer, login="anna", hashed="x"),
    "disabled": lambda world: world.do(principals.disable, principal="user:anna"),
    "revoked": lambda world: world.do(principals.revoke_principal, principal="user:anna"),
    "removed": lambda world: world.do(principals.remove, principal="user:anna"),
    "at a client's wish": lambda world: world.ask("GET", "/identity/logout", params={"id_token_hint": world.hint}),
}


@pytest.mark.parametrize("why", ENDS)
def test_whoever_ends_a_session_its_clients_are_told(world, app, why):
    told = world.signed_in()
    world.hint = told["id_token"]
    world.later(hours=9)  # though it has lapsed: what was given in it has not
    ENDS[why](world)
    assert app.told == []
    round_of(world)
    assert len(app.told) == 1
    assert world.refresh(told["refresh_token"]).status_code == 400


def test_nobody_else_is_told(world, app):
    """A client that was given nothing there, one that does not want to know, one whose own tokens end."""
    world.register("other", redirects=[world.back], backchannel_logout_uri=app.place)
    world.signed_in()
    world.do(registration.change_client, sealer=world.sealer, client_id="web", backchannel_logout_uri="")
    world.do(principals.disable, principal="client:other")
    world.do(principals.revoke_principal, principal="user:anna")
    round_of(world)
    assert app.told == []


def test_it_is_tried_again_a_few_times_and_what_fails_is_noted(world, app):
    app.answers += [500, 429, 302, 503]
    sid = sid_of(world, world.signed_in())
    world.do(principals.disable, principal="user:anna")
    for number in range(1, 5):
        round_of(world, 2)  # not before its time
        assert len(app.told) == number
        assert waiting(world) == 1
        world.later(seconds=PAUSE_S * number * number)
    round_of(world)
    assert (len(app.told), waiting(world), newest(world, "client.untold")) == (5, 0, None)
    assert {seen["path"] for seen in app.server.seen} == {"/signed-out"}  # and nobody follows where it sends on
    world.do(principals.enable, sealer=world.sealer, principal="user:anna")
    app.answers += [500] * 5
    sid = sid_of(world, world.signed_in())
    world.do(principals.disable, principal="user:anna")
    for number in range(1, 6):
        round_of(world)
        world.later(seconds=PAUSE_S * number * number)
    entry = newest(world, "client.untold")
    assert (entry["object"], entry["after"]) == ("client:web", {"sid": sid, "status": 500, "tries": 5})
    assert waiting(world) == 0


def test_a_client_that_does_not_want_it_is_asked_no_more(world, app):
    app.answers += [400]
    world.signed_in()
    world.do(principals.disable, principal="user:anna")
    round_of(world)
    assert (len(app.told), waiting(world)) == (1, 0)
    assert newest(world, "client.untold")["after"]["status"] == 400


def test_one_that_is_away_holds_up_nobody(world, app):
    app.close()
    world.signed_in()
    world.do(principals.disable, principal="user:anna")  # no call goes out here
    round_of(world)
    assert waiting(world) == 1
    world.do(principals.remove, principal="client:web")
    world.later(seconds=60)
    round_of(world)
    assert waiting(world) == 0


def test_of_several_nodes_one_tells(world, app):
    world.signed_in()
    world.do(principals.disable, principal="user:anna")
    with ThreadPoolExecutor(4) as nodes:
        list(nodes.map(lambda _: round_of(world), range(4)))
    assert len(app.told) == 1


@pytest.mark.parametrize(
    "place", ["http://127.0.0.1/out", "http://app.example/out", "javascript:x", "https://a@b/", "x"]
)
def test_it_is_told_by_https_alone(world, place):
    with pytest.raises(CallerFault, match=r"the backchannel_logout_uri .* is no https address") as problem:
        world.register("odd", redirects=[world.back], backchannel_logout_uri=place)
    assert "127.0.0.1" not in problem.value.hint


def test_discovery_says_so(world):
    told = world.ask("GET", "/identity/.well-known/openid-configuration").json()
    assert json.dumps([told[f"backchannel_logout_{what}supported"] for what in ("", "session_")]) == "[true, true]"


def test_one_place_that_is_none_keeps_the_others_from_nothing(world, app):
    """What looks like a host may be none to who encodes it; it is given up as any other that does not answer."""
    world.register("odd", redirects=[world.back], auth="none", backchannel_logout_uri="https://xn--a/out")
    told = world.signed_in()
    odd = world.answer(world.authorize(client_id="odd"), decision="allow")
    assert world.redeem(world.sent_back(odd)["code"], client_id="odd").status_code == 200
    world.do(principals.end_session, principal="user:anna", sid=sid_of(world, told), reason="why")
    assert waiting(world) == 2
    round_of(world)
    assert (len(app.told), waiting(world)) == (1, 1)
