"""How much a caller may ask: known and anonymous callers apart, and told when to come again."""

import pytest

from running import RUNNING

pytestmark = RUNNING
OTHERS = [f"203.0.113.{n}" for n in range(100, 110)]  # addresses of callers behind the proxy that is trusted


def stock(caller, source=""):
    return caller.send("GET", "/shop/stock", **({"x_forwarded_for": source} if source else {}))


@pytest.mark.standard("E1")
@pytest.mark.standard("E11")
def test_a_known_caller_is_told_what_is_left_and_when_to_come_again(site):
    site.apply(site.policy(default=3))
    caller = site.caller(site.client("told", "visitor"))
    answers = [stock(caller) for _ in range(4)]
    assert [answer.status for answer in answers] == [200, 200, 200, 429]
    assert [answer.headers["ratelimit-remaining"] for answer in answers] == ["2", "1", "0", "0"]
    assert {answer.headers["ratelimit-limit"] for answer in answers} == {"3"}
    refused = answers[-1]
    assert refused.reason == "rate-limited"
    assert 0 < int(refused.headers["retry-after"]) <= 3600
    assert 0 < int(refused.headers["ratelimit-reset"]) <= 3600


@pytest.mark.standard("E11")
def test_one_caller_does_not_use_up_what_another_has(site):
    site.apply(site.policy(default=2))
    eager, other = (site.caller(site.client(name, "visitor")) for name in ("greedy", "frugal"))
    assert [stock(eager).status for _ in range(3)] == [200, 200, 429]
    assert stock(other).status == 200
    again = site.caller(site.fresh("greedy"))
    assert stock(again).status == 429, "a new token is no new caller"


@pytest.mark.standard("E11")
def test_anonymous_callers_are_counted_by_address_and_apart_from_known_ones(site):
    site.apply(site.policy(anonymous=2))
    known, anonymous = site.caller(site.token("visitor")), site.caller()
    assert [stock(anonymous, OTHERS[0]).status for _ in range(3)] == [401, 401, 429]
    assert int(stock(anonymous, OTHERS[0]).headers["retry-after"]) > 0
    assert stock(anonymous, OTHERS[1]).status == 401
    assert stock(known, OTHERS[0]).status == 200


@pytest.mark.standard("E11")
def test_a_role_may_have_a_limit_of_its_own(site):
    site.apply(site.policy(("limits:", "limits:\n  clerk: {requests: 5/hour}"), default=1))
    clerk, visitor = (site.caller(site.client(f"limit-{role}", role)) for role in ("clerk", "visitor"))
    assert [stock(visitor).status for _ in range(2)] == [200, 429]
    assert [stock(clerk).status for _ in range(6)] == [200] * 5 + [429]


@pytest.mark.standard("A7")
def test_the_token_endpoint_has_the_address_limit_too(site):
    site.apply(site.policy(anonymous=2))
    caller = site.caller()
    fields = {"grant_type": "client_credentials", "client_id": "nobody", "client_secret": "wrong"}
    answers = [
        caller.send(
            "POST", "/identity/token", "&".join(f"{name}={value}" for name, value in fields.items()).encode(),
            content_type="application/x-www-form-urlencoded", x_forwarded_for=OTHERS[2],
        )
        for _ in range(3)
    ]  # fmt: skip
    assert [answer.status for answer in answers] == [401, 401, 429]
    assert answers[-1].headers["retry-after"]


def test_an_unchanged_limit_does_not_fill_its_buckets_when_the_policy_changes(site):
    site.apply(site.policy(default=2))
    caller = site.caller(site.client("patient", "visitor"))
    assert [stock(caller).status for _ in range(3)] == [200, 200, 429]
    site.apply(site.policy(('["stock: read"]', '["stock: read", "invoice: read"]'), default=2))
    assert stock(caller).status == 429
