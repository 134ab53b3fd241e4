"""A measure blocks who guessed and nobody else, ends by itself, and can be undone."""

from datetime import timedelta

import pytest

from monitor.world import AT, after
from ostiary.audit.log import Change, entries
from ostiary.foundation.errors import CallerFault
from ostiary.monitor import alerts
from ostiary.monitor.alerts import BLOCK_MAX, LOOPBACK
from ostiary.monitor.rules import Finding
from ostiary.plan.model import Response

FIRST = timedelta(seconds=Response().block_s)


def respond(store, key="address:203.0.113.9", seconds=0, *, late=0, rule="authentication-failures", never=LOOPBACK):
    finding = Finding(rule=rule, key=key, at=after(seconds), evidence={"failures": 6})
    with store.begin() as connection:
        return alerts.respond(connection, finding, "al-1", now=after(seconds + late), never=never, first=FIRST)


def blocked(store, seconds):
    with store.read() as connection:
        return alerts.blocked(connection, after(seconds))


def test_a_guesser_is_blocked_for_ten_minutes(store):
    made = respond(store)
    assert blocked(store, 599) == ("203.0.113.9/32",)
    assert blocked(store, 600) == ()
    with store.read() as connection:
        (row,) = alerts.list_measures(connection, now=after(10))
        assert alerts.list_measures(connection, now=after(601)) == []
        assert len(alerts.list_measures(connection, now=after(601), everything=True)) == 1
    assert (row["id"], row["kind"], row["alert"]) == (made, "block", "al-1")
    assert row["reason"] == "6 failed authentications within a minute"
    assert row["expires"] == "2026-03-03T10:10:00.000Z"


def test_each_further_block_within_a_week_lasts_twice_as_long_up_to_a_day(store):
    seconds, lengths = 0, []
    for _ in range(10):
        assert respond(store, seconds=seconds)
        with store.read() as connection:
            row = alerts.list_measures(connection, now=after(seconds))[0]
        length = next(n for n in range(10**6) if not blocked(store, seconds + n * 600)) * 600
        lengths.append(length)
        assert row["undone_by"] == ""
        seconds += length
    assert lengths == [600 * 2**n for n in range(8)] + [BLOCK_MAX.total_seconds()] * 2
    assert respond(store, seconds=seconds + 8 * 86400)
    assert blocked(store, seconds + 8 * 86400 + 601) == ()


def test_who_is_blocked_already_is_not_blocked_again(store):
    assert respond(store)
    assert respond(store, seconds=60) is None


@pytest.mark.parametrize(
    ("rule", "key"),
    [
        ("authentication-failures", "client:shop"),
        ("calls-without-token", "address:203.0.113.9"),
        ("error-rate", "system:erp"),
        ("authentication-failures", "address:-"),
        ("authentication-failures", "address:nobody"),
    ],
)
def test_only_an_address_that_guessed_is_blocked(store, rule, key):
    assert respond(store, key, rule=rule) is None


@pytest.mark.parametrize(
    ("key", "never"),
    [
        ("address:127.0.0.1", LOOPBACK),
        ("address:::1", LOOPBACK),
        ("address:203.0.113.9", ("203.0.113.0/24",)),
        ("address:203.0.113.9", ("203.0.113.9",)),
        ("address:2001:db8:1:2::/64", ("2001:db8:1:2::5",)),
    ],
)
def test_an_exception_is_never_measured_against(store, key, never):
    assert respond(store, key, never=never) is None
    assert respond(store, "address:198.51.100.7", never=never)


def test_a_caller_with_a_network_of_his_own_is_blocked_with_all_of_it(store):
    respond(store, "address:2001:db8:1:2::/64")
    assert blocked(store, 1) == ("2001:db8:1:2::/64",)


def test_old_news_after_a_standstill_block_nobody(store):
    assert respond(store, late=600) is None
    assert respond(store, late=599)


def test_an_undone_block_ends_now_and_is_no_strike(store):
    made = respond(store)
    with store.begin() as connection:
        alerts.undo(Change(connection, "uid:0", after(5)), measure=made)
    assert blocked(store, 5) == ()
    assert respond(store, seconds=60)
    assert blocked(store, 60 + 599)
    assert not blocked(store, 60 + 600)


def test_only_a_measure_in_force_can_be_undone(store):
    made = respond(store)
    for name, seconds in (("me-none", 1), (made, 601)):
        with pytest.raises(CallerFault, match="in force"), store.begin() as connection:
            alerts.undo(Change(connection, "uid:0", after(seconds)), measure=name)


def test_making_and_undoing_are_audited(store):
    made = respond(store)
    with store.begin() as connection:
        alerts.undo(Change(connection, "uid:7", after(5)), measure=made)
    with store.read() as connection:
        undone, began = entries(connection, limit=5)
    assert (undone["actor"], undone["action"], undone["object"]) == ("uid:7", "measure.undo", made)
    assert (began["actor"], began["action"], began["object"]) == ("ostiary", "measure.make", made)
    assert began["after"] == {"target": "203.0.113.9/32", "until": "2026-03-03T10:10:00.000Z", "alert": "al-1"}


def test_a_flood_of_guessers_fills_the_gates_list_up_to_its_limit(store, monkeypatch):
    monkeypatch.setattr(alerts, "LIVE_MAX", 3)
    made = [respond(store, f"address:198.51.100.{n}") for n in range(5)]
    assert [one is not None for one in made] == [True, True, True, False, False]
    assert respond(store, "address:198.51.100.4", seconds=600)


def test_blocks_are_those_of_now_even_before_they_were_made(store):
    respond(store, seconds=100)
    assert blocked(store, 0) == ("203.0.113.9/32",)  # a clock that goes back does not open the gate


def test_what_ended_long_ago_is_let_go(store):
    respond(store)
    for later, left in ((alerts.KEPT, 1), (alerts.KEPT + FIRST, 0)):
        with store.begin() as connection:
            alerts.forget(connection, AT + later)
            assert len(alerts.list_measures(connection, now=AT, everything=True)) == left
