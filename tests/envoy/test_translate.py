"""The translation is pure, stable and says nothing that policy can change in the listener."""

import ast
import json
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ostiary import envoy
from ostiary.envoy import cel
from ostiary.envoy import translate as translation
from ostiary.envoy.access import RANGES_MAX, Classes, Signals, signal_resources
from ostiary.envoy.condition import condition
from ostiary.envoy.listener import CHANGEABLE, bootstrap
from ostiary.envoy.resource import Edge
from ostiary.envoy.translate import Population, news, translate
from ostiary.erp.operation import Operation, Pattern, Verb
from ostiary.foundation.errors import OurFault
from ostiary.foundation.home import Home
from ostiary.foundation.ids import role_set_id
from ostiary.plan.model import (
    All,
    Always,
    AnyOf,
    Circumstances,
    Context,
    Formula,
    Grant,
    Hours,
    Kind,
    Level,
    Limit,
    Limits,
    Networks,
    Not,
    Plan,
    Role,
    Route,
    Source,
    System,
    holds,
    seal,
)

SOURCE = Source(file="policy.yaml", line=1, text="")
LIMIT = Limit(name="default", requests=60, seconds=60)
EDGE = Edge(
    listen="127.0.0.1", port=8443, host="gate.test", certificate=Path("/k/gate.crt"), key=Path("/k/gate.key"),
    issuer="https://gate.test/identity", home=Home(root=Path("/h")),
)  # fmt: skip
OUTSIDE = {"random", "secrets", "time", "socket", "os", "subprocess", "sqlalchemy", "threading", "asyncio"}
IMPURE = {"daemon.py"}  # not part of the translation
SETS = {role_set_id(["clerk"]): frozenset({"clerk"})}


def plan_of(*grants: tuple[str, str], text: str = "") -> Plan:
    system = System(name="shop", kind=Kind.OPENAPI, host="shop.test", prefix="", upstream="https://erp.test:444/b", audience="a", source=SOURCE)  # fmt: skip
    return seal(
        Plan(
            policy=f"p{text}",
            systems=(system,),
            roles=(Role(name="clerk", level=Level.USER, closure=("clerk",), source=SOURCE),),
            grants=tuple(
                Grant(
                    id=name,
                    role="clerk",
                    pattern=Pattern(system="shop", object=what, verb=Verb.READ),
                    context=Context(name="always", formula=Always()),
                    source=SOURCE,
                )
                for name, what in grants
            ),
            routes=tuple(
                Route(system="shop", method="GET", template=f"/{name}{{id}}", object=name, verb=Verb.READ)
                for name in ("a", "b", "ab")
            ),
            limits=Limits(anonymous=LIMIT, default=LIMIT),
        )
    )


def files(plan: Plan, edge: Edge = EDGE) -> Any:
    return translate(plan, Population(role_sets=SETS, jwks={"keys": []}), edge)


def test_the_modules_import_no_clock_socket_database_or_randomness() -> None:
    for path in Path(str(envoy.__file__)).parent.glob("*.py"):
        if path.name in IMPURE:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            assert not OUTSIDE & {name.partition(".")[0] for name in names}, path.name


def test_the_same_plan_gives_the_same_files() -> None:
    assert files(plan_of(("clerk/1", "a"))) == files(plan_of(("clerk/1", "a")))


def test_policy_and_signals_never_touch_the_listener() -> None:
    one, other = files(plan_of(("clerk/1", "a"))), files(plan_of(("clerk/1", "*"), text="2"))
    changed = {name for name in one if one[name] != other[name]}
    assert changed == {"rds.json", "ecds/policy.json"}
    assert set(signal_resources(Signals())).isdisjoint(one)


def test_every_changeable_filter_has_its_file() -> None:
    edge = msgspec.structs.replace(EDGE, geoip=Path("/places.mmdb"), client_ca=Path("/ca.crt"))
    written = {**files(plan_of(), edge), **signal_resources(Signals())}
    assert {f"ecds/{name}.json" for name in CHANGEABLE} == {name for name in written if name.startswith("ecds/")}


def test_what_no_grant_asks_for_is_looked_up_for_nobody() -> None:
    edge = msgspec.structs.replace(EDGE, geoip=Path("/places.mmdb"), client_ca=Path("/ca.crt"))
    told = json.dumps(files(plan_of(("clerk/1", "a")), edge), default=str)
    assert not [part for part in ("mmdb", "auth_time", '"acr"', '"dev"', "device_shadow_rules") if part in told]
    assert {"ecds/country.json", "ecds/device.json"}.isdisjoint(files(plan_of()))


def test_unchanged_limits_keep_their_version_so_buckets_are_not_refilled() -> None:
    one, other = files(plan_of(("clerk/1", "a"))), files(plan_of(text="2"))
    for name in ("ecds/caller-limit.json", "ecds/address-limit.json"):
        assert one[name]["version_info"] == other[name]["version_info"]


def test_operations_under_the_same_grants_share_a_class_and_others_do_not() -> None:
    classes = Classes(plan_of(("clerk/1", "a.*"), ("clerk/2", "b")))
    ids = [classes.of(Operation(system="shop", object=name, verb=Verb.READ)).id for name in ("a.x", "a.y", "b", "c")]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3


def routes_of(*files: Any) -> dict[str, str]:
    """Every route of some route files by the keys that lead to it, as text."""
    return {place: text for one in files for place, text in routes_in(json.loads(msgspec.json.encode(one))).items()}


def routes_in(tree: Any, at: str = "") -> dict[str, str]:
    if isinstance(tree, list):
        return {place: text for one in tree for place, text in routes_in(one, at).items()}
    if not isinstance(tree, dict):
        return {}
    if "on_match" in tree:
        return {at + json.dumps(tree["predicate"]): json.dumps(tree["on_match"])}
    if "action" in tree:
        return {at: json.dumps(tree)}
    return {place: text for key, value in tree.items() for place, text in routes_in(value, f"{at} {key}").items()}


@pytest.mark.parametrize("moved", [{}, {"upstream": "http://other.test"}, {"audience": "b"}, {"prefix": "/shop"}])
@pytest.mark.parametrize("at_once", [1, 2, 5_000])
def test_what_envoy_has_not_read_yet_is_every_route_that_differs(
    moved: Any, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(translation, "PART_ROUTES", at_once)
    before, plan = plan_of(("clerk/1", "a"), ("clerk/2", "b")), plan_of(("clerk/1", "a"), ("clerk/2", "ab"), text="2")
    plan = msgspec.structs.replace(plan, systems=tuple(msgspec.structs.replace(one, **moved) for one in plan.systems))
    known, wanted = (routes_of(files(one)["rds.json"]) for one in (before, plan))
    read = routes_of(*news(before, plan, EDGE))
    assert read.items() <= wanted.items()
    assert wanted.items() - known.items() <= read.items()
    assert (read.items() == wanted.items()) is bool(moved)


def test_an_upstream_over_tls_is_verified_by_authority_and_name() -> None:
    cluster = next(one for one in files(plan_of())["cds.json"]["resources"] if one["name"].startswith("system-shop-"))
    context = cluster["transport_socket"]["typed_config"]
    trusted = context["common_tls_context"]["validation_context"]
    assert (context["sni"], trusted["match_typed_subject_alt_names"][0]["matcher"]) == (
        "erp.test",
        {"exact": "erp.test"},
    )
    assert trusted["trusted_ca"]


def test_every_phase_of_a_request_ends_by_itself() -> None:
    """Its head, its body, the answer, the caller's reading of it, and the silence after: nothing else ends a stream."""
    made = files(plan_of(("clerk/1", "a")))
    manager = made["lds.json"]["resources"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    ends = {
        **{name: manager[name] for name in ("request_headers_timeout", "request_timeout", "stream_flush_timeout")},
        "idle_timeout": manager["common_http_protocol_options"]["idle_timeout"],
    }
    upstream = [text for text in routes_of(made["rds.json"]).values() if '"cluster"' in text]
    assert all(0 < float(value.removesuffix("s")) <= 120 for value in ends.values()), ends
    assert len(upstream) == len([text for text in upstream if '"timeout": "60s"' in text]) > 3


def test_the_admin_socket_is_private() -> None:
    assert bootstrap(EDGE)["admin"]["address"]["pipe"] == {"path": "/h/run/envoy.sock", "mode": 0o600}


def test_a_kind_of_revocation_that_a_newer_node_of_a_fleet_has_recorded_keeps_no_other_from_the_gate() -> None:
    """No token of this version carries it; raising would stop every revocation that comes after it."""
    for hot in ((), ("jti:1", "gen:user:anna#1")):
        told, more = (signal_resources(Signals(revoked_hot=keys)) for keys in (hot, ("moon:1", *hot)))
        assert told == more


def test_more_blocks_than_envoy_takes_are_not_told_to_it() -> None:
    """A file with more ranges is refused as a whole (measured); IPv4 stands there as IPv6 writes it too."""
    many = tuple(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}/32" for n in range(RANGES_MAX // 2 + 1))
    assert signal_resources(Signals(blocked=many[1:]))
    with pytest.raises(OurFault, match="too-many-blocks"):
        signal_resources(Signals(blocked=many))


def test_chains_of_expressions_are_balanced() -> None:
    tree = cel.some([cel.number(n) for n in range(64)])
    assert json.dumps(tree).count("_||_") == 63

    def depth(node: Any) -> int:
        return 1 + max(map(depth, node["call_expr"]["args"])) if "call_expr" in node else 0

    assert depth(tree) == 6


@pytest.mark.parametrize(
    "formula",
    [
        Always(), All(parts=()), AnyOf(parts=()), Networks(networks=()), Not(part=Always()),
        Hours(days=(), start=0, end=60, zone="UTC"), Hours(days=tuple(range(7)), start=5, end=5, zone="UTC"),
        Hours(days=tuple(range(7)), start=0, end=1440, zone="UTC"),
        All(parts=(Always(), AnyOf(parts=(Networks(networks=()),)))),
    ],
)  # fmt: skip
def test_what_needs_no_predicate_has_the_evaluators_truth(formula: Formula) -> None:
    source = ip_address("127.0.0.1")
    here = Circumstances(at=datetime(2026, 3, 3, tzinfo=UTC), source=source)
    assert condition(formula) is holds(formula, here)


def test_a_policy_with_nothing_in_it_starts_and_denies(make_gate: Any) -> None:
    gate = make_gate()
    try:
        nothing = seal(Plan(policy="empty", systems=(), roles=(), grants=(), limits=Limits(anonymous=LIMIT, default=LIMIT)))  # fmt: skip
        gate.start(gate.files(nothing))
        assert gate.ask("/", host="gate.test").reason == "token-missing"
        assert gate.ask("/", host="gate.test", token=gate.token()).reason == "token-invalid"
        assert gate.ask("/identity/token", host="gate.test").status == 200
    finally:
        gate.stop()
