"""What all commands share: the command as it can be pasted, and the cells of a table."""

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.cli.terminal import CUT_MIN_CHARS, pasteable, table

MINE = Path(sys.executable).with_name("ostiary")


def test_a_command_is_named_by_its_path_where_no_shell_would_find_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert pasteable("up", tmp_path / "a b") == f"{MINE} up --home '{tmp_path}/a b'"
    other = tmp_path / "ostiary"  # of another installation
    other.write_text("#!/bin/sh\n")
    other.chmod(0o700)
    assert pasteable("up") == f"{MINE} up"


def test_a_command_is_named_by_its_name_where_a_shell_finds_it(monkeypatch, tmp_path):
    (tmp_path / "ostiary").symlink_to(MINE)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert pasteable("up") == "ostiary up"


@given(st.none() | st.booleans() | st.integers() | st.text(st.characters(categories=["L"])) | st.lists(st.text("ab")))
def test_a_cell_says_something_and_zero_is_something(value):
    header, cell = table([{"a": value}], ["a"], empty="none").splitlines()
    assert header.strip() == "A"
    assert len(cell) >= 1
    assert (cell == "-") == (value in (None, "", [], [""]))


ROW = {"id": "0123456789ab-0123456789abcdef", "when": "from 06:00 to 22:00 " * 5, "line": "policy.yaml:7"}


def shown(monkeypatch, columns, *, terminal):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    return table([ROW], list(ROW), empty="none").splitlines()[1]


@pytest.mark.parametrize(("columns", "terminal"), [(40, False), (250, True), (149, True)])
def test_nothing_is_cut_in_a_pipe_nor_where_the_terminal_has_room(monkeypatch, columns, terminal):
    line = shown(monkeypatch, columns, terminal=terminal)
    assert all(value.rstrip() in line for value in ROW.values())


def test_the_longest_is_cut_where_the_terminal_has_no_room_and_ids_are_not(monkeypatch):
    line = shown(monkeypatch, 100, terminal=True)
    assert len(line) == 100
    assert line.startswith(f"{ROW['id']}  from 06:00 to 22:00 from")
    assert line.endswith("…  policy.yaml:7")
    narrow = shown(monkeypatch, 20, terminal=True)
    assert ROW["id"] in narrow
    assert len(narrow) == len(ROW["id"]) + CUT_MIN_CHARS + len(ROW["line"]) + 4


def test_no_row_is_said():
    assert table([], ["a"], empty="none") == "none"


def test_what_somebody_wrote_draws_nothing_on_another_ones_terminal():
    """A reason that turns its letters around, or clears the screen, is read by who approves it."""
    shown = table([{"why": "\u202eharmless\x1b[2J\r"}], ["why"], empty="none")
    assert shown.splitlines()[1] == "\ufffdharmless\ufffd[2J\ufffd"
