"""Contexts on the real gate: countries, devices, assurance; and how Envoy's own parts for them fail."""

import http.client
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

import mmdb
from ostiary.envoy.access import Signals, signal_resources
from ostiary.erp.operation import Pattern, Verb
from ostiary.foundation.home import Home
from ostiary.plan.model import (
    All,
    Context,
    Countries,
    Device,
    Formula,
    Grant,
    Hours,
    Kind,
    Level,
    Limit,
    Limits,
    Mfa,
    Networks,
    Not,
    Plan,
    Recent,
    Role,
    Route,
    Source,
    System,
    seal,
)
from ostiary.tls import authority
from running import until

SOURCE = Source(file="policy.yaml", line=1, text="")
PLENTY = Limits(
    anonymous=Limit(name="anonymous", requests=1_000_000, seconds=1),
    default=Limit(name="default", requests=1_000_000, seconds=1),
)


def plan_of(gate: Any, drawn: Any) -> Plan:
    shop = System(name="shop", kind=Kind.OPENAPI, host="shop.test", prefix="", upstream=gate.upstream_url, audience="https://shop.test", source=SOURCE)  # fmt: skip
    return seal(
        Plan(
            policy="contexts",
            systems=(shop,),
            roles=tuple(
                Role(name=name, level=Level.USER, closure=(name,), source=SOURCE)
                for name in dict.fromkeys(("clerk", "buyer", *(role for role, _, _ in drawn)))
            ),
            grants=tuple(
                Grant(id=f"{role}/{number}", role=role, pattern=pattern, context=context, source=SOURCE)
                for number, (role, pattern, context) in enumerate(drawn, 1)
            ),
            routes=(Route(system="shop", method="GET", template="/orders", object="order", verb=Verb.READ),),
            limits=PLENTY,
        )
    )


def read(formula: Formula, role: str = "clerk") -> Any:
    return role, Pattern(system="shop", object="*", verb=Verb.READ), Context(name="some", formula=formula)


def start(gate: Any, *grants: Any, **population: Any) -> None:
    gate.start(gate.files(plan_of(gate, grants), [["clerk"], ["buyer"], ["clerk", "buyer"]], **population))


@pytest.fixture
def place(make_gate: Any, tmp_path: Path) -> Iterator[Any]:
    gate = make_gate(geoip=mmdb.write(tmp_path / "places.mmdb", {"127.0.0.9/32": "DE", "127.1.0.0/16": "AT"}))
    try:
        yield gate
    finally:
        gate.stop()


def reasons(gate: Any, **headers: str) -> list[str]:
    """From Germany, from Austria, from nobody knows where."""
    token, places = gate.token(["clerk"], scope="shop/*:read"), ("127.0.0.9", "127.1.2.3", "127.0.0.1")
    return [gate.ask("/orders", token=token, source=source, headers=headers).reason for source in places]


@pytest.mark.standard("B4")
def test_a_country_is_where_the_connection_comes_from_whatever_a_header_says(place: Any) -> None:
    start(place, read(Countries(countries=("DE", "CH"))))
    forged = {"x-gw-country": "DE", "x-forwarded-for": "127.0.0.9", "x-geo-country": "DE"}
    for headers in ({}, forged):
        assert reasons(place, **headers) == ["allowed", "context", "context"]


def test_what_is_not_known_is_in_no_country_and_outside_none(place: Any) -> None:
    """As a policy's `not` is compiled."""
    start(place, read(Not(part=Countries(countries=("DE", "")))))
    assert reasons(place) == ["context", "allowed", "context"]


def test_behind_a_trusted_proxy_the_country_is_the_callers(make_gate: Any, tmp_path: Path) -> None:
    gate = make_gate(trusted_hops=1, geoip=mmdb.write(tmp_path / "places.mmdb", {"203.0.113.0/24": "DE"}))
    try:
        start(gate, read(Countries(countries=("DE",))))
        token = gate.token(["clerk"], scope="shop/*:read")
        for told, reason in [("203.0.113.9", "allowed"), ("203.0.113.9, 198.51.100.1", "context"), ("198.51.100.1, 203.0.113.9", "allowed")]:  # fmt: skip
            assert gate.ask("/orders", token=token, headers={"x-forwarded-for": told}).reason == reason
    finally:
        gate.stop()


@pytest.mark.standard("B4")
@pytest.mark.parametrize("mapped", [True, False], ids=["aliased", "plain"])
def test_an_address_of_version_4_that_a_proxy_writes_as_one_of_version_6_is_the_same(
    make_gate: Any, tmp_path: Path, mapped: bool
) -> None:
    """Its country is what the database says of ::ffff:0:0/96: where that is nothing, it is not known, and so refused."""
    places = mmdb.write(tmp_path / "places.mmdb", {"203.0.113.0/24": "DE"}, mapped=mapped)
    gate = make_gate(trusted_hops=1, geoip=places)
    home, v6 = Networks(networks=("203.0.113.0/24", "2001:db8::/32")), Networks(networks=("::/0",))
    try:
        wanted = {"home": home, "away": Not(part=home), "v6": v6, "de": Countries(countries=("DE",)), "not-de": Not(part=Countries(countries=("DE", "")))}  # fmt: skip
        gate.start(gate.files(plan_of(gate, [read(formula, name) for name, formula in wanted.items()]), [[name] for name in wanted]))  # fmt: skip

        def passed(source: str) -> str:
            headers = {"x-forwarded-for": source}
            tokens = {name: gate.token([name], scope="shop/*:read") for name in wanted}
            return " ".join(name for name in wanted if gate.ask("/orders", token=tokens[name], headers=headers).reason == "allowed")  # fmt: skip

        assert passed("203.0.113.9") == "home de"
        assert passed("::ffff:203.0.113.9") == passed("::ffff:cb00:7109") == ("home de" if mapped else "home")
        assert passed("::ffff:198.51.100.9") == "away"
        assert passed("2001:db8::9") == "home v6"
        gate.apply(signal_resources(Signals(blocked=("203.0.113.9/32", "::/64"))))
        assert passed("203.0.113.9") == passed("::ffff:203.0.113.9") == passed("::9") == ""
        assert "home" in passed("::ffff:203.0.113.8")
    finally:
        gate.stop()


def test_a_database_that_is_replaced_is_read_again_and_a_broken_or_lost_one_is_not(place: Any) -> None:
    start(place, read(Countries(countries=("DE",))))
    assert reasons(place) == ["allowed", "context", "context"]
    mmdb.write(place.edge.geoip, {"127.1.0.0/16": "DE"})
    until(lambda: reasons(place) == ["context", "allowed", "context"])
    broken = place.edge.geoip.with_suffix(".new")
    broken.write_bytes(b"no database")
    broken.replace(place.edge.geoip)
    until(lambda: "Failed to reload" in (place.root / "envoy.log").read_text())
    assert reasons(place) == ["context", "allowed", "context"]
    place.edge.geoip.unlink()
    assert reasons(place) == ["context", "allowed", "context"]


@pytest.mark.parametrize("broken", [None, b"no database"])
def test_a_start_without_its_database_lets_nobody_in(place: Any, broken: bytes | None) -> None:
    """Why `up` looks at the file first."""
    place.edge.geoip.write_bytes(broken) if broken else place.edge.geoip.unlink()
    with pytest.raises(AssertionError, match="Unable to open Maxmind database"):
        start(place, read(Countries(countries=("DE",))))


def test_a_better_sign_in_is_asked_for_where_nothing_else_is_lacking_and_in_the_words_of_that_grant(place: Any) -> None:
    """RFC 9470 section 3."""
    both, germany = All(parts=(Mfa(), Recent(seconds=900))), Countries(countries=("DE",))
    start(place, read(All(parts=(both, germany))), read(Recent(seconds=60), "buyer"))
    now = int(datetime.now(UTC).timestamp())
    challenge = 'Bearer realm="ostiary", error="insufficient_user_authentication"'
    mfa, quick = f'{challenge}, acr_values="mfa", max_age="900"', f'{challenge}, max_age="60"'
    for roles, claims, source, scope, told in [
        (["clerk"], {"auth_time": now, "acr": "pwd"}, "127.0.0.9", "read", (401, "step-up", "clerk/1", mfa)),
        (["clerk"], {"auth_time": now - 1000, "acr": "mfa"}, "127.0.0.9", "read", (401, "step-up", "clerk/1", mfa)),
        (["clerk"], {"auth_time": now - 800, "acr": "mfa"}, "127.0.0.9", "read", (200, "allowed", "clerk/1", None)),
        (["clerk"], {"auth_time": now}, "127.0.0.1", "read", (403, "context", "clerk/1", None)),
        (["clerk"], {"acr": "mfa"}, "127.0.0.9", "read", (403, "context", "clerk/1", None)),  # nobody can sign in anew
        (["clerk"], {"auth_time": now}, "127.0.0.9", "write", (403, "scope", "clerk/1", 'Bearer realm="ostiary", error="insufficient_scope"')),
        (["buyer"], {"auth_time": now - 100}, "127.0.0.9", "read", (401, "step-up", "buyer/2", quick)),
        (["clerk", "buyer"], {"auth_time": now - 100}, "127.0.0.1", "read", (401, "step-up", "buyer/2", quick)),
        (["clerk", "buyer"], {"auth_time": now}, "127.0.0.9", "read", (200, "allowed", "buyer/2", None)),
        ([], {"auth_time": now}, "127.0.0.9", "read", (403, "role", "-", None)),
    ]:  # fmt: skip
        answer = place.ask("/orders", token=place.token(roles, scope=f"shop/*:{scope}", **claims), source=source)
        line = place.log(answer.decision)
        assert (answer.status, answer.reason, line["rule"], answer.headers.get("www-authenticate")) == told, (roles, claims)  # fmt: skip


def test_the_log_tells_what_contexts_looked_at(place: Any) -> None:
    start(place, read(All(parts=(Mfa(), Countries(countries=("DE",))))))
    claims = {"auth_time": 1_700_000_000, "acr": "pwd"}
    answer = place.ask("/orders", token=place.token(["clerk"], scope="shop/*:read", **claims), source="127.0.0.9")
    line = place.log(answer.decision)
    assert [line[name] for name in ("country", "device", "acr", "signed_in_s", "path")] == ["DE", "-", "pwd", 1_700_000_000, "/orders"]  # fmt: skip


@pytest.mark.standard("B4")
def test_a_registered_device_is_known_by_the_certificate_of_its_connection(make_gate: Any, tmp_path: Path) -> None:
    home = Home(root=tmp_path / "home")
    home.create()
    authority.ensure(home, "gate.test")
    ca = home.keys / "ca.crt"
    issued = {name: authority.issue_client(home, name) for name in ("ours", "lost", "anna", "stranger")}
    devices = {issued["ours"].fingerprint: "", issued["anna"].fingerprint: "user:anna"}
    gate = make_gate(plain=False, certificate=home.keys / "gate.crt", key=home.keys / "gate.key", client_ca=ca)
    forged = {"x-gw-device": issued["ours"].fingerprint, "x-gw-token-device": issued["ours"].fingerprint}

    def reason(shown: str, headers: Any = {}, **claims: Any) -> str:  # noqa: B006  read only
        own = ssl.create_default_context(cafile=str(ca))
        if shown:
            (tmp_path / "pair.pem").write_bytes(issued[shown].certificate + issued[shown].key)
            own.load_cert_chain(tmp_path / "pair.pem")
        connection = http.client.HTTPSConnection("gate.test", gate.edge.port, context=own, timeout=10)
        raw = socket.create_connection(("127.0.0.1", gate.edge.port))
        connection.sock = own.wrap_socket(raw, server_hostname="gate.test")
        token = gate.token(["clerk"], scope="shop/*:read", **claims)
        connection.request(
            "GET", "/orders", headers={"host": "shop.test", "authorization": f"Bearer {token}", **headers}
        )
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return str(answer.getheader("ostiary-reason", "allowed"))

    try:
        start(gate, read(Device()), devices=devices)
        anna = {"sub": "user:anna"}
        told = [
            reason("ours"),
            reason("anna", **anna),
            reason("anna"),
            reason("stranger"),
            reason(""),
            reason("", forged),
        ]
        assert told == ["allowed", "allowed", "context", "context", "context", "context"]
        by_token = [reason("", dev=fingerprint) for fingerprint in (*devices, issued["lost"].fingerprint)]
        assert by_token == ["allowed", "context", "context"]
        assert reason("stranger", dev=issued["anna"].fingerprint, **anna) == "allowed"
        gate.apply(gate.files(plan_of(gate, [read(Device())]), [["clerk"]], devices={}))
        assert [reason("ours"), reason("", dev=issued["ours"].fingerprint)] == ["context", "context"]
    finally:
        gate.stop()


@pytest.mark.standard("B4")
def test_hours_are_those_of_their_own_zone_whatever_the_gates_clock_tells(make_gate: Any) -> None:
    """Two hours around now in three zones, that of the gate and two others; and on another day."""
    gate = make_gate(zone="Asia/Tokyo")
    try:
        zones = ("Asia/Tokyo", "America/New_York", "UTC")
        now = {zone: datetime.now(ZoneInfo(zone)) for zone in zones}

        def around(zone: str, days: tuple[int, ...] = tuple(range(7))) -> Formula:
            start = (now[zone].hour * 60 + now[zone].minute - 60) % 1440
            return Hours(days=days, start=start, end=(start + 120) % 1440, zone=zone)

        wanted = {zone.lower(): around(zone) for zone in zones}
        wanted |= {f"not-{zone}".lower(): around(zone, ((now[zone].weekday() + 3) % 7,)) for zone in zones}
        gate.start(gate.files(plan_of(gate, [read(formula, name) for name, formula in wanted.items()]), [[name] for name in wanted]))  # fmt: skip
        told = {name: gate.ask("/orders", token=gate.token([name], scope="shop/*:read")).reason for name in wanted}
        assert told == {name: "context" if name.startswith("not-") else "allowed" for name in wanted}
    finally:
        gate.stop()
