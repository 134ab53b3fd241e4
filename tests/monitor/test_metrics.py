"""Metrics are Prometheus text with bounded labels, and name nobody."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from fixed_clock import FixedClock
from monitor.world import AT, IDENTITY, WRONG, after, event
from ostiary.event.record import Event
from ostiary.monitor.metrics import BUCKETS_S, METHODS, Metrics
from ostiary.monitor.rules import SYSTEMS_MAX
from ostiary.plan.decide import Reason


@pytest.fixture
def metrics():
    return Metrics(FixedClock(AT))


def samples(metrics):
    families = text_string_to_metric_families(metrics.render().decode())
    return [sample for family in families for sample in family.samples]


def value(metrics, name, **labels):
    return next((one.value for one in samples(metrics) if one.name == name and one.labels == labels), None)


def test_requests_are_counted_by_method_and_status_in_seconds(metrics):
    metrics.count([event(duration_ms=30), event(duration_ms=700), event(**WRONG)])
    labels = {"http_request_method": "POST", "http_response_status_code": "200"}
    assert value(metrics, "http_server_request_duration_seconds_count", **labels) == 2
    assert value(metrics, "http_server_request_duration_seconds_sum", **labels) == 0.73
    assert value(metrics, "http_server_request_duration_seconds_bucket", **labels, le="0.05") == 1


def test_decisions_are_counted_by_system_verb_and_reason(metrics):
    metrics.count([event(), event(), event(reason="role", status=403, operation="shop/order:write", system="shop")])
    assert value(metrics, "ostiary_decisions_total", system="erp", verb="read", reason="allowed") == 2
    assert value(metrics, "ostiary_decisions_total", system="shop", verb="write", reason="role") == 1


def test_tokens_are_those_of_our_own_endpoint(metrics):
    asked = {**IDENTITY, "path": "/identity/token", "method": "POST"}
    metrics.count([event(**asked), event(**{**asked, "status": 401}), event(path="/identity/token")])
    assert value(metrics, "ostiary_tokens_issued_total") == 1


def test_nobodys_name_address_or_record_is_in_them(metrics):
    named = {"subject": "user:planted", "client": "planted", "source": "203.0.113.77", "path": "/planted/4711"}
    metrics.count([event(agent="planted", operation="erp/planted.planted:read", decision="planted", **named)])
    text = metrics.render().decode()
    assert "planted" not in text
    assert "203.0.113.77" not in text
    assert "4711" not in text


ANY = st.text(min_size=1, max_size=20)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.builds(Event, at=st.just(AT), decision=ANY, method=ANY, reason=ANY, operation=ANY, status=st.integers()), max_size=50))  # fmt: skip
def test_words_of_a_caller_make_no_new_series(events):
    metrics = Metrics(FixedClock(AT))
    before = len(samples(metrics))
    metrics.count(events)
    seen = samples(metrics)
    assert {one.labels.get("http_request_method") for one in seen} <= {None, "_OTHER", *METHODS}
    assert {one.labels.get("reason") for one in seen} <= {None, "other", "-", *Reason}
    kinds = {
        (one.labels["http_request_method"], one.labels["http_response_status_code"])
        for one in seen
        if "http_response_status_code" in one.labels
    }
    assert len(seen) <= before + (len(BUCKETS_S) + 4) * max(len(kinds), 1) + 10
    assert all(status == "0" or 100 <= int(status) < 600 for _, status in kinds)


def test_systems_beyond_a_hundred_are_one(metrics):
    metrics.count([event(system=f"s{n}") for n in range(SYSTEMS_MAX * 3)])
    systems = {one.labels["system"] for one in samples(metrics) if one.name == "ostiary_decisions_total"}
    assert len(systems) == SYSTEMS_MAX + 1
    assert value(metrics, "ostiary_decisions_total", system="other", verb="read", reason="allowed") == 2 * SYSTEMS_MAX


def test_the_lease_ages_until_it_is_renewed():
    clock = FixedClock(AT)
    metrics = Metrics(clock)
    clock.at = after(12)
    assert value(metrics, "ostiary_lease_age_seconds") == 12  # nobody renewed it: no reason to show a young one
    metrics.lease_renewed()
    clock.at = after(15)
    assert value(metrics, "ostiary_lease_age_seconds") == 3


def test_only_the_revision_in_force_is_shown(metrics):
    for revision in ("r1", "r2"):
        metrics.in_force(revision)
    assert value(metrics, "ostiary_policy_revision", revision="r2") == 1
    assert value(metrics, "ostiary_policy_revision", revision="r1") is None


def test_two_watches_do_not_share_figures(metrics):
    metrics.count([event()])
    assert value(Metrics(FixedClock(AT)), "ostiary_decisions_total", system="-", verb="-", reason="-") is None
