"""Each endpoint of the authorization server, whichever there are: under the limits and address rules, and journalled."""

import json

import pytest
from starlette.routing import Route

from ostiary.foundation.api_key import PLACE
from ostiary.identity import app, registration
from running import RUNNING, site, until  # noqa: F401

SOURCES = iter(f"198.18.{n // 250}.{n % 250}" for n in range(1, 1000))
FORM = "application/x-www-form-urlencoded"


def endpoints(world):
    """(method, path) of every route; a HEAD is what a GET is."""
    for route in world.app.routes:
        if route.path == PLACE:  # where the gate shows API keys: no caller reaches it
            continue
        assert isinstance(route, Route)
        yield from ((method, route.path) for method in sorted(route.methods - {"HEAD"}))


def documents():
    base = "/identity"
    at = ("openid-configuration", "oauth-authorization-server")
    files = {f"{base}/{name}" for name in ("jwks", "passkey.js")}
    return {*files, *(f"{base}/.well-known/{name}" for name in at), f"/.well-known/{at[1]}{base}"}


def lines(world):
    return [json.loads(line) for line in world.journal().splitlines()]


@pytest.mark.standard("A7")
def test_every_request_is_noted_once_with_what_became_of_it(sqlite_world):
    """But for the documents that tell everybody where things are."""
    world = sqlite_world
    token = world.signed_in()["access_token"]
    signed_in = {"authorization": f"Bearer {token}", "x-gw-decision": "d-1", "x-gw-source": "192.0.2.9"}
    asked = list(endpoints(world))
    assert len(asked) > 15
    for method, path in asked:
        for body, headers in ((b"", {}), (b"a=b&a=b", {"content-type": FORM}), (b"x" * 20_000, {}), (b"", signed_in)):
            before = len(lines(world))
            world.ask(method, path, content=body, headers=headers)
            new = lines(world)[before:]
            if path in documents() and len(body) < app.TEXT_MAX_BYTES:
                assert new == []
                continue
            (line,) = new
            assert (line["action"], bool(line["outcome"])) == (path.rpartition("/")[2], True)
            if headers is signed_in:
                assert (line["decision"], line["source"]) == ("d-1", "192.0.2.9")


@pytest.mark.standard("E11")
def test_what_fails_or_finds_no_room_is_noted_too(sqlite_world, monkeypatch):
    world = sqlite_world
    with monkeypatch.context() as patched:
        patched.setattr(app, "WAITING_MAX", 0)
        assert again(world.machine()) == (503, "1")
    with monkeypatch.context() as patched:
        patched.setattr(world.app.state.server.store, "read", None)
        assert again(world.machine()) == (503, "1")
    assert [(one["action"], one["outcome"]) for one in lines(world)[-2:]] == [("token", "temporarily_unavailable")] * 2


def again(answer):
    return answer.status_code, answer.headers.get("retry-after")


def test_a_public_client_keeps_no_more_than_so_many_requests_for_one_address(world, monkeypatch):
    """Whoever asks in its name has nothing to prove: pushed requests and devices' codes would fill the store."""
    monkeypatch.setattr("ostiary.identity.clients.KEPT_MAX", 3)
    push = {
        "client_id": "web", "response_type": "code", "redirect_uri": world.back, "code_challenge": world.challenge,
        "code_challenge_method": "S256",
    }  # fmt: skip

    def statuses(path, form, source, times=4):
        headers = {"x-gw-source": source}
        return [world.ask("POST", f"/identity/{path}", data=form, headers=headers).status_code for _ in range(times)]

    assert statuses("par", push, "192.0.2.1") == [201] * 3 + [429]
    world.register("screen", auth="none")
    for source in ("192.0.2.1", "192.0.2.2"):
        assert statuses("device-authorization", {"client_id": "screen"}, source) == [200] * 3 + [429]
    assert statuses("par", push, "2001:db8::1", 2) + statuses("par", push, "2001:db8::2", 2) == [201] * 3 + [429]
    world.register("other", auth="none", redirects=[world.back])
    assert statuses("par", {**push, "client_id": "other"}, "192.0.2.1") == [201] * 3 + [429]
    wrong = {**push, "client_id": "other", "response_type": "token"}
    assert statuses("par", wrong, "192.0.2.3") == [400] * 3 + [429], "what is refused has been looked at too"
    too_much = {"client_id": "screen", "scope": "nonsense"}
    assert statuses("device-authorization", too_much, "192.0.2.3") == [400] * 3 + [429]
    proved = {**push, "client_id": "shop", "client_secret": world.secret, "redirect_uri": world.back}
    world.do(registration.change_client, sealer=world.sealer, client_id="shop", redirects=[world.back])
    assert statuses("par", proved, "192.0.2.1") == [201] * 4
    world.later(seconds=100)
    refused = world.ask("POST", "/identity/par", data=push, headers={"x-gw-source": "192.0.2.1"})
    assert again(refused) == (429, "200")
    world.later(seconds=201)
    assert statuses("par", push, "192.0.2.1") == [201] * 3 + [429]


@RUNNING
@pytest.mark.standard("A7")
def test_every_endpoint_is_under_the_address_limit(site, sqlite_world):  # noqa: F811
    """The gate counts before anything of ours is asked."""
    site.apply(site.policy(anonymous=2))
    for method, path in endpoints(sqlite_world):
        source, caller = next(SOURCES), site.caller()
        answers = [asked(caller, method, path, source) for _ in range(4)]
        assert [one.reason == "rate-limited" for one in answers] == [False, False, True, True], path


@RUNNING
@pytest.mark.standard("A7")
def test_no_endpoint_lets_a_header_that_proves_nothing_out_of_the_address_limit(site, sqlite_world):  # noqa: F811
    """Whatever is shown is counted before it is looked at: as a credential where clients show one, else as nothing."""
    site.apply(site.policy(("limits:", "limits:\n  identity: {requests: 2/minute}"), anonymous=2))
    for method, path in endpoints(sqlite_world):
        for shown in ("Basic eDp5", "Bearer x.y.z"):
            source, caller = next(SOURCES), site.caller()
            answers = [asked(caller, method, path, source, authorization=shown) for _ in range(4)]
            assert [one.reason == "rate-limited" for one in answers] == [False, False, True, True], (path, shown)


@RUNNING
def test_clients_that_show_a_credential_are_not_held_to_what_strangers_may_ask(site):  # noqa: F811
    site.apply(site.policy(anonymous=2))
    site.client("often", "visitor")
    assert all(site.fresh("often") for _ in range(6))  # each of them shown by Basic, all from here
    assert [site.once("POST", "/identity/token").reason == "rate-limited" for _ in range(3)] == [False, False, True]


@RUNNING
@pytest.mark.standard("A7")
def test_every_endpoint_is_closed_to_an_address_that_is_blocked(site, sqlite_world):  # noqa: F811
    source, caller = next(SOURCES), site.caller("x.y.z")
    for _ in range(6):
        caller.send("GET", "/shop/stock", x_forwarded_for=source)
    until(lambda: caller.send("GET", "/shop/stock", x_forwarded_for=source).reason == "address-blocked")
    for method, path in endpoints(sqlite_world):
        assert asked(caller, method, path, source).reason == "address-blocked", path
        assert asked(caller, method, path, next(SOURCES)).reason != "address-blocked", path
    for measure in site.ask("measure.list"):
        if measure["target"] == f"{source}/32":
            site.ask("measure.undo", measure=measure["id"])
    for alert in site.ask("alert.list"):
        if alert["key"] == f"address:{source}":
            site.ask("alert.resolve", alert=alert["id"])


def asked(caller, method, path, source, **headers):
    return caller.send(method, path, b"", content_type=FORM, x_forwarded_for=source, **headers)
