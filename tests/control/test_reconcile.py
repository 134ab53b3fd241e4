"""Revocations on their way to the gate: one is pushed at once, whatever else is on its way; many become one list."""

import threading

import pytest

from ostiary.control import reconcile
from ostiary.control.installation import open_installation
from ostiary.control.prepare import START_FILE, edge_of, initialise
from ostiary.control.reconcile import HOT_MAX, Reconciler
from ostiary.foundation.home import Home
from ostiary.store import directory

HOT, COLD = "ecds/revoked-hot.json", "ecds/revoked-cold.json"


class TwinGate:
    """Has in force what it was told; `slow` keeps it busy with the cold list until it is set."""

    def __init__(self):
        self.files, self.told, self.slow = {}, [], threading.Event()
        self.busy = threading.Event()
        self.slow.set()

    def write(self, resources):
        self.told += resources
        self.files |= resources
        return tuple(resources)

    def put(self, resources):
        if COLD in resources:
            self.busy.set()
            assert self.slow.wait(10)
        self.write(resources)

    def holds(self, file, key):
        return key.partition(":")[2] in str(self.files[file])


@pytest.fixture
def on(folder):
    home = Home(root=folder / "home")
    initialise(home, upstream="http://127.0.0.1:9")
    (home.run / START_FILE).write_text("0")
    made = open_installation(home)
    yield made
    made.store.close()


@pytest.fixture
def gate():
    return TwinGate()


@pytest.fixture
def reconciler(on, gate):
    made = Reconciler(on, gate, edge_of(on))
    made.prepare()
    gate.told.clear()
    return made


def record(on, keys, life_s=1000):
    now_s = int(on.clock.now().timestamp())
    with on.store.begin() as connection:
        directory.revoke(connection, keys, expires_at_s=now_s + life_s, reason="", at_us=0)
    return keys


def some(count, name="a"):
    return [f"jti:{name}-{n}" for n in range(count)]


def test_a_few_revocations_do_not_make_the_gate_read_the_long_list_again(on, gate, reconciler):
    reconciler.refuse(record(on, some(HOT_MAX)))
    reconciler.shorten()
    reconciler.catch_up()
    assert COLD not in gate.told
    assert all(gate.holds(HOT, key) for key in some(HOT_MAX))


def test_many_become_part_of_the_long_list_and_none_is_let_go(on, gate, reconciler):
    reconciler.refuse(record(on, some(HOT_MAX + 1)))
    reconciler.shorten()
    reconciler.refuse(record(on, ["jti:one-more"]))
    assert all(gate.holds(COLD, key) for key in some(HOT_MAX + 1))
    assert not gate.holds(HOT, "jti:a-0")
    assert gate.holds(HOT, "jti:one-more")


def test_what_another_process_recorded_is_pushed_too(on, gate, reconciler):
    record(on, ["grant:elsewhere"])
    reconciler.catch_up()
    assert gate.holds(HOT, "grant:elsewhere")
    record(on, some(HOT_MAX + 1))
    reconciler.catch_up()
    assert all(gate.holds(COLD, key) for key in [*some(HOT_MAX + 1), "grant:elsewhere"])
    assert not gate.holds(HOT, "grant:elsewhere")


def test_what_no_living_token_carries_is_let_go(on, gate, reconciler, monkeypatch):
    monkeypatch.setattr(reconcile, "HOT_MAX", 2)
    reconciler.refuse(record(on, some(3, "gone"), life_s=-1))
    reconciler.catch_up()
    assert not any(gate.holds(file, key) for key in some(3, "gone") for file in (HOT, COLD))


def test_a_revocation_is_not_held_up_by_the_long_list(on, gate, reconciler):
    reconciler.refuse(record(on, some(HOT_MAX + 1)))
    gate.slow.clear()
    merging = threading.Thread(target=reconciler.shorten)
    merging.start()
    try:
        assert gate.busy.wait(10)
        reconciler.refuse(record(on, ["jti:urgent"]))
        assert gate.holds(HOT, "jti:urgent")
        assert not gate.holds(COLD, "jti:a-0")
    finally:
        gate.slow.set()
        merging.join()
    assert gate.holds(HOT, "jti:urgent")
    assert gate.holds(COLD, "jti:a-0")
