"""A decision is on the disk before it is answered, or it is not answered with yes."""

import asyncio
import json
import os

import pytest

from ostiary.foundation.errors import SystemFault
from ostiary.guard.journal import Journal, Line


def line(decision):
    return Line(
        at="2026-03-03T10:00:00.000Z", decision=decision, revision="r", system="erp", subject="user:anna", client="",
        person="user:anna", erp_user="", operations=(), records=(), reason="allowed", rule="-", detail="", us=1,
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
