"""Whether one condition holds whenever another does: never wrong, over any hours, zones, networks and clock changes."""

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache, reduce
from ipaddress import ip_address
from operator import and_, or_

import msgspec
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from ostiary.plan.model import All, Always, AnyOf, Countries, Device, Hours, Mfa, Networks, Not, Recent, atoms, holds
from ostiary.policy import words
from ostiary.prove import situation
from ostiary.prove.situation import NEVER, Situation, counterexample, implies

quiet = settings(deadline=None, max_examples=200, suppress_health_check=list(HealthCheck))
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Beirut", "Asia/Kolkata"]
DAYS_OFF = ["2026-03-09", "2026-03-30", "2026-01-05", "2026-01-11", "2026-01-12", "2028-02-28", "2028-02-29", "01-06", "03-01", "10-26", "12-31", "01-01"]  # fmt: skip
halves = st.integers(0, 47).map(lambda n: n * 30)
hours = st.builds(
    Hours,
    days=st.just(tuple(range(7))) | st.lists(st.integers(0, 6), min_size=1, unique=True).map(tuple),
    start=st.just(0) | halves,
    end=st.just(1440) | halves,
    zone=st.sampled_from(ZONES),
    holidays=st.just(()) | st.lists(st.sampled_from(DAYS_OFF), max_size=2, unique=True).map(tuple),
)
others = (
    st.builds(Countries, countries=st.lists(st.sampled_from(["DE", "AT", ""]), max_size=2, unique=True).map(tuple))
    | st.just(Device())
    | st.just(Mfa())
    | st.builds(Recent, seconds=st.sampled_from([60, 900]))
)
NETWORKS = ["203.0.113.0/24", "203.0.113.0/25", "203.0.113.128/25", "203.0.113.7/32", "0.0.0.0/0", "2001:db8::/32", "::/0", "ffff::/16", "0.0.0.0/1", "128.0.0.0/1", "8000::/1", "::/1"]  # fmt: skip
networks = st.builds(Networks, networks=st.lists(st.sampled_from(NETWORKS), max_size=3).map(tuple))
formulas = st.recursive(
    hours | networks | others | st.just(Always()),
    lambda inner: (
        st.builds(All, parts=st.lists(inner, max_size=3).map(tuple))
        | st.builds(AnyOf, parts=st.lists(inner, max_size=3).map(tuple))
        | st.builds(Not, part=inner)
    ),
    max_leaves=5,
)
# Every half hour of the weeks of 2026 in which some clock changes, of those with days off, and of one without either.
WEEKS = [datetime(2026, month, day, tzinfo=UTC) for month, day in [(1, 5), (1, 12), (2, 23), (3, 2), (3, 9), (3, 23), (3, 30), (7, 6), (10, 19), (10, 26), (11, 2), (12, 28)]]  # fmt: skip
WEEKS += [datetime(2028, 2, 28, tzinfo=UTC), datetime(2028, 3, 6, tzinfo=UTC)]
TIMES = [monday + timedelta(minutes=30 * n) for monday in WEEKS for n in range(7 * 48)]
EVERY_TIME = (1 << len(TIMES)) - 1
PLACES = [ip_address(text) for text in ("203.0.113.7", "203.0.113.8", "203.0.113.200", "192.0.2.9", "2001:db8::1", "ffff::1", "1::", "0.0.0.0", "255.255.255.255", "::")]  # fmt: skip


REST = [
    {"country": country, "device": device, "acr": acr, "age_s": age}
    for country in ("", "DE", "AT", "FR")
    for device in (False, True)
    for acr in ("", "mfa")
    for age in (None, 60, 61, 901)
]


def times_of(formula, here):
    """The TIMES at which it holds, one bit each, by evaluation alone; `here` says the rest."""
    match formula:
        case Hours():
            return _times_of_hours(formula)
        case All():
            return reduce(and_, (times_of(part, here) for part in formula.parts), EVERY_TIME)
        case AnyOf():
            return reduce(or_, (times_of(part, here) for part in formula.parts), 0)
        case Not():
            return EVERY_TIME & ~times_of(formula.part, here)
        case _:
            return EVERY_TIME if holds(formula, here) else 0


@lru_cache(1024)
def _times_of_hours(hours):
    return sum(holds(hours, Situation(at)) << n for n, at in enumerate(TIMES))


@quiet
@given(formulas, formulas)
def test_it_says_no_just_where_some_half_hour_and_address_show_it(one, other):
    found = counterexample(one, other)
    event("no" if found else "yes")
    if found is not None:
        assert holds(one, found)
        assert not holds(other, found)
        return
    told = [atom for atom in {*atoms(one), *atoms(other)} if not isinstance(atom, Hours)]
    heres = (Situation(TIMES[0], source, **rest) for source in PLACES for rest in REST)
    for here in {tuple(holds(atom, here) for atom in told): here for here in heres}.values():
        assert not times_of(one, here) & ~times_of(other, here)


@quiet
@given(formulas, st.sampled_from(TIMES), st.sampled_from(PLACES))
def test_the_situation_asked_for_is_the_example_where_it_is_one(one, at, source):
    found = counterexample(one, NEVER, Situation(at, source))
    if holds(one, Situation(at, source)):
        assert found is not None
        assert (found.at, found.source) == (at, source)


@pytest.mark.parametrize(
    "one, other, day",
    [
        # Two clocks five hours apart, but for the weeks in which only one has changed.
        (("America/New_York", "09:00", "10:00"), ("Europe/Berlin", "15:00", "16:00"), "2026-03-09"),
        (("Europe/Berlin", "15:00", "16:00"), ("America/New_York", "09:00", "10:00"), "2026-03-09"),
        # Beirut changes its clock three hours before Athens does: they differ for just these.
        (("Europe/Athens", "00:00", "02:30"), ("Asia/Beirut", "00:00", "02:30"), "2026-03-23"),
    ],
)
def test_hours_of_two_zones_are_compared_over_every_clock_change(one, other, day):
    def hours(zone, start, end):
        start, end = (int(text[:2]) * 60 + int(text[3:]) for text in (start, end))
        return Hours(days=tuple(range(7)), start=start, end=end, zone=zone)

    found = counterexample(hours(*one), hours(*other))
    assert found is not None
    assert found.at.astimezone(UTC) - datetime.fromisoformat(day + "T00:00Z") < timedelta(days=7)


def test_two_zones_that_never_stand_apart_are_one():
    berlin = Hours(days=(0, 1), start=480, end=1080, zone="Europe/Berlin")
    assert implies(berlin, msgspec.structs.replace(berlin, zone="Europe/Vienna"))
    assert implies(berlin, msgspec.structs.replace(berlin, zone="Europe/London", start=420, end=1020))


def test_a_union_covers_what_none_of_its_parts_does():
    day = Hours(days=tuple(range(7)), start=480, end=1200, zone="UTC")
    morning, evening = msgspec.structs.replace(day, end=900), msgspec.structs.replace(day, start=840)
    assert implies(day, AnyOf(parts=(morning, evening)))
    assert not implies(day, morning)
    assert not implies(day, evening)


def test_what_can_never_hold_has_no_example_and_implies_everything():
    monday = Hours(days=(0,), start=0, end=1440, zone="UTC")
    neither = All(parts=(monday, msgspec.structs.replace(monday, days=(3,))))
    assert counterexample(neither) is None
    assert counterexample(Networks(networks=())) is None
    assert implies(neither, NEVER)


def test_a_situation_says_what_does_not_matter():
    night = Hours(days=(6,), start=180, end=240, zone="Europe/Berlin")
    assert str(counterexample(night)) == "on Sun at 03:00 Europe/Berlin, from any address"
    assert str(counterexample(Not(part=Networks(networks=("203.0.113.0/24",))))) == "at any time, from 192.0.2.1"
    assert str(counterexample(Always())) == "at any time, from any address"


def test_hours_with_a_holiday_are_fewer_just_on_that_day():
    office = Hours(days=tuple(range(5)), start=480, end=1080, zone="Europe/Berlin")
    but = msgspec.structs.replace(office, holidays=("2027-12-24",))
    assert implies(but, office)
    assert str(counterexample(office, but)) == "on Fri 2027-12-24 at 08:00 Europe/Berlin, from any address"
    every_year = msgspec.structs.replace(office, holidays=("12-24",))
    assert implies(every_year, but)
    assert not implies(but, every_year)
    saturday = msgspec.structs.replace(office, holidays=("2026-12-26",))
    assert implies(office, saturday)


def test_a_situation_says_country_device_and_sign_in_where_they_matter():
    sure = All(parts=(Countries(countries=("DE",)), Device(), Mfa(), Recent(seconds=900)))
    assert str(counterexample(sure)) == (
        "at any time, from any address, in DE, on a registered device, signed in with more than one factor, "
        "15 minutes after the sign-in"
    )
    assert "no person signed in" in str(counterexample(Not(part=Recent(seconds=900))))


def test_long_lists_of_networks_are_compared_by_how_they_lie_over_each_other_not_one_by_one(monkeypatch):
    """A policy of 250 KB took minutes to prove, while control held its lock."""
    judged = []
    monkeypatch.setattr(situation, "holds", lambda formula, here: judged.append(formula) or holds(formula, here))
    before = Networks(networks=tuple(f"10.{n // 256}.{n % 256}.0/24" for n in range(0, 4000, 2)))
    after = Networks(networks=(*before.networks[1:], "10.200.0.0/16", "2001:db8::/32"))
    assert counterexample(before, after).source == ip_address("10.0.0.0")
    assert counterexample(after, before).source == ip_address("10.200.0.0")
    assert len(judged) < 50


def test_lists_that_hold_the_same_addresses_are_the_same_however_they_are_cut():
    halves = Networks(networks=("10.0.0.128/25", "10.0.0.0/25", "ffff::/16"))
    whole = Networks(networks=("10.0.0.0/24", "10.0.0.7/32", "ffff::/17", "ffff:8000::/17"))
    assert implies(halves, whole)
    assert implies(whole, halves)
    everything = Networks(networks=("0.0.0.0/0", "::/0"))
    assert counterexample(Not(part=everything)) is None
    assert counterexample(everything, Networks(networks=("0.0.0.0/0",))).source == ip_address("::")


def test_many_hours_are_looked_at_where_they_themselves_can_change_and_not_where_any_other_does(monkeypatch):
    """A policy of 16 KB, of hours in ten zones, took 17 s to prove."""
    judged = []
    monkeypatch.setattr(situation, "holds", lambda formula, here: judged.append(formula) or holds(formula, here))
    several = tuple(
        Hours(days=(0, 1), start=60 + n, end=600 + n, zone=ZONES[n % len(ZONES)], holidays=(f"2026-03-{n + 1:02}",))
        for n in range(20)
    )
    assert implies(AnyOf(parts=several[1:]), AnyOf(parts=several))
    assert len(judged) < 20_000


@quiet
@given(
    st.lists(
        st.dates(date(2026, 1, 3), date(2088, 1, 1)).map(date.isoformat) | st.sampled_from(["02-29", "01-01", "12-31"]),
        max_size=4,
    )
)
def test_the_days_off_near_a_week_are_found_by_the_day(texts):
    free = situation._free(tuple(texts))
    for week in [0, 1, *range(2, situation.WEEKS, 5)]:
        days = [(situation.MONDAY + timedelta(days=7 * week + near)).date().isoformat() for near in situation.NEAR]
        assert list(free[week]) == [bool({day, day[5:]} & set(texts)) for day in days]


DAILY = Hours(days=tuple(range(7)), start=0, end=1440, zone="UTC")


@pytest.mark.parametrize(
    "text, day",
    [
        (("12-24", "12-31"), "2026-12-24"),  # the first week is whole
        (("2026-01-05",), "2026-01-05"),  # its first day is not
        (("2026-01-11",), "2026-01-11"),  # its last
        (("2026-01-12",), "2026-01-12"),  # the next week's first
        (("01-05", "01-11", "01-12"), "2026-01-05"),
        (("2028-02-29",), "2028-02-29"),
        (("03-01",), "2026-03-01"),
        (("2026-03-29",), "2026-03-29"),  # the clock changes in Berlin
        (("2089-12-31",), "2089-12-31"),  # none is later
    ],
)
@pytest.mark.parametrize("start, end, zone", [(0, 1440, "UTC"), (480, 480, "UTC"), (0, 1440, "Europe/Berlin")])
def test_hours_of_whole_weeks_leave_out_their_holidays(text, day, start, end, zone):
    """They went for hours of every day: what ends with the last week looked at was taken for a holiday."""
    off = Hours(days=tuple(range(7)), start=start, end=end, zone=zone, holidays=text)
    for found in (counterexample(Not(part=off)), counterexample(Always(), off), counterexample(DAILY, off)):
        assert found is not None
        assert not holds(off, found)
    assert counterexample(Not(part=off)).at.astimezone(situation.zone(zone)).date().isoformat() == day
    assert implies(off, DAILY)


def test_a_policy_names_no_day_off_that_lies_behind_all_weeks_looked_at():
    words.holiday("2089-12-31")
    assert datetime(2090, 1, 2, tzinfo=UTC) <= situation.MONDAY + situation.WEEKS * situation.WEEK
    with pytest.raises(words.Wrong):
        words.holiday("2090-01-01")


def test_day_and_night_leave_out_the_holidays_that_both_have():
    """The night before one goes on into it."""
    day = Hours(days=tuple(range(7)), start=480, end=1200, zone="UTC", holidays=("12-24",))
    night = msgspec.structs.replace(day, start=1200, end=480)
    found = counterexample(Always(), AnyOf(parts=(day, night)))
    assert found.at.isoformat() == "2026-12-24T08:00:00+00:00"


def test_whole_weeks_without_a_holiday_are_always():
    assert counterexample(Not(part=DAILY)) is None
    assert implies(Always(), DAILY)
    assert implies(Always(), msgspec.structs.replace(DAILY, start=480, end=480, zone="Europe/Berlin"))


def test_there_is_always_a_country_that_a_policy_does_not_name():
    """One that names Antarctica was proved as if there were no other."""
    named = Countries(countries=("AQ", "DE", ""))
    assert str(counterexample(Not(part=named))) == "at any time, from any address, in any other country"
    assert not implies(Always(), named)
    with pytest.raises(words.Wrong):
        words.country(situation.NOWHERE)


def _asking_for_much(n):
    """As many contexts, each with hours, networks, countries and an age that all lie over those of the others."""
    codes = [a + b for a in "ABCDEFGH" for b in "ABCDEFGH"]
    return [
        All(
            parts=(
                Hours(days=tuple(range(7)), start=one, end=1440 - one, zone="UTC"),
                Networks(networks=("10.0.0.0/8", f"{20 + one * 7 % n}.0.0.0/8")),
                Countries(countries=tuple(codes[one * 11 % n :: 3])),
                Recent(seconds=60 * (one * 13 % n + 1)),
            )
        )
        for one in range(n)
    ]


def test_many_contexts_that_ask_for_much_are_not_looked_at_in_every_mixture(monkeypatch):
    """A policy of a few KB took 113 MB and seconds to prove, and thirty times as much when twice as long."""
    sizes, sets = [], situation._sets
    monkeypatch.setattr(situation, "_sets", lambda axes, everywhere: sizes.append(everywhere) or sets(axes, everywhere))
    several = _asking_for_much(40)
    wider = [All(parts=one.parts[:3]) for one in several]
    assert counterexample(AnyOf(parts=tuple(several)), AnyOf(parts=tuple(wider))) is None
    assert counterexample(AnyOf(parts=tuple(wider)), AnyOf(parts=tuple(several))) is not None
    assert max(size.bit_length() for size in sizes) <= situation.TOGETHER_MAX
    assert len(sizes) < situation.LEFT_MAX


def test_too_many_contexts_to_prove_are_refused(monkeypatch):
    monkeypatch.setattr(situation, "TOGETHER_MAX", 64)
    monkeypatch.setattr(situation, "LEFT_MAX", 5)
    several = _asking_for_much(12)
    wider = AnyOf(parts=tuple(All(parts=one.parts[:3]) for one in several))
    with pytest.raises(situation.TooMany) as refused:
        counterexample(AnyOf(parts=tuple(several)), wider)
    assert set(atoms(refused.value.args[0])) == set(atoms(AnyOf(parts=tuple(several))))


@quiet
@given(formulas, formulas, st.sampled_from(TIMES), st.sampled_from(PLACES))
def test_one_fact_after_the_other_shows_the_same_as_all_at_once(one, other, at, source):
    together = counterexample(one, other, Situation(at, source))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(situation, "TOGETHER_MAX", 1)
        assert counterexample.__wrapped__(one, other, Situation(at, source)) == together


def test_what_holds_in_a_part_is_known_from_where_it_begins_and_ends_and_its_set_is_made_once(monkeypatch):
    """A hundred contexts, each in the next one, took half a minute to compare."""
    judged = []
    monkeypatch.setattr(situation, "holds", lambda formula, here: judged.append(formula) or holds(formula, here))
    nested = [
        All(
            parts=(
                Hours(days=(0, 1, 2), start=5 * n, end=1440 - 5 * n, zone="UTC"),
                Networks(networks=tuple(f"10.{one}.0.0/16" for one in range(n + 1))),
                Recent(seconds=77 * (n + 1)),
            )
        )
        for n in range(60)
    ]
    situation._sets.cache_clear()
    assert counterexample(AnyOf(parts=tuple(nested[1:])), AnyOf(parts=tuple(nested[:-1]))) is not None
    assert implies(AnyOf(parts=tuple(nested[:-1])), AnyOf(parts=tuple(nested)))
    assert len([one for one in judged if not isinstance(one, Hours)]) <= 4 * len(nested)
    assert situation._sets.cache_info().misses <= 2
