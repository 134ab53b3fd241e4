"""The audit log: what is in it cannot be changed, taken away, added or reordered unnoticed."""

import json
import subprocess
import sys
import threading
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from functools import reduce

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert, select, update

from ostiary.audit.log import Entry, append, check, entries, grow, leaf_hash, packed, sign_head, tree, verify
from ostiary.foundation.errors import OperatorFault
from ostiary.foundation.home import Home
from ostiary.store.database import open_store
from ostiary.store.tables import AUDIT_LEAF, AUDIT_TREE, PRINCIPAL

AT = datetime(2026, 11, 23, 12, tzinfo=UTC)
SIZE = 6


def entry(name, action="client.add"):
    return Entry(at=AT, actor="uid:0", action=action, object=name)


def add(store, *names):
    for name in names:
        with store.begin() as connection:
            append(connection, entry(name))


@pytest.fixture
def home(tmp_path):
    made = Home(root=tmp_path / "home")
    made.create()
    return made


@pytest.fixture
def log(store, home):
    """A log of six entries, signed."""
    add(store, *(f"client:{n}" for n in range(SIZE)))
    sign_head(store, home, AT)
    return store, home


class Saved:
    """The log as rows, to change and to put back."""

    def __init__(self, store):
        with store.read() as connection:
            self.leaves = [tuple(row) for row in connection.execute(select(AUDIT_LEAF).order_by(AUDIT_LEAF.c.number))]
            self.size, self.frontier = connection.execute(select(AUDIT_TREE.c.size, AUDIT_TREE.c.frontier)).one()

    def write(self, store, leaves=None, size=None, frontier=None):
        with store.begin() as connection:
            connection.execute(delete(AUDIT_LEAF))
            rows = [dict(zip(("number", "action", "entry"), leaf, strict=True)) for leaf in leaves or self.leaves]
            connection.execute(insert(AUDIT_LEAF), rows)
            told = {"size": self.size if size is None else size, "frontier": frontier or self.frontier}
            connection.execute(update(AUDIT_TREE).values(**told))


def refused(store, home, match="does not hold"):
    """Noticed, and still noticed after the next head was signed, where that is not refused itself."""
    for _ in range(2):
        with pytest.raises(OperatorFault, match=match):
            verify(store, home)
        with suppress(OperatorFault):
            sign_head(store, home, AT)


def test_an_honest_log_holds_and_its_entries_come_newest_first(log):
    assert verify(*log).size == SIZE
    with log[0].read() as connection:
        assert [one["index"] for one in entries(connection, limit=2)] == [5, 4]
        assert [one["object"] for one in entries(connection, action="client.add", limit=1)] == ["client:5"]


def test_a_log_without_entries_can_be_signed_and_goes_on(store, home):
    sign_head(store, home, AT)
    assert verify(store, home).size == 0
    add(store, "client:0")
    assert verify(store, home).size == 1
    assert sign_head(store, home, AT) == verify(store, home)


def test_a_head_that_nothing_was_added_to_is_left_as_it_is(store, home):
    add(store, "client:0")
    sign_head(store, home, AT)
    before = home.audit_head.stat().st_ino
    assert sign_head(store, home, AT + timedelta(days=1)) == verify(store, home)
    assert home.audit_head.stat().st_ino == before
    add(store, "client:1")
    sign_head(store, home, AT)
    assert home.audit_head.stat().st_ino != before


def renumbered(leaves):
    return [(number, action, text) for number, (_, action, text) in enumerate(leaves)]


@st.composite
def changed(draw, leaves):
    """The leaves with one thing changed, taken away, added, or moved."""
    after, at = list(leaves), draw(st.integers(0, len(leaves) - 1))
    number, action, text = after[at]
    match draw(st.sampled_from(["entry", "action", "gone", "cut", "added", "moved", "number"])):
        case "entry":
            where = draw(st.integers(0, len(text) - 1))
            after[at] = (number, action, text[:where] + chr(ord(text[where]) ^ 1) + text[where + 1 :])
        case "action":
            after[at] = (number, f"{action}s", text)
        case "gone":
            del after[at]
            after = renumbered(after) if draw(st.booleans()) else after
        case "cut":
            after = after[: max(at, 1)]
        case "added":
            after.insert(at, (number, action, draw(st.sampled_from(leaves))[2]))
            after = renumbered(after)
        case "moved":
            after.insert((at + draw(st.integers(1, len(leaves) - 1))) % len(leaves), after.pop(at))
            after = renumbered(after)
        case "number":
            after[-1] = (len(leaves) + draw(st.integers(0, 3)), *after[-1][1:])
    return after


@given(st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_whatever_is_changed_in_the_store_is_noticed(log, data):
    """Also by someone who knows how the tree is made, and makes it anew over what he changed."""
    store, home = log
    saved = Saved(store)
    leaves = data.draw(changed(saved.leaves))
    if leaves == saved.leaves:
        return
    anew = data.draw(st.booleans())
    if anew and leaves[:SIZE] == saved.leaves:
        return  # an entry as any other, after the last that was signed
    frontier = packed(reduce(grow, (leaf_hash(text.encode()) for _, _, text in leaves), ())) if anew else None
    saved.write(store, leaves, len(leaves) if anew else None, frontier)
    try:
        refused(store, home)
    finally:
        saved.write(store)
    assert verify(store, home).size == SIZE


@given(st.data())
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_whatever_is_changed_in_the_stored_tree_is_noticed(log, data):
    store, home = log
    saved = Saved(store)
    if data.draw(st.booleans()):
        saved.write(store, size=data.draw(st.integers(0, 20).filter(lambda size: size != SIZE)))
    else:
        at = data.draw(st.integers(0, len(saved.frontier) - 1))
        frontier = bytearray(saved.frontier)
        frontier[at] ^= 1 << data.draw(st.integers(0, 7))
        saved.write(store, frontier=bytes(frontier))
    try:
        refused(store, home)
    finally:
        saved.write(store)


def test_what_was_not_signed_yet_is_held_against_the_stored_tree(log):
    store, home = log
    add(store, "client:6", "client:7")
    assert verify(store, home).size == 8
    with store.begin() as connection:
        connection.execute(delete(AUDIT_LEAF).where(AUDIT_LEAF.c.number == 7))
    refused(store, home)


def test_a_store_that_was_rolled_back_is_noticed_even_when_it_has_grown_again(log):
    store, home = log
    saved = Saved(store)
    add(store, "client:6", "client:7")
    sign_head(store, home, AT)
    saved.write(store)
    refused(store, home, "taken away")
    add(store, "client:x")
    refused(store, home, "taken away")
    add(store, "client:y", "client:z")
    refused(store, home)


def test_an_empty_store_beside_a_signed_head_is_noticed(log, databases):
    with databases.one("sqlite") as url, closing(open_store(url)) as other:
        refused(other, log[1], "taken away")


@pytest.mark.parametrize("field", ["origin", "size", "root", "subtrees", "at", "signature"])
def test_a_head_of_which_anything_was_changed_is_noticed(log, field):
    store, home = log
    head = json.loads(home.audit_head.read_bytes())
    head[field] = head[field] - 1 if field == "size" else f"A{head[field][1:]}" if head[field][0] != "A" else "B"
    home.audit_head.write_text(json.dumps(head))
    refused(store, home)


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", "1", '{"origin": 1}', "\xff"])
def test_a_head_that_is_no_head_is_noticed(log, text):
    log[1].audit_head.write_bytes(text.encode("latin1"))
    refused(*log)


def test_a_head_of_another_log_is_noticed(log, databases, tmp_path):
    store, home = log
    other = Home(root=tmp_path / "other")
    other.create()
    with databases.one("sqlite") as url, closing(open_store(url)) as foreign:
        add(foreign, "client:a")
        sign_head(foreign, other, AT)
        home.audit_head.write_bytes(other.audit_head.read_bytes())
        refused(store, home, "signature")
        (home.keys / "audit.key").write_bytes((other.keys / "audit.key").read_bytes())
        refused(store, home)


def test_a_missing_head_is_noticed(log):
    log[1].audit_head.unlink()
    with pytest.raises(OperatorFault, match="missing"):
        verify(*log)


@pytest.mark.parametrize("gone", range(SIZE))
def test_a_signed_entry_that_is_gone_is_noticed_before_anything_is_added(log, gone):
    store, home = log
    assert check(store, home).size == SIZE
    with store.begin() as connection:
        connection.execute(delete(AUDIT_LEAF).where(AUDIT_LEAF.c.number == gone))
    for act in (lambda: check(store, home), lambda: sign_head(store, home, AT)):
        with pytest.raises(OperatorFault, match="1 were taken away"):
            act()


def test_a_missing_or_open_key_is_noticed_and_none_is_made(log):
    store, home = log
    (home.keys / "audit.key").chmod(0o644)
    refused(store, home, "others may read")
    (home.keys / "audit.key").unlink()
    refused(store, home, "missing")
    assert not (home.keys / "audit.key").exists()
    (home.keys / "audit.key").write_text("no key")
    (home.keys / "audit.key").chmod(0o600)
    refused(store, home, "not a private key")


def test_a_change_that_rolls_back_leaves_no_entry(log):
    def change():
        with log[0].begin() as connection:
            append(connection, entry("y"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        change()
    with log[0].read() as connection:
        assert tree(connection).size == SIZE


@pytest.mark.parametrize("killed", ["before the entry", "after the entry", "never"])
def test_a_change_and_its_entry_are_there_together_or_not_at_all(database_url, killed):
    """The process is killed between the two, or between both and the commit."""
    code = f"""
import os, signal
from datetime import UTC, datetime, timedelta
from functools import reduce
from sqlalchemy import insert
from ostiary.audit.log import Entry, append
from ostiary.store.database import open_store
from ostiary.store.tables import PRINCIPAL
with open_store({database_url!r}).begin() as connection:
    row = dict(id="user:a", name="a", person="user:a", generation=1, active=True, made_at_us=0)
    connection.execute(insert(PRINCIPAL).values(row))
    if {killed == "before the entry"}: os.kill(os.getpid(), signal.SIGKILL)
    append(connection, Entry(at=datetime.now(UTC), actor="uid:0", action="user.add", object="user:a"))
    if {killed == "after the entry"}: os.kill(os.getpid(), signal.SIGKILL)
"""
    status = subprocess.run([sys.executable, "-c", code], check=False).returncode
    assert status == (0 if killed == "never" else -9)
    with closing(open_store(database_url)) as store, store.read() as connection:
        there = len(connection.execute(select(PRINCIPAL)).all())
        assert there == tree(connection).size == len(list(entries(connection))) == (killed == "never")


def test_appending_at_once_keeps_the_log_whole(store, home):
    """From the very first entry on; and whoever verifies meanwhile sees no false alarm."""
    sign_head(store, home, AT)
    threads = [threading.Thread(target=add, args=(store, *map(str, range(15)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        verify(store, home)
        sign_head(store, home, AT)
    for thread in threads:
        thread.join()
    assert verify(store, home).size == 60


def test_whose_key_was_stolen_lays_key_and_head_aside_together_and_goes_on_with_the_same_entries(log):
    store, home = log
    before, stolen = json.loads(home.audit_head.read_bytes()), (home.keys / "audit.key").read_bytes()
    home.audit_head.unlink()
    (home.keys / "audit.key").unlink()
    sign_head(store, home, AT)
    after = json.loads(home.audit_head.read_bytes())
    assert (verify(store, home).size, after["root"]) == (SIZE, before["root"])
    assert after["public_key"] != before["public_key"]
    (home.keys / "audit.key").write_bytes(stolen)  # what its thief signs is not believed, nor the other way round
    with pytest.raises(OperatorFault, match="signature"):
        verify(store, home)
