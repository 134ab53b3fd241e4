"""The watch from the log's line to alert, block and notice: nothing twice, nothing lost, whatever fails."""

import asyncio
import json
import os
from datetime import timedelta

import pytest
from sqlalchemy import delete, insert, select

from databases import CHOSEN
from fixed_clock import FixedClock
from monitor.world import AT, NAMELESS, SECRET, WRONG, after, line, notices
from ostiary.audit.log import Change, Entry, append, sign_head
from ostiary.event import tail
from ostiary.foundation.errors import SystemFault
from ostiary.foundation.home import Settings
from ostiary.identity import keys
from ostiary.monitor import alerts, watch
from ostiary.monitor.watch import DISK_FREE_MIN_BYTES, Watch
from ostiary.store.database import Sealer, open_store
from ostiary.store.tables import AUDIT_LEAF

PLENTY = DISK_FREE_MIN_BYTES * 10


class World:
    """A watch with all it stands on; what it tells others is noted in `told`."""

    def __init__(self, home, store, **options):
        self.home, self.store, self.options = home, store, options
        self.clock, self.free, self.told, self.broken = FixedClock(AT), PLENTY, [], []
        self.watch = self.begin()

    def begin(self):
        """A watch as after a restart: it knows what the store knows."""
        return Watch(
            self.store, self.home, self.clock, self.options.get("settings", Settings()),
            blocked_changed=lambda: self._tell("blocked"), disk_low=lambda low: self._tell("low" if low else "room"),
            reopen_logs=lambda: self._tell("reopen"), free_bytes=lambda _: self.free,
            **{name: value for name, value in self.options.items() if name != "settings"},
        )  # fmt: skip

    def _tell(self, what):
        if self.broken:
            raise self.broken.pop()
        self.told.append(what)

    def write(self, *lines):
        with self.home.access_log.open("ab") as file:
            file.write(b"".join(lines))

    def tick(self, seconds):
        self.clock.at = after(seconds)
        self.watch.tick()

    def alerts(self, **options):
        with self.store.read() as connection:
            return alerts.list_alerts(connection, **options)

    def blocked(self):
        with self.store.read() as connection:
            return alerts.blocked(connection, self.clock.now())

    def metric(self, name):
        lines = self.watch.metrics.render().decode().splitlines()
        return next(float(one.rpartition(" ")[2]) for one in lines if one.rpartition(" ")[0] == name)


@pytest.fixture
def world(home, chosen_store):
    return World(home, chosen_store)


def guesses(seconds=0, count=6, **facts):
    return [line(seconds + n, **{**WRONG, **facts}) for n in range(count)]


def usual(world, requests=200, bytes_out=900):
    """Three days on which the hour from 10:00 UTC brought this much."""
    world.tick(-4 * 86400)
    for day in (3, 2, 1):
        world.write(*(line(n * 3600 / requests - day * 86400, bytes_out=bytes_out) for n in range(requests)))
        world.tick(3700 - day * 86400)
    assert world.alerts(everything=True) == []


@pytest.mark.standard("F3")
@pytest.mark.parametrize("fires", [True, False])
@pytest.mark.parametrize(
    ("rule", "lines", "near"),
    [
        ("slow-responses", [{"duration_ms": 501}] * 6 + [{}] * 94, [{"duration_ms": 501}] * 5 + [{}] * 95),
        ("authentication-failures", [WRONG] * 6, [WRONG] * 5),
        ("calls-without-token", [NAMELESS] * 6, [NAMELESS] * 5),
        ("error-rate", [{"status": 500}] * 6 + [{}] * 94, [{"status": 500}] * 5 + [{}] * 95),
        ("availability", [{"status": 503}] * 3 + [{}] * 97, [{"status": 503}] * 2 + [{}] * 98),
        ("request-volume", [{}] * 241, [{}] * 240),
        ("payload-size", [{"bytes_out": 2_400_001}], [{"bytes_out": 2_400_000}]),
        ("events-lost", [{"at": "?"}], [{}]),
    ],
)
def test_each_default_threshold_raises_its_alert_and_a_near_miss_none(world, rule, lines, near, fires):
    usual(world, bytes_out=9_900)
    chosen = lines if fires else near
    world.write(*(line(n * 50 / len(chosen), **{"bytes_in": 0, **facts}) for n, facts in enumerate(chosen)))
    world.tick(70)
    assert (rule in {row["rule"] for row in world.alerts()}) is fires


def test_a_guesser_is_alerted_and_blocked_within_a_round_and_free_again_in_time(world):
    world.write(*guesses(source="203.0.113.66"))
    world.tick(6)
    assert [(row["rule"], row["key"]) for row in world.alerts()] == [
        ("authentication-failures", "address:203.0.113.66")
    ]
    assert world.blocked() == ("203.0.113.66/32",)
    assert world.told == ["blocked"]
    world.tick(100)
    assert world.told == ["blocked"]
    world.tick(606)
    assert world.blocked() == ()
    assert world.told == ["blocked", "blocked"]


def test_passwords_tried_at_the_sign_in_page_are_guesses(world):
    facts = {**SECRET, "path": "/identity/sign-in", "status": 200, "source": "203.0.113.66"}
    world.write(*(line(n, **facts) for n in range(6)))
    world.tick(7)
    assert world.blocked() == ("203.0.113.66/32",)


def test_an_undone_block_reaches_the_gate(world):
    world.write(*guesses())
    world.tick(6)
    with world.store.begin() as connection:
        (row,) = alerts.list_measures(connection, now=world.clock.now())
        alerts.undo(Change(connection, "uid:0", world.clock.now()), measure=row["id"])
    world.tick(7)
    assert world.told == ["blocked", "blocked"]


def test_a_gate_that_could_not_be_told_is_told_in_the_next_round(world):
    world.write(*guesses())
    world.broken = [SystemFault("gate-silent", "no")]
    with pytest.raises(SystemFault):
        world.tick(6)
    world.tick(7)
    assert world.told == ["blocked"]


def test_a_block_that_was_in_force_before_a_restart_is_told_to_the_gate(world):
    world.write(*guesses())
    world.tick(6)
    world.watch = world.begin()
    world.tick(8)
    assert world.told == ["blocked", "blocked"]


@pytest.mark.parametrize("never", [("203.0.113.0/24",), ("203.0.113.9",)])
def test_an_exception_is_alerted_and_never_blocked(home, chosen_store, never):
    world = World(home, chosen_store, never=never)
    world.write(*guesses())
    world.tick(6)
    assert len(world.alerts()) == 1
    assert world.blocked() == ()


def test_the_gates_own_address_is_never_blocked(home, chosen_store):
    world = World(home, chosen_store, settings=Settings(listen="203.0.113.9"))
    world.write(*guesses(), *guesses(source="127.0.0.1"))
    world.tick(6)
    assert len(world.alerts()) == 2
    assert world.blocked() == ()


def test_after_keys_were_taken_back_old_tokens_are_told_and_block_nobody_for_as_long_as_they_live(world):
    with world.store.begin() as connection:
        keys.rotate(Change(connection, "uid:0", AT), Sealer(b"k" * 32), compromised=True)
    life_s = Settings().token_life_s
    world.write(*guesses(life_s - 20))
    world.tick(life_s)
    assert [row["key"] for row in world.alerts()] == ["old-token:203.0.113.9"]
    assert world.blocked() == ()
    world.write(*(line(life_s - 10, **SECRET, path="/identity/token") for _ in range(6)))
    world.tick(life_s)
    assert world.blocked() == ("203.0.113.9/32",), "who guesses a secret is no caller with an old token"
    world.write(*guesses(life_s + 1, source="203.0.113.10"))
    world.tick(life_s + 10)
    assert "203.0.113.10/32" in world.blocked()


# --- nothing twice, nothing lost --------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["_remember", "respond", "fire"])
def test_a_crash_before_the_commit_loses_nothing_and_counts_nothing_twice(home, store, monkeypatch, stage):
    world = World(home, store)
    world.write(*guesses(count=20))

    def crash(*_given, **_more):
        raise KeyboardInterrupt

    place = {"_remember": watch, "respond": alerts, "fire": alerts}[stage]
    with monkeypatch.context() as broken:
        broken.setattr(place, stage, crash)
        with pytest.raises(KeyboardInterrupt):
            world.tick(21)
    assert world.alerts(everything=True) == []
    assert world.blocked() == ()
    world.watch = world.begin()
    world.tick(22)
    assert [row["count"] for row in world.alerts()] == [1]
    assert world.blocked() == ("203.0.113.9/32",)


def test_a_crash_after_the_commit_counts_nothing_twice(world, monkeypatch):
    world.write(*guesses(count=20))
    with monkeypatch.context() as broken:
        broken.setattr(world.watch, "_follow_up", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            world.tick(21)
    world.watch = world.begin()
    for seconds in (22, 23, 120):
        world.tick(seconds)
    assert [row["count"] for row in world.alerts()] == [1]


def test_a_long_backlog_is_judged_as_if_it_had_been_read_in_time(home, chosen_store, databases, monkeypatch):
    monkeypatch.setattr(tail, "BATCH_MAX_BYTES", 10_000)
    lines = [line(n, **({"status": 500} if n % 9 == 0 else WRONG if n % 40 < 7 else {})) for n in range(1500)]
    world = World(home, chosen_store)
    world.tick(0)
    for n in range(0, 1500, 5):
        world.write(*lines[n : n + 5])
        world.tick(n + 5)
    in_time = judged(world)
    assert {rule for rule, *_ in in_time} == {"error-rate", "availability", "authentication-failures"}
    with databases.one(CHOSEN) as url:  # the same log, found by a watch that comes late
        late = World(home, open_store(url))
        for seconds in range(1500, 1600, 10):
            late.tick(seconds)
        assert judged(late) == in_time
        late.store.close()


def judged(world):
    for seconds in range(1600, 1640, 10):
        world.tick(seconds)
    return sorted((row["rule"], row["key"], row["count"], row["first"], row["last"]) for row in world.alerts())


def test_a_block_does_not_wait_for_the_end_of_a_backlog(world, monkeypatch):
    monkeypatch.setattr(tail, "BATCH_MAX_BYTES", 5_000)
    world.write(*guesses(), *(line(n / 100) for n in range(2000)))
    world.tick(20)
    assert world.blocked() == ("203.0.113.9/32",)
    assert (world.metric("ostiary_alerts_open"), world.metric("ostiary_measures_live")) == (1, 1)
    with world.store.read() as connection:
        assert world.watch._memory(connection).cursor.offset < world.home.access_log.stat().st_size


def test_what_cannot_be_read_is_alerted_and_the_rest_is_judged(world):
    world.write(b"\xff\xfe\n", *guesses(), b"not json\n")
    world.tick(6)
    assert {row["rule"] for row in world.alerts()} == {"events-lost", "authentication-failures"}
    assert {"unreadable": 2, "gaps": 0} in [row["evidence"] for row in world.alerts()]
    assert world.metric("ostiary_events_unreadable_total") == 2


def test_a_log_that_somebody_took_away_is_told_and_begun_anew(world):
    world.write(line())
    world.tick(1)
    world.home.access_log.unlink()
    world.tick(2)
    assert world.told == ["reopen"]
    assert [(row["rule"], row["evidence"]) for row in world.alerts()] == [("events-lost", {"unreadable": 0, "gaps": 1})]
    world.tick(3)
    assert world.alerts()[0]["count"] == 1
    assert world.metric("ostiary_events_lost_total") == 1


def test_a_gate_that_is_away_does_not_keep_a_lost_log_from_being_told(world):
    world.write(line())
    world.tick(1)
    world.home.access_log.unlink()
    world.broken = [OSError("no gate")]
    world.tick(2)
    assert [row["rule"] for row in world.alerts()] == ["events-lost"]


def test_a_full_log_is_rotated_and_read_to_its_end(home, chosen_store):
    world = World(home, chosen_store, segment_max=1000)
    world.write(*guesses(count=5))
    world.tick(6)
    assert world.told == ["reopen"]
    world.write(*guesses(seconds=7, count=1))
    world.tick(8)
    assert len(list(home.events.glob("access-*.jsonl"))) == 1
    assert world.blocked() == ("203.0.113.9/32",)


def test_files_beyond_their_age_go_once_they_are_read(world, monkeypatch):
    monkeypatch.setattr(tail, "BATCH_MAX_BYTES", 500)
    for name in ("access-1.jsonl", "access-2.jsonl"):
        old = world.home.events / name
        old.write_bytes(b"".join(line(n) for n in range(20)))
        os.utime(old, (after(60).timestamp(),) * 2)
    world.write(line(200 * 86400))
    names = []
    for minutes in range(6):
        world.tick(200 * 86400 + 60 * minutes)
        names.append(sorted(path.name for path in world.home.events.glob("access*")))
    assert names[0] == ["access-1.jsonl", "access-2.jsonl", "access.jsonl"]
    assert names[-1] == ["access.jsonl"]
    assert world.metric('ostiary_decisions_total{reason="allowed",system="erp",verb="read"}') == 41


# --- the disk ---------------------------------------------------------------------------------------------------


def test_a_disk_that_is_nearly_full_closes_the_gate_and_room_opens_it_again(world):
    for seconds, free in (
        (0, PLENTY),
        (1, DISK_FREE_MIN_BYTES),
        (2, DISK_FREE_MIN_BYTES - 1),
        (3, DISK_FREE_MIN_BYTES),
    ):
        world.free = free
        world.tick(seconds)
    assert world.told == ["low"]  # room for a little more is not enough: the gate must not flap
    assert [row["rule"] for row in world.alerts()] == ["disk-low"]
    world.free = DISK_FREE_MIN_BYTES * 1.25
    world.tick(4)
    assert world.told == ["low", "room"]
    world.tick(4 + 15 * 60)
    assert world.alerts() == []


def test_a_disk_that_stays_full_keeps_its_alert(world):
    world.free = 1
    for minutes in range(40):
        world.tick(60 * minutes)
    assert world.told == ["low"]
    assert [(row["rule"], row["count"]) for row in world.alerts()] == [("disk-low", 40)]


def test_a_gate_that_did_not_close_is_told_again(world):
    world.free, world.broken = 1, [OSError("no gate")]
    with pytest.raises(OSError, match="no gate"):
        world.tick(0)
    world.tick(1)
    assert world.told == ["low"]


def test_a_store_that_is_busy_does_not_keep_the_watch_from_reading_on_a_full_disk(world, monkeypatch):
    world.write(*guesses())
    world.free, begin, busy = 1, world.store.begin, [SystemFault("store-busy", "others write")]

    def sometimes():
        if busy:
            raise busy.pop()
        return begin()

    monkeypatch.setattr(world.store, "begin", sometimes)
    world.tick(6)
    assert not busy
    assert world.told == ["low", "blocked"]


def test_an_audit_log_that_was_cut_is_told_within_a_minute_and_over_when_it_is_whole_again(world):
    with world.store.begin() as connection:
        for name in ("shop", "till"):
            append(connection, Entry(at=AT, actor="uid:0", action="client.add", object=name))
    sign_head(world.store, world.home, AT)
    world.tick(0)
    assert world.alerts() == []
    with world.store.begin() as connection:
        row = connection.execute(select(AUDIT_LEAF).where(AUDIT_LEAF.c.number == 1)).one()._asdict()
        connection.execute(delete(AUDIT_LEAF).where(AUDIT_LEAF.c.number == 1))
    world.tick(60)
    (alert,) = world.alerts()
    assert (alert["rule"], alert["severity"]) == ("audit-broken", "critical")
    with world.store.begin() as connection:
        connection.execute(insert(AUDIT_LEAF).values(row))
    world.tick(60 + 15 * 60)
    assert world.alerts() == []


# --- told outside -----------------------------------------------------------------------------------------------


class Rounds:
    """Instead of sleeping between rounds: what happens meanwhile, one act for each; after the last the watch ends."""

    def __init__(self, *acts):
        self.acts = list(acts)

    async def __call__(self, _seconds):
        if not self.acts:
            raise asyncio.CancelledError
        await asyncio.to_thread(self.acts.pop(0))


async def run(world, *acts):
    world.options["sleep"] = Rounds(*acts)
    world.watch = world.begin()
    with pytest.raises(asyncio.CancelledError):
        await world.watch.run()


def test_alerts_and_their_end_are_told(world):
    world.write(*guesses())
    world.tick(6)
    world.tick(3600)
    assert [(one["rule"], one["state"]) for one in notices(world.store)] == [
        ("authentication-failures", "firing"), ("authentication-failures", "resolved"),
    ]  # fmt: skip


@pytest.mark.parametrize("problem", [OSError("full"), ValueError("odd"), KeyError("gone"), SystemFault("x", "y")])
async def test_a_round_that_fails_is_counted_and_made_again(world, problem):
    world.write(*guesses())
    world.clock.at = after(6)
    world.broken = [problem]
    await run(world, lambda: None)
    assert world.told == ["blocked"]
    assert world.metric("ostiary_watch_faults_total") == 1


# --- what callers choose ----------------------------------------------------------------------------------------


def test_nothing_a_caller_writes_stands_in_an_alert_or_its_notice(world):
    planted = "planted\x1b[31m\u202e"
    facts = {"path": f"/{planted}", "agent": planted, "subject": planted, "operation": f"erp/{planted}:read"}
    world.write(*(line(n, **{**WRONG, **facts}) for n in range(6)), *(line(n, status=500, **facts) for n in range(9)))
    world.tick(70)
    told = notices(world.store)
    assert len(told) == len(world.alerts())
    shown = json.dumps([world.alerts(everything=True), told])
    assert {row["rule"] for row in world.alerts()} >= {"authentication-failures", "error-rate"}
    assert "planted" not in shown


def test_a_flood_of_names_and_addresses_leaves_a_bounded_memory(world):
    flood = [
        line(n / 1000, **WRONG, system=f"s{n}", source=f"2001:db8:{n:x}::1", agent="a" * 900, path="/" + "p" * 900)
        for n in range(3000)
    ]
    world.write(*flood)
    world.tick(20)
    with world.store.read() as connection:
        assert len(watch.msgspec.json.encode(world.watch._memory(connection))) < 3000 * 200
    world.tick(200)
    with world.store.read() as connection:
        assert len(watch.msgspec.json.encode(world.watch._memory(connection))) < 30_000
    assert AT + timedelta(seconds=200) == world.clock.now()


@pytest.mark.parametrize("died", [True, False])
def test_a_lease_that_was_renewed_late_is_told_by_who_died_and_by_who_only_hung(world, died):
    """At the age at which `up` tells it outside."""

    def renewed(seconds):
        world.watch = world.begin() if died else world.watch
        world.clock.at = after(seconds)
        world.watch.renewed()

    renewed(0)
    renewed(20)
    assert world.alerts() == []
    renewed(41)
    (alert,) = world.alerts()
    assert (alert["rule"], alert["severity"], alert["evidence"]) == ("control-silent", "critical", {"away_s": 21})
    renewed(51)
    assert [one["count"] for one in world.alerts()] == [1]


def test_who_ended_in_order_was_not_away(world):
    world.watch.renewed()
    world.watch._end()
    world.clock.at = after(3600)
    world.watch = world.begin()
    world.watch.renewed()
    assert world.alerts() == []


@pytest.mark.parametrize(("heard", "calls"), [(True, [5]), (False, [5, 8, 14, 26, 50])])
async def test_a_store_that_is_away_for_longer_than_the_lease_is_told_at_once_and_kept_later(
    home, chosen_store, heard, calls
):
    """Who does not hear of it is told again after twice the time, a few times."""
    told, away = [], range(2, 7) if heard else range(2, 120)

    async def sleep(_seconds):
        """Ten seconds later, when the store is away or is back."""
        rounds.append(world.clock.at)
        world.clock.at += timedelta(seconds=10)
        chosen_store.begin, chosen_store.read = (broken, broken) if len(rounds) in away else (begin, read)
        if len(rounds) > away.stop + 1:
            raise asyncio.CancelledError

    def broken():
        raise SystemFault("store-unavailable", "no")

    begin, read, rounds = chosen_store.begin, chosen_store.read, []

    def call(notice):
        told.append((len(rounds), json.loads(notice)))
        return heard

    world = World(home, chosen_store, sleep=sleep, call=call)
    with pytest.raises(asyncio.CancelledError):
        await world.watch.run()
    (alert,) = world.alerts()
    assert (alert["rule"], alert["evidence"]) == ("store-silent", {"away_s": (len(away) + 1) * 10})
    assert [at for at, _ in told] == calls
    (kept,) = notices(chosen_store)
    assert kept["alert"] == alert["id"]
    assert {**kept, "alert": "-", "at": told[0][1]["at"], "evidence": {"away_s": 40}} == told[0][1]


async def test_a_watch_that_ended_in_order_was_not_silent(world):
    async def stop(_seconds):
        raise asyncio.CancelledError

    world.watch = Watch(
        world.store,
        world.home,
        world.clock,
        Settings(),
        blocked_changed=lambda: None,
        reopen_logs=lambda: None,
        sleep=stop,
    )
    with pytest.raises(asyncio.CancelledError):
        await world.watch.run()
    world.watch = world.begin()
    world.tick(3600)
    assert world.alerts() == []
