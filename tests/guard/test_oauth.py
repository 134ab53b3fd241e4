"""Tokens of the ERP's own authorization server, which others wrote: fetched once, renewed in time, never passed without."""

import asyncio
import json
import logging
import time
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace

from certificates import certificate
from guard_world import guarded, make
from ostiary.erp.operation import Request
from ostiary.foundation.secret import Secret
from ostiary.guard import adapters, erp
from ostiary.store.directory import sealed_for
from ostiary.store.tables import ERP_ACCOUNT
from token_endpoint import Client, TokenEndpoint

SECRET = "planted-oauth-secret"
POLICY = """
policy: world
systems:
  erp: {{kind: openapi, at: localhost, upstream: "http://127.0.0.1:9", spec: shop.yaml, hand-over: oauth, token-from: "{url}", token-scope: erp}}
departments: {{finance: {{}}}}
roles:
  payments: {{level: user, of: finance, may: "orders: read"}}
"""
SPEC = "openapi: 3.1.0\ninfo: {title: Shop, version: '1'}\npaths: {/orders: {get: {}}}\n"
READ = Request(method="GET", path="/orders")


@pytest.fixture
def endpoint():
    made = TokenEndpoint()
    yield made
    if made.running:
        made.stop()


@pytest.fixture
def world_of(tmp_path):
    worlds = []

    @asynccontextmanager
    async def made(endpoint, **settings):
        root = tmp_path / str(len(worlds))
        root.mkdir()
        (root / "shop.yaml").write_text(SPEC)
        world = make(root, policy=POLICY.format(url=endpoint.url))
        world.settings = replace(world.settings, **settings)
        worlds.append(world)
        world.person("user:anna", login="erp-client", password=SECRET)
        async with guarded(world):
            yield world

    return made


async def asked(world, subject="user:anna"):
    return await world.ask(world.token(subject), READ)


def another_secret(world, secret, login="erp-client"):
    """As `account` does, and control then says."""
    sealed = world.sealer.seal(Secret(secret), sealed_for("erp", "user:anna"))
    with world.store.begin() as connection:
        connection.execute(ERP_ACCOUNT.update().values(sealed_secret=sealed, login=login))
    world.guard._accounts.forget()


async def test_one_token_serves_all_who_wait_for_it_and_those_after(world_of, endpoint):
    async with world_of(endpoint) as world:
        answers = await asyncio.gather(*(asked(world) for _ in range(20)))
        handed = {answer.headers["authorization"] for answer in answers}
        assert len(handed) == 1
        assert endpoint.good(handed.pop())
        assert endpoint.asked == 1
        assert endpoint.server.seen[0]["body"] == "grant_type=client_credentials&scope=erp"
        assert SECRET not in endpoint.server.seen[0]["path"]


async def test_a_token_is_renewed_before_it_ends_and_where_it_cannot_be_nobody_passes(world_of, endpoint, monkeypatch):
    monkeypatch.setattr(erp, "SILENT_S", 0.2)
    endpoint.life_s = 2
    async with world_of(endpoint) as world:
        until, handed = time.monotonic() + 3.5, set()
        while time.monotonic() < until:
            header = (await asked(world)).headers["authorization"]
            assert endpoint.good(header)
            handed.add(header)
            await asyncio.sleep(0.02)
        assert len(handed) == endpoint.asked
        assert endpoint.asked in {3, 4}
        endpoint.stop()
        assert (await asked(world)).allowed  # the one before is good yet
        refused = await when(world, "unavailable")
        assert (refused.status, refused.problem["status"]) == (424, 503)
        assert "the token endpoint does not answer" in refused.detail
        assert "authorization" not in refused.headers


async def when(world, reason):
    for _ in range(250):
        if (answer := await asked(world)).reason == reason:
            return answer
        await asyncio.sleep(0.02)
    raise AssertionError(answer)


async def test_a_secret_that_is_wrong_or_was_taken_back_is_told_and_not_tried_at_every_call(world_of, endpoint):
    async with world_of(endpoint) as world:
        another_secret(world, "wrong-planted")
        for _ in range(5):
            answer = await asked(world)
            assert (answer.reason, answer.status, answer.problem["status"]) == ("erp-refuses", 423, 502)
            assert "gives erp-client no token: invalid_client" in answer.detail
        assert endpoint.asked == 1
        another_secret(world, SECRET)  # at once, whatever was remembered of the wrong one
        assert (await asked(world)).allowed


async def test_what_was_given_before_a_client_was_taken_back_is_not_used_up(world_of, endpoint, monkeypatch):
    monkeypatch.setattr(adapters, "RENEW_S", 0.1)
    async with world_of(endpoint) as world:
        assert (await asked(world)).allowed
        endpoint.clients.clear()
        await asyncio.sleep(0.15)
        assert (await asked(world)).reason == "erp-refuses"


async def test_who_has_no_account_gets_no_token(world_of, endpoint):
    async with world_of(endpoint) as world:
        world.person("user:new")
        answer = await asked(world, "user:new")
        assert (answer.reason, endpoint.asked) == ("unavailable", 0)


@pytest.mark.parametrize(
    "odd",
    [
        (200, {}, "no json"),
        (200, {}, "[]"),
        (200, {}, "{}"),
        (200, {}, json.dumps({"access_token": "a b"})),
        (200, {}, json.dumps({"access_token": "a\r\nx-admin: 1"})),
        (200, {}, json.dumps({"access_token": "a" * 8_000})),
        (200, {}, json.dumps({"access_token": ["a"]})),
        (200, {}, json.dumps({"access_token": "a", "token_type": "mac"})),
        (200, {}, json.dumps({"access_token": "a", "expires_in": "soon"})),
        (200, {}, json.dumps({"access_token": "a", "expires_in": -1})),
        (200, {}, json.dumps({"access_token": "a", "expires_in": 0})),
        (302, {"location": "/elsewhere"}, ""),
        (500, {}, json.dumps({"access_token": "a"})),
        (200, {}, "[" * 100_000),
    ],
    ids=str,
)
async def test_an_answer_that_gives_no_bearer_token_lets_nobody_pass(world_of, endpoint, odd):
    endpoint.odd = odd
    async with world_of(endpoint) as world:
        answer = await asked(world)
        assert (answer.reason, answer.problem["status"]) == ("unavailable", 503)
        assert "authorization" not in answer.headers
        assert [seen["path"] for seen in endpoint.server.seen] == ["/token"]


async def test_a_life_that_is_none_is_refused_by_name(world_of, endpoint):
    endpoint.odd = (200, {}, json.dumps({"access_token": "planted-token", "expires_in": 0.5}))
    async with world_of(endpoint) as world:
        detail = (await asked(world)).detail
    assert "without a bearer's token: Expected `float` >= 1.0 - at `$.expires_in`" in detail
    assert "planted-token" not in detail


async def test_times_that_are_texts_or_left_out_are_understood(world_of, endpoint):
    async with world_of(endpoint) as world:
        for told in ({"expires_in": "3599"}, {}, {"expires_in": 7_776_000}):
            endpoint.odd = (200, {}, json.dumps({"access_token": "abc", "token_type": "bearer", **told}))
            another_secret(world, SECRET)  # so that it is fetched anew
            assert (await asked(world)).headers["authorization"] == "Bearer abc"


async def test_the_endpoint_is_believed_only_with_a_certificate_of_a_known_authority(world_of, tmp_path):
    (tmp_path / "other").mkdir()
    shown, other = certificate(tmp_path, "localhost"), certificate(tmp_path / "other", "localhost")
    endpoint = TokenEndpoint(certificate=shown)
    try:
        async with world_of(endpoint, upstream_authorities=str(other[0])) as world:
            assert (await asked(world)).reason == "unavailable"
            assert endpoint.asked == 0  # the secret was not sent
        async with world_of(endpoint, upstream_authorities=str(shown[0])) as world:
            assert (await asked(world)).allowed
    finally:
        endpoint.stop()


async def test_neither_secret_nor_token_is_in_a_log_a_journal_or_a_traceback(world_of, endpoint, caplog):
    caplog.set_level(logging.DEBUG)
    logging.getLogger("authlib").setLevel(logging.WARNING)  # of the other side
    async with world_of(endpoint) as world:
        header = (await asked(world)).headers["authorization"]
        endpoint.clients["erp-client"] = Client("erp-client", "another")
        another_secret(world, "wrong-planted")
        assert not (await asked(world)).allowed
        told = caplog.text + json.dumps(world.journal())
        assert "no token: invalid_client" in told
        for planted in (SECRET, "wrong-planted", header.partition(" ")[2]):
            assert planted not in told
