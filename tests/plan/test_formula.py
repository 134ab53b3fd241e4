"""Conditions: hours on the caller's clock, whatever the season; networks; and how they combine."""

from datetime import UTC, datetime, time, timedelta
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostiary.plan.model import (
    UNKNOWN,
    All,
    Always,
    AnyOf,
    Circumstances,
    Countries,
    Device,
    Hours,
    Mfa,
    Networks,
    Not,
    Recent,
    edges,
    holds,
)

HERE = ip_address("203.0.113.7")
EVERY_DAY = tuple(range(7))
MON, FRI, SAT, SUN = 0, 4, 5, 6


def hours(start, end, days=EVERY_DAY, zone="Europe/Berlin"):
    def minutes(text):
        return int(text[:2]) * 60 + int(text[3:])

    return Hours(days=days, start=minutes(start), end=minutes(end), zone=zone)


def here(**known):
    return Circumstances(**{"at": datetime(2026, 3, 3, 10, tzinfo=UTC), "source": HERE, **known})


def at(moment, formula):
    return holds(formula, here(at=datetime.fromisoformat(moment)))


@pytest.mark.parametrize(
    "moment, held",
    [
        ("2026-03-03T07:59:59.999999+01:00", False),
        ("2026-03-03T08:00:00+01:00", True),
        ("2026-03-03T17:59:59.999999+01:00", True),
        ("2026-03-03T18:00:00+01:00", False),
        ("2026-03-03T07:00:00Z", True),
        ("2026-03-03T12:30:00+05:30", True),
    ],
)
def test_hours_begin_with_their_first_minute_and_end_before_their_last(moment, held):
    assert at(moment, hours("08:00", "18:00")) is held


@pytest.mark.parametrize(
    "moment, held",
    [("2026-03-29T00:59:59Z", False), ("2026-03-29T01:00:00Z", True), ("2026-03-29T01:29:59Z", True), ("2026-03-29T01:30:00Z", False)],
)  # fmt: skip
def test_when_the_clock_goes_forward_hours_lose_what_the_clock_does_not_show(moment, held):
    """02:30-03:30 on the night when 02:00 is followed by 03:00."""
    assert at(moment, hours("02:30", "03:30")) is held


@pytest.mark.parametrize(
    "moment, held",
    [
        ("2026-10-24T23:59:59Z", False),
        ("2026-10-25T00:00:00Z", True),  # 02:00 in summer time
        ("2026-10-25T00:59:59Z", True),
        ("2026-10-25T01:00:00Z", True),  # 02:00 again, in winter time
        ("2026-10-25T01:59:59Z", True),
        ("2026-10-25T02:00:00Z", False),
    ],
)
def test_when_the_clock_goes_back_hours_hold_both_times_that_the_clock_shows_them(moment, held):
    assert at(moment, hours("02:00", "03:00")) is held


@pytest.mark.parametrize(
    "moment, held",
    [("2026-03-27T06:59Z", False), ("2026-03-27T07:00Z", True), ("2026-03-30T05:59Z", False), ("2026-03-30T06:00Z", True)],
)  # fmt: skip
def test_office_hours_stay_office_hours_on_both_sides_of_a_clock_change(moment, held):
    assert at(moment, hours("08:00", "18:00")) is held


@pytest.mark.parametrize(
    "moment, held",
    [
        ("2026-03-06T21:59+01:00", False),  # Friday
        ("2026-03-06T22:00+01:00", True),
        ("2026-03-07T00:00+01:00", True),  # Saturday, the hours of Friday
        ("2026-03-07T05:59+01:00", True),
        ("2026-03-07T06:00+01:00", False),
        ("2026-03-07T22:00+01:00", False),  # those of Saturday
        ("2026-03-06T05:59+01:00", False),  # those of Thursday
    ],
)
def test_hours_over_midnight_belong_to_the_day_they_began(moment, held):
    assert at(moment, hours("22:00", "06:00", days=(FRI,))) is held


def test_the_night_of_sunday_goes_into_monday():
    assert at("2026-03-09T05:59+01:00", hours("22:00", "06:00", days=(SUN,)))
    assert not at("2026-03-09T05:59+01:00", hours("22:00", "06:00", days=(MON,)))


def test_hours_up_to_midnight_end_there():
    for end in ("24:00", "00:00"):
        assert at("2026-03-06T23:59+01:00", hours("22:00", end, days=(FRI,)))
        assert not at("2026-03-07T00:00+01:00", hours("22:00", end, days=(FRI,)))


def test_the_whole_day_is_a_day_of_that_zone():
    friday = hours("00:00", "24:00", days=(FRI,), zone="Pacific/Kiritimati")
    assert at("2026-03-05T10:00Z", friday)
    assert not at("2026-03-06T10:00Z", friday)


@settings(deadline=None)
@given(
    st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)),  # noqa: DTZ001  made aware below
    st.sampled_from(
        ["UTC", "Europe/Berlin", "Asia/Kolkata", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia"]
    ),
    st.frozensets(st.integers(0, 6)),
    st.integers(0, 1439),
    st.integers(0, 1440),
)
def test_hours_are_an_interval_on_the_wall_clock_of_each_day(moment, zone, days, start, end):
    moment = moment.replace(tzinfo=UTC)
    wall = moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    length = timedelta(minutes=(end - start) % 1440 or 1440)
    began = [datetime.combine(wall.date() - timedelta(days=n), time()) + timedelta(minutes=start) for n in (0, 1)]
    expected = any(one <= wall < one + length and one.weekday() in days for one in began)
    if start in (end, end - 1440) and start:
        return  # the parser refuses hours that end as they begin
    assert holds(Hours(days=tuple(days), start=start, end=end, zone=zone), here(at=moment)) is expected


@pytest.mark.parametrize(
    "address, held",
    [("203.0.113.0", True), ("203.0.113.255", True), ("203.0.114.0", False), ("2001:db8::1", True), ("2001:db9::", False), ("::ffff:203.0.113.7", True), ("::ffff:cb00:7208", False)],
)  # fmt: skip
def test_a_network_holds_the_addresses_in_it_and_of_its_family(address, held):
    home = Networks(networks=("203.0.113.0/24", "2001:db8::/32"))
    assert holds(home, here(source=ip_address(address))) is held


def test_conditions_combine_and_nothing_asked_is_always_true():
    away = Networks(networks=("10.0.0.0/8",))
    truth = [
        (Always(), True), (All(parts=()), True), (AnyOf(parts=()), False), (Not(part=away), True),
        (All(parts=(Always(), away)), False), (AnyOf(parts=(Always(), away)), True), (Networks(networks=()), False),
    ]  # fmt: skip
    assert [holds(formula, here()) for formula, _ in truth] == [held for _, held in truth]


OVERNIGHT = Hours(days=EVERY_DAY, start=22 * 60, end=6 * 60, zone="Europe/Berlin", holidays=("2026-12-24", "12-31"))


@pytest.mark.parametrize(
    "moment, held",
    [
        ("2026-12-24T05:59+01:00", True), ("2026-12-24T23:00+01:00", False), ("2026-12-25T05:00+01:00", False),
        ("2026-12-25T22:00+01:00", True), ("2027-12-24T23:00+01:00", True), ("2026-12-31T23:00+01:00", False),
        ("2027-01-01T03:00+01:00", False), ("2027-12-31T23:00+01:00", False), ("2027-01-01T23:00+01:00", True),
        ("2026-12-31T22:59Z", False), ("2026-12-24T20:59Z", False),
    ],
)  # fmt: skip
def test_on_a_holiday_no_hours_begin_and_those_of_the_night_before_go_on(moment, held):
    assert at(moment, OVERNIGHT) is held


def test_place_device_and_sign_in_are_as_the_circumstances_say():
    now = datetime(2026, 3, 3, 10, tzinfo=UTC)
    shown = here(at=now, country="DE", device=True, acr="mfa", age_s=900)
    conditions = [Countries(countries=("AT", "DE")), Device(), Mfa(), Recent(seconds=900)]
    assert all(holds(one, shown) for one in conditions)
    assert not any(holds(one, here(at=now)) for one in conditions)
    assert not holds(Recent(seconds=899), shown)
    assert holds(Countries(countries=("DE", UNKNOWN)), here())


def nets(family, bits):
    return st.builds(
        lambda number, length: str(family((number >> (bits - length) << (bits - length), length))),
        st.integers(0, 2**bits - 1), st.integers(0, bits),
    )  # fmt: skip


@given(st.lists(nets(IPv4Network, 32) | nets(IPv6Network, 128), max_size=8), st.data())
def test_a_list_of_networks_holds_just_the_addresses_that_one_of_them_holds(texts, data):
    parsed = [ip_network(text) for text in texts]
    near = [end + step for one in parsed for end in (one[0], one[-1]) for step in (-1, 0, 1) if can_step(end, step)]
    address = data.draw(st.sampled_from(near) if near else st.ip_addresses())
    listed = Networks(networks=tuple(texts))
    assert holds(listed, here(source=address)) is any(address in one for one in parsed)
    assert len(edges(listed)) <= 2 * len(texts)


def can_step(address, step):
    return 0 <= int(address) + step < 2**address.max_prefixlen
