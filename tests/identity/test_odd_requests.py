"""Whatever is sent, the answer is one of ours: no fault, no traceback, nothing of the request in it."""

import asyncio
import base64
import logging
from types import SimpleNamespace
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ostiary.identity.request import Refused, Shown, parse, shown, site

PATHS = ("authorize", "sign-in", "token", "revoke", "userinfo", "jwks", ".well-known/openid-configuration")
NAMES = (
    "response_type", "client_id", "redirect_uri", "scope", "state", "nonce", "code_challenge", "code_challenge_method", "resource",
    "prompt", "max_age", "response_mode", "request", "csrf", "username", "password", "decision", "grant_type", "code",
    "code_verifier", "refresh_token", "client_secret", "token", "token_type_hint",
)  # fmt: skip
FORM = b"application/x-www-form-urlencoded"


def send(app, method="GET", path="/identity/authorize", *, query=b"", headers=(), body=b"", gone=False):
    """Straight to the application, in bytes that no client library would send; (status, headers, body)."""
    parts = [
        {"type": "http.request", "body": body[:7000], "more_body": True},
        {"type": "http.request", "body": body[7000:]},
    ]
    if gone:
        parts = [parts[0], {"type": "http.disconnect"}]
    sent = []

    async def receive():
        return parts.pop(0) if parts else await asyncio.Event().wait()  # the caller waits for the answer

    async def answer(message):
        sent.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "https",
        "path": path, "raw_path": path.encode(errors="replace"), "query_string": query, "root_path": "", "headers": list(headers),
        "client": ("uid:0", 1), "server": ("ostiary", None), "state": {},
    }  # fmt: skip
    asyncio.run(app(scope, receive, answer))
    head = next(message for message in sent if message["type"] == "http.response.start")
    told = b"".join(message.get("body", b"") for message in sent if message["type"] == "http.response.body")
    return head["status"], dict(head["headers"]), told


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
LATIN = st.binary(max_size=60)


def known(world):
    """What a caller may well have in hand."""
    return [
        "web", "shop", "nobody", world.secret, world.back, "code", "S256", world.challenge, world.verifier, "openid profile",
        "erp/sale.*:read", "https://erp", "allow", "anna", "client_credentials", "authorization_code", "refresh_token", "none login",
        *world.in_hand,
    ]  # fmt: skip


@st.composite
def requests(draw, world):
    values = st.sampled_from(known(world)) | TEXT
    fields = draw(st.lists(st.tuples(st.sampled_from(NAMES), values), max_size=10))
    text = draw(
        st.sampled_from([urlencode(fields).encode(), urlencode(dict(fields)).encode(), draw(LATIN), b"%00=%ff&%=&;"])
    )
    basic = base64.b64encode(draw(st.sampled_from([f"shop:{world.secret}".encode(), draw(LATIN)])))
    headers = [
        (b"content-type", draw(st.sampled_from([FORM, FORM, b"application/json", b"", draw(LATIN)]))),
        (
            b"authorization",
            draw(st.sampled_from([b"", b"Basic " + basic, b"Bearer " + world.in_hand[0].encode(), draw(LATIN)])),
        ),
        (b"cookie", draw(st.sampled_from([world.cookie_header, draw(LATIN), b"__Host-ostiary-form=" + draw(LATIN)]))),
        (b"host", draw(st.sampled_from([b"localhost:8443", b"[::1", b"a b", draw(LATIN)]))),
        (b"x-gw-source", draw(st.sampled_from([b"192.0.2.1", b"::1%eth0", draw(LATIN)]))),
    ]
    path = draw(st.sampled_from([f"/identity/{name}" for name in PATHS] * 3 + [f"/identity/{draw(TEXT)}", draw(TEXT)]))
    method = draw(st.sampled_from(["GET", "POST", "POST", "POST", "HEAD", "OPTIONS", "PUT", "TRACE", "x"]))
    query = draw(st.sampled_from([b"", b"", text]))
    return {
        "method": method, "path": path, "query": query if method == "POST" else text, "headers": [one for one in headers if one[1]],
        "body": text if method == "POST" else b"", "gone": draw(st.integers(0, 20)) == 0,
    }  # fmt: skip


@pytest.fixture(scope="module")
def prepared(lasting_world):
    """A world in which the fuzzer holds real tokens, codes and cookies."""
    world = lasting_world
    told, page = world.signed_in(), world.authorize()
    world.in_hand = [
        told["access_token"],
        told["refresh_token"],
        told["id_token"],
        world.code(),
        *world.hidden(page).values(),
    ]
    world.cookie_header = "; ".join(f"{one.name}={one.value}" for one in world.cookies.jar).encode()
    return world


@given(st.data())
@settings(
    max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_no_request_makes_a_fault(prepared, caplog, data):
    caplog.clear()
    status, headers, body = send(prepared.app, **data.draw(requests(prepared)))
    assert status < 500
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
    assert b"Traceback" not in body
    assert not [name for name in headers if name.startswith(b"access-control-")]
    assert status not in (301, 302, 307, 308)


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "get", "PROPFIND"])
@pytest.mark.parametrize("path", PATHS)
def test_other_methods_are_refused_and_reveal_nothing(sqlite_world, method, path):
    status, headers, body = send(sqlite_world.app, method, f"/identity/{path}")
    if method == "HEAD" and path not in ("token", "revoke", "sign-in"):
        assert status == send(sqlite_world.app, "GET", f"/identity/{path}")[0]
    else:
        assert status == 405
        assert body in (b"", b"Method Not Allowed")
    assert not [name for name in headers if name.startswith(b"access-control-")]


@pytest.mark.parametrize("path", ["token", "revoke", "sign-in"])
@pytest.mark.parametrize(
    "body",
    [
        b"a=" + b"x" * 20_000, b"x" * 16_385, urlencode({f"p{n}": n for n in range(41)}).encode(), b"grant_type=a&grant_type=b",
        b"grant_type=" + b"%F0%9F%94%91" * 1000, b"token=" + b"x" * 8193, b"\xff" * 100, b"token=%ED%A0%80", b"token=%00", b"&" * 16_000,
        b"%", b"=", b"&&&===", b'{"grant_type": "client_credentials"}', b"a=1;grant_type=client_credentials",
    ],
)  # fmt: skip
def test_a_huge_or_malformed_form_is_refused(lasting_world, path, body):
    status, _, answer = send(
        lasting_world.app, "POST", f"/identity/{path}", headers=[(b"content-type", FORM)], body=body
    )
    assert status in (400, 401, 413)
    assert b"xxxx" not in answer


def test_who_hangs_up_half_way_makes_no_fault(sqlite_world, caplog):
    send(sqlite_world.app, "POST", "/identity/token", headers=[(b"content-type", FORM)], body=b"a=b", gone=True)
    assert caplog.records == []


def test_a_host_that_is_no_host_changes_nothing(sqlite_world):
    for host in (b"[::1", b"evil.example", b"", b"a b\xff"):
        headers = [(b"host", host)]
        assert send(sqlite_world.app, path="/identity/jwks", headers=headers)[0] == 200
        told = send(sqlite_world.app, path="/identity/.well-known/openid-configuration", headers=headers)[2]
        assert b"evil" not in told


@given(st.binary(max_size=300))
def test_any_bytes_are_parsed_or_refused(data):
    try:
        parsed = parse(data)
    except Refused:
        return
    assert all(parsed.values())
    assert not any("\0" in value for value in parsed.values())


@given(
    st.dictionaries(
        st.sampled_from(NAMES),
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=50),
    )
)
def test_what_was_written_is_read(fields):
    assert parse(urlencode(fields).encode()) == fields


@given(st.text(max_size=80) | st.binary(max_size=60).map(lambda data: "Basic " + base64.b64encode(data).decode()))
def test_any_credentials_are_read_or_refused(header):
    try:
        told = shown(SimpleNamespace(headers={"authorization": header}), {})
    except Refused as refused:
        assert refused.status == 401  # noqa: PT017 - reading it is fine too
        return
    assert all(isinstance(text, str) for text in told)


def test_credentials_in_a_header_are_form_encoded():
    """RFC 6749 section 2.3.1."""
    encoded = base64.b64encode(f"{quote('a b', safe='')}:{quote('p:+%', safe='')}".encode()).decode()
    asked = SimpleNamespace(headers={"authorization": f"Basic {encoded}"})
    assert shown(asked, {}) == Shown("a b", "p:+%")


@given(st.text(max_size=50))
def test_any_address_has_a_site(text):
    assert isinstance(site(SimpleNamespace(headers={"x-gw-source": text})), str)
