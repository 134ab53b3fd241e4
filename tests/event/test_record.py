"""An event is read from whatever line stands in the log, and shown without harm."""

import json
import unicodedata
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.world import line
from ostiary.event.record import LINE_MAX_BYTES, NUMBER_MAX, TEXT_MAX_CHARS, Event, read, shape, told, verb

KEYS = sorted({*json.loads(line()), "another"})
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def harmful(text):
    return [c for c in text if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}]


def test_a_line_is_an_event():
    event = read(line(1.5, agent="curl/8", guard_us=7))
    assert event.at == datetime(2026, 3, 3, 10, 0, 1, 500_000, tzinfo=UTC)
    assert (event.agent, event.guard_us, event.system, event.status) == ("curl/8", 7, "erp", 200)


@given(st.binary(max_size=300))
def test_any_bytes_are_an_event_or_none(data):
    assert read(data) is None or isinstance(read(data), Event)


@given(st.dictionaries(st.sampled_from(KEYS), JSON))
def test_any_values_are_an_event_or_none_and_never_harmful(facts):
    found = read(json.dumps({**json.loads(line()), **facts}).encode())
    if found is not None:
        for text in (told(found), *(str(value) for value in shape(found).values())):
            assert not harmful(text)


@pytest.mark.parametrize(
    "change",
    [
        {"decision": text}
        for text in (None, "yesterday gate d", "2026-03-03T10:00:00Z gate -", "2026-03-03T10:00:00Z", "", 7)
    ],
)
def test_a_line_without_time_or_decision_is_no_event(change):
    assert read(json.dumps({**json.loads(line()), **change}).encode()) is None


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"7", b'"x"', b"\xff", b"[" * 50_000, b'{"at":"\xff"}'])
def test_what_is_no_object_is_no_event(data):
    assert read(data) is None


def test_a_line_beyond_the_limit_is_no_event():
    assert read(line(path="/" + "a" * LINE_MAX_BYTES)) is None


def test_a_time_beyond_our_calendar_is_no_event():
    assert read(line(at="0001-01-01T00:00:00+14:00")) is None
    assert read(line(at="9999-12-31T23:59:59-14:00")) is None


def test_long_texts_and_large_numbers_are_cut():
    event = read(line(agent="a" * 5000, bytes_in=10**30, duration_ms=-5))
    assert (len(event.agent), event.bytes_in, event.duration_ms) == (TEXT_MAX_CHARS, NUMBER_MAX, 0)


@pytest.mark.parametrize("text", ["\x1b[31mred", "\x9b31m", "a\r\nb", "\u202eevil", "\u2028x", "\x00", "\u200b"])
def test_control_characters_of_a_caller_never_reach_a_terminal(text):
    event = read(line(agent=text, path=f"/{text}", client=text, subject=text, operation=f"erp/{text}:read"))
    for shown in (told(event), *map(str, shape(event).values())):
        assert not harmful(shown)


def test_a_token_in_a_path_is_not_shown():
    token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.AbC-_9"
    assert read(line(path=f"/a/{token}/b")).path == "/a/[redacted]/b"
    assert read(line(path=f"/a/{token[:30]}")).path == "/a/[redacted]"
    assert read(line(path="/reports/eyJ/keyJob")).path == "/reports/eyJ/keyJob"


def test_other_writing_than_ours_stays_as_it_is():
    assert read(line(subject="user:zoë-山田")).subject == "user:zoë-山田"


def test_a_request_too_broken_to_have_a_method_belongs_to_nobody():
    """As the gate wrote it (measured), but for the details."""
    broken = dict.fromkeys(("method", "path", "system", "client", "subject", "operation", "rule", "revision"), "-")
    event = read(line(**broken, reason="invalid", status=400, details="http1.codec_error"))
    assert (event.system, event.client, event.subject, event.path, event.operation) == ("-",) * 5
    assert (event.reason, event.details) == ("invalid", "http1.codec_error")


def test_one_line_tells_who_did_what_and_why():
    event = read(line(subject="user:anna", status=403, reason="role", rule="-", decision="d1"))
    assert told(event) == "2026-03-03T10:00:00.000Z user:anna erp/sale.sale:read: 403 role, 20 ms [d1]"
    event = read(line(subject="-", client="-", operation="-", reason="token-missing", status=401, decision="d2"))
    assert told(event) == (
        "2026-03-03T10:00:00.000Z 203.0.113.9 POST /acme/rpc/: 401 token-missing (clerk/1), 20 ms [d2]"
    )


@pytest.mark.parametrize(
    ("operation", "word"),
    [("erp/a:read", "read"), ("erp/a:execute.confirm", "execute"), ("erp/a:write x", "write"), ("-", "-"), ("", "")],
)
def test_the_verb_of_an_operation(operation, word):
    assert verb(Event(at=datetime.now(UTC), decision="d", operation=operation)) == word
