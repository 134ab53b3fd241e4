"""Events are found from the newest, across rotated files, and whatever else stands in them."""

import json
import os
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.world import AT, after, line
from ostiary.event import search
from ostiary.event.record import LINE_MAX_BYTES
from ostiary.event.search import Filter, backwards, files, find, guard_line


@pytest.fixture
def log(tmp_path):
    """Three files of three events each, an hour apart; the newest is the log itself."""
    for n, name in enumerate(("access-001.jsonl", "access-002.jsonl", "access.jsonl")):
        lines = [line(n * 3600 + k, decision=f"d{n}{k}", subject=f"user:u{k}") for k in range(3)]
        (tmp_path / name).write_bytes(b"".join(lines))
        os.utime(tmp_path / name, (after(n * 3600 + 60).timestamp(),) * 2)
    return tmp_path / "access.jsonl"


def found(log, limit=20, **wanted):
    return [event.decision for event in find(log, Filter(**wanted), limit=limit)]


def test_the_newest_come_first_across_files(log):
    assert found(log) == ["d22", "d21", "d20", "d12", "d11", "d10", "d02", "d01", "d00"]


@pytest.mark.parametrize("limit", [0, 1, 4])
def test_no_more_than_asked_for(log, limit):
    assert len(found(log, limit)) == limit


def test_a_decision_is_found_in_an_old_file_and_only_once(log):
    with log.open("ab") as file:
        file.write(line(8000, decision="d99", agent="d01"))
    assert found(log, decision="d01") == ["d01"]
    assert found(log, decision="d0") == []


def test_principals_reasons_and_operations_are_told_apart(log):
    with log.open("ab") as file:
        file.write(line(8000, decision="x1", client="client:crm", reason="role", operation="shop/order:write"))
        file.write(line(8001, decision="x2", client="crm"))
    assert found(log, principal="user:u1") == ["d21", "d11", "d01"]
    assert found(log, principal="client:crm") == ["x2", "x1"]
    assert found(log, reason="role") == ["x1"]
    assert found(log, operation="shop/") == ["x1"]
    assert found(log, principal="user:nobody") == []


def test_nothing_before_since_and_no_file_that_ended_before(log, monkeypatch):
    opened = []
    monkeypatch.setattr(search, "backwards", lambda path: (opened.append(path.name), backwards(path))[1])
    assert found(log, since=after(3601)) == ["d22", "d21", "d20", "d12", "d11"]
    assert opened == ["access.jsonl", "access-002.jsonl"]


def test_a_decision_that_tells_its_time_is_not_looked_for_before_it(log, monkeypatch):
    opened = []
    monkeypatch.setattr(search, "backwards", lambda path: (opened.append(path.name), backwards(path))[1])
    began = f"gate-0-7.{int(after(7200).timestamp())}000000000"
    with log.open("ab") as file:
        file.write(line(7200, decision=began))
    assert found(log, decision=began) == [began]
    assert found(log, decision=began.replace("-7.", "-8.")) == []
    assert set(opened) == {"access.jsonl"}


def test_a_long_request_that_began_before_does_not_end_the_search(log):
    """Lines stand in the order in which requests ended."""
    with log.open("ab") as file:
        file.write(line(9100, decision="within"))
        file.write(line(8900, decision="long", duration_ms=2_000_000))
    assert found(log, since=after(9000)) == ["within"]


def test_no_file_is_no_event(tmp_path):
    assert found(tmp_path / "access.jsonl") == []
    assert files(tmp_path / "access.jsonl") == ()


def test_a_file_that_retention_takes_meanwhile_is_passed_over(log):
    going = find(log, Filter(), limit=20)
    next(going)
    log.with_name("access-002.jsonl").unlink()
    assert [event.decision for event in going] == ["d21", "d20", "d02", "d01", "d00"]
    since = find(log, Filter(since=AT), limit=20)
    next(since)
    log.with_name("access-001.jsonl").unlink()
    assert [event.decision for event in since] == ["d21", "d20"]


def test_a_line_longer_than_any_event_is_passed_over(log):
    with log.open("ab") as file:
        file.write(b'{"decision":"d00",' + b"x" * (3 * search.CHUNK_BYTES) + b"}\n")
        file.write(line(9000, decision="last"))
    assert found(log, limit=2) == ["last", "d22"]
    assert found(log, decision="d00") == ["d00"]


def test_no_more_of_a_long_line_than_of_an_event_is_held(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"a\n" + b"x" * (5 * search.CHUNK_BYTES) + b"\nb\n")
    first, long, last = backwards(path)
    assert (first, last) == (b"b", b"a")
    assert LINE_MAX_BYTES < len(long) <= LINE_MAX_BYTES + 1 + search.CHUNK_BYTES


def test_a_line_that_is_being_written_is_passed_over(log):
    with log.open("ab") as file:
        file.write(line(9000, decision="half")[:60])
    assert found(log, limit=1) == ["d22"]


@settings(deadline=None)
@given(st.lists(st.binary(max_size=40).map(lambda data: data.replace(b"\n", b"")), max_size=30), st.integers(1, 50))
def test_backwards_is_forwards_reversed(tmp_path_factory, lines, chunk):
    path = tmp_path_factory.mktemp("b") / "a"
    path.write_bytes(b"\n".join(lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "CHUNK_BYTES", chunk)
        assert list(backwards(path)) == [one for one in reversed(lines) if one]


def test_what_the_guard_wrote_is_found_and_harmless(tmp_path):
    log = tmp_path / "guard.jsonl"
    written = {"decision": "d1", "detail": "\x1b[31mred", "records": ["sale\u202e1"], "us": 7}
    log.write_text("\n".join(["d1 not json", '["d1"]', json.dumps({"decision": "d10"}), json.dumps(written), ""]))
    assert guard_line(log, "d1") == {**written, "detail": "\ufffd[31mred", "records": ["sale\ufffd1"]}
    assert guard_line(log, "d2") is None
    assert guard_line(tmp_path / "none.jsonl", "d1") is None


def test_the_time_since_counts_from_the_start_of_a_request(log):
    assert found(log, since=AT + timedelta(seconds=1)) == ["d22", "d21", "d20", "d12", "d11", "d10", "d02", "d01"]
