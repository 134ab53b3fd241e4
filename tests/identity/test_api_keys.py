"""An API key: shown to a system with every request, good for nothing else, and gone with its client."""

import json
import socket
import ssl
import time
from itertools import count

import pytest

from ostiary.foundation.errors import OstiaryError
from ostiary.guard.knowledge import ON_THEIR_WAY_S
from running import RUNNING, site, until  # noqa: F401

pytestmark = RUNNING
ORDER = json.dumps({"lines": [{"qty": 1}]}).encode()
NUMBERS = count()


@pytest.fixture
def keyed(site):  # noqa: F811
    """(name, key) of a new client, a clerk."""
    name = f"scale-{next(NUMBERS)}"
    return name, site.ask("client.add", client_id=name, auth="api_key", roles=["clerk"])["client_secret"]


def answered(site, key, method="GET", path="/shop/stock", body=b"", **headers):  # noqa: F811
    answer = site.once(method, path, body, token=key, **headers)
    return answer.reason or answer.status


def explained(site, answer):  # noqa: F811
    return until(
        lambda: text if "key of client:" not in (text := str(site.ask("explain", decision=answer.decision))) else ""
    )


def raw(site):  # noqa: F811
    context = ssl.create_default_context(cafile=str(site.authority))
    return context.wrap_socket(
        socket.create_connection(("localhost", site.port), timeout=20), server_hostname="localhost"
    )


def noted(site, decision):  # noqa: F811
    lines = map(json.loads, site.home.identity_log.read_text().splitlines())
    return [line for line in lines if line["decision"] == decision]


@pytest.mark.standard("A9")
def test_a_key_opens_what_its_client_may_do_and_no_more(site, keyed):  # noqa: F811
    _, key = keyed
    assert answered(site, key) == 200
    assert answered(site, key, "POST", "/shop/orders", ORDER, **{"content-type": "application/json"}) == 200
    assert answered(site, key, path="/shop/invoices") == "role"
    assert answered(site, key, path="/shop/nothing") == "unknown-operation"


def test_it_is_good_for_the_scopes_that_its_client_was_given(site, keyed):  # noqa: F811
    name, key = keyed
    site.ask("client.change", client_id=name, scopes=["shop/order:read"])
    assert answered(site, key, path="/shop/orders") == 200
    assert answered(site, key) == "scope"


def test_what_is_no_key_is_refused_as_a_guess(site, keyed):  # noqa: F811
    name, key = keyed
    other = site.ask("client.add", client_id=f"{name}-b", roles=["clerk"])["client_secret"]
    end = "A" if key[-1] != "A" else "B"
    wrong = [
        key[:-1] + end, key[:-1], f"{key}A", f"ostiary_key_nobody.{key.rpartition('.')[2]}", "ostiary_key_", f"ostiary_key_{name}",
        f"ostiary_key_{name}-b.{other}", f"{key}.", f"{key},{key}", f"ostiary_key_{name}.\u00e9",
    ]  # fmt: skip
    for text in wrong:
        answer = site.once("GET", "/shop/stock", token=text)
        assert (answer.status, answer.reason) == (401, "credential-invalid"), text
        assert answer.json()["decision"] == answer.decision
    for text in (other, f" {key}", f"ostiary_Key_{key.removeprefix('ostiary_key_')}"):
        assert site.once("GET", "/shop/stock", token=text).status == 401
    assert answered(site, key) == 200
    told = str(site.ask("explain", decision=site.once("GET", "/shop/stock", token=wrong[0]).decision)["text"])
    assert f"key by client:{name} was refused: invalid_client: wrong API key" in told
    assert f"the API key of {name}: " in told


@pytest.mark.parametrize("method", ["PROPFIND", "TRACE", "PURGE", "OPTIONS", "HEAD", "GET"])
def test_a_stranger_with_a_wrong_key_learns_nothing_of_what_is_described(site, method):  # noqa: F811
    wrong = "ostiary_key_nobody.x"
    told = set()
    for path in ("/shop/stock", "/shop/stock?of=4", "/shop/orders?limit=3", "/shop/nothing", "/shop/x%0Ay", "/nowhere"):
        answer = site.once(method, path, token=wrong)
        words = {name: value for name, value in answer.headers.items() if name not in {"ostiary-decision", "date"}}
        told.add((answer.status, json.dumps(words, sort_keys=True), answer.body.replace(answer.decision.encode(), b"")))
    assert len(told) == 1
    assert 'error="invalid_token"' in words["www-authenticate"]


def test_what_is_refused_for_something_else_is_no_guess(site, keyed):  # noqa: F811
    _, key = keyed
    for _ in range(8):
        assert answered(site, key, path="/shop/stock?of=4") == "invalid"
    assert answered(site, key) == 200
    assert "no query or body where none is described" in explained(
        site, site.once("GET", "/shop/stock?of=4", token=key)
    )


def test_many_scopes_are_no_wrong_key(site):  # noqa: F811
    scopes = [f"shop/order.{'x' * 60}{n}:read" for n in range(80)]
    made = site.ask("client.add", client_id="many", auth="api_key", roles=["clerk"], scopes=scopes)
    assert answered(site, made["client_secret"]) == "unavailable"


@pytest.mark.standard("A5", "B7")
def test_who_keeps_the_end_of_a_request_back_keeps_no_key(site, keyed):  # noqa: F811
    """What asks for a key leaves nothing that switches off what looks at the end of a request."""
    _, key = keyed
    head = f"GET /shop/stock HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\ntransfer-encoding: chunked\r\n\r\n"
    with raw(site) as inside:
        inside.sendall(f"{head}1\r\nX\r\n0\r\n\r\n".encode())
        assert b" 400 " in inside.recv(20)
    with raw(site) as late:
        late.sendall(head.encode())
        time.sleep(ON_THEIR_WAY_S + 0.5)
        late.sendall(b"0\r\n\r\n")
        assert b" 400 " in late.recv(20)
    with raw(site) as soon:
        soon.sendall(f"{head}0\r\n\r\n".encode())
        assert b" 200 " in soon.recv(20)


def test_one_token_serves_for_some_seconds_and_not_beyond_a_change(site, keyed):  # noqa: F811
    name, key = keyed
    first, second = (site.once("GET", "/shop/stock", token=key) for _ in range(2))
    assert [line["outcome"] for one in (first, second) for line in noted(site, one.decision)] == ["issued", "served"]
    site.ask("principal.roles", principal=f"client:{name}", roles=["visitor"])
    assert answered(site, key, path="/shop/orders") == "role"
    assert answered(site, key) == 200


def test_it_opens_nothing_but_systems(site, keyed):  # noqa: F811
    name, key = keyed
    shown = {"grant_type": "client_credentials", "client_id": name, "client_secret": key}
    assert site.caller().form("/identity/token", **shown).json()["error"] == "invalid_client"
    assert site.once("GET", "/identity/userinfo", token=key).status == 401
    inside = site.once("GET", "/key/shop/stock", token=key)
    assert (inside.reason, "authorization" in inside.headers) == ("unknown-operation", False)


def test_neither_erp_nor_journal_learns_it_and_nobody_says_for_which_system_it_is(site, keyed):  # noqa: F811
    name, key = keyed
    answer = site.once("GET", "/shop/stock", token=key, **{"x-gw-class": "other:", "x-gw-source": "192.0.2.1"})
    assert answer.status == 200
    assert "authorization" not in site.upstream.seen[-1]["headers"]
    assert key not in json.dumps(site.upstream.seen[-1])
    assert key not in site.home.identity_log.read_text() + site.home.access_log.read_text()
    (line,) = noted(site, answer.decision)
    assert (line["action"], line["outcome"], line["client"], line["source"]) == ("key", "issued", name, "127.0.0.1")


@pytest.mark.parametrize(
    "unfit",
    [{"bound": "dpop"}, {"profile": "fapi2"}, {"redirects": ["https://a.example/b"]}, {"exchange": ["scale-0"]}],
)
def test_what_only_tokens_have_is_not_for_it(site, keyed, unfit):  # noqa: F811
    with pytest.raises(OstiaryError, match=r"is of no use to it|by a key"):
        site.ask("client.change", client_id=keyed[0], **unfit)


@pytest.mark.standard("A5")
def test_it_ends_with_its_client_at_once_and_is_changed_with_an_overlap(site, keyed):  # noqa: F811
    name, first = keyed
    second, third = (site.ask("client.rotate", client_id=name)["client_secret"] for _ in range(2))
    assert [answered(site, key) for key in (first, second, third)] == ["credential-invalid", 200, 200]
    site.ask("principal.disable", principal=f"client:{name}")
    assert answered(site, second) == "credential-invalid"
    site.ask("principal.enable", principal=f"client:{name}")
    assert answered(site, third) == 200
    site.ask("client.change", client_id=name, auth="client_secret")
    assert answered(site, third) == "credential-invalid"
    site.ask("client.change", client_id=name, auth="api_key")
    assert answered(site, third) == "credential-invalid"


def exchanged(world, key, system):
    return world.ask(
        "GET", "/key/any/path", headers={"authorization": f"Bearer {key}", "x-gw-class": f"{system}:c read"}
    )


def test_the_token_is_for_the_system_that_is_called_and_for_no_other(world):
    world.use("erp", "shop")
    key = world.register("scale", auth="api_key", scopes=["shop/stock:read"])
    for system, scopes in (("shop", {"shop/stock:read"}), ("erp", set())):
        token = exchanged(world, key, system).headers["authorization"].removeprefix("Bearer ")
        claims = world.claims(token, audience=f"https://{system}")
        assert (claims.subject, claims.scopes) == ("client:scale", scopes)
    assert world.claims(exchanged(world, key, "-").headers["authorization"][7:]).scopes == set()


def test_it_ends_with_its_client_to_the_second_and_nobody_guesses_then(world):
    key = world.register("scale", auth="api_key", days=1)
    answer = exchanged(world, key, "erp")
    assert answer.status_code == 200
    world.later(hours=23, minutes=59, seconds=50)
    ends = world.claims(exchanged(world, key, "erp").headers["authorization"][7:]).expires_at
    assert ends - world.clock.now().timestamp() <= 10
    world.later(seconds=10)
    over = exchanged(world, key, "erp")
    assert (over.status_code, "authorization" in over.headers, over.headers.get("ostiary-reason")) == (420, False, None)
    wrong = exchanged(world, f"{key}x", "erp")
    assert (wrong.status_code, wrong.headers.get("ostiary-reason")) == (420, None)  # still the ended client's
    assert exchanged(world, "ostiary_key_nobody.x", "erp").headers["ostiary-reason"] == "credential-invalid"
