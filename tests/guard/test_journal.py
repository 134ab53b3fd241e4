"""A decision is on the disk before it is answered, or it is not answered with yes."""

import asyncio
import json
import os
import subprocess
import sys

import pytest

from ostiary.foundation.errors import SystemFault
from ostiary.guard.journal import Journal, Line


def line(decision):
    return Line(
        at="2026-03-03T10:00:00.000Z", decision=decision, revision="r", system="erp", subject="user:anna", client="", here={}, role_set="", scopes=(),
        person="user:anna", erp_user="", operations=(), whole=True, records=(), reason="allowed", rule="-", detail="", us=1,
    )  # fmt: skip


def decisions(path):
    return [json.loads(text)["decision"] for text in path.read_text().splitlines()]


async def test_a_line_is_in_the_file_when_record_returns(tmp_path):
    journal = Journal(tmp_path / "guard.jsonl")
    await journal.record(line("a"))
    assert decisions(tmp_path / "guard.jsonl") == ["a"]
    assert (tmp_path / "guard.jsonl").stat().st_mode & 0o777 == 0o600


async def test_many_lines_share_a_flush_and_keep_their_order(tmp_path, monkeypatch):
    flushes = []
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: (flushes.append(1), real(descriptor)))
    journal = Journal(tmp_path / "guard.jsonl")
    await asyncio.gather(*[journal.record(line(f"d{n}")) for n in range(300)])
    assert decisions(tmp_path / "guard.jsonl") == [f"d{n}" for n in range(300)]
    assert len(flushes) < 10


async def test_a_disk_that_is_nearly_full_takes_no_line(tmp_path):
    journal = Journal(tmp_path / "guard.jsonl", free_min_bytes=1 << 62)
    with pytest.raises(SystemFault, match="bytes are free"):
        await journal.record(line("a"))
    assert (tmp_path / "guard.jsonl").read_bytes() == b""


async def test_a_disk_that_fails_half_way_leaves_no_half_line(tmp_path, monkeypatch):
    journal = Journal(tmp_path / "guard.jsonl")
    await journal.record(line("a"))
    real = os.write
    with monkeypatch.context() as broken:
        broken.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:10]))
        with pytest.raises(SystemFault):
            await journal.record(line("b"))
    await journal.record(line("c"))
    assert decisions(tmp_path / "guard.jsonl") == ["a", "c"]


async def test_a_file_that_was_moved_away_is_begun_anew(tmp_path):
    path = tmp_path / "guard.jsonl"
    journal = Journal(path)
    await journal.record(line("a"))
    path.rename(tmp_path / "guard-1.jsonl")
    await journal.record(line("b"))
    assert decisions(path) == ["b"]


async def test_an_unwritable_place_is_a_clear_fault(tmp_path):
    with pytest.raises(SystemFault):
        await Journal(tmp_path / "nowhere" / "guard.jsonl").record(line("a"))


async def test_a_line_half_written_by_a_crash_does_not_spoil_the_next_one(tmp_path):
    path = tmp_path / "guard.jsonl"
    journal = Journal(path)
    await journal.record(line("a"))
    await journal.end()
    with path.open("ab") as file:
        file.write(b'{"at":"2026-03-03T10:')
    await Journal(path).record(line("b"))
    assert decisions(path) == ["a", "b"]


async def test_what_was_noted_is_written_before_the_end(tmp_path):
    journal = Journal(tmp_path / "guard.jsonl")
    journal.note(line("refused"))
    await journal.end()
    assert decisions(tmp_path / "guard.jsonl") == ["refused"]


async def test_a_fault_of_any_kind_is_told_to_everyone_who_waits(tmp_path, monkeypatch):
    journal = Journal(tmp_path / "guard.jsonl")
    monkeypatch.setattr(journal, "_commit", lambda _: 1 / 0)
    with pytest.raises(SystemFault):
        await asyncio.wait_for(journal.record(line("a")), 5)


KILLED = """
import asyncio, sys
from pathlib import Path
from ostiary.guard.journal import Journal, Line

async def one(journal, name):
    await journal.record(Line(at="", decision=name, revision="", system="", subject="", client="", person="",
        here={}, role_set="", scopes=(),
        erp_user="", operations=(), whole=True, records=(), reason="allowed", rule="", detail="x" * 500, us=1))
    print(name, flush=True)

async def main():
    journal, number = Journal(Path(sys.argv[1])), 0
    while True:
        await asyncio.gather(*[one(journal, f"d{number + n}") for n in range(50)])
        number += 50

asyncio.run(main())
"""


def test_a_killed_guard_loses_no_line_that_was_answered(tmp_path):
    path = tmp_path / "guard.jsonl"
    writer = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True)
    answered = [writer.stdout.readline().strip() for _ in range(500)]
    writer.kill()
    answered += writer.stdout.read().split()
    writer.stdout.close()
    writer.wait()
    assert set(answered[:-1]) <= set(decisions(path))
    asyncio.run(Journal(path).record(line("after")))
    assert decisions(path)[-1] == "after"


def test_a_full_disk_closes_and_what_was_written_stays(tmp_path):
    """A real file system of 1 MB, where this may be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("no right to mount a file system")
    try:
        asyncio.run(_fill(disk / "guard.jsonl"))
    finally:
        subprocess.run(["umount", disk], check=True)


async def _fill(path):
    journal, written = Journal(path, free_min_bytes=0), []

    async def fill():
        for number in range(10_000):
            await journal.record(line(f"d{number}"))
            written.append(f"d{number}")

    with pytest.raises(SystemFault):
        await fill()
    assert decisions(path) == written
    await journal.end()
