"""Bound tokens at a real Envoy, with the guard's own look at proofs behind it (RFC 9449 section 7, RFC 8705 section 3)."""

import base64
import hashlib
import http.client
import json
import socket
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey
from msgspec.structs import replace

from fixed_clock import FixedClock
from ostiary.erp.route import Parameter
from ostiary.foundation.clock import SystemClock
from ostiary.foundation.home import Home
from ostiary.foundation.jose import confirmation
from ostiary.foundation.proof import NONCE_LIFE_S, Nonces
from ostiary.guard.proof import Proofs
from ostiary.plan.model import Always, Limit, Plan, seal
from ostiary.tls import authority

from .test_contexts import plan_of, read  # isort: skip

ORIGIN = "https://shop.test"
NONCES = Nonces(b"k" * 32, demanded=False)
KEY, OTHER = ECKey.generate_key("P-256"), ECKey.generate_key("P-256")


@pytest.fixture(scope="module")
def place(make_gate: Any, tmp_path_factory: Any) -> Iterator[Any]:
    home = Home(root=tmp_path_factory.mktemp("bound") / "home")
    home.create()
    authority.ensure(home, "gate.test")
    ca = home.keys / "ca.crt"
    gate = make_gate(plain=False, certificate=home.keys / "gate.crt", key=home.keys / "gate.key", client_ca=ca)
    proofs = Proofs(8443, FixedClock(datetime.now(UTC) - timedelta(minutes=1)), NONCES)
    proofs._clock = SystemClock()

    def guard(seen: Any) -> Any:
        if not seen["path"].startswith("/proof"):
            return 200, {}, ""
        status, told = proofs.answer(seen["method"], seen["path"].removeprefix("/proof"), seen["headers"])
        return status, told, ""

    gate.guard_reply = guard
    try:
        gate.start(gate.files(with_a_query(plan_of(gate, [read(Always())])), [["clerk"]]))
        yield SimpleNamespace(gate=gate, home=home, ca=ca, folder=home.root, proofs=proofs)
    finally:
        gate.stop()


def with_a_query(plan: Plan) -> Plan:
    """A route more: where nobody looks inside no query passes."""
    limit = Parameter(name="limit", place="query", required=False, schema='{"type": "integer"}')
    found = replace(plan.routes[0], template="/found", parameters=(limit,), inspect=True)
    return seal(replace(plan, routes=(*plan.routes, found)))


def ask(
    place: Any,
    authorization: Any,
    *,
    proof: Any = (),
    shown: Any = None,
    method: str = "GET",
    path: str = "/orders",
    source: str = "127.0.0.1",
) -> tuple[int, str]:
    answer = answered(place, authorization, proof=proof, shown=shown, method=method, path=path, source=source)
    return answer.status, str(answer.getheader("ostiary-reason", "allowed"))


def answered(place: Any, authorization: Any, *, proof: Any, shown: Any = None, method: str = "GET", path: str = "/orders", source: str = "127.0.0.1") -> Any:  # fmt: skip
    own = ssl.create_default_context(cafile=str(place.ca))
    if shown:
        (place.folder / "pair.pem").write_bytes(shown.certificate + shown.key)
        own.load_cert_chain(place.folder / "pair.pem")
    connection = http.client.HTTPSConnection("gate.test", place.gate.edge.port, context=own, timeout=10)
    connection.sock = own.wrap_socket(socket.create_connection(("127.0.0.1", place.gate.edge.port), source_address=(source, 0)), server_hostname="gate.test")  # fmt: skip
    connection.putrequest(method, path, skip_host=True)
    for name, value in [("host", "shop.test"), ("authorization", authorization), *(("dpop", one) for one in proof)]:
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer


def token(place: Any, bound: str = "") -> str:
    told = {"bnd": bound, "cnf": confirmation(bound)} if bound else {}
    return str(place.gate.token(["clerk"], scope="shop/*:read", **told))


def proof_of(text: str, key: ECKey = KEY, *, header: Any = (), **changed: Any) -> str:
    ath = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
    claims = {"jti": str(time.monotonic_ns()), "htm": "GET", "htu": f"{ORIGIN}/orders", "iat": int(time.time())}
    header = {"typ": "dpop+jwt", "alg": "ES256", "jwk": key.as_dict(private=False), **dict(header)}
    return jwt.encode(header, {**claims, "ath": ath, **changed}, key, algorithms=["ES256", "RS256", "HS256"])


REFUSED = (401, "token-unbound")


@pytest.mark.standard("A8")
def test_a_dpop_bound_token_is_its_key_holder_s_alone(place: Any) -> None:
    free, bound = token(place), token(place, f"jkt:{KEY.thumbprint()}")
    good = proof_of(bound)
    assert ask(place, f"Bearer {free}") == (200, "allowed")
    assert ask(place, f"DPoP {bound}", proof=[good]) == (200, "allowed")
    assert ask(place, f"DPoP {bound}", proof=[proof_of(bound, htu="https://shop.test:8443/orders")]) == (200, "allowed")
    for shown, proofs in [
        (f"DPoP {bound}", [good]),  # seen before
        (f"DPoP {bound}", []),
        (f"DPoP {bound}", ["nonsense"]),
        (f"DPoP {bound}", [proof_of(bound), proof_of(bound)]),
        (f"DPoP {bound}", [proof_of(bound, OTHER)]),
        (f"DPoP {bound}", [proof_of(free)]),
        (f"DPoP {bound}", [proof_of(bound, htm="POST")]),
        (f"DPoP {bound}", [proof_of(bound, htu=f"{ORIGIN}/stock")]),
        (f"DPoP {bound}", [proof_of(bound, htu="https://gate.test/orders")]),
        (f"DPoP {bound}", [proof_of(bound, htu="https://shop.test:9443/orders")]),
        (f"DPoP {bound}", [proof_of(bound, iat=int(time.time()) - 3600)]),
        (f"DPoP {bound}", [proof_of(bound, iat=int(time.time()) + 3600)]),
        (f"Bearer {bound}", [proof_of(bound)]),
        (f"Bearer {bound}", []),
        (f"DPoP {free}", [proof_of(free)]),
        (f"DPoP {free}", []),
    ]:
        assert ask(place, shown, proof=proofs) == REFUSED, (shown[:8], len(proofs))


@pytest.mark.parametrize(
    ("path", "changed"),
    [
        ("/orders", {"htu": f"{ORIGIN}/orders?limit=1#top"}),  # RFC 9449 section 4.3: neither query nor fragment counts
        ("/found?limit=1", {"htu": f"{ORIGIN}/found"}),
        ("/found?limit=1", {"htu": f"{ORIGIN}/found?limit=2"}),
        ("/orders", {"htu": "HTTPS://SHOP.test:443/%6frders"}),
        ("/orders", {"off_s": -10}),
        ("/orders", {"off_s": 10}),
    ],
)
def test_a_proof_is_good_whichever_way_it_writes_the_place_and_with_a_clock_a_little_off(
    place: Any, path: str, changed: dict[str, Any]
) -> None:
    changed = dict(changed)
    bound, at = token(place, f"jkt:{KEY.thumbprint()}"), int(time.time()) + changed.pop("off_s", 0)
    assert ask(place, f"DPoP {bound}", proof=[proof_of(bound, iat=at, **changed)], path=path) == (200, "allowed")


RSA = RSAKey.generate_key(2048)
SHARED = OctKey.generate_key(256)


@pytest.mark.parametrize(
    ("key", "header"),
    [
        (KEY, {"typ": "JWT"}),
        (KEY, {"typ": "at+jwt"}),
        (KEY, {"jwk": KEY.as_dict(private=True)}),
        (KEY, {"jwk": OTHER.as_dict(private=False)}),
        (KEY, {"kid": "k1"}),
        (KEY, {"jku": "https://elsewhere.example/keys"}),
        (KEY, {"crit": ["alg"]}),
        (RSA, {"alg": "RS256"}),
        (SHARED, {"alg": "HS256"}),
    ],
)
def test_a_proof_of_another_form_is_none(place: Any, key: Any, header: dict[str, Any]) -> None:
    shown = {"jwk": key.as_dict(private=key is SHARED), **header}
    bound = token(place, f"jkt:{key.thumbprint()}")
    assert ask(place, f"DPoP {bound}", proof=[proof_of(bound, key, header=shown)]) == REFUSED
    if key is KEY:
        assert ask(place, f"DPoP {bound}", proof=[proof_of(bound)]) == (200, "allowed")


def test_an_unsigned_proof_is_none(place: Any) -> None:
    bound = token(place, f"jkt:{KEY.thumbprint()}")
    _, claims, signature = proof_of(bound).split(".")
    head = {"typ": "dpop+jwt", "alg": "none", "jwk": KEY.as_dict(private=False)}
    none = base64.urlsafe_b64encode(json.dumps(head).encode()).rstrip(b"=").decode()
    for unsigned in (f"{none}.{claims}.", f"{none}.{claims}.{signature}"):
        assert ask(place, f"DPoP {bound}", proof=[unsigned]) == REFUSED


@pytest.mark.standard("A8")
def test_where_nonces_are_demanded_the_refusal_brings_one_and_the_proof_with_it_is_taken(place: Any) -> None:
    """RFC 9449 section 9; one that is two lives old is asked for anew, and so is one that nobody gave."""
    bound, nonces = token(place, f"jkt:{KEY.thumbprint()}"), place.proofs._nonces
    old = nonces.at(datetime.now(UTC) - timedelta(seconds=2 * NONCE_LIFE_S))
    assert ask(place, f"DPoP {bound}", proof=[proof_of(bound, nonce=old[1])]) == REFUSED
    place.proofs._nonces = nonces._replace(demanded=True)
    try:
        for told in ({}, {"nonce": old[1]}, {"nonce": "guessed"}):
            refused = answered(place, f"DPoP {bound}", proof=[proof_of(bound, **told)])
            challenge = refused.getheader("www-authenticate")
            assert (refused.status, refused.getheader("ostiary-reason")) == REFUSED
            assert challenge.startswith("DPoP ")
            assert 'error="use_dpop_nonce"' in challenge
            nonce = refused.getheader("dpop-nonce")
            assert ask(place, f"DPoP {bound}", proof=[proof_of(bound, nonce=nonce)]) == (200, "allowed")
        unproved = answered(place, f"DPoP {bound}", proof=[proof_of(bound, OTHER)])
        assert 'error="invalid_dpop_proof"' in unproved.getheader("www-authenticate")
        assert unproved.getheader("dpop-nonce") is None
    finally:
        place.proofs._nonces = nonces


@pytest.mark.standard("E11")
def test_who_asks_for_too_many_looks_at_proofs_costs_the_guard_nothing_and_others_nothing_at_all(place: Any) -> None:
    """A look costs a quarter of a millisecond: the caller's own limit comes first, for each of his addresses."""
    before, looks = place.gate.guard_reply, []

    def guard(seen: Any) -> Any:
        looks.append(seen["path"])
        return before(seen)

    plan = plan_of(place.gate, [read(Always())])
    limited = seal(replace(plan, limits=replace(plan.limits, default=Limit(name="default", requests=5, seconds=3600))))
    place.gate.guard_reply = guard
    place.gate.apply(place.gate.files(limited, [["clerk"]]))
    try:
        bound = token(place, f"jkt:{KEY.thumbprint()}")
        thief = [ask(place, f"DPoP {bound}", proof=[proof_of(bound, OTHER)], source="127.0.0.2") for _ in range(9)]
        assert thief == [REFUSED] * 5 + [(429, "rate-limited")] * 4
        assert looks == ["/proof/orders"] * 5
        assert [ask(place, f"DPoP {bound}", proof=[proof_of(bound)]) for _ in range(6)] == [(200, "allowed")] * 5 + [(429, "rate-limited")]  # fmt: skip
        assert len(looks) == 10
    finally:
        place.gate.guard_reply = before
        place.gate.apply(place.gate.files(plan, [["clerk"]]))


def test_after_a_restart_no_proof_from_before_it_is_good(place: Any) -> None:
    bound, now = token(place, f"jkt:{KEY.thumbprint()}"), datetime.now(UTC)
    after = Proofs(8443, FixedClock(now), NONCES)
    for iat in (-50, -5, 0, 10):
        headers = {"authorization": f"DPoP {bound}", "host": "shop.test", "x-gw-bound": f"jkt:{KEY.thumbprint()}"}
        headers["dpop"] = proof_of(bound, iat=int(now.timestamp()) + iat)
        assert after.refused("GET", "/orders", headers) == "used before"


def test_a_scheme_that_only_holds_the_word_is_none(place: Any) -> None:
    for scheme in ("XBearer", "Basic x Bearer", "xDPoP"):
        assert ask(place, f"{scheme} {token(place)}")[0] == 401, scheme


def test_two_tokens_in_one_header_are_none(place: Any) -> None:
    """The claims of one and the proof of another must never meet."""
    free, bound = token(place), token(place, f"jkt:{OTHER.thumbprint()}")
    own = token(place, f"jkt:{KEY.thumbprint()}")
    for shown in (f"Bearer {free} DPoP {bound}", f"DPoP {bound} Bearer {free}", f"DPoP {bound}, Bearer {free}",
                  f"Bearer {free},DPoP {bound}", f"DPoP {own} Bearer {bound}", f"Bearer {bound} DPoP {own}"):  # fmt: skip
        for proofs in ([], [proof_of(bound)], [proof_of(own)]):
            assert ask(place, shown, proof=proofs)[0] in {401, 403}, shown[:8]


def test_a_guard_that_does_not_answer_lets_no_bound_token_pass(place: Any) -> None:
    bound, answers = token(place, f"jkt:{KEY.thumbprint()}"), place.gate.guard_reply
    place.gate.guard_reply = lambda _: (500, {}, "")
    try:
        assert ask(place, f"DPoP {bound}", proof=[proof_of(bound)]) == (503, "unavailable")
    finally:
        place.gate.guard_reply = answers


@pytest.mark.standard("A8")
def test_a_token_bound_to_a_certificate_is_for_its_connections_alone(place: Any) -> None:
    ours, other = (authority.issue_client(place.home, name) for name in ("ours", "other"))
    bound = token(place, f"x5t:{ours.fingerprint}")
    assert ask(place, f"Bearer {bound}", shown=ours) == (200, "allowed")
    assert ask(place, f"Bearer {token(place)}", shown=other) == (200, "allowed")
    for shown in (other, None):
        assert ask(place, f"Bearer {bound}", shown=shown) == REFUSED
    assert ask(place, f"DPoP {bound}", shown=ours, proof=[proof_of(bound)])[0] == 401
    for odd in ("x5t:", f"x5t:{ours.fingerprint[:-1]}", f"x5t:x{ours.fingerprint}"):
        told = {"bnd": odd}
        text = str(place.gate.token(["clerk"], scope="shop/*:read", **told))
        assert ask(place, f"Bearer {text}")[0] == 401, odd


def test_where_nobody_is_asked_for_a_certificate_a_token_bound_to_one_does_not_pass(make_gate: Any) -> None:
    gate = make_gate()
    try:
        gate.start(gate.files(plan_of(gate, [read(Always())]), [["clerk"]]))
        text = gate.token(["clerk"], scope="shop/*:read", bnd="x5t:" + "a" * 64)
        for headers in ({}, {"x-gw-device": "a" * 64}, {"x-gw-bound": "x"}):
            assert gate.ask("/orders", token=text, headers=headers).reason == "token-unbound"
    finally:
        gate.stop()
