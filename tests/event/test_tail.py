"""Every line of the access log is read once: across rotation, restart and retention; what is lost is counted."""

import os
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from monitor.world import AT, after, line
from ostiary.event import tail
from ostiary.event.record import LINE_MAX_BYTES, files
from ostiary.event.tail import BATCH_MAX_BYTES, Cursor, at_end, poll, retain, rotate
from ostiary.foundation.errors import SystemFault


@pytest.fixture
def log(tmp_path):
    return tmp_path / "access.jsonl"


def write(log, *lines):
    with log.open("ab") as file:
        file.write(b"".join(lines))


def named(*names):
    return [line(decision=name) for name in names]


def read_all(log, cursor=None):
    """(decisions, unreadable, lost, cursor) of everything there is."""
    cursor, found, unreadable, lost = cursor or Cursor(), [], 0, 0
    while True:
        batch = poll(log, cursor)
        found += [event.decision for event in batch.events]
        unreadable, lost, cursor = unreadable + batch.unreadable, lost + batch.lost, batch.cursor
        if not batch.more:
            return found, unreadable, lost, cursor


def turn(log):
    """Rotates at once; the writer begins the new file with the next line."""
    return rotate(log, AT, lambda: None, segment_max=1)


def test_only_whole_lines_are_read_and_the_rest_when_it_is_whole(log):
    one, two = named("a", "b")
    write(log, one, two[:50])
    found, unreadable, _, cursor = read_all(log)
    assert (found, unreadable) == (["a"], 0)
    write(log, two[50:])
    assert read_all(log, cursor)[:2] == (["b"], 0)


def test_a_log_that_is_not_there_yet_is_no_loss(log):
    assert read_all(log) == ([], 0, 0, Cursor())


def test_a_reader_that_was_away_for_rotations_reads_on_where_it_was(log):
    write(log, *named("a", "b"))
    cursor = read_all(log)[3]
    write(log, *named("c"))
    turn(log)
    write(log, *named("d"))
    turn(log)
    write(log, *named("e"))
    assert read_all(log, cursor)[:3] == (["c", "d", "e"], 0, 0)


def test_a_first_reader_begins_with_the_oldest_file(log):
    for name in "abc":
        write(log, *named(name))
        turn(log)
    assert read_all(log)[0] == ["a", "b", "c"]


def test_lines_that_are_no_event_are_counted_and_the_others_read(log):
    write(log, *named("a"), b"not json\n", b"{}\n", b"\n", b"\xff\xfe\n", *named("b"))
    assert read_all(log)[:3] == (["a", "b"], 3, 0)


def test_a_line_longer_than_any_event_is_counted(log):
    write(log, *named("a"), b"x" * (LINE_MAX_BYTES + 10) + b"\n", *named("b"))
    assert read_all(log)[:3] == (["a", "b"], 1, 0)


def test_a_line_longer_than_a_batch_does_not_hold_up_the_reader(log):
    write(log, *named("a"), b"x" * (2 * BATCH_MAX_BYTES) + b"\n", *named("b"))
    found, unreadable, lost, _ = read_all(log)
    assert (found, lost) == (["a", "b"], 0)
    assert 1 <= unreadable <= 3


def test_a_part_of_a_line_is_given_up_when_its_file_grows_no_more(log):
    write(log, *named("a"), named("never")[0][:40])
    cursor = read_all(log)[3]
    log.rename(log.with_name("access-1.jsonl"))
    write(log, *named("b"))
    assert read_all(log, cursor)[:3] == (["b"], 1, 0)


def test_a_file_that_was_cut_is_told_and_read_from_its_beginning(log):
    write(log, *named("a", "b"))
    cursor = read_all(log)[3]
    log.write_bytes(named("c")[0])
    found, _, lost, cursor = read_all(log, cursor)
    assert (found, lost) == (["c"], 1)
    write(log, *named("d"))
    assert read_all(log, cursor)[:3] == (["d"], 0, 0)


def test_a_file_that_is_gone_is_told_once_and_nothing_before_it_is_read_again(log):
    write(log, *named("a"))
    turn(log)
    write(log, *named("b"))
    cursor = read_all(log)[3]
    log.unlink()
    found, _, lost, cursor = read_all(log, cursor)
    assert (found, lost) == ([], 1)
    assert read_all(log, cursor)[:3] == ([], 0, 0)
    write(log, *named("c"))
    os.utime(log, ns=(cursor.written_ns + 1,) * 2)  # the disk's clock ticks a few times in a hundredth of a second
    assert read_all(log, cursor)[:3] == (["c"], 0, 0)


def test_who_begins_at_the_end_reads_what_comes_from_then_on(log):
    assert at_end(log) == Cursor()
    write(log, *named("a"))
    cursor = at_end(log)
    write(log, *named("b"))
    turn(log)
    aside = at_end(log)  # its writer has not turned yet
    write(log, *named("c"))
    assert read_all(log, cursor)[:3] == (["b", "c"], 0, 0)
    assert read_all(log, aside)[:3] == (["c"], 0, 0)


def test_who_reads_the_newest_file_looks_for_no_other(log, monkeypatch):
    write(log, *named("a"))
    cursor = read_all(log)[3]
    write(log, *named("b"))
    monkeypatch.setattr(tail, "files", None)
    assert read_all(log, cursor)[0] == ["b"]


def test_a_log_that_is_set_aside_while_it_is_opened_is_looked_for_again(log, monkeypatch):
    write(log, *named("a"))
    cursor = read_all(log)[3]
    here = [(log, log.stat())]
    write(log, *named("b"))
    turn(log)
    write(log, *named("c", "d"))
    with monkeypatch.context() as patch:
        patch.setattr(tail, "_here", lambda *_: here)
        with pytest.raises(FileNotFoundError):
            poll(log, cursor)
    assert read_all(log, cursor)[:3] == (["b", "c", "d"], 0, 0)


def test_a_home_that_was_restored_elsewhere_is_not_read_from_its_beginning(log, tmp_path):
    for name in "ab":
        write(log, *named(name))
        turn(log)
    cursor = read_all(log)[3]
    other = tmp_path / "other" / "access.jsonl"
    other.parent.mkdir()
    write(other, *named("c"))
    for path in files(log):
        copy = other.with_name(path.name)
        copy.write_bytes(path.read_bytes())
        os.utime(copy, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    os.utime(other, ns=(cursor.written_ns + 1,) * 2)
    assert read_all(other, cursor)[:3] == (["c"], 0, 1)


STEPS = st.lists(
    st.sampled_from(["line", "line", "line", "half", "rotate", "poll", "poll", "restart", "retain"]), max_size=40
)


@settings(max_examples=150, deadline=None)
@given(STEPS, st.integers(1000, 3000))
@example(["half", "rotate", "poll", "line", "poll", "rotate", "retain", "poll"], 1000)
def test_nothing_is_read_twice_or_lost_wherever_the_reader_is_stopped(steps, batch_max):
    with TemporaryDirectory(dir="/tmp") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(tail, "BATCH_MAX_BYTES", batch_max)
        log, cursor, written, found, waiting = Path(folder) / "access.jsonl", Cursor(), [], [], b""
        for n, step in enumerate([*steps, "line"]):
            match step:
                case "line" | "half":
                    whole = line(decision=f"d{n}", agent="x" * (n % 7) * 60)
                    part = waiting + (whole if step == "line" else whole[: len(whole) // 2])
                    waiting = b"" if step == "line" else whole[len(whole) // 2 :]
                    write(log, part)
                    written.append(f"d{n}")
                case "rotate" if not waiting:  # a writer turns to the new file between two lines
                    turn(log)
                case "poll":
                    batch = poll(log, cursor)
                    assert (batch.unreadable, batch.lost) == (0, 0)
                    found, cursor = found + [event.decision for event in batch.events], batch.cursor
                case "restart":
                    cursor = msgspec.json.decode(msgspec.json.encode(cursor), type=Cursor)
                case "retain" if cursor.inode:
                    retain(log, after(10**9), reading=cursor.inode, keep_bytes=0)
        rest, unreadable, lost, _ = read_all(log, cursor)
        assert (found + rest, unreadable, lost) == (written, 0, 0)


# --- rotation and retention -------------------------------------------------------------------------------------


def test_a_small_log_stays(log):
    assert not rotate(log, AT, lambda: None)
    write(log, *named("a"))
    assert not rotate(log, AT, lambda: None)
    assert files(log) == (log,)


def test_a_full_log_is_set_aside_and_its_writer_told(log):
    told = []
    write(log, *named("a"))
    assert rotate(log, AT, lambda: told.append(log.exists()), segment_max=10)
    assert told == [False]
    assert [path.name for path in files(log)] == ["access-00001772532000000000.jsonl"]


def test_a_clock_that_went_back_does_not_change_the_order_of_files(log):
    for n in range(3):
        write(log, *named(f"d{n}"))
        rotate(log, after(-n * 3600), lambda: None, segment_max=1)
    assert read_all(log)[0] == ["d0", "d1", "d2"]


@pytest.mark.parametrize("problem", [OSError(), TimeoutError(), SystemFault("reopen-refused", "no")])
def test_a_writer_that_cannot_turn_keeps_its_log(log, problem):
    def reopen():
        raise problem

    write(log, *named("a"))
    with pytest.raises(type(problem)):
        rotate(log, AT, reopen, segment_max=1)
    assert files(log) == (log,)


def aged(log, sizes):
    """Rotated files of these sizes, a day apart, the newest a day old."""
    for n, size in enumerate(sizes):
        path = log.with_name(f"access-{n}.jsonl")
        path.write_bytes(b"x" * size)
        at = (AT - timedelta(days=len(sizes) - n)).timestamp()
        os.utime(path, (at, at))
    log.write_bytes(b"x" * 10)
    return [log.with_name(f"access-{n}.jsonl") for n in range(len(sizes))]


def test_files_beyond_their_age_go_the_oldest_first(log):
    made = aged(log, [10] * 5)
    assert retain(log, AT, keep=timedelta(days=3, hours=1)) == tuple(made[:2])


def test_files_beyond_the_size_go_the_oldest_first(log):
    made = aged(log, [10] * 5)
    assert retain(log, AT, keep_bytes=35) == tuple(made[:3])


def test_what_was_not_read_yet_stays_whatever_its_age(log):
    made = aged(log, [10] * 5)
    assert retain(log, AT, keep=timedelta(0), keep_bytes=0, reading=made[1].stat().st_ino) == (made[0],)


def test_the_log_itself_always_stays(log):
    aged(log, [])
    assert retain(log, after(10**8), keep_bytes=0) == ()
