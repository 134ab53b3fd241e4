"""The real gate writes the log, the watch reads it and blocks, and the real gate refuses: the third loop, closed."""

from datetime import timedelta
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from fixed_clock import FixedClock
from monitor.world import AT
from ostiary.envoy.access import Signals, signal_resources
from ostiary.envoy.daemon import Gate
from ostiary.event.record import Filter, files, find, find_decision
from ostiary.foundation.home import Settings
from ostiary.monitor import alerts
from ostiary.monitor.watch import Watch
from running import until


def sibling(name):
    spec = spec_from_file_location(f"envoy_{name}", Path(__file__).parents[1] / "envoy" / f"{name}.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def gate():
    made = sibling("conftest").Gate()
    made.start(made.files(sibling("test_traps").plan_of(made), [("clerk",)]))
    yield made
    made.stop()


class Watching:
    """A watch over the gate's own log. Loopback is where tests call from, so here it may be measured against."""

    def __init__(self, gate, store, **options):
        self.gate, self.store, self.clock = gate, store, FixedClock(AT)
        self.watch = Watch(
            store, gate.edge.home, self.clock, Settings(listen="0.0.0.0"), never=("127.0.0.1",),
            blocked_changed=self.push, reopen_logs=Gate(Path(), gate.edge).reopen_logs, **options,
        )  # fmt: skip

    def push(self):
        with self.store.read() as connection:
            blocked = alerts.blocked(connection, self.clock.now())
        files = signal_resources(Signals(blocked=blocked))
        self.gate.apply({"ecds/blocked.json": files["ecds/blocked.json"]})

    def round(self, last, seconds=0):
        """One round `seconds` after the answer `last`, once its line is written."""
        self.clock.at = self.found(last.decision).at + timedelta(seconds=1 + seconds)
        self.watch.tick()

    def found(self, decision):
        return until(lambda: find_decision(self.gate.edge.home.access_log, decision), lambda: decision)

    def alerts(self):
        with self.store.read() as connection:
            return {(row["rule"], row["key"]) for row in alerts.list_alerts(connection)}


def test_a_guesser_is_refused_whatever_he_shows_next_and_his_neighbour_is_served(gate, chosen_store):
    watching = Watching(gate, chosen_store)
    good, wrong = gate.token(("clerk",), scope="shop/*:read"), gate.token(("clerk",), aud="https://other.test")
    for _ in range(6):
        last = gate.ask("/shop/orders", token=wrong, source="127.0.0.2")
    assert gate.ask("/shop/orders", token=good, source="127.0.0.2").status == 200
    watching.round(last)
    assert ("authentication-failures", "address:127.0.0.2") in watching.alerts()
    refused = gate.ask("/shop/orders", token=good, source="127.0.0.2")
    assert (refused.status, refused.reason) == (403, "address-blocked")
    assert gate.ask("/shop/orders", token=good, source="127.0.0.1").status == 200

    for _ in range(20):
        last = gate.ask("/shop/orders", token=wrong, source="127.0.0.2")
    watching.round(last, seconds=700)
    assert gate.ask("/shop/orders", token=good, source="127.0.0.2").status == 200


@pytest.mark.parametrize(("path", "status"), [("/identity/token", 401), ("/identity/sign-in", 200)])
def test_who_guesses_secrets_or_passwords_is_noticed(gate, chosen_store, path, status, monkeypatch):
    watching = Watching(gate, chosen_store)
    monkeypatch.setattr(gate.identity, "reply", lambda _: (status, {"ostiary-reason": "credential-invalid"}, None))
    for _ in range(6):
        last = gate.ask(path, method="POST", host="gate.test", body=b"", source="127.0.0.4")
    watching.round(last)
    assert ("authentication-failures", "address:127.0.0.4") in watching.alerts()


def test_who_shows_no_token_is_alerted_and_not_blocked(gate, chosen_store):
    watching = Watching(gate, chosen_store)
    for _ in range(6):
        last = gate.ask("/shop/orders", source="127.0.0.3")
    watching.round(last)
    assert ("calls-without-token", "address:127.0.0.3") in watching.alerts()
    assert gate.ask("/shop/orders", token=gate.token(("clerk",), scope="shop/*:read"), source="127.0.0.3").status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"user-agent": 'a"b\\c'}, {"user-agent": "\xff\xfe" * 400}, {"user-agent": "\x9b31m"}, {"user-agent": "é" * 300},
        {"user-agent": "a" * 50_000}, {"x-envoy-original-path": "/lie"}, {"x-forwarded-for": "9.9.9.9"},
        {"ostiary-reason": "allowed", "ostiary-decided": "1 allowed lie lie", "x-gw-operation": "lie", "x-gw-system": "lie"},
    ],
    ids=["quotes", "bytes", "control", "cut", "long", "path", "address", "inside"],
)  # fmt: skip
def test_a_caller_cannot_write_an_event_that_is_not_read_or_lies(gate, chosen_store, headers):
    watching = Watching(gate, chosen_store)
    wrong = gate.token(("clerk",), aud="https://other.test")
    for _ in range(6):
        last = gate.ask("/shop/orders", token=wrong, headers=headers, source="127.0.0.4")
    watching.round(last)
    assert ("authentication-failures", "address:127.0.0.4") in watching.alerts()
    assert "events-lost" not in {rule for rule, _ in watching.alerts()}


def test_the_gate_turns_to_a_new_log_and_no_request_is_lost(gate, chosen_store):
    watching, asked = Watching(gate, chosen_store, segment_max=1), []
    log = gate.edge.home.access_log
    for n in range(3):
        asked += [gate.ask("/shop/orders", source="127.0.0.5") for _ in range(4)]
        watching.round(asked[-1], seconds=60 * n)
    assert len(set(files(log)) - {log}) == 3
    watching.round(gate.ask("/shop/orders"), seconds=300)
    found = [event.decision for event in find(log, Filter(), gate.edge.home.identity_log, limit=13)]
    assert found[1:] == [one.decision for one in reversed(asked)]
    assert "events-lost" not in {rule for rule, _ in watching.alerts()}
