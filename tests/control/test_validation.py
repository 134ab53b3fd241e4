"""What callers send to a described API: judged against its description, refused by JSON pointer and nothing more."""

import json
import re
from urllib.parse import quote

import pytest

from running import RUNNING

pytestmark = RUNNING
GOOD = {"lines": [{"qty": 2}]}
KEYS = {"type", "title", "status", "detail", "reason", "decision", "pointer"}
INTERNAL = re.compile(r"traceback|\.py\b|jsonschema|msgspec|envoy|sqlite|/tmp/|127\.0\.0\.1", re.IGNORECASE)


def post(site, body, **headers):
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return site.once("POST", "/shop/orders", text, token=site.token("clerk"), **headers)


def get(site, path):
    return site.once("GET", path, token=site.token("clerk"))


def refused(answer, pointer, reason="invalid"):
    told = answer.json()
    assert (answer.status, told["reason"], told.get("pointer", "")) == (400, reason, pointer), told
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(told) <= KEYS
    assert not INTERNAL.search(answer.body.decode())
    assert told["decision"] == answer.decision
    return told


def test_what_meets_the_description_passes_whole(site):
    answer = post(site, GOOD)
    assert answer.status == 200
    assert json.loads(answer.json()["body"]) == GOOD
    assert get(site, "/shop/orders/7").status == 200
    assert get(site, "/shop/orders?limit=5&mail=a%40b.example").status == 200


@pytest.mark.standard("D2")
@pytest.mark.standard("D4")
@pytest.mark.standard("D5")
@pytest.mark.parametrize(
    "body, pointer",
    [
        ({"lines": [{"qty": 2}, {"qty": 0}]}, "/lines/1/qty"),
        ({"lines": [{"qty": 1001}]}, "/lines/0/qty"),
        ({"lines": [{"qty": "2"}]}, "/lines/0/qty"),
        ({}, "/lines"),
        ({**GOOD, "customer": "x" * 41}, "/customer"),
        ({**GOOD, "due": "2026-02-30"}, "/due"),
        ({**GOOD, "a/b~c": 1}, "/a~1b~0c"),
        ([], ""),
    ],
)
def test_a_body_that_does_not_meet_its_schema_is_refused_by_pointer(site, body, pointer):
    seen = len(site.upstream.seen)
    refused(post(site, body), pointer)
    assert len(site.upstream.seen) == seen


@pytest.mark.standard("D3")
@pytest.mark.standard("D5")
@pytest.mark.parametrize(
    "body",
    [
        b'{"lines": [], "lines": [{"qty": 2}]}',
        b'{"lines": NaN}',
        b'{"lines": []',
        b'{"lines": [], "customer": "\xff"}',
        b'{"lines": [], "customer": "\\u202e"}',
        b'{"lines": [], "customer": "\\u0000"}',
        b"<order/>",
        b"",
    ],
)
def test_a_body_that_two_readers_could_read_differently_is_refused(site, body):
    answer = post(site, body)
    assert (answer.status, answer.reason) == (400, "invalid")
    assert not INTERNAL.search(answer.body.decode())


@pytest.mark.standard("D1")
@pytest.mark.standard("D2")
@pytest.mark.parametrize(
    "path, pointer",
    [
        ("/shop/orders?limit=101", "/query/limit"),
        ("/shop/orders?limit=1e1", "/query/limit"),
        ("/shop/orders?limit=1&limit=2", "/query/limit"),
        ("/shop/orders?page=2", "/query/page"),
        ("/shop/orders?mail=nobody", "/query/mail"),
        ("/shop/orders/0", "/path/id"),
        ("/shop/orders/seven", "/path/id"),
    ],
)
def test_parameters_are_held_to_their_description(site, path, pointer):
    refused(get(site, path), pointer)


@pytest.mark.standard("D1")
@pytest.mark.parametrize("path", ["/shop/orders/..%2fstock", "/shop/orders;x", "/shop//orders/", "/shop/Orders"])
def test_no_other_spelling_of_a_path_opens_anything(site, path):
    answer = get(site, path)
    assert answer.status in {400, 403}
    assert answer.decision


def test_an_escaped_letter_is_the_letter_for_gate_and_upstream_alike(site):
    assert get(site, "/shop/%6frders").json()["path"] == "/orders"
    assert get(site, "/shop/%69nvoices").reason == "role"


@pytest.mark.standard("D1")
def test_a_body_above_the_limit_is_refused_as_too_large(site):
    answer = post(site, {**GOOD, "customer": "x" * 1_100_000})
    assert (answer.status, answer.reason) == (413, "too-large")


@pytest.mark.standard("D7")
def test_a_body_is_not_taken_encoded_or_as_another_type(site):
    assert refused(post(site, GOOD, content_encoding="gzip"), "")
    assert refused(post(site, GOOD, content_type="text/plain"), "")


@pytest.mark.standard("D5")
def test_each_failure_is_logged_with_its_place_and_without_the_value(site):
    secret = "unmistakable"
    decision = refused(post(site, {"lines": [{"qty": secret}]}), "/lines/0/qty")["decision"]
    told = site.ask("explain", decision=decision)
    assert told["event"]["reason"] == "invalid"
    assert told["guard"]["reason"] == "invalid"
    assert secret not in str(told)
    assert site.once("GET", f"/shop/orders?limit={quote(secret)}", token=site.token("clerk")).status == 400
    assert all(secret not in path.read_text() for path in site.home.events.glob("*.jsonl"))
