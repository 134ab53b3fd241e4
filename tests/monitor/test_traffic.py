"""The default thresholds of standard F3: for each one stream that fires and one that nearly does."""

import msgspec
import pytest

from monitor.world import WRONG, after, event
from ostiary.monitor.rules import OTHER, SYSTEMS_MAX, State, Thresholds, step

HOUR, DAY = 3600, 86400


def found(events, until=120, state=None):
    return [(one.rule, one.key) for one in step(state or State(), events, after(until))[1]]


def minute(total, count, **facts):
    """`total` requests of one minute, of which the first `count` are different."""
    return [event(n * 60 / (total + 1), **(facts if n < count else {})) for n in range(total)]


@pytest.mark.parametrize(
    ("total", "slow", "ms", "fires"),
    [(100, 6, 501, True), (100, 5, 501, False), (100, 6, 500, False), (3, 3, 501, True), (2, 2, 9000, False)],
)
def test_more_than_a_twentieth_above_500_ms_fires(total, slow, ms, fires):
    assert found(minute(total, slow, duration_ms=ms)) == [("slow-responses", "system:erp")] * fires


@pytest.mark.parametrize(("total", "errors", "fires"), [(100, 6, True), (100, 5, False), (2, 2, False)])
def test_more_than_a_twentieth_of_server_errors_fires(total, errors, fires):
    assert (("error-rate", "system:erp") in found(minute(total, errors, status=502))) is fires


@pytest.mark.parametrize(("failed", "fires"), [(4, True), (3, False)])
def test_an_hour_served_below_999_in_a_thousand_fires(failed, fires):
    """A request each second for two hours; the failed ones spread, so that no minute shows them."""
    at = {HOUR + n * 900 for n in range(failed)}
    events = [event(n, status=503 if n in at else 200) for n in range(2 * HOUR)]
    assert set(found(events, until=2 * HOUR + 60)) == ({("availability", "system:erp")} if fires else set())


def test_a_closed_gate_counts_as_not_served_and_not_as_an_error_of_the_system():
    shut = minute(100, 50, status=503, reason="closed")
    assert found(shut) == [("availability", "system:erp")]
    (told,) = step(State(), shut, after(120))[1]
    assert (told.evidence["failed"], told.evidence["closed"]) == (50, 50)
    assert ("error-rate", "system:erp") in found([*shut, *minute(100, 20, status=502)])
    most = minute(1000, 990, status=503, reason="closed")
    assert ("error-rate", "system:erp") in found([*most, *minute(4, 4, status=502)]), (
        "of what came through, a third fails"
    )


def test_refusals_do_not_dilute_what_fails():
    """Anybody can cause refusals: a flood of them must not hide that the rest fails."""
    failing = [*minute(20, 3, status=502, duration_ms=900), *minute(2000, 2000, **WRONG)]
    assert {rule for rule, _ in found(failing)} >= {"slow-responses", "error-rate", "availability"}


def test_the_evidence_names_the_decisions_and_no_caller():
    events = [event(n, status=502, decision=f"d{n}", subject="user:anna", path="/secret") for n in range(7)]
    findings = {one.rule: one for one in step(State(), events, after(120))[1]}
    assert findings["error-rate"].evidence == {"requests": 7, "errors": 7, "decisions": ["d0", "d1", "d2", "d3", "d4"]}
    assert findings["error-rate"].at == after(60)
    assert findings["availability"].evidence["served_percent"] == 0.0


def learnt(days=3, requests=200, **facts):
    """A watch that saw the hour from 10:00 UTC on `days` days."""
    state, _ = step(State(), [], after(-DAY * days - HOUR))
    for day in range(days, 0, -1):
        events = [event(n * HOUR / requests - day * DAY, **facts) for n in range(requests)]
        state, findings = step(state, events, after(HOUR + 60 - day * DAY))
        assert findings == ()
    return state


@pytest.mark.parametrize(("requests", "fires"), [(241, True), (240, False)])
def test_more_than_120_percent_of_the_usual_requests_fires(requests, fires):
    events = [event(n * 59 / requests) for n in range(requests)]
    assert found(events, state=learnt()) == [("request-volume", "system:erp")] * fires


@pytest.mark.parametrize(("size", "fires"), [(1_201_000, True), (1_200_000, False)])
def test_more_than_120_percent_of_the_usual_bytes_fires(size, fires):
    state = learnt(bytes_in=0, bytes_out=5000)
    assert found([event(bytes_in=1000, bytes_out=size - 1000)], state=state) == [("payload-size", "system:erp")] * fires


def test_refused_bodies_are_no_payload_and_teach_none():
    state = learnt(bytes_in=0, bytes_out=5000)
    assert found([event(**{**WRONG, "bytes_in": 10**9})], state=state) == []
    taught = learnt(**{**WRONG, "bytes_in": 10**9})
    assert taught.traffic.baselines["erp"][10].bytes == 0


def test_nothing_is_usual_before_three_days():
    assert found([event(n * 59 / 900) for n in range(900)], state=learnt(days=2)) == []


def test_an_hour_that_was_seen_in_part_teaches_nothing():
    state, _ = step(State(), [], after(1800))
    state, _ = step(state, [event(1900)], after(HOUR + 60))
    assert state.traffic.baselines.get("erp", {}) == {}


def test_hours_that_are_read_late_and_together_teach_in_their_order():
    hour = [event(n * HOUR / 200) for n in range(200)]
    flood = [event(DAY + n * 59 / 900) for n in range(900)]
    assert found([*hour, *flood], until=DAY + 70, state=learnt(days=2)) == [("request-volume", "system:erp")]


def test_an_hour_teaches_once():
    state = learnt(days=1)
    for seconds in (HOUR + 61, HOUR + 120, HOUR + 300):
        state, _ = step(state, [], after(seconds - DAY))
    assert state.traffic.baselines["erp"][10].hours == 1


def test_a_minute_is_judged_once_and_not_before_its_log_is_flushed():
    events = minute(20, 10, status=502)
    state, early = step(State(), events, after(64))
    assert early == ()
    state, once = step(state, [], after(65))
    assert {one.rule for one in once} == {"error-rate", "availability"}
    assert step(state, [], after(66))[1] == ()


def test_a_request_belongs_to_the_minute_it_ended_in():
    state, _ = step(State(), [event(30, duration_ms=45_000)], after(100))
    assert list(state.traffic.minutes["erp"]) == [int(after(75).timestamp()) // 60]


def test_a_clock_that_is_ahead_does_not_reach_into_minutes_to_come():
    state, _ = step(State(), [event(10**9)], after(30))
    assert list(state.traffic.minutes["erp"]) == [int(after(30).timestamp()) // 60]


def test_what_belongs_to_no_system_is_ours():
    events = [event(n, system="-", status=503, reason="unavailable") for n in range(9)]
    assert ("error-rate", "system:ostiary") in found(events)


def test_memory_is_bounded_in_systems_minutes_and_samples():
    events = [event(n / 50, system=f"s{n}", status=500) for n in range(3 * SYSTEMS_MAX)]
    state, _ = step(State(), events, after(60))
    assert len(state.traffic.minutes) == SYSTEMS_MAX + 1
    assert OTHER in state.traffic.minutes
    for n in range(200):
        state, _ = step(state, [event(n * 60, status=500, decision="d" * 1000) for _ in range(20)], after(n * 60 + 60))
    assert max(map(len, state.traffic.minutes.values())) <= 121
    assert len(msgspec.json.encode(state)) < 30_000


def test_thresholds_are_the_standards():
    assert Thresholds() == Thresholds(
        slow_ms=500, failures=5, unavailable_share=0.001, above_baseline=1.2, slow_share=0.05, error_share=0.05
    )
