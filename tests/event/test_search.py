"""Events are found from the newest, across rotated files, and whatever else stands in them."""

import json
import os
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.world import AT, after, line
from ostiary.event import record
from ostiary.event.record import LINE_MAX_BYTES, Filter, TooMuch, backwards, files, find, find_decision, guard_line

JOURNAL = Path("no-journal.jsonl")


@pytest.fixture
def log(tmp_path):
    """Three files of three events each, an hour apart; the newest is the log itself."""
    for n, name in enumerate(("access-001.jsonl", "access-002.jsonl", "access.jsonl")):
        lines = [line(n * 3600 + k, decision=f"d{n}{k}", subject=f"user:u{k}") for k in range(3)]
        (tmp_path / name).write_bytes(b"".join(lines))
        os.utime(tmp_path / name, (after(n * 3600 + 60).timestamp(),) * 2)
    return tmp_path / "access.jsonl"


def found(log, limit=20, **wanted):
    return [event.decision for event in find(log, Filter(**wanted), JOURNAL, limit=limit)]


def test_the_newest_come_first_across_files(log):
    assert found(log) == ["d22", "d21", "d20", "d12", "d11", "d10", "d02", "d01", "d00"]


@pytest.mark.parametrize("limit", [0, 1, 4])
def test_no_more_than_asked_for(log, limit):
    assert len(found(log, limit)) == limit


def decided(seconds, number=7):
    """An id as the gate makes them."""
    return f"gate-0a1b2c-{number}.{int(after(seconds).timestamp())}000000000"


@pytest.fixture
def opened(monkeypatch):
    """The files that were read."""
    names = []
    monkeypatch.setattr(record, "backwards", lambda path: (names.append(path.name), backwards(path))[1])
    return names


def test_a_decision_is_looked_for_in_the_files_of_its_time(log, opened):
    old = log.with_name("access-002.jsonl")
    with old.open("ab") as file:
        file.write(line(3610, decision=decided(3610), duration_ms=1000))
    os.utime(old, (after(3660).timestamp(),) * 2)
    with log.open("ab") as file:
        file.write(line(8000, decision="d99", agent=decided(3610)))
    assert find_decision(log, decided(3610)).decision == decided(3610)
    assert opened == ["access-002.jsonl"]
    assert find_decision(log, decided(3610, number=8)) is None
    assert "access-001.jsonl" not in opened


def test_a_decision_that_lasted_is_found_in_a_later_file(log, opened):
    with log.open("ab") as file:
        file.write(line(3500, decision=decided(3500), duration_ms=3_000_000))
    assert find_decision(log, decided(3500)).decision == decided(3500)
    assert opened == ["access-002.jsonl", "access.jsonl"]


@pytest.mark.parametrize("decision", ["", "d01", "gate-000000-1.1", "d0", "../x", decided(8000) + "0", "x" * 10_000])
def test_an_id_that_the_gate_did_not_make_is_not_looked_for(log, opened, decision):
    assert find_decision(log, decision) is None
    assert guard_line(log, decision) is None
    assert opened == []


def test_a_search_that_would_read_too_much_ends_with_what_it_found(log, opened, monkeypatch):
    monkeypatch.setattr(record, "READ_MAX_BYTES", log.stat().st_size + 1)
    going = find(log, Filter(), JOURNAL, limit=20)
    assert [next(going).decision for _ in range(6)] == ["d22", "d21", "d20", "d12", "d11", "d10"]
    with pytest.raises(TooMuch):
        next(going)
    assert opened == ["access.jsonl", "access-002.jsonl"]


def test_principals_reasons_and_operations_are_told_apart(log):
    with log.open("ab") as file:
        file.write(line(8000, decision="x1", client="crm", reason="role", operation="shop/order:write"))
        file.write(line(8001, decision="x2", client="crm"))
    assert found(log, principal="user:u1") == ["d21", "d11", "d01"]
    assert found(log, principal="client:crm") == ["x2", "x1"]
    assert found(log, reason="role") == ["x1"]
    assert found(log, operation="shop/") == ["x1"]
    assert found(log, principal="user:nobody") == []


def test_nothing_before_since_and_no_file_that_ended_before(log, opened):
    assert found(log, since=after(3601)) == ["d22", "d21", "d20", "d12", "d11"]
    assert opened == ["access.jsonl", "access-002.jsonl"]


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
    going = find(log, Filter(), JOURNAL, limit=20)
    next(going)
    log.with_name("access-002.jsonl").unlink()
    assert [event.decision for event in going] == ["d21", "d20", "d02", "d01", "d00"]
    since = find(log, Filter(since=AT), JOURNAL, limit=20)
    next(since)
    log.with_name("access-001.jsonl").unlink()
    assert [event.decision for event in since] == ["d21", "d20"]


def test_a_line_longer_than_any_event_is_passed_over(log):
    with log.open("ab") as file:
        file.write(b'{"decision":"d00",' + b"x" * (3 * record.CHUNK_BYTES) + b"}\n")
        file.write(line(9000, decision="last"))
    assert found(log, limit=2) == ["last", "d22"]


def test_no_more_of_a_long_line_than_of_an_event_is_held(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"a\n" + b"x" * (5 * record.CHUNK_BYTES) + b"\nb\n")
    first, long, last = backwards(path)
    assert (first, last) == (b"b", b"a")
    assert LINE_MAX_BYTES < len(long) <= LINE_MAX_BYTES + 1 + record.CHUNK_BYTES


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
        patch.setattr(record, "CHUNK_BYTES", chunk)
        assert list(backwards(path)) == [one for one in reversed(lines) if one]


def test_what_the_guard_wrote_is_found_and_harmless(tmp_path):
    log = tmp_path / "guard.jsonl"
    mine, other = decided(0), decided(0, number=70)
    written = {"decision": mine, "detail": "\x1b[31mred", "records": ["sale\u202e1"], "us": 7}
    log.write_text(
        "\n".join([f"{mine} not json", f'["{mine}"]', json.dumps({"decision": other}), json.dumps(written), ""])
    )
    assert guard_line(log, mine) == {**written, "detail": "\ufffd[31mred", "records": ["sale\ufffd1"]}
    assert guard_line(log, decided(0, number=8)) is None
    assert guard_line(tmp_path / "none.jsonl", mine) is None


def test_the_time_since_counts_from_the_start_of_a_request(log):
    assert found(log, since=AT + timedelta(seconds=1)) == ["d22", "d21", "d20", "d12", "d11", "d10", "d02", "d01"]


def noted(seconds, **facts):
    """A line of the identity server's journal."""
    return (
        json.dumps({"at": after(seconds).isoformat(timespec="milliseconds"), "action": "sign-in", **facts}).encode()
        + b"\n"
    )


def test_whom_the_identity_server_was_asked_about_is_told_by_its_journal_read_no_further_than_it_must(log, monkeypatch):
    asked = {"path": "/identity/sign-in", "subject": "-", "operation": "-", "client": "-"}
    log.write_bytes(b"".join(line(10_000 + 10 * n, decision=f"s{n}", **asked) for n in range(4)))
    journal = log.with_name("identity.jsonl")
    journal.write_bytes(
        noted(9_000, decision="long-ago")
        + noted(9_990, decision="of-before")
        + noted(10_001, decision="s0", account="user:ben", client="shop", outcome="wrong")
        + noted(10_005, action="key", decision="k", client="scale")
        + b"no line\n"
        + noted(10_011, decision="s1", subject="user:ben", client="shop", outcome="allowed")
        + noted(10_021, decision="s2", client="shop", outcome="wrong")
    )
    read = []
    decoded = record.decoded
    monkeypatch.setattr(record, "decoded", lambda line: read.append(line) or decoded(line))
    told = [(one.decision, one.subject, one.client) for one in find(log, Filter(since=after(9_999)), journal)]
    assert told == [
        ("s3", "-", "-"), ("s2", "-", "shop"), ("s1", "user:ben", "shop"), ("s0", "unproved:user:ben", "shop")
    ]  # fmt: skip
    assert not any(b"long-ago" in one for one in read)
    for name, here in (("user:ben", ["s1", "s0"]), ("unproved:user:ben", ["s0"]), ("client:shop", ["s2", "s1", "s0"])):
        assert [one.decision for one in find(log, Filter(principal=name, since=after(9_999)), journal)] == here
