"""The step is the same however the log is cut into batches, whatever stands in it, and over a restart."""

import json

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.world import AT, NAMELESS, SECRET, WRONG, after, event, line
from ostiary.event.record import read
from ostiary.monitor.rules import Baseline, State, Thresholds, Traffic, reached, step

KINDS = (
    {}, {"status": 502}, {"duration_ms": 900}, WRONG, NAMELESS, {**WRONG, "reason": "address-blocked"},
    SECRET, {"reason": "token-revoked", "status": 401},
    {"system": "shop", "status": 500}, {"source": "2001:db8::7", **WRONG},
)  # fmt: skip
GAPS = st.sampled_from([0, 0, 1, 3, 9, 40, 200, 3000])
USUAL = {hour: Baseline(hours=3, requests=10.0, bytes=9000.0) for hour in range(24)}
LIMITS = Thresholds(volume_min=5, payload_min_bytes=1)
TRAFFIC = st.lists(st.tuples(GAPS, st.sampled_from(KINDS), st.integers(1, 8)), max_size=25)


def written(drawn):
    """The events in the order of their lines, and the second each was written in."""
    seconds, made = 0.0, []
    for gap, facts, times in drawn:
        seconds += gap
        for _ in range(times):
            seconds += 0.5
            made.append((seconds, event(seconds - facts.get("duration_ms", 20) / 1000, **facts)))
    return made


def told(findings):
    return [(one.rule, one.key, one.at, json.dumps(one.evidence)) for one in findings]


@settings(max_examples=150, deadline=None)
@given(TRAFFIC, st.data())
def test_events_in_any_batches_give_the_same_findings(drawn, data):
    made = written(drawn)
    end = after((made[-1][0] if made else 0) + 7200)
    start, _ = step(State(traffic=Traffic(baselines={"erp": USUAL})), [], AT, LIMITS)
    whole, expected = step(start, [one for _, one in made], end, LIMITS)
    state, found, rest = start, [], made
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        batch, rest = rest[:size], rest[size:]
        events = [one for _, one in batch]
        live = data.draw(st.booleans())  # read as it was written, or behind by hours
        until = after(batch[-1][0] + data.draw(st.floats(0, 4))) if live else reached(events, end)
        state, more = step(state, events, until, LIMITS)
        state = msgspec.json.decode(msgspec.json.encode(state), type=State)
        found += more
    state, more = step(state, [], end, LIMITS)
    assert sorted(told([*found, *more])) == sorted(told(expected))
    assert state == whole


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner, max_size=3)
)
FACTS = st.dictionaries(st.sampled_from([*json.loads(line()), "other"]), JSON, max_size=6)


@settings(deadline=None)
@given(st.lists(FACTS, max_size=8), st.sampled_from(["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", None]))
def test_no_line_stops_the_watch(facts, at):
    lines = [json.dumps({**json.loads(line(**WRONG)), **({"at": at} if at else {}), **more}).encode() for more in facts]
    events = [one for one in map(read, lines) if one is not None]
    state, _ = step(State(), events, after(60))
    state, _ = step(msgspec.json.decode(msgspec.json.encode(state), type=State), events, after(9000))
    assert len(msgspec.json.encode(state)) < 200_000
