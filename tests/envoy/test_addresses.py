"""Whose bucket an address counts in, at a real Envoy: what one caller owns is one, what stands for many hosts is not."""

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
from msgspec.structs import replace

from ostiary.envoy import caller
from ostiary.plan.model import Always, Limit, Limits, Plan, seal

from .test_contexts import PLENTY, plan_of, read  # isort: skip

FEW, MORE = 3, 5
BASIC = {"authorization": "Basic eDp5"}
SOURCES = (f"198.51.100.{number}" for number in count(1))  # one for each question: buckets stay


@pytest.fixture(scope="module")
def gate(make_gate: Any) -> Iterator[Any]:
    one = make_gate(trusted_hops=1)
    try:
        one.start(one.files(drawn(one), [["clerk"]]))
        yield one
    finally:
        one.stop()


def drawn(gate: Any, default: Limit = PLENTY.default) -> Plan:
    """With a system whose paths look like the authorization server's."""
    plan = plan_of(gate, [read(Always())])
    alike = tuple(replace(plan.routes[0], template=path) for path in ("/identity/orders", "/identity/token"))
    limits = Limits(
        anonymous=Limit(name="anonymous", requests=FEW, seconds=3600),
        identity=Limit(name="identity", requests=MORE, seconds=3600),
        default=default,
    )
    return seal(replace(plan, routes=(*plan.routes, *alike), limits=limits))


def answered(
    gate: Any, sources: Callable[[int], str], path: str = "/identity/token", host: str = "gate.test", **headers: str
) -> list[int]:
    """For eight requests in a row, each from the source that a trusted proxy names."""
    method = "GET" if host == "shop.test" else "POST"
    return [
        gate.ask(path, method=method, host=host, headers={**headers, "x-forwarded-for": sources(number)}).status
        for number in range(1, 9)
    ]


def held(most: int) -> list[int]:
    return [200] * most + [429] * (8 - most)


@pytest.mark.standard("E11")
@pytest.mark.parametrize(
    ("network", "shown", "most"),
    [
        ("2001:db8:1::{:x}", {}, FEW),
        ("2001:db8:2:0:{:x}::", {}, FEW),
        ("2001:db8:3::{:x}", BASIC, MORE),
        ("192.0.2.1, 2001:db8:5::{:x}", {}, FEW),
        ("fe80::{:x}", {}, FEW),
    ],
)
def test_who_owns_a_network_gets_no_bucket_for_each_of_its_addresses(
    gate: Any, network: str, shown: dict[str, str], most: int
) -> None:
    assert answered(gate, network.format, **shown) == held(most)


@pytest.mark.standard("E11")
@pytest.mark.parametrize(
    "hosts",
    [
        "203.0.113.{}",
        "2001:db8:77:{:x}::1",
        "::ffff:203.0.113.{}",  # as some proxies write version 4
        "::ffff:cb00:72{:02x}",
        "64:ff9b::cb00:71{:02x}",  # NAT64
        "2001:0:cb00:7109::{:x}",  # Teredo, behind one server
    ],
)
def test_hosts_that_share_a_network_do_not_share_a_bucket(gate: Any, hosts: str) -> None:
    assert answered(gate, hosts.format) == held(8)
    assert answered(gate, lambda _: hosts.format(8)) == held(FEW - 1), "and none of them is without one"


@pytest.mark.standard("E11")
@pytest.mark.parametrize(("network", "looks"), [("2001:db8:9::{:x}", FEW), ("64:ff9b::cb00:79{:02x}", 8)])
def test_who_stole_a_bound_token_has_no_more_looks_at_proofs_for_owning_a_network(
    gate: Any, network: str, looks: int
) -> None:
    """Each proof fails, and costs the guard a look; a caller's limit counts them by where they come from."""
    bound = gate.token(["clerk"], scope="shop/*:read", bnd="jkt:abc", cnf={"jkt": "abc"})
    shown = {"authorization": f"DPoP {bound}", "dpop": "x.y.z"}
    before = gate.guard_reply
    gate.guard_reply = lambda _: (401, {}, "")
    gate.apply(gate.files(drawn(gate, Limit(name="default", requests=FEW, seconds=3600)), [["clerk"]]))
    try:
        found = answered(gate, network.format, "/orders", "shop.test", **shown)
        assert found == [401] * looks + [429] * (8 - looks)
    finally:
        gate.guard_reply = before
        gate.apply(gate.files(drawn(gate), [["clerk"]]))


@pytest.mark.standard("E11")
@pytest.mark.parametrize(("network", "most"), [("2001:db8:4::{:x}", FEW), ("::ffff:203.0.115.{}", 8)])
def test_the_wide_limit_counts_the_forged_tokens_of_a_whole_network(
    gate: Any, monkeypatch: pytest.MonkeyPatch, network: str, most: int
) -> None:
    monkeypatch.setattr(caller, "ADDRESS_LIMIT", Limit(name="address", requests=FEW, seconds=3600))
    gate.apply(gate.files(drawn(gate), [["clerk"]]))
    try:
        found = answered(gate, network.format, "/orders", "shop.test", authorization="Bearer x.y.z")
        assert found == [401] * most + [429] * (8 - most)
    finally:
        monkeypatch.undo()
        gate.apply(gate.files(drawn(gate), [["clerk"]]))


@pytest.mark.parametrize("path", ["/orders", "/identity/orders", "/identity/token"])
def test_what_a_system_calls_as_the_authorization_server_does_its_own_is_the_callers_to_ask(
    gate: Any, path: str
) -> None:
    token, source = gate.token(["clerk"], scope="shop/*:read"), next(SOURCES)
    assert answered(gate, lambda _: source, path, "shop.test", authorization=f"Bearer {token}") == held(8)


@pytest.mark.parametrize("path", ["/orders", "/identity/orders", "/identity/token", "/identity/", "/identity"])
@pytest.mark.parametrize("shown", [{}, BASIC])
def test_who_shows_a_system_no_token_is_anonymous_whatever_the_path_is_called(
    gate: Any, path: str, shown: dict[str, str]
) -> None:
    source = next(SOURCES)
    assert answered(gate, lambda _: source, path, "shop.test", **shown) == [401] * FEW + [429] * (8 - FEW)


@pytest.mark.parametrize(
    ("host", "first"), [("gate.test", 200), ("GATE.test", 200), ("gate.test:443", 200), ("elsewhere.test", 401)]
)
def test_nobody_leaves_the_authorization_servers_limit_by_another_host_or_class(
    gate: Any, host: str, first: int
) -> None:
    for shown, most in (({}, FEW), (BASIC, MORE), ({"authorization": "Bearer x.y.z"}, MORE)):
        source, spoofed = next(SOURCES), {"x-gw-class": "shop:c1 shop/order:read", **shown}
        assert answered(gate, lambda _, at=source: at, host=host, **spoofed) == [first] * most + [429] * (8 - most)


@pytest.mark.parametrize("endpoint", ["token", "revoke", "userinfo", "introspect", "par", "device-authorization"])
def test_clients_that_show_who_they_are_have_a_limit_of_their_own_wherever_they_do(gate: Any, endpoint: str) -> None:
    shows, silent = next(SOURCES), next(SOURCES)
    assert answered(gate, lambda _: shows, f"/identity/{endpoint}", **BASIC) == held(MORE)
    assert answered(gate, lambda _: silent, f"/identity/{endpoint}") == held(FEW)
    assert answered(gate, lambda _: silent, f"/identity/{endpoint}/", **BASIC) == held(0)
