"""Random policies and requests: the real gate and the one evaluator give the same decision, reason and rule."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from joserfc.jwk import ECKey
from msgspec.structs import replace

import mmdb
from ostiary.envoy.access import Signals, signal_resources
from ostiary.erp.operation import Operation, Pattern, Verb
from ostiary.foundation.ids import role_set_id
from ostiary.plan.decide import Decision, Facts, Reason, Token, admit, decide
from ostiary.plan.model import (
    All,
    Always,
    AnyOf,
    Circumstances,
    Context,
    Countries,
    Device,
    Grant,
    HandOver,
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
    age,
    seal,
)

SOURCE = Source(file="policy.yaml", line=1, text="")
PLENTY = Limits(
    anonymous=Limit(name="anonymous", requests=1_000_000, seconds=1),
    default=Limit(name="default", requests=1_000_000, seconds=1),
)
CLOSURES = {"clerk": ("clerk",), "buyer": ("buyer",), "manager": ("clerk", "manager"), "chief": ("buyer", "chief", "clerk", "manager")}  # fmt: skip
DESCRIBED = (
    ("GET", "/orders", "order", Verb.READ, ""),
    ("POST", "/orders", "order", Verb.WRITE, ""),
    ("GET", "/orders/{id}", "order", Verb.READ, ""),
    ("GET", "/orders/open", "order.open", Verb.READ, ""),
    ("GET", "/orders/{id}/lines/{line}", "order.line", Verb.READ, ""),
    ("POST", "/orders/{id}/ship", "order", Verb.EXECUTE, "ship"),
    ("DELETE", "/orders/{id}", "order", Verb.DELETE, ""),
    ("GET", "/{kind}/count", "count", Verb.READ, ""),
    ("GET", "/{kind}/{id}/notes", "note", Verb.READ, ""),  # below the head of others, and no match of theirs
)
# What is asked -> the position in DESCRIBED, None for what is no operation.
ASKED = (
    ("GET", "/orders", 0), ("GET", "/orders?limit=5", 0), ("POST", "/orders", 1), ("GET", "/orders/17", 2),
    ("GET", "/orders/open", 3), ("GET", "/orders/17/lines/a%20b", 4), ("POST", "/orders/x-1/ship", 5),
    ("DELETE", "/orders/17", 6), ("GET", "/party/count", 7), ("GET", "/orders/17/notes", 8),
    ("GET", "/orders/count", 2), ("GET", "/Orders", None), ("GET", "/orders/17/nothing", None),
    ("GET", "/orders/", None), ("PUT", "/orders/17", None), ("GET", "/nothing", None), ("GET", "/orders/1;x", None),
)  # fmt: skip
PLACES = ("127.0.0.1", "127.0.0.9", "127.1.2.3")
SPELT = ("", "::ffff:{}", "0:0:0:0:0:FFFF:{}")  # as a proxy may tell where a call comes from; "": nobody tells it
# Where the database says that these are; 127.0.0.1 it does not know.
COUNTRIES = {"127.0.0.9/32": "DE", "127.1.0.0/16": "AT"}
DEVICES = {"everybody's": "", "shop's": "client:shop", "another's": "user:anna"}
NEAR = [(date.today() + timedelta(days=n)).isoformat() for n in range(-2, 3)]  # noqa: DTZ011  whatever the zone
HOLIDAYS = [*NEAR, *(day[5:] for day in NEAR if day[5:] not in {"02-28", "02-29"})]
# What a caller writes into the headers that the gate believes.
FORGED = {"x-gw-country": "DE", "x-gw-acr": "mfa", "x-gw-signed-in": "4000000000", "x-gw-device": "everybody's", "x-gw-token-device": "everybody's"}  # fmt: skip
HERE = "Europe/Berlin"  # the zone of the gate's own clock; the hours of others are read otherwise
ZONES = (HERE, HERE, HERE, "UTC", "Asia/Kolkata", "Pacific/Kiritimati", "Pacific/Pago_Pago", "America/New_York")

minutes = some.integers(0, 1439)
formulas = some.recursive(
    some.builds(
        Hours,
        days=some.lists(some.integers(0, 6), min_size=3, max_size=7, unique=True).map(tuple),
        start=minutes,
        end=minutes | some.just(1440),
        zone=some.sampled_from(ZONES),
        holidays=some.just(()) | some.lists(some.sampled_from(HOLIDAYS), max_size=3, unique=True).map(tuple),
    )
    | some.builds(
        Countries,
        countries=some.lists(some.sampled_from(["DE", "AT", "FR", ""]), min_size=1, max_size=3, unique=True).map(tuple),
    )
    | some.just(Device())
    | some.just(Mfa())
    | some.builds(Recent, seconds=some.sampled_from([60, 600]))
    | some.builds(
        Networks,
        networks=some.lists(
            some.sampled_from(
                ["127.0.0.1/32", "127.0.0.0/29", "127.1.0.0/16", "0.0.0.0/0", "2001:db8::/32", "::/0", "::/64"]
            ),
            min_size=1,
            max_size=3,
        ).map(tuple),
    )
    | some.just(Always()),
    lambda inner: (
        some.builds(All, parts=some.lists(inner, max_size=3).map(tuple))
        | some.builds(AnyOf, parts=some.lists(inner, max_size=3).map(tuple))
        | some.builds(Not, part=inner)
    ),
    max_leaves=4,
)
named = some.builds(Context, name=some.just("some"), formula=formulas)
contexts = named | named | some.just(Context(name="always", formula=Always()))
patterns = some.builds(
    Pattern,
    system=some.sampled_from(["shop", "shop", "shop", "erp"]),
    object=some.sampled_from(["*", "*", "*", "order", "order", "order.*", "order.line", "count", "other"]),
    verb=some.sampled_from([Verb.READ, Verb.READ, *Verb]),
    action=some.sampled_from(["", "", "ship"]),
)
grants = some.lists(some.tuples(some.sampled_from(sorted(CLOSURES)), patterns, contexts), min_size=4, max_size=16)
role_sets = some.frozensets(some.sampled_from(["chief", *sorted(CLOSURES)]), max_size=3)
scopes = some.frozensets(
    some.sampled_from(
        ["shop/*:read", "shop/order:read", "shop/order.*:read", "shop/order:execute", "shop/order:execute.ship",
         "shop/*:write", "erp/*:read", "shop/order.line:read", "shop/count:read"]
    ),
    min_size=1,
    max_size=4,
) | some.just(frozenset({"shop/*:read", "shop/*:write", "shop/*:execute", "shop/*:delete"}))  # fmt: skip
asked = some.sampled_from([*ASKED[:11], *ASKED, None, None])  # None: the guarded system
requests = some.fixed_dictionaries(
    {
        "asked": asked,
        "token": some.sampled_from([*[Token.VALID] * 20, *Token]),
        "roles": role_sets,
        "known": some.sampled_from([True] * 9 + [False]),
        "scopes": scopes,
        "place": some.sampled_from(PLACES),
        "spelt": some.sampled_from(["", *SPELT]),
        "age": some.sampled_from([None, 5, 300, 3000]),
        "acr": some.sampled_from([None, "pwd", "mfa"]),
        "dev": some.sampled_from([None, "unknown", *DEVICES]),
        "forged": some.sampled_from([{}, FORGED]),
        "body": some.sampled_from([None] * 6 + [b"", b"{}"]),  # no operation here takes one
    }
)


@pytest.fixture(scope="module")
def live(make_gate: Any, tmp_path_factory: Any) -> Iterator[Any]:
    places = mmdb.write(tmp_path_factory.mktemp("geoip") / "places.mmdb", COUNTRIES)
    gate = make_gate(
        zone=HERE, geoip=places, trusted_hops=1, client_ca=Path("/nowhere")
    )  # without TLS nobody is asked for a certificate
    try:
        gate.start(gate.files(plan_of(gate, [])))
        yield gate
    finally:
        gate.stop()


def plan_of(gate: Any, drawn: Any) -> Plan:
    at = gate.upstream_url
    shop = System(name="shop", kind=Kind.OPENAPI, host="shop.test", prefix="", upstream=at, audience="https://shop.test", source=SOURCE)  # fmt: skip
    erp = System(name="erp", kind=Kind.TRYTON, host="erp.test", prefix="/acme", upstream=at, audience="https://erp.test", hand_over=HandOver.SESSION, source=SOURCE)  # fmt: skip
    return seal(
        Plan(
            policy="random",
            systems=(shop, erp),
            roles=tuple(
                Role(name=name, level=Level.USER, closure=names, source=SOURCE) for name, names in CLOSURES.items()
            ),
            grants=tuple(
                Grant(id=f"{role}/{number}", role=role, pattern=pattern, context=context, source=SOURCE)
                for number, (role, pattern, context) in enumerate(drawn)
            ),
            routes=tuple(
                Route(system="shop", method=method, template=template, object=name, verb=verb, action=action)
                for method, template, name, verb, action in DESCRIBED
            ),
            limits=PLENTY,
        )
    )


def expected(plan: Plan, request: Any, known: Any, signals: Any, at: datetime) -> Decision:
    blocked, lapsed = signals
    operations: tuple[Operation, ...] = ()
    if request["asked"] and request["asked"][2] is not None:
        _, _, name, verb, action = DESCRIBED[request["asked"][2]]
        operations = (Operation(system="shop", object=name, verb=verb, action=action),)
    facts = Facts(
        system="shop" if request["asked"] else "erp",
        here=Circumstances(
            at=at,
            source=ip_address((request["spelt"] or "{}").format(request["place"])),
            country={PLACES[1]: "DE", PLACES[2]: "AT"}.get(request["place"], ""),
            device=DEVICES.get(request["dev"]) in {"", "client:shop"},
            acr=request["acr"] or "",
            age_s=age(at, request["auth_time"]),
        ),
        token=request["token"],
        roles=request["roles"] if request["roles"] in known else frozenset(),
        scopes=request["scopes"],
        operations=operations,
        address_blocked=blocked and request["place"] == PLACES[1],
        lease_lapsed=lapsed,
    )
    return decide(plan, facts) if request["asked"] else admit(plan, facts)


def ask(gate: Any, request: Any, wrong: Any) -> Any:
    system = "shop" if request["asked"] else "erp"
    token = ""
    if request["token"] is not Token.MISSING:
        claims: dict[str, Any] = {"jti": "revoked"} if request["token"] is Token.REVOKED else {}
        claims |= {name: request[name] for name in ("acr", "dev", "auth_time")}
        key = wrong if request["token"] is Token.INVALID else None
        token = gate.token(request["roles"], system=system, scope=" ".join(sorted(request["scopes"])), key=key, **claims)  # fmt: skip
    method, path, _ = request["asked"] or ("POST", "/acme/rpc/", None)
    body = request["body"] if request["asked"] else b"{}"
    told = {"x-forwarded-for": request["spelt"].format(request["place"])} if request["spelt"] else {}
    return gate.ask(
        path, method=method, host=f"{system}.test", token=token, body=body, source=request["place"],
        headers={**request["forged"], **told},
    )  # fmt: skip


def check(gate: Any, drawn: Any, draft: Any, sent: Any, signals: Any) -> None:
    """What the gate says by the plan in force, and what it notes that the draft would say."""
    plan, (blocked, lapsed) = plan_of(gate, drawn), signals
    beside = None if draft is None else plan_of(gate, draft)
    known = {request["roles"] for request in sent if request["known"]}
    known_signals = Signals(
        revoked_hot=("jti:revoked",),
        blocked=(f"{PLACES[1]}/32",) if blocked else (),
        lease_until=1 if lapsed else 4_000_000_000,
    )
    files = gate.files(plan, sorted(map(sorted, known)), devices=DEVICES, draft=beside)
    gate.apply({**files, **signal_resources(known_signals)})
    wrong = ECKey.generate_key("P-256", parameters={"kid": "k1"})
    for request in sent:
        before = datetime.now(UTC)
        signed_in = None if request["age"] is None else int(before.timestamp()) - request["age"]
        request = {**request, "auth_time": signed_in}  # noqa: PLW2901  as it is sent
        answer = ask(gate, request, wrong)
        wanted, noted = (expected(one, request, known, signals, before) for one in (plan, beside or plan))
        now = datetime.now(UTC)
        if [wanted, noted] != [expected(one, request, known, signals, now) for one in (plan, beside or plan)]:
            continue  # an hour began in between
        line = gate.log(answer.decision)
        if wanted.allowed and request["asked"] and request["body"]:
            assert answer.reason in {"invalid", "too-large"}, request  # as it comes, in one piece or in several
            continue
        more = Reason.INVALID if "?" in str(request["asked"]) else wanted.reason
        reason = str(more if wanted.allowed and request["asked"] else wanted.reason)
        assert (answer.reason, line["reason"], line["rule"]) == (reason, reason, wanted.rule), (request, answer.text)
        assert line["draft"] == (str(noted) if beside and noted.reason in BY_POLICY else "-"), request


BY_POLICY = {Reason.UNKNOWN_OPERATION, Reason.ROLE, Reason.CONTEXT, Reason.STEP_UP, Reason.SCOPE, Reason.ALLOWED}
drawn_all = {
    "drawn": grants,
    "draft": some.none() | grants,
    "sent": some.builds(
        lambda callers, more: [{**one, "asked": what} for one in callers for what in (one["asked"], *more)],
        some.lists(requests, min_size=20, max_size=20),
        some.lists(asked, min_size=5, max_size=5),
    ),
    "signals": some.tuples(some.sampled_from([False, False, True]), some.sampled_from([False] * 9 + [True])),
}
quiet = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]


@pytest.mark.standard("B1", "B3", "B4")
@settings(max_examples=20, deadline=None, suppress_health_check=quiet)
@given(**drawn_all)
def test_gate_and_evaluator_agree(live: Any, drawn: Any, draft: Any, sent: Any, signals: Any) -> None:
    check(live, drawn, draft, sent, signals)


@pytest.mark.long
@settings(max_examples=400, deadline=None, suppress_health_check=quiet)
@given(**drawn_all)
def test_gate_and_evaluator_agree_at_length(live: Any, drawn: Any, draft: Any, sent: Any, signals: Any) -> None:
    check(live, drawn, draft, sent, signals)


def test_role_set_ids_are_what_tokens_carry() -> None:
    assert role_set_id(["b", "a"]) == role_set_id(["a", "b", "b"])


def test_an_operation_that_the_draft_does_not_know_is_noted_so(live: Any) -> None:
    every = Pattern(system="shop", object="*", verb=Verb.WRITE)
    plan = plan_of(live, [("clerk", every, Context(name="always", formula=Always()))])
    fewer = replace(plan, routes=tuple(one for one in plan.routes if one.verb is not Verb.WRITE))
    live.apply(live.files(plan, [["clerk"]], draft=fewer))
    quiet = {"token": Token.VALID, "spelt": "", "auth_time": None, "acr": None, "dev": None, "forged": {}, "body": None}
    request = {
        "asked": ASKED[2],
        "roles": frozenset({"clerk"}),
        "scopes": frozenset({"shop/*:write"}),
        "place": PLACES[0],
    }
    answer = ask(live, {**request, **quiet}, None)
    line = live.log(answer.decision)
    assert (line["reason"], line["draft"]) == (str(Reason.ALLOWED), "unknown-operation:-")
