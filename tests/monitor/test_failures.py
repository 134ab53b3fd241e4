"""Failed authentications are counted for who caused them, and for nobody else."""

import pytest

from monitor.world import IDENTITY, NAMELESS, SECRET, WRONG, after, event, guess
from ostiary.monitor.rules import KEYS_MAX, State, step


def found(events, until=100):
    return [(one.rule, one.key) for one in step(State(), events, after(until))[1]]


GUESSED = [("authentication-failures", "address:203.0.113.9")]


def test_the_sixth_failure_within_a_minute_fires_once():
    assert found([guess(n) for n in range(5)]) == []
    assert found([guess(n) for n in range(6)]) == GUESSED
    assert found([guess(n) for n in range(30)]) == GUESSED


def test_six_failures_in_more_than_a_minute_do_not_fire():
    assert found([guess(n * 12) for n in range(6)]) == []


def test_who_goes_on_fires_in_every_minute():
    assert found([guess(n) for n in range(180)], until=200) == GUESSED * 3


def test_the_evidence_names_decisions_and_nobody():
    (finding,) = step(State(), [guess(n, decision=f"d{n}", subject="user:anna") for n in range(6)], after(100))[1]
    assert finding.evidence == {"failures": 6, "within_s": 60, "decisions": ["d1", "d2", "d3", "d4", "d5"]}
    assert finding.at == after(5)


@pytest.mark.parametrize(
    "facts",
    [
        {**SECRET, "path": "/identity/sign-in", "method": "POST", "status": 200},
        {**SECRET, "path": "/identity/token", "method": "POST"},
        {**SECRET, "path": "/identity/token", "method": "POST", "status": 400},
        {**SECRET, "path": "/identity/revoke", "method": "POST"},
        {**IDENTITY, "path": "/identity/userinfo", "reason": "token-invalid", "status": 401},
    ],
    ids=["password", "secret", "code", "revoke", "userinfo"],
)
def test_every_place_that_takes_a_credential_counts(facts):
    assert found([event(n, **facts) for n in range(6)]) == GUESSED


@pytest.mark.parametrize(
    "facts",
    [
        {**IDENTITY, "path": "/identity/sign-in", "method": "POST", "status": 303},
        {**IDENTITY, "path": "/identity/sign-in", "method": "POST", "status": 400},
        {**IDENTITY, "path": "/identity/sign-in", "method": "POST", "status": 200},
        {**IDENTITY, "path": "/identity/token", "method": "POST", "status": 400},
        {**IDENTITY, "path": "/identity/token", "method": "POST", "status": 401},
        {**IDENTITY, "path": "/identity/userinfo", "reason": "token-revoked", "status": 401},
        {**IDENTITY, "path": "/identity/token", "method": "POST", "status": 200},
        {**IDENTITY, "path": "/identity/authorize", "method": "GET", "status": 200},
        {"path": "/identity/sign-in", "method": "POST", "status": 200},
        {"path": "/identity/token", "method": "POST", "status": 401},
        {"reason": "role", "status": 403},
        {"reason": "invalid", "status": 400},
    ],
    ids=[
        "signed-in",
        "no-form",
        "asked-anew",
        "no-secret",
        "no-client",
        "revoked",
        "token",
        "page",
        "erp-sign-in",
        "erp-token",
        "role",
        "invalid",
    ],
)
def test_what_is_no_failed_authentication_does_not_count(facts):
    assert found([event(n, **facts) for n in range(20)]) == []


@pytest.mark.parametrize("reason", ["address-blocked", "rate-limited", "closed"])
def test_a_block_or_a_limit_of_ours_does_not_feed_itself(reason):
    assert found([guess(n, reason=reason) for n in range(40)]) == []


def test_who_shows_no_token_is_noticed_and_guesses_nothing():
    """A web page can make every visitor's browser send such requests: they must not get his office blocked."""
    assert found([event(n, **NAMELESS) for n in range(5)]) == []
    assert found([event(n, **NAMELESS) for n in range(6)]) == [("calls-without-token", "address:203.0.113.9")]
    mixed = [event(n, **(NAMELESS if n % 2 else WRONG)) for n in range(10)]
    assert found(mixed) == []


def test_a_revoked_token_is_told_of_its_client_not_of_the_office_it_calls_from():
    events = [event(n, reason="token-revoked", status=401, client="client:shop") for n in range(6)]
    assert found(events) == [("authentication-failures", "client:shop")]


def test_changing_address_within_a_network_of_ones_own_hides_nobody():
    events = [guess(n, source=f"2001:db8:1:2::{n:x}") for n in range(6)]
    assert found(events) == [("authentication-failures", "address:2001:db8:1:2::/64")]
    assert found([guess(n, source=f"2001:db8:1:{n:x}::1") for n in range(6)]) == []


def test_five_of_each_of_two_addresses_are_not_ten_of_one():
    assert found([guess(n, source=f"203.0.113.{n % 2}") for n in range(10)]) == []


def test_tries_are_forgotten_when_they_are_over():
    state, _ = step(State(), [guess(n) for n in range(6)], after(10))
    assert len(state.tries) == 1
    assert step(state, [], after(75))[0].tries == {}


def test_a_flood_of_addresses_stays_bounded_and_the_latest_are_kept():
    flood = [guess(n / 1000, source=f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}") for n in range(KEYS_MAX + 500)]
    state, _ = step(State(), flood, after(20))
    assert len(state.tries) == KEYS_MAX
    assert next(reversed(state.tries)).endswith(f"address:{flood[-1].source}")


def test_a_flood_from_one_address_is_remembered_by_as_many_tries_as_it_takes_to_fire():
    state, _ = step(State(), [guess(n / 100) for n in range(5000)], after(60))
    assert len(next(iter(state.tries.values())).latest) == 6
