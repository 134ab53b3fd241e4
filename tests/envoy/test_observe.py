"""An observed system on the real Envoy: whom the ERP alone knows passes to the guard until the end, and nothing else is loosened."""

import base64
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from joserfc.jwk import ECKey

from ostiary.compile.plan import compile_policy
from ostiary.envoy.access import Signals, signal_resources
from ostiary.erp.openapi import load
from ostiary.plan.model import Plan
from ostiary.policy.parse import parse

BASIC = "Basic " + base64.b64encode(b"anna:hunter2").decode()
SCOPE = "shop/*:read shop/*:write erp/*:read"
ROLE_SETS = [("clerk",), ("guest",)]
SPEC = """
openapi: 3.1.0
info: {title: Shop, version: "1"}
paths:
  /orders:
    get: {tags: [Order]}
    post: {tags: [Order], requestBody: {content: {application/json: {schema: {type: object}}}}}
  /orders/{id}: {get: {tags: [Order], parameters: [{name: id, in: path, required: true, schema: {type: integer}}]}}
"""
POLICY = """
policy: observing
systems:
  shop: {kind: openapi, at: shop.test/shop, upstream: "UPSTREAM", spec: s, audience: "https://shop.test" MORE}
  erp: {kind: tryton, at: gate.test, upstream: "UPSTREAM", database: acme, audience: "https://erp.test"}
departments: {all: {}}
roles:
  clerk: {level: user, of: all, may: ["shop/order: read, write", "erp/party.party: read"]}
  guest: {level: user, of: all, may: []}
limits:
  anonymous: {requests: ANONYMOUS}
  default: {requests: 100000/second, body: 2000 B}
"""


def observed(gate: Any, until: datetime | None = None, more: str = "", anonymous: str = "100000/second") -> Plan:
    """`shop` is observed; `erp`, on the same gate, is not."""
    end = (until or datetime(2090, 1, 1, tzinfo=UTC)).isoformat(timespec="seconds")
    return policy(gate, f', observe-until: "{end}"{more}', anonymous)


def policy(gate: Any, more: str = "", anonymous: str = "100000/second") -> Plan:
    told = {"UPSTREAM": gate.upstream_url, "MORE": more, "ANONYMOUS": anonymous}
    text = POLICY
    for word, value in told.items():
        text = text.replace(word, value)
    parsed = parse(text, "policy.yaml")
    assert parsed.policy is not None, parsed.problems
    return compile_policy(parsed.policy, {"shop": load(SPEC.encode(), "shop").routes})


def clerk(gate: Any, **more: Any) -> str:
    return str(gate.token(("clerk",), **{"scope": SCOPE, **more}))


@pytest.fixture(scope="module")
def live(make_gate: Any) -> Iterator[Any]:
    gate = make_gate()
    try:
        gate.start(gate.files(observed(gate), ROLE_SETS))
        yield gate
    finally:
        gate.stop()


@pytest.fixture(autouse=True)
def fresh(live: Any) -> Iterator[None]:
    """The guard hands over what the caller showed, as the real one does while a system is observed."""
    live.guard_reply = lambda seen: (200, {name: seen["headers"][name] for name in ("authorization", "x-api-key") if name in seen["headers"]}, "")  # fmt: skip
    for server in (live.upstream, live.guard):
        server.seen.clear()
    yield
    live.write(signal_resources(Signals()))


def ask(live: Any, authorization: str = BASIC, path: str = "/shop/orders", **more: Any) -> Any:
    headers = {"authorization": authorization, **more.pop("headers", {})}
    return live.ask(path, headers={name: value for name, value in headers.items() if value}, **more)


@pytest.mark.parametrize("own", [BASIC, "Session YTo1OnQ=", "Bearer opaque", "bearer opaque", "token key:secret", "Bearer eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJvdGhlciJ9.x"])  # fmt: skip
def test_a_callers_own_credential_reaches_the_erp_by_the_guard(live: Any, own: str) -> None:
    answer = ask(live, own)
    assert answer.status == 200
    assert answer.json["headers"]["authorization"] == own
    (asked,) = live.guard.seen
    assert asked["headers"]["authorization"] == own
    assert "x-gw-sub" not in asked["names"]
    event = live.log(answer.decision)
    assert (event["reason"], event["rule"], event["subject"]) == ("allowed", "observe", "-")


def test_a_key_of_the_erp_reaches_it_by_the_guard_alone(live: Any) -> None:
    assert ask(live, "", headers={"x-api-key": "k1"}).json["headers"]["x-api-key"] == "k1"
    live.guard_reply = lambda _: (200, {}, "")
    answer = ask(live, headers={"x-api-key": "k1"})
    assert {"x-api-key", "authorization"}.isdisjoint(answer.json["names"])


def test_what_the_guard_refuses_stays_refused_and_a_dead_guard_refuses(live: Any) -> None:
    live.guard_reply = lambda _: (400, {"ostiary-reason": "invalid"}, "")
    assert ask(live).status == 400
    live.guard_reply = lambda _: (500, {}, "")
    assert (answer := ask(live)).status == 503
    assert answer.reason == "unavailable"
    assert not live.upstream.seen


def test_what_the_adapter_does_not_know_is_refused_natively(live: Any) -> None:
    assert ask(live, path="/shop/nothing").reason == "unknown-operation"
    assert ask(live, method="DELETE").reason == "unknown-operation"
    for path in ("/shop/orders;x", "/shop/orders%2f..%2fadmin", "/shop//orders/%00", "/shop/../shop/secret", "/shop/a%ffb"):  # fmt: skip
        assert ask(live, path=path).status in {400, 401, 403}, path
    assert not live.upstream.seen
    assert not live.guard.seen


def test_a_body_that_is_too_large_is_refused(live: Any) -> None:
    assert ask(live, method="POST", path="/shop/orders", body=b"x" * 3000).reason == "too-large"
    assert not live.guard.seen


def test_identity_headers_of_the_caller_and_cookies_do_not_pass(live: Any) -> None:
    told = {"x-gw-sub": "user:boss", "x-gw-rs": "abc", "x-gw-class": "erp:x", "cookie": "session=b", "x-forwarded-user": "boss"}  # fmt: skip
    answer = ask(live, headers=told)
    assert answer.status == 200
    assert set(answer.json["names"]) == {"host", "authorization"}
    assert {"x-gw-sub", "x-gw-rs", "cookie"}.isdisjoint(live.guard.seen[0]["names"])


# --- tokens are judged as ever


def test_a_token_is_judged_as_ever(live: Any) -> None:
    assert live.ask("/shop/orders", token=live.token(("guest",), scope=SCOPE)).reason == "role"
    assert live.ask("/shop/orders", token=clerk(live, scope="shop/other:read")).reason == "scope"
    assert live.ask("/shop/orders", token=clerk(live, rs="")).reason == "role"
    assert not live.upstream.seen
    live.write(signal_resources(Signals(revoked_hot=("jti:j1",))))
    wait(lambda: live.ask("/shop/orders", token=clerk(live)).reason == "token-revoked")


def test_with_a_token_no_key_of_the_callers_own_goes_with_it(live: Any) -> None:
    live.guard_reply = lambda _: (200, {"authorization": "Session erp"}, "")
    answer = live.ask("/shop/orders", token=clerk(live), headers={"x-api-key": "k", "cookie": "s=1"})
    assert answer.json["headers"]["authorization"] == "Session erp"
    assert set(answer.json["names"]) == {"host", "authorization"}


@pytest.mark.parametrize("token", ["expired", "other key", "other system", "no role set"])
def test_a_token_that_is_not_valid_makes_nobody_of_its_claims(live: Any, token: str) -> None:
    """The guard refuses it as ours; the gate must only not take a claim from it."""
    claims: Any = {
        "expired": {"exp": int((datetime.now(UTC) - timedelta(minutes=5)).timestamp())},
        "other key": {"key": ECKey.generate_key("P-256", parameters={"kid": "k1"})},
        "other system": {"aud": "https://erp.test"},
        "no role set": {"rs": None, "iss": "https://other.test"},
    }[token]
    assert live.ask("/shop/orders", token=clerk(live, **claims)).status == 200
    assert not [name for name in live.guard.seen[0]["names"] if name in {"x-gw-sub", "x-gw-rs", "x-gw-scope"}]


def test_two_credentials_of_which_one_is_a_token_are_neither(live: Any) -> None:
    guest = live.token(("guest",), scope=SCOPE)
    assert ask(live, f"{BASIC}, Bearer {guest}").reason == "token-unbound"
    assert not live.upstream.seen


# --- nothing else is loosened


def test_another_system_of_the_same_gate_is_not_loosened(live: Any) -> None:
    for own in (BASIC, "Session YTo1OnQ=", "Bearer opaque"):
        assert live.ask("/acme/rpc/", host="gate.test", headers={"authorization": own}).status == 401
    token = live.token(("clerk",), system="erp", scope=SCOPE)
    live.guard_reply = lambda _: (200, {"authorization": "Session erp", "x-api-key": ""}, "")
    answer = live.ask("/acme/rpc/", host="gate.test", token=token, headers={"x-api-key": "k"})
    assert answer.status == 200
    assert "x-api-key" not in answer.json["names"]


def test_blocked_addresses_and_a_lease_that_lapsed_refuse_all_the_same(live: Any) -> None:
    live.write(signal_resources(Signals(blocked=("127.0.0.9/32",), lease_until=None)))
    wait(lambda: ask(live, source="127.0.0.9").reason == "address-blocked")
    assert ask(live).status == 200
    live.write(signal_resources(Signals(lease_until=1)))
    wait(lambda: ask(live).reason == "closed")


def test_who_shows_nothing_is_held_to_the_limit_of_the_anonymous_and_who_shows_a_credential_is_not(
    make_gate: Any,
) -> None:
    gate = make_gate()
    try:
        gate.start(gate.files(observed(gate, anonymous="2/hour"), ROLE_SETS))
        gate.guard_reply = lambda _: (200, {}, "")
        assert [ask(gate).status for _ in range(5)] == [200] * 5
        assert [ask(gate, "", headers={"x-api-key": "k"}).status for _ in range(5)] == [200] * 5
        assert [ask(gate, "").status for _ in range(4)] == [200, 200, 429, 429]
        assert gate.ask("/acme/rpc/", host="gate.test").status == 429
    finally:
        gate.stop()


def test_a_key_is_for_tokens_alone(make_gate: Any) -> None:
    gate = make_gate()
    try:
        plan, file = observed(gate, more=", hand-over: key"), gate.root / "key"
        file.write_text("Basic ours")
        gate.start(gate.files(plan, ROLE_SETS, keys={("shop", "client:shop"): {"authorization": str(file)}}))
        gate.guard_reply = lambda seen: (200, {} if "x-gw-sub" in seen["names"] else {"authorization": BASIC}, "")
        assert ask(gate).json["headers"]["authorization"] == BASIC
        assert gate.ask("/shop/orders", token=clerk(gate)).json["headers"]["authorization"] == "Basic ours"
        assert gate.ask("/shop/orders", token=clerk(gate, sub="client:other")).status == 503
        gate.erp_reply = lambda _: (401, {"www-authenticate": "Basic"}, "whose is it?")
        assert (ask(gate).status, ask(gate).headers["www-authenticate"]) == (401, "Basic")  # it is the caller's own
    finally:
        gate.stop()


# --- the end


def test_it_ends_by_the_clock_alone_and_comes_back_with_a_later_date_only(make_gate: Any) -> None:
    """Nothing is written to the gate between the last yes and the first no."""
    gate = make_gate()
    try:
        gate.start(gate.files(observed(gate, datetime.now(UTC) + timedelta(seconds=4)), ROLE_SETS))
        gate.guard_reply = lambda _: (200, {}, "")
        assert ask(gate).status == 200
        wait(lambda: ask(gate).reason == "token-missing")
        gate.guard.seen.clear()
        refused = ask(gate)
        assert (refused.status, refused.reason) == (401, "token-missing")
        assert refused.headers["www-authenticate"] == 'Bearer realm="ostiary"'
        assert not gate.guard.seen
        gate.guard_reply = lambda _: (200, {"authorization": "Session erp"}, "")
        assert gate.ask("/shop/orders", token=clerk(gate)).status == 200
        assert gate.ask("/shop/orders", token=gate.token(("guest",), scope=SCOPE)).reason == "role"
        gate.apply(gate.files(observed(gate), ROLE_SETS))
        assert ask(gate).status == 200
        gate.apply(gate.files(policy(gate), ROLE_SETS))
        assert (ask(gate).reason, ask(gate, "Bearer opaque").reason) == ("token-missing", "token-invalid")
    finally:
        gate.stop()


def wait(holds: Any) -> None:
    last = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < last
