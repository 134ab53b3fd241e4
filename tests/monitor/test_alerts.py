"""An alert is kept: one open one for each rule and key, told when it begins and when it ends."""

from datetime import timedelta

import pytest

from monitor.world import AT, after, notices
from ostiary.audit.log import Change, entries
from ostiary.foundation.errors import CallerFault
from ostiary.monitor import alerts
from ostiary.monitor.rules import RULES, Finding


def finding(key="system:erp", seconds=0, rule="error-rate", **evidence):
    return Finding(rule=rule, key=key, at=after(seconds), evidence=evidence or {"errors": 7})


def fire(store, *findings):
    with store.begin() as connection:
        return [alerts.fire(connection, one) for one in findings]


def last(store):
    return tuple(notices(store)[-1][name] for name in ("alert", "state", "at"))


def listed(store, **options):
    with store.read() as connection:
        return alerts.list_alerts(connection, **options)


def test_the_first_finding_is_told_and_the_next_ones_are_counted(store):
    first, second = fire(store, finding(), finding(seconds=60, errors=9))
    assert first == second
    (notice,) = notices(store)
    assert tuple(notice) == alerts.TOLD
    assert [notice[name] for name in ("alert", "state", "severity", "at")] == [
        first,
        "firing",
        "high",
        "2026-03-03T10:00:00.000Z",
    ]
    assert notice["evidence"] == {"errors": 7}
    (row,) = listed(store)
    assert (row["count"], row["evidence"]) == (2, {"errors": 9})
    assert (row["first"], row["last"]) == ("2026-03-03T10:00:00.000Z", "2026-03-03T10:01:00.000Z")
    assert row["what"] == RULES["error-rate"].what
    assert row["investigate"]


def test_another_key_or_rule_is_another_alert(store):
    ids = fire(store, finding(), finding("system:shop"), finding(rule="authentication-failures"))
    assert len(set(ids)) == 3
    with store.read() as connection:
        assert alerts.open_alerts(connection) == 3


def test_an_acknowledged_alert_goes_on_counting_and_is_not_told_again(store):
    [alert] = fire(store, finding())
    with store.begin() as connection:
        alerts.acknowledge(Change(connection, "uid:0", AT), alert=alert, note="I look")
    assert fire(store, finding(seconds=5)) == [alert]
    assert len(notices(store)) == 1
    (row,) = listed(store)
    assert (row["state"], row["actor"], row["note"], row["count"]) == ("acknowledged", "uid:0", "I look", 2)


def test_a_resolved_alert_is_told_leaves_the_list_and_the_next_one_is_new(store):
    [alert] = fire(store, finding())
    with store.begin() as connection:
        alerts.resolve(Change(connection, "uid:0", after(9)), alert=alert, note="disk changed")
    assert last(store) == (alert, "resolved", "2026-03-03T10:00:09.000Z")
    assert listed(store) == []
    assert [row["state"] for row in listed(store, everything=True)] == ["resolved"]
    [other] = fire(store, finding(seconds=10))
    assert other != alert
    assert last(store) == (other, "firing", "2026-03-03T10:00:10.000Z")


def test_an_emergency_is_over_when_it_ends_and_not_when_it_was_quiet(store):
    emergency = finding("client:shop", rule="break-glass", role="clerk")
    [alert] = fire(store, emergency)
    with store.begin() as connection:
        alerts.resolve_quiet(connection, after(4 * 3600))
        alerts.over(connection, finding("client:other", rule="break-glass"))
    assert len(notices(store)) == 1
    with store.begin() as connection:
        alerts.over(connection, finding("client:shop", seconds=9, rule="break-glass"))
    assert last(store) == (alert, "resolved", "2026-03-03T10:00:09.000Z")


def test_what_was_quiet_for_a_quarter_of_an_hour_resolves_itself_and_is_told(store):
    old, _ = fire(store, finding(), finding("system:shop", seconds=1))
    with store.begin() as connection:
        alerts.resolve_quiet(connection, after(15 * 60))
    assert [one["alert"] for one in notices(store) if one["state"] == "resolved"] == [old]
    assert [row["key"] for row in listed(store)] == ["system:shop"]


def test_acknowledging_and_resolving_are_audited(store):
    [alert] = fire(store, finding())
    with store.begin() as connection:
        alerts.acknowledge(Change(connection, "uid:7", AT), alert=alert, note="mine")
        alerts.resolve(Change(connection, "uid:8", AT), alert=alert)
    with store.read() as connection:
        seen = [(one["actor"], one["action"], one["object"], one["reason"]) for one in entries(connection, limit=5)]
    assert seen == [("uid:8", "alert.resolve", alert, ""), ("uid:7", "alert.acknowledge", alert, "mine")]


def test_only_an_open_alert_can_be_changed(store):
    [alert] = fire(store, finding())
    with store.begin() as connection:
        alerts.resolve(Change(connection, "uid:0", AT), alert=alert)
    for change in (alerts.acknowledge, alerts.resolve):
        for name in (alert, "al-none"):
            with pytest.raises(CallerFault, match="no open alert"), store.begin() as connection:
                change(Change(connection, "uid:0", AT), alert=name)


def test_long_keys_and_notes_are_cut(store):
    [alert] = fire(store, finding("system:" + "x" * 2000))
    assert len(notices(store)[0]["key"]) == alerts.KEY_MAX_CHARS
    assert fire(store, finding("system:" + "x" * 2000)) == [alert]
    with store.begin() as connection:
        alerts.acknowledge(Change(connection, "uid:0", AT), alert=alert, note="n" * 5000)
    assert len(listed(store)[0]["note"]) == alerts.NOTE_MAX_CHARS


def test_an_alert_of_a_rule_that_is_no_more_is_still_shown_and_resolved(store, monkeypatch):
    [alert] = fire(store, finding())
    monkeypatch.setattr(alerts, "RULES", {})
    assert listed(store)[0]["what"] == ""
    with store.begin() as connection:
        alerts.resolve_quiet(connection, after(10**6))
    assert [notices(store)[1][name] for name in ("alert", "what")] == [alert, ""]


def test_the_list_is_bounded_and_begins_with_the_newest(store, monkeypatch):
    monkeypatch.setattr(alerts, "LIST_MAX", 2)
    fire(store, *(finding(f"system:{n}", seconds=n) for n in range(5)))
    assert [row["key"] for row in listed(store)] == ["system:4", "system:3"]


def test_only_what_was_over_long_ago_is_let_go(store):
    fire(store, finding("system:old"), finding("system:open"))
    with store.begin() as connection:
        (old,) = [row["id"] for row in alerts.list_alerts(connection) if row["key"] == "system:old"]
        alerts.resolve(Change(connection, "uid:0", AT), alert=old)
        alerts.forget(connection, AT + alerts.KEPT - timedelta(seconds=1))
    assert len(listed(store, everything=True)) == 2
    with store.begin() as connection:
        alerts.forget(connection, AT + alerts.KEPT)
    assert [row["key"] for row in listed(store, everything=True)] == ["system:open"]
