"""Each way in which Envoy was measured to fail open, and what the gate does instead: on the real binary."""

import base64
import hmac
import http.client
import json
import re
import socket
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as some
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey
from joserfc.jws import JWSRegistry

from certificates import certificate
from ostiary.envoy import upstream
from ostiary.envoy.access import REVOCABLE, Signals, signal_resources
from ostiary.envoy.translate import UTF8
from ostiary.envoy.upstream import PASSED, all_but
from ostiary.erp.openapi import Table
from ostiary.erp.operation import Condition, Pattern, Verb
from ostiary.erp.route import Parameter
from ostiary.guard import knowledge
from ostiary.plan.decide import Reason
from ostiary.plan.model import (
    Always,
    Context,
    Grant,
    HandOver,
    Kind,
    Level,
    Limit,
    Limits,
    Networks,
    Plan,
    Role,
    Route,
    Source,
    System,
    seal,
)
from upstream import Echo, Server

SOURCE = Source(file="policy.yaml", line=1, text="")
ALWAYS = Context(name="always", formula=Always())
SCOPE = "shop/*:read shop/*:write"


def plan_of(
    gate: Any,
    *,
    limits: Any = None,
    contexts: Any = None,
    hand_over: Any = HandOver.NONE,
    sends: Any = (),
    upstream: str = "",
) -> Plan:
    at = upstream or gate.upstream_url
    many = Limit(name="default", requests=100_000, seconds=1)
    own = {"body_bytes": 2000, "anonymous": many, "default": many} | (limits or {})
    return seal(
        Plan(
            policy="traps",
            systems=(
                System(name="shop", kind=Kind.OPENAPI, host="shop.test", prefix="/shop", upstream=f"{at}/base", audience="https://shop.test", hand_over=hand_over, sends=sends, source=SOURCE),
                System(name="erp", kind=Kind.TRYTON, host="gate.test", prefix="/acme", upstream=at, audience="https://erp.test", hand_over=HandOver.SESSION, source=SOURCE),
            ),
            roles=tuple(Role(name=name, level=Level.USER, closure=(name,), source=SOURCE) for name in ("clerk", "guest", "carrier")),
            grants=(
                Grant(id="clerk/1", role="clerk", pattern=Pattern(system="shop", object="*", verb=Verb.READ), context=contexts or ALWAYS, source=SOURCE),
                Grant(id="clerk/2", role="clerk", pattern=Pattern(system="shop", object="*", verb=Verb.WRITE), context=ALWAYS, source=SOURCE),
                Grant(id="clerk/3", role="clerk", pattern=Pattern(system="erp", object="*", verb=Verb.READ), context=ALWAYS, source=SOURCE),
                Grant(id="carrier/1", role="carrier", pattern=Pattern(system="shop", object="*", verb=Verb.READ), context=ALWAYS, source=SOURCE),
            ),
            routes=(
                Route(system="shop", method="GET", template="/orders", object="order", verb=Verb.READ),
                Route(system="shop", method="GET", template="/pages", object="order", verb=Verb.READ, inspect=True, parameters=(
                    Parameter(name="X-Page", place="header", required=False, schema="{}"),
                    Parameter(name="X-Bad:%Name", place="header", required=False, schema="{}"),
                    Parameter(name="Cookie", place="header", required=False, schema="{}"))),
                Route(system="shop", method="GET", template="/orders/{id}", object="order", verb=Verb.READ),
                Route(system="shop", method="GET", template="/orders/export", object="export", verb=Verb.READ),
                Route(system="shop", method="GET", template="/orders/{id}/{part}", object="order", verb=Verb.READ),
                Route(system="shop", method="GET", template="/orders/{id}/approve.all", object="export", verb=Verb.READ),
                Route(system="shop", method="POST", template="/orders", object="order", verb=Verb.WRITE),
                Route(system="shop", method="POST", template="/checked", object="order", verb=Verb.WRITE, inspect=True),
            ),
            limits=Limits(**own),
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def live(make_gate: Any) -> Iterator[Any]:
    gate = make_gate()
    try:
        gate.start(gate.files(plan_of(gate), [("clerk",), ("guest",)]))
        yield gate
    finally:
        gate.stop()


@pytest.fixture(autouse=True)
def fresh(request: pytest.FixtureRequest) -> None:
    if "live" in request.fixturenames:
        gate = request.getfixturevalue("live")
        gate.guard_reply = lambda _: (200, {"authorization": "Session erp"}, "")
        gate.erp_reply = lambda _: (200, {}, None)
        for server in (gate.upstream, gate.guard, gate.identity):
            server.seen.clear()


def clerk(gate: Any, **more: Any) -> str:
    return str(gate.token(("clerk",), **{"scope": SCOPE, **more}))


def test_a_good_token_passes_to_the_upstream_base_without_prefix(live: Any) -> None:
    answer = live.ask("/shop/orders", token=clerk(live))
    assert (answer.status, answer.json["path"]) == (200, "/base/orders")


def test_a_query_passes_only_where_the_guard_looks_at_it(live: Any) -> None:
    for query in ("?page=2", "?", "?access_token=x"):
        assert live.ask(f"/shop/orders{query}", token=clerk(live)).reason == "invalid"
    asked = live.ask("/shop/checked?page=2", method="POST", token=clerk(live), body=b"{}")
    assert (asked.status, asked.json["path"]) == (200, "/base/checked?page=2")


def test_the_guard_is_asked_where_a_grant_has_fewer_fields_or_records_and_from_then_on(live: Any) -> None:
    """By role, context and scope it passes, so the gate alone would let it pass."""
    plan, token = plan_of(live), clerk(live)
    wheres = {"where": (Condition(field="amount", compare="<=", values=("5",)),)}
    try:
        for limits in ({"fields": ("note",)}, wheres):
            limited = tuple(
                msgspec.structs.replace(one, **limits) if one.id == "clerk/1" else one for one in plan.grants
            )
            live.apply(live.files(seal(msgspec.structs.replace(plan, grants=limited)), [("clerk",), ("guest",)]))
            live.guard.seen.clear()
            live.guard_reply = lambda _: (403, {"ostiary-reason": "field"}, "")
            assert (live.ask("/shop/orders/7", token=token).status, len(live.guard.seen)) == (403, 1)
            live.guard_reply = lambda _: (200, {}, "")
            assert (live.ask("/shop/orders/7", token=token).status, len(live.guard.seen)) == (200, 2)
            assert live.ask("/shop/orders/7", token=live.token(("guest",), scope=SCOPE)).reason == "role"
            assert live.ask("/shop/orders/7", token=clerk(live, scope="shop/other:read")).reason == "scope"
            assert len(live.guard.seen) == 2
    finally:
        live.apply(live.files(plan, [("clerk",), ("guest",)]))
    live.guard.seen.clear()
    assert (live.ask("/shop/orders/7", token=token).status, len(live.guard.seen)) == (200, 0)


def _part(content: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


# --- tokens ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": None},
        {"exp": int((datetime.now(UTC) - timedelta(seconds=5)).timestamp())},
        {"exp": int((datetime.now(UTC) + timedelta(days=30)).timestamp())},
        {"nbf": int((datetime.now(UTC) + timedelta(hours=2)).timestamp())},  # this was worked out minutes ago
        {"iss": "https://other.test"},
        {"aud": "https://erp.test"},
        {"aud": None},
    ],
    ids=["no-exp", "expired", "month-long", "not-yet", "issuer", "audience", "no-audience"],
)
def test_a_token_with_a_wrong_claim_is_refused(live: Any, claims: Any) -> None:
    answer = live.ask("/shop/orders", token=clerk(live, **claims))
    assert (answer.status, answer.reason) == (401, "token-invalid")
    assert answer.headers["www-authenticate"] == Reason.TOKEN_INVALID.challenge


def test_a_token_in_the_query_is_no_token(live: Any) -> None:
    answer = live.ask(f"/shop/orders?access_token={clerk(live)}")
    assert (answer.status, answer.reason, answer.headers["www-authenticate"]) == (
        401,
        "token-missing",
        Reason.TOKEN_MISSING.challenge,
    )


@pytest.mark.parametrize("kind", ["other-key", "hmac-with-public-key", "rsa", "none"])
def test_only_our_own_es256_key_opens(live: Any, kind: str) -> None:
    claims = {"iss": live.edge.issuer, "aud": "https://shop.test", "exp": int(time.time()) + 600, "sub": "x", "rs": "x"}
    public = live.key.as_pem(private=False)
    match kind:
        case "other-key":
            token = clerk(live, key=ECKey.generate_key("P-256", parameters={"kid": "k1"}))
        case "hmac-with-public-key":
            head, body = _part({"alg": "HS256", "kid": "k1"}), _part(claims)
            mac = hmac.digest(public, f"{head}.{body}".encode(), "sha256")
            token = f"{head}.{body}." + base64.urlsafe_b64encode(mac).decode().rstrip("=")
        case "rsa":
            token = jwt.encode({"alg": "RS256", "kid": "k1"}, claims, RSAKey.generate_key(2048), algorithms=["RS256"])
        case _:
            token = "eyJhbGciOiJub25lIn0." + clerk(live).split(".")[1] + "."
    assert live.ask("/shop/orders", token=token).reason == "token-invalid"


@pytest.mark.parametrize("name", ["jwk", "jku", "x5u", "x5c"])
def test_a_key_that_the_token_brings_along_or_tells_the_place_of_opens_nothing(live: Any, name: str) -> None:
    """RFC 8725 section 3.10: nor is it fetched."""
    own, fetched = ECKey.generate_key("P-256", parameters={"kid": "k1"}), []
    public = own.as_dict(private=False)
    keys = Server(("127.0.0.1", 0), Echo).start(
        lambda seen: fetched.append(seen) or (200, {}, json.dumps({"keys": [public]}))
    )
    told = {"jwk": public, "x5c": ["MAo="]}.get(name, f"http://127.0.0.1:{keys.server_port}/keys")
    claims = json.loads(base64.urlsafe_b64decode(clerk(live).split(".")[1] + "=="))
    head, body = _part({"alg": "ES256", "typ": "at+jwt", "kid": "k1", name: told}), _part(claims)
    made = JWSRegistry.algorithms["ES256"].sign(f"{head}.{body}".encode(), own)
    forged = f"{head}.{body}.{base64.urlsafe_b64encode(made).decode().rstrip('=')}"
    try:
        assert live.ask("/shop/orders", token=forged).reason == "token-invalid"
        assert live.ask("/shop/orders", token=clerk(live)).status == 200
        assert not fetched
    finally:
        keys.stop()


def test_an_id_token_signed_with_its_own_key_is_refused(live: Any) -> None:
    """jwt_authn ignores `typ`; what keeps ID tokens out is that their key is not among the gate's."""
    other = ECKey.generate_key("P-256", parameters={"kid": "id1"})
    assert live.ask("/shop/orders", token=clerk(live, key=other)).reason == "token-invalid"


@pytest.mark.parametrize("path", ["/shop/orders", "/shop/nothing", "/elsewhere", "/acme/rpc/", "/"])
@pytest.mark.parametrize("host", ["shop.test", "gate.test", "unknown.test"])
def test_no_place_is_open_without_a_token(live: Any, path: str, host: str) -> None:
    assert live.ask(path, host=host).reason == "token-missing"


def test_an_unknown_role_set_is_denied(live: Any) -> None:
    assert live.ask("/shop/orders", token=live.token(("never-made",), scope=SCOPE)).reason == "role"
    assert live.ask("/shop/orders", token=clerk(live, rs="")).reason == "role"
    assert live.ask("/shop/orders", token=clerk(live, rs=None)).reason == "role"


def test_a_part_of_a_role_set_id_is_not_the_role_set(live: Any) -> None:
    whole = live.ask("/shop/orders", token=clerk(live))
    assert whole.status == 200
    from_id = live.log(whole.decision)["role_set"]
    for wrong in (from_id[:-1], from_id[1:], from_id + "a", f"{from_id},{from_id}", from_id.upper()):
        assert live.ask("/shop/orders", token=clerk(live, rs=wrong)).reason == "role"


@pytest.mark.standard("A3")
@pytest.mark.parametrize("scope", ["", None, "shop/*:rea", "xshop/*:read", "shop/*:read.x", "shop/order.x:read", "*"])
def test_a_scope_covers_as_a_whole_word(live: Any, scope: Any) -> None:
    answer = live.ask("/shop/orders", token=clerk(live, scope=scope))
    assert (answer.reason, live.log(answer.decision)["rule"]) == ("scope", "clerk/1")


# --- inside headers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x-gw-class", "x-gw-rs", "x-gw-scope", "x-gw-call", "x-gw-system", "x-gw-operation", "x-gw-credential", "X-GW-Sub"])  # fmt: skip
def test_inside_headers_from_outside_change_nothing(live: Any, name: str) -> None:
    good = live.ask("/shop/orders", token=clerk(live))
    for value in ("-", "", "unknown", "erp", "/shop/orders GET", "Basic abc", live.log(good.decision)["role_set"]):
        guest = live.ask("/shop/orders", token=live.token(("guest",), scope=SCOPE), headers={name: value})
        assert guest.reason == "role"
        answer = live.ask("/shop/orders", token=clerk(live), headers={name: value})
        assert answer.status == 200
        assert not [header for header in answer.json["names"] if header.startswith("x-gw")]
        assert "authorization" not in answer.json["names"]


@pytest.mark.standard("D2")
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("kind", ["application/json", "application/x-www-form-urlencoded"])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_passes_only_where_the_guard_looks_at_it(live: Any, method: str, kind: str, chunked: bool) -> None:
    sent = {"content-type": kind, **({"transfer-encoding": "chunked"} if chunked else {})}
    body = b"2\r\n{}\r\n0\r\n\r\n" if chunked else b"_method=DELETE&id=7"
    answer = live.ask("/shop/orders", method=method, token=clerk(live), headers=sent, body=body)
    # As the body comes, in one piece or in several, one filter or the other refuses it.
    assert (answer.status, answer.reason) in {(413, "too-large"), (400, "invalid")}
    assert not live.upstream.seen


@pytest.mark.standard("D2")
def test_not_even_one_byte_passes_where_nobody_looks(live: Any) -> None:
    chunked = {"transfer-encoding": "chunked"}
    for body, told in ((b"1\r\n7\r\n0\r\n\r\n", (400, "invalid")), (b"0\r\n\r\n", (200, "allowed"))):
        answer = live.ask("/shop/orders", method="POST", token=clerk(live), headers=chunked, body=body)
        assert (answer.status, answer.reason) == told
    assert [seen["body"] for seen in live.upstream.seen] == [""]
    assert (
        live.ask("/shop/checked", method="POST", token=clerk(live), headers=chunked, body=b"1\r\n7\r\n0\r\n\r\n").status
        == 200
    )


@pytest.mark.standard("B7")
def test_who_keeps_the_end_of_a_request_back_keeps_no_policy(make_gate: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each filter of a request is the one of its beginning: a minute of what was so before, for as many as one parks."""
    assert [bool(re.fullmatch(upstream.LATE, str(int(knowledge.ON_THEIR_WAY_S * 1000) - n))) for n in (0, 1)] == [
        1,
        0,
    ]
    monkeypatch.setattr(upstream, "LATE", "[0-9]+")  # of a time that no test waits for
    gate = make_gate()
    try:
        gate.start(gate.files(plan_of(gate), [("clerk",)]))
        with socket.create_connection(("127.0.0.1", gate.edge.port), timeout=10) as parked:
            head = f"POST /shop/orders HTTP/1.1\r\nhost: shop.test\r\nauthorization: Bearer {clerk(gate)}\r\n"
            parked.sendall(f"{head}transfer-encoding: chunked\r\n\r\n".encode())
            assert gate.ask("/shop/orders", token=clerk(gate)).status == 200
            gate.apply(signal_resources(Signals(revoked_hot=("jti:j1",))))
            assert gate.ask("/shop/orders", token=clerk(gate)).reason == "token-revoked"
            parked.sendall(b"0\r\n\r\n")
            refused = parked.recv(65_536)
            assert refused.startswith(b"HTTP/1.1 400 ")
            assert b"ostiary-reason: invalid\r\n" in refused
        assert [seen["method"] for seen in gate.upstream.seen] == ["GET"]
    finally:
        gate.stop()


@pytest.mark.parametrize("name", ["x-envoy-original-path", "x-original-url", "x-rewrite-url"])
def test_a_request_is_judged_by_the_path_that_is_served(live: Any, name: str) -> None:
    answer = live.ask("/shop/secret", token=clerk(live), headers={name: "/shop/orders"})
    assert (answer.status, answer.reason) == (403, "unknown-operation")
    assert live.log(answer.decision)["operation"] == "-"
    answer = live.ask("/shop/orders", headers={name: "/identity/token"})
    assert (answer.status, answer.reason) == (401, "token-missing")
    assert not live.upstream.seen
    assert not live.identity.seen


def test_only_listed_headers_reach_the_erp(live: Any) -> None:
    sent = {
        "cookie": "tryton_session=b", "x-api-key": "k", "accept": "a/b", "x-page": "3", "x-tryton-context": "{}",
        "x-forwarded-for": "9.9.9.9", "x-forwarded-client-cert": "Subject=root", "proxy-authorization": "Basic x",
        "x-envoy-upstream-rq-timeout-ms": "1", "x-envoy-retry-on": "5xx", "acceptx": "1", "accep": "1", "aut": "1",
    }  # fmt: skip
    names = set(live.ask("/shop/orders", token=clerk(live), headers=sent).json["names"])
    assert names == {"host", "accept", "x-tryton-context"}


def test_a_described_header_reaches_the_erp_on_its_own_route_alone_and_only_as_the_guard_found_it(live: Any) -> None:
    """Of an operation that describes no such header nobody looks at its value."""
    sent, token = {"x-page": "3"}, clerk(live)
    for path, method in (("/shop/orders", "GET"), ("/shop/checked", "POST"), ("/acme/rpc/", "POST")):
        host = "gate.test" if path.startswith("/acme") else "shop.test"
        bearer = token if host == "shop.test" else clerk(live, aud="https://erp.test")
        answer = live.ask(path, host=host, method=method, token=bearer, headers=sent)
        assert (answer.status, "x-page" in answer.json["names"]) == (200, False), path
    assert "x-page" not in live.ask("/shop/pages", token=token, headers=sent).json["names"]  # the guard gave none
    live.guard_reply = lambda seen: (200, {"x-gw-given-x-page": seen["headers"]["x-page"] + "%a"}, "")
    answer = live.ask("/shop/pages", token=token, headers={**sent, "x-gw-given-x-page": "4"})
    assert (answer.json["headers"]["x-page"], "x-gw-given-x-page" in answer.json["names"]) == ("3%a", False)


def test_the_complement_of_the_header_list_is_exact() -> None:
    pattern = re.compile(all_but(PASSED))
    for name in PASSED:
        assert not pattern.fullmatch(name)
        for other in (name[:-1], name + "x", "x" + name, name[0] + name):
            assert bool(pattern.fullmatch(other)) is (other not in PASSED), other
    assert not pattern.fullmatch(":path")


def http2(path: str, token: str) -> bytes:
    """A connection's first bytes: preface, settings and one request, its headers as literals (RFC 9113, RFC 7541)."""
    told = {":method": "GET", ":scheme": "http", ":authority": "shop.test", ":path": path}
    told |= {"authorization": f"Bearer {token}"}
    head = b"".join(b"\0" + literal(name) + literal(value) for name, value in told.items())
    made = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    for kind, flags, stream, body in ((4, 0, 0, b""), (1, 5, 1, head)):
        made += len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + body
    return made


def literal(text: str) -> bytes:
    """Its length with a prefix of 7 bits (RFC 7541 section 5.1), and the text."""
    prefix, left = [min(len(text), 127)], len(text) - 127
    while left >= 128:
        prefix.append(left % 128 + 128)
        left //= 128
    return bytes([*prefix, *([left] if left >= 0 else [])]) + text.encode()


def sent_raw(gate: Any, data: bytes) -> None:
    """Until it has reached the upstream, or Envoy has closed the connection."""
    with socket.create_connection(("127.0.0.1", gate.edge.port), timeout=10) as raw:
        raw.sendall(data)
        while not gate.upstream.seen and raw.recv(65536):
            pass


def test_a_path_with_a_blank_is_no_request_so_nobody_writes_scopes_into_the_log(live: Any) -> None:
    token = clerk(live)
    for path in ("/shop/orders/a shop/*:write ", "/shop/a\tb"):
        sent_raw(live, http2(path, token))
        assert live.upstream.seen == []
        assert path not in live.edge.home.access_log.read_text()
    sent_raw(live, http2("/shop/orders", token))
    assert len(live.upstream.seen) == 1


def test_nothing_secret_comes_back(live: Any) -> None:
    live.erp_reply = lambda _: (200, {"set-cookie": "s=1", "server": "erp/1", "x-powered-by": "py", "ostiary-reason": "fake"}, None)  # fmt: skip
    answer = live.ask("/shop/orders", token=clerk(live))
    hidden = {"set-cookie", "x-powered-by", "ostiary-reason", "x-envoy-upstream-service-time"}
    assert not hidden & set(answer.headers)
    assert live.log(answer.decision)["reason"] == "allowed"
    assert answer.headers["server"] == "ostiary"


# --- the guard ------------------------------------------------------------------------------------------------


def rpc(gate: Any, **more: Any) -> Any:
    token = clerk(gate, system="erp")
    return gate.ask("/acme/rpc/?x=1", method="POST", host="gate.test", body=b'{"a":1}', token=token, **more)


def test_the_guard_sees_the_whole_request_and_gives_the_credential(live: Any) -> None:
    answer = rpc(live, headers={"cookie": "tryton_session=b", "content-type": "application/json"})
    assert answer.json["headers"]["authorization"] == "Session erp"
    assert (answer.json["path"], answer.json["body"]) == ("/rpc/?x=1", '{"a":1}')
    asked = live.guard.seen[-1]
    assert (asked["path"], asked["body"], asked["method"]) == ("/check/acme/rpc/?x=1", '{"a":1}', "POST")
    assert asked["headers"]["authorization"].startswith("Bearer ey")
    assert asked["headers"]["x-gw-decision"] == answer.decision
    assert {"x-gw-revision", "x-gw-class", "x-gw-sub", "x-gw-source"} <= set(asked["names"])
    assert "cookie" not in asked["names"]


def test_a_guard_that_gives_no_credential_does_not_leak_the_callers_token(live: Any) -> None:
    live.guard_reply = lambda _: (200, {}, "")
    assert "authorization" not in rpc(live).json["names"]


def test_the_guards_words_are_logged(live: Any) -> None:
    words = {"ostiary-decided": "3 allowed sup/1 - - erp/x:write"}
    live.guard_reply = lambda _: (200, words, "")
    answer = rpc(live)
    assert not set(words) & {*answer.headers, *answer.json["names"]}
    line = live.log(answer.decision)
    assert (line["operation"], line["rule"], line["guard_us"], line["path"]) == ("erp/x:write", "sup/1", 3, "/acme/rpc/")  # fmt: skip


def test_a_refusal_of_the_guard_comes_out_as_it_is(live: Any) -> None:
    words = {"ostiary-decided": "3 apart sup/1 - - erp/x:write", "ostiary-reason": "apart"}
    kind = {"content-type": "application/problem+json"}
    live.guard_reply = lambda _: (403, {**words, **kind, "authorization": "Session erp"}, '{"reason":"apart","n":1}')
    answer = rpc(live)
    assert (answer.status, answer.json) == (403, {"reason": "apart", "n": 1})
    assert "authorization" not in answer.headers
    assert "ostiary-decision" in answer.headers
    line = live.log(answer.decision)
    assert (line["reason"], line["rule"], line["operation"]) == ("apart", "sup/1", "erp/x:write")
    assert not live.upstream.seen


@pytest.mark.parametrize("status", [500, 503, 302, 204])
def test_a_guard_in_trouble_lets_nothing_through(live: Any, status: int) -> None:
    live.guard_reply = lambda _: (status, {}, "")
    assert rpc(live).status >= 300
    assert not live.upstream.seen


def test_routes_without_a_need_never_ask_the_guard_and_others_do(live: Any) -> None:
    live.ask("/shop/orders", token=clerk(live))
    assert not live.guard.seen
    live.ask("/shop/checked", method="POST", body=b"{}", token=clerk(live))
    assert [seen["path"] for seen in live.guard.seen] == ["/check/shop/checked"]


@pytest.mark.standard("E4")
@pytest.mark.parametrize(
    ("path", "chunked"), [("/shop/checked", False), ("/shop/checked", True), ("/shop/orders", True)]
)
def test_a_body_beyond_the_limit_is_refused_before_anybody_sees_a_part(live: Any, path: str, chunked: bool) -> None:
    big = b"x" * 5000
    if not chunked:
        answer = live.ask(path, method="POST", body=big, token=clerk(live))
        assert (answer.status, answer.reason) == (413, "too-large")
    else:
        connection = http.client.HTTPConnection("127.0.0.1", live.edge.port, timeout=10)
        headers = {"host": "shop.test", "authorization": f"Bearer {clerk(live)}"}
        connection.request("POST", path, body=iter([big[:1000], big[1000:]]), headers=headers, encode_chunked=True)
        assert connection.getresponse().status == 413
        connection.close()
    assert not live.upstream.seen
    assert not live.guard.seen


# --- paths ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "operation"),
    [("/orders/export", "shop/export:read"), ("/orders/Export", "-"), ("/orders/EXPORT", "-"), ("/orders/exporT", "-"),
     ("/orders/7/approve.all", "shop/export:read"), ("/orders/7/approve.ALL", "-"), ("/orders/7/approvexall", "shop/order:read"),
     ("/orders/Export/lines", "-"), ("/orders/export/lines", "shop/order:read"), ("/orders/exports", "shop/order:read")],
)  # fmt: skip
def test_a_literal_in_other_letters_is_no_parameter_s_value(live: Any, path: str, operation: str) -> None:
    """To a system that makes no difference between capital and small letters it is the other operation."""
    answer = live.ask(f"/shop{path}", token=clerk(live))
    assert (answer.reason == "allowed", live.log(answer.decision)["operation"]) == (operation != "-", operation)
    found = Table(plan_of(live).routes).find("GET", path)
    assert (found.route.permission if found else "-") == operation


@pytest.mark.parametrize(
    "path",
    ["/SHOP/orders", "/shop/Orders", "/shop/%6frders", "/shop/orders%2f1", "/shop/%252e%252e/orders", "/shop/;v/orders",
     "/shop/orders;x=1", "/shop/orders/..%2f", "/shop/orders/", "/shop/orders/a%00b", "/shop/orders/%C0%AE%C0%AE%C0%AFadmin", "/shop/orders/%ff", "/shop/orders/%E2%80%AE1",
     "/shop/orders/a%2eb", "/shopx/orders",
     "/shop", "/shop/orders/a\\b", "/shop/orders/%61", "/shop/orders/1%0d%0ax", "/acme/%65rp", "/acme/rpc;x"],
)  # fmt: skip
def test_another_spelling_of_a_path_is_no_operation(live: Any, path: str) -> None:
    for host, system in (("shop.test", "shop"), ("gate.test", "erp")):
        try:
            answer = live.ask(path, host=host, token=clerk(live, system=system))
        except http.client.HTTPException:
            continue
        if answer.status == 200:  # one spelling Envoy turned into the plain one: it was judged as that
            assert answer.json["path"] in (
                "/base/orders",
                "/base/orders/a",
                "/base/orders/a.b",
                "/base/orders/a/b",
                "/erp",
            )
            assert live.log(answer.decision)["operation"] == ("shop/order:read" if system == "shop" else "-")
        else:
            assert answer.reason in ("unknown-operation", "invalid", "token-invalid")


@pytest.mark.parametrize("name", ["a%20b", "%C3%A9", "%e5%b1%b1", "%F0%9F%98%80"])
def test_other_writing_in_a_path_passes(live: Any, name: str) -> None:
    assert live.ask(f"/shop/orders/{name}", token=clerk(live)).status == 200


@given(some.binary(max_size=4) | some.text(max_size=3).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_escapes_of_a_path_are_utf_8_in_visible_characters(octets: bytes) -> None:
    try:
        text = octets.decode()
    except UnicodeDecodeError:
        right = False
    else:
        right = all(char == " " or (ord(char) >= 0xA0 and not 0x2000 <= ord(char) < 0x2080) for char in text)
    assert bool(re.fullmatch(f"(?:{UTF8})*", "".join(f"%{octet:02X}" for octet in octets))) is right


def test_dots_and_doubled_slashes_are_settled_before_matching(live: Any) -> None:
    answer = live.ask("/shop//x/../orders", token=clerk(live))
    assert (answer.status, answer.json["path"]) == (200, "/base/orders")


def test_a_header_name_with_an_underscore_is_refused(live: Any) -> None:
    assert live.ask("/shop/orders", token=clerk(live), headers={"x_gw_class": "a"}).status == 400


# --- identity -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/identity/token", "/.well-known/oauth-authorization-server/identity"])
def test_identity_is_reached_without_a_token_with_its_cookies(live: Any, path: str) -> None:
    answer = live.ask(path, host="gate.test", headers={"cookie": "sign-in=0", "x-gw-sub": "user:root"})
    assert (answer.status, answer.headers["set-cookie"], answer.json["path"]) == (200, "sign-in=1", path)
    assert answer.json["headers"]["cookie"] == "sign-in=0"
    assert "x-gw-sub" not in answer.json["names"]


@pytest.mark.parametrize("path", ["/identity/../acme/rpc/", "/identityx", "/identity/..;/acme", "/.well-known/oauth-authorization-server/identity/x"])  # fmt: skip
def test_identitys_freedom_ends_at_its_prefix(live: Any, path: str) -> None:
    assert live.ask(path, host="gate.test").status == 401
    assert not live.identity.seen


# --- changes --------------------------------------------------------------------------------------------------


def test_signals_reach_an_open_connection(live: Any) -> None:
    def ask() -> str:
        return str(live.ask("/shop/orders", token=clerk(live, cgen="client:app#1")).reason)

    try:
        assert ask() == "allowed"
        for kind in ("jti:j1", "grant:g1", "gen:client:shop#1", "cgen:client:app#1"):
            live.apply(signal_resources(Signals(revoked_hot=(kind, "sid:other"))))
            assert ask() == "token-revoked", kind
            live.apply(signal_resources(Signals(revoked_cold=(kind,), revoked_hot=("jti:else",))))
            assert ask() == "token-revoked", kind
        live.apply(signal_resources(Signals(lease_until=int(time.time()) - 1)))
        answer = live.ask("/shop/orders", token=clerk(live))
        assert (answer.status, answer.reason) == (503, "closed")
        live.apply(signal_resources(Signals(blocked=("127.0.0.0/8",))))
        assert ask() == "address-blocked"
        assert live.ask("/identity/token", host="gate.test").status == 403
    finally:
        live.apply(signal_resources(Signals()))
    assert ask() == "allowed"


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_a_scheme_is_read_in_either_case(live: Any, scheme: str) -> None:
    """RFC 9110 section 11.1; a token behind another word than these is none."""
    token = clerk(live)
    assert live.ask("/shop/orders", headers={"authorization": f"{scheme} {token}"}).status == 200
    for word in (f"x{scheme}", f"Basic {scheme}", f"DPoP {scheme}"):
        assert live.ask("/shop/orders", headers={"authorization": f"{word} {token}"}).status == 401, word


@pytest.mark.parametrize("list_", ["revoked_hot", "revoked_cold"])
def test_a_list_of_what_is_revoked_names_exactly_that(live: Any, list_: str) -> None:
    """Envoy's list is made for server names: here no letter's case, no part between dots and no dot at the end is alike."""
    one = "client:Shop.b@c#1"
    near = ("client:shop.b@c#1", "x.client:Shop.b@c#1", "b@c#1", "client:Shop.b@c#1.", "client:Shop", one)
    try:
        live.apply(signal_resources(Signals(**{list_: (f"cgen:{one}", "cgen:other", "jti:b@c#1")})))
        found = {cgen: live.ask("/shop/orders", token=clerk(live, cgen=cgen)).reason for cgen in near}
    finally:
        live.apply(signal_resources(Signals()))
    assert found == {**dict.fromkeys(near, "allowed"), one: "token-revoked"}


def test_a_lease_that_lapsed_has_the_guard_look_at_every_caller_where_the_policy_asks_for_that(live: Any) -> None:
    """What the guard lets pass is judged by the policy all the same; before the lease ends, it is not asked."""
    said, told = {"status": 200}, live.guard_reply
    live.guard_reply = lambda _: (said["status"], {}, "")

    def ask(role: str = "clerk") -> tuple[int, str]:
        token = live.token((role,), scope=SCOPE, jti="j9", sid="s9")
        answer = live.ask("/shop/orders", token=token, headers={"x-gw-sid": "another"})
        return answer.status, answer.reason

    try:
        live.apply(signal_resources(Signals(lease_until=4_000_000_000, asks=True)))
        live.guard.seen.clear()
        assert ask() == (200, "allowed")
        assert not live.guard.seen
        live.apply(signal_resources(Signals(lease_until=int(time.time()) - 1, asks=True, revoked_hot=("jti:else",))))
        assert (ask(), ask("guest")) == ((200, "allowed"), (403, "role"))
        (asked, _) = live.guard.seen
        assert asked["path"] == "/standing/shop/orders"
        named = {name: value for name, value in asked["headers"].items() if name.startswith("x-gw-")}
        assert (named["x-gw-jti"], named["x-gw-sid"]) == ("j9", "s9")
        assert "x-gw-rs" in named, "without a role set a token allows nothing"
        assert set(named) <= {*REVOCABLE.values(), "x-gw-rs"}
        assert asked["headers"]["authorization"].startswith("Bearer ey")
        assert asked["headers"]["host"] == "shop.test"
        for status, wanted in ((410, (401, "token-revoked")), (503, (503, "unavailable")), (500, (503, "unavailable"))):
            said["status"] = status
            assert ask() == wanted
        live.apply(signal_resources(Signals(lease_until=4_000_000_000, asks=True)))
        assert ask() == (200, "allowed")
    finally:
        live.guard_reply = told
        live.apply(signal_resources(Signals()))


def test_a_changed_policy_reaches_an_open_connection(live: Any) -> None:
    away = Context(name="away", formula=Networks(networks=("10.0.0.0/8",)))
    try:
        live.apply(live.files(plan_of(live, contexts=away), [("clerk",)]))
        answer = live.ask("/shop/orders", token=clerk(live))
        assert (answer.status, answer.reason) == (403, "context")
        assert live.log(answer.decision)["rule"] == "clerk/1"
    finally:
        live.apply(live.files(plan_of(live), [("clerk",), ("guest",)]))
    assert live.ask("/shop/orders", token=clerk(live)).status == 200


def test_a_context_that_holds_for_others_hides_nobodys_own_grant(live: Any) -> None:
    """Envoy goes on with its list where a map below a condition that holds knows nothing of this role set."""
    here = Context(name="here", formula=Networks(networks=("127.0.0.0/8",)))
    try:
        live.apply(live.files(plan_of(live, contexts=here), [("clerk",), ("carrier",), ("guest",)]))
        for role, reason, rule in (
            ("clerk", "allowed", "clerk/1"),
            ("carrier", "allowed", "carrier/1"),
            ("guest", "role", "-"),
        ):
            answer = live.ask("/shop/orders", token=live.token((role,), scope=SCOPE))
            assert (answer.reason, live.log(answer.decision)["rule"]) == (reason, rule)
    finally:
        live.apply(live.files(plan_of(live), [("clerk",), ("guest",)]))


@pytest.mark.standard("E1")
def test_a_caller_has_one_bucket_whatever_the_route_and_a_role_its_own_limit(live: Any) -> None:
    few = {"default": Limit(name="default", requests=3, seconds=3600), "roles": (Limit(name="carrier", requests=5, seconds=3600),)}  # fmt: skip
    try:
        live.apply(live.files(plan_of(live, limits=few), [("clerk",), ("carrier",)]))
        spent = [live.ask(path, token=clerk(live)).status for path in ("/shop/orders", "/shop/orders/1") * 3]
        assert spent == [200, 200, 200, 429, 429, 429]
        answer = live.ask("/shop/orders", token=clerk(live))
        assert (answer.reason, answer.headers["ratelimit-limit"]) == ("rate-limited", "3")
        assert int(answer.headers["retry-after"]) > 0
        assert live.ask("/shop/orders", token=clerk(live, sub="client:other")).status == 200
        more = [live.ask("/shop/orders", token=live.token(("carrier",), scope=SCOPE)).status for _ in range(6)]
        assert more == [200] * 5 + [429]
    finally:
        live.apply(live.files(plan_of(live), [("clerk",), ("guest",)]))


def test_requests_without_a_token_are_limited_by_address_and_the_others_not(live: Any) -> None:
    few = {"anonymous": Limit(name="anonymous", requests=3, seconds=3600)}
    try:
        live.apply(live.files(plan_of(live, limits=few), [("clerk",), ("guest",)]))
        source = "127.9.9.9"
        shown = ({}, {"authorization": "Token x"}, {"authorization": "Basic eDp5"}, {}, {"authorization": "BEARER y"})
        asked = [live.ask("/shop/orders", source=source, headers=headers).status for headers in shown]
        assert asked == [401, 401, 401, 429, 429]
        assert live.ask("/identity/token", host="gate.test", source=source).status == 429
        assert live.ask("/shop/orders", token=clerk(live), source=source).status == 200
        assert live.ask("/shop/orders", source="127.9.9.8").status == 401
    finally:
        live.apply(live.files(plan_of(live), [("clerk",), ("guest",)]))


def key_file(gate: Any, text: str) -> str:
    path = gate.root / f"key-{len(list(gate.root.glob('key-*')))}"
    path.write_text(text)
    return str(path)


def test_keys_are_put_on_by_principal_and_nobody_passes_without(live: Any) -> None:
    keys = {("shop", "client:shop"): {"authorization": key_file(live, "token 100%-KEY:SECRET")}}
    sends = ("authorization: token {login}:{key}", "x-odoo-database: ac%me")
    plan = plan_of(live, hand_over=HandOver.KEY, sends=sends)
    try:
        live.apply(live.files(plan, [("clerk",), ("guest",)], keys=keys))
        answer = live.ask("/shop/orders", token=clerk(live), headers={"x-odoo-database": "other"})
        seen = answer.json["headers"]
        assert (answer.status, seen["authorization"]) == (200, "token 100%-KEY:SECRET")
        assert seen["x-odoo-database"] == "ac%me"
        assert answer.json["names"].count("x-odoo-database") == answer.json["names"].count("authorization") == 1
        live.upstream.seen.clear()
        for more in ({}, {"x-gw-credential": "mine"}, {"x-odoo-database": "other"}):
            other = live.ask("/shop/orders", token=clerk(live, sub="client:other"), headers=more)
            assert (other.status, other.reason) == (503, "unavailable")
        assert not live.upstream.seen
        answer = rpc(live, headers={"x-odoo-database": "other"})
        assert answer.json["headers"]["authorization"] == "Session erp"
        assert "x-odoo-database" not in answer.json["names"]
        dumped = json.dumps(live.admin("/config_dump?include_eds"))
        assert "KEY:SECRET" not in dumped
        assert keys["shop", "client:shop"]["authorization"] in dumped
    finally:
        live.apply(live.files(plan_of(live), [("clerk",), ("guest",)]))


def test_an_erp_that_refuses_our_credential_does_not_make_the_caller_throw_his_token_away(live: Any) -> None:
    """RFC 9110 section 15.5.2: a 401 tells the caller to get other credentials, and his are good."""
    keys = {("shop", "client:shop"): {"authorization": key_file(live, "Bearer gone")}}
    told = {"www-authenticate": 'Bearer error="invalid_token"', "set-cookie": "sid=1", "ostiary-reason": "allowed"}
    live.erp_reply = lambda seen: (401, told, "your key: " + seen["headers"]["authorization"])
    try:
        plan = plan_of(live, hand_over=HandOver.KEY, sends=("authorization: Bearer {key}",))
        live.apply(live.files(plan, [("clerk",), ("guest",)], keys=keys))
        for answer in (live.ask("/shop/orders", token=clerk(live)), rpc(live)):
            assert (answer.status, answer.reason) == (502, "erp-refuses")
            assert answer.json["decision"] == answer.decision
            assert "an administrator" in answer.json["detail"]
            assert "gone" not in answer.text
            assert not {"www-authenticate", "set-cookie"} & set(answer.headers)
            assert live.log(answer.decision)["reason"] == "erp-refuses"
        assert live.ask("/shop/orders").headers["www-authenticate"] == 'Bearer realm="ostiary"'
        assert live.ask("/shop/orders", token="x" + clerk(live)).reason == "token-invalid"
        live.erp_reply = lambda _: (403, told, "not yours")
        answer = live.ask("/shop/orders", token=clerk(live))
        assert (answer.status, answer.text) == (403, "not yours")
        live.erp_reply = lambda _: (511, told, "odd")
        assert live.ask("/shop/orders", token=clerk(live)).status == 511
    finally:
        live.apply(live.files(plan_of(live), [("clerk",), ("guest",)]))


def test_where_nothing_is_handed_over_a_401_is_the_erps_own_word(live: Any) -> None:
    live.erp_reply = lambda _: (401, {"www-authenticate": "Basic"}, "who are you?")
    answer = live.ask("/shop/orders", token=clerk(live))
    assert (answer.status, answer.text, answer.headers["www-authenticate"]) == (401, "who are you?", "Basic")


@pytest.mark.standard("C5")
def test_an_erp_is_believed_only_with_a_certificate_for_its_name_by_a_known_authority(
    make_gate: Any, tmp_path: Path
) -> None:
    for_name, for_another = certificate(tmp_path, "localhost"), certificate(tmp_path, "other.test")
    for shown, known, status in (
        (for_name, for_name, 200),
        (for_another, for_another, 503),
        (for_name, for_another, 503),
    ):
        gate = make_gate(upstream_authorities=known[0])
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*shown)
            gate.upstream.socket = context.wrap_socket(gate.upstream.socket, server_side=True)
            plan = plan_of(gate, upstream=f"https://localhost:{gate.upstream.server_port}")
            gate.start(gate.files(plan, [("clerk",)]))
            assert gate.ask("/shop/orders", token=clerk(gate)).status == status
            assert bool(gate.upstream.seen) is (status == 200)
        finally:
            gate.stop()


def test_an_erp_that_is_away_is_unavailable(live: Any) -> None:
    plan = plan_of(live)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    gone = [System(**{f: getattr(s, f) for f in s.__struct_fields__} | {"upstream": f"http://127.0.0.1:{port}"}) for s in plan.systems]  # fmt: skip
    fields = {name: getattr(plan, name) for name in plan.__struct_fields__}
    try:
        live.apply(live.files(Plan(**{**fields, "systems": tuple(gone)}), [("clerk",)]))
        answer = live.ask("/shop/orders", token=clerk(live))
        assert (answer.status, answer.reason) == (503, "unavailable")
    finally:
        live.apply(live.files(plan, [("clerk",), ("guest",)]))


# --- the guard away; TLS --------------------------------------------------------------------------------------


def test_without_a_guard_nothing_guarded_passes_and_the_rest_does(make_gate: Any) -> None:
    gate = make_gate()
    try:
        gate.guard.server_close()
        gate.edge.home.socket("guard").unlink()
        gate.start(gate.files(plan_of(gate), [("clerk",)]))
        answer = rpc(gate)
        assert (answer.status, answer.reason) == (503, "unavailable")
        assert not gate.upstream.seen
        assert gate.ask("/shop/orders", token=clerk(gate)).status == 200
    finally:
        gate.stop()


def test_tls_is_1_3_with_http2_hsts_and_a_callers_certificate_only_from_tls(make_gate: Any, tmp_path: Path) -> None:
    public, private = certificate(tmp_path, "gate.test")
    client, client_key = certificate(tmp_path, "client.test")
    gate = make_gate(plain=False, certificate=public, key=private, client_ca=client)
    try:
        gate.start(gate.files(plan_of(gate), [("clerk",)]))
        context = ssl.create_default_context(cafile=str(public))
        context.set_alpn_protocols(["h2"])
        with (
            socket.create_connection(("127.0.0.1", gate.edge.port)) as raw,
            context.wrap_socket(raw, server_hostname="gate.test") as secure,
        ):
            assert (secure.version(), secure.selected_alpn_protocol()) == ("TLSv1.3", "h2")
        old = ssl.create_default_context(cafile=str(public))
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with socket.create_connection(("127.0.0.1", gate.edge.port)) as raw, pytest.raises(ssl.SSLError):
            old.wrap_socket(raw, server_hostname="gate.test")
        for shows in (False, True):
            own = ssl.create_default_context(cafile=str(public))
            if shows:
                own.load_cert_chain(client, client_key)
            connection = http.client.HTTPSConnection("gate.test", gate.edge.port, context=own, timeout=10)
            raw = socket.create_connection(("127.0.0.1", gate.edge.port))
            connection.sock = own.wrap_socket(raw, server_hostname="gate.test")
            spoofed = {"x-forwarded-client-cert": "Subject=root", "x-gw-client-cert": "root"}
            connection.request("GET", "/identity/token", headers=spoofed)
            answer = connection.getresponse()
            assert "max-age" in str(answer.getheader("strict-transport-security"))
            answer.read()
            connection.close()
            seen = gate.identity.seen[-1]["headers"]
            assert ("client.test" in seen.get("x-gw-client-cert", "")) is shows
            assert "root" not in seen.get("x-gw-client-cert", "")
    finally:
        gate.stop()


def test_the_callers_address_is_told_by_as_many_proxies_as_are_trusted(make_gate: Any) -> None:
    """Matcher, log and guard must mean the same address; what a caller writes in front of it counts for nothing."""
    gate = make_gate(trusted_hops=1)
    try:
        gate.start(gate.files(plan_of(gate), [["clerk"]]), Signals(blocked=("203.0.113.9/32",)))
        token = gate.token(["clerk"], system="erp", scope="erp/*:read")
        sent = {"x-forwarded-for": "203.0.113.9, 198.51.100.7"}
        answer = gate.ask("/acme/rpc/", method="POST", host="gate.test", token=token, body=b"{}", headers=sent)
        assert answer.status == 200
        assert gate.guard.seen[-1]["headers"]["x-gw-source"] == "198.51.100.7"
        assert gate.log(answer.decision)["source"] == "198.51.100.7"
        blocked = gate.ask("/acme/rpc/", host="gate.test", token=token, headers={"x-forwarded-for": "203.0.113.9"})
        assert blocked.reason == "address-blocked"
    finally:
        gate.stop()
