"""The small texts of the document: what they mean, and what is refused."""

from datetime import UTC, datetime, timedelta

import pytest

from ostiary.erp.operation import Verb
from ostiary.policy import words


def refused(read, text, **more):
    with pytest.raises(words.Wrong) as wrong:
        read(text, **more)
    assert wrong.value.hint, "a refusal says what to write instead"
    return wrong.value


def test_the_forms_know_the_words_that_their_readers_do():
    listed = {"DAY_NAME": words.WEEK, "UNIT": words.SECONDS, "VERB": Verb}
    for name, known in listed.items():
        assert words.FORMS[name].pattern.removeprefix("(").removeprefix("?:").removesuffix(")") == "|".join(known)
    assert all(words.size(f"1 {unit}") for unit in words.BYTES)
    assert f"up to {words.WITHIN_MAX_DAYS} days" in refused(words.within, "0 days").message


@pytest.mark.parametrize(
    "text, meant",
    [
        ("mon", (0,)),
        ("mon-fri", (0, 1, 2, 3, 4)),
        ("fri-mon", (0, 4, 5, 6)),
        ("sun - sun", (6,)),
        ("sat, sun", (5, 6)),
        ("sun-sat", (0, 1, 2, 3, 4, 5, 6)),
        ("mon-wed,tue , sun", (0, 1, 2, 6)),
    ],
)
def test_days_are_a_set_of_the_week_and_a_range_may_go_over_its_end(text, meant):
    assert words.days(text) == meant


@pytest.mark.parametrize("text", ["", "Mon", "monday", "mon-", "mon fri", "mon,,tue", "mo-fr", "0-4", "mon–fri"])
def test_other_days_are_refused(text):
    refused(words.days, text)


@pytest.mark.parametrize(
    "text, meant",
    [
        ("08:00-18:00", (480, 1080)),
        ("00:00-24:00", (0, 1440)),
        ("00:00-00:01", (0, 1)),
        ("22:00-06:00", (1320, 360)),
        ("22:00-00:00", (1320, 0)),
        ("22:00-24:00", (1320, 1440)),
        ("23:59 - 23:58", (1439, 1438)),
    ],
)
def test_hours_are_minutes_of_the_day_and_may_cross_midnight(text, meant):
    assert words.hours(text) == meant


@pytest.mark.parametrize(
    "text", ["8:00-18:00", "08:00", "08-18", "08:60-09:00", "24:00-01:00", "00:00-24:01", "08:00-08:00", "٠٨:00-18:00"]
)
def test_other_hours_are_refused(text):
    refused(words.hours, text)


def test_hours_that_end_as_they_begin_are_refused_with_how_to_say_the_whole_day():
    assert "00:00-24:00" in refused(words.hours, "00:00-00:00").hint


@pytest.mark.parametrize("text", ["UTC", "Europe/Berlin", "America/Argentina/Ushuaia", "Etc/GMT+5"])
def test_a_zone_is_a_name_of_the_zone_database(text):
    assert words.zone(text) == text


@pytest.mark.parametrize(
    "text", ["localtime", "posix/UTC", "europe/berlin", "Europe", "../UTC", "CEST", "+01:00", "Factory"]
)
def test_what_is_a_zone_on_this_machine_alone_or_nowhere_is_refused(text):
    refused(words.zone, text)


def test_a_zone_with_a_slip_is_answered_with_the_right_one():
    assert refused(words.zone, "Europe/Berln").hint == "Europe/Berlin"


@pytest.mark.parametrize(
    "text, meant",
    [
        ("203.0.113.0/24", "203.0.113.0/24"),
        ("203.0.113.7", "203.0.113.7/32"),
        ("2001:DB8::/32", "2001:db8::/32"),
        ("::1", "::1/128"),
        ("0.0.0.0/0", "0.0.0.0/0"),
    ],
)
def test_a_network_has_one_spelling(text, meant):
    assert words.network(text) == meant


@pytest.mark.parametrize(
    "text",
    [
        "203.0.113.1/24",
        "10.0.0.0/255.0.0.0",
        "10/8",
        "10.0.0.0/33",
        "fe80::1%eth0",
        "fe80::%1/64",
        "office",
        "010.0.0.1",
    ],
)
def test_other_networks_are_refused(text):
    refused(words.network, text)


@pytest.mark.parametrize("text", ["203.0.113.0/24", "fe80::1%eth0", "localhost", "1.2.3"])
def test_other_addresses_are_refused(text):
    refused(words.address, text)


@pytest.mark.parametrize(
    "text, meant",
    [
        ("60/minute", (60, 60)),
        ("1 / second", (1, 1)),
        ("1000/hour", (1000, 3600)),
        ("10000000/day", (10_000_000, 86400)),
    ],
)
def test_a_rate_is_requests_in_seconds(text, meant):
    assert words.rate(text) == meant


@pytest.mark.parametrize(
    "text", ["0/hour", "10000001/day", "60", "60/min", "-1/hour", "1.5/hour", "60/minutes", "６/hour"]
)
def test_other_rates_are_refused(text):
    refused(words.rate, text)


@pytest.mark.parametrize("text, meant", [("1 B", 1), ("10 MB", 10 * 1024**2), ("100MB", 100 * 1024**2), ("3KB", 3072)])
def test_a_size_is_bytes(text, meant):
    assert words.size(text) == meant


@pytest.mark.parametrize("text", ["0 MB", "101 MB", "10", "10 mb", "10 GB", "1.5 MB", "-1 MB"])
def test_other_sizes_are_refused(text):
    refused(words.size, text)


@pytest.mark.parametrize("text, meant", [("30 days", 30), ("1 day", 1), ("3660days", 3660)])
def test_within_is_a_number_of_days(text, meant):
    assert words.within(text) == meant


@pytest.mark.parametrize("text", ["0 days", "3661 days", "30", "a month", "30 hours"])
def test_other_times_are_refused(text):
    refused(words.within, text)


@pytest.mark.parametrize(
    "text, meant",
    [
        ("localhost", ("localhost", "")),
        ("erp.example.com/", ("erp.example.com", "")),
        ("api.example.com/shop/v1", ("api.example.com", "/shop/v1")),
    ],
)
def test_a_place_is_a_host_and_perhaps_a_path(text, meant):
    assert words.place(text) == meant


@pytest.mark.parametrize(
    "text",
    ["https://a.b", "a.b:443", "A.b", "a.b//c", "a.b/c//", "a.b/../c", "a.b/.", "a.b/c?d", "a.b/%2e", "", "/c", "a_b"],
)
def test_other_places_are_refused(text):
    refused(words.place, text)


@pytest.mark.parametrize(
    "text", ["http://127.0.0.1:8000", "https://erp.internal/base", "http://[::1]:80", "http://a:65535/"]
)
def test_an_upstream_is_a_url_without_a_slash_at_the_end(text):
    assert words.upstream(text) == text.rstrip("/")


@pytest.mark.parametrize(
    "text", ["ftp://a", "a:80", "http://", "http://a:0", "http://a:65536", "http://u:p@a", "http://a?b", "http://a/%"]
)
def test_other_upstreams_are_refused(text):
    refused(words.upstream, text)


@pytest.mark.parametrize(
    "read, text", [(words.database, "a/b"), (words.database, "-a"), (words.link, "a.b.c.d.e"), (words.link, "a..b")]
)
def test_names_that_would_become_part_of_a_path_are_plain(read, text):
    refused(read, text)


def test_a_moment_has_an_offset():
    assert words.moment("2026-03-03T10:00Z") == datetime(2026, 3, 3, 10, tzinfo=UTC)
    assert words.moment("2026-03-03T10:00:30+01:00").utcoffset() == timedelta(hours=1)
    assert refused(words.moment, "2026-03-03T10:00").hint == '"2026-03-03T10:00+01:00"'


@pytest.mark.parametrize(
    "text",
    [
        "2026-03-03",
        "2026-02-30T10:00Z",
        "0001-01-01T00:00+14:00",
        "2026W101T10Z",
        "20260303T1000Z",
        "2026-03-03 10:00Z",
    ],
)
def test_other_moments_are_refused(text):
    refused(words.moment, text)


@pytest.mark.parametrize(
    "text",
    ["sale.sale", "sale.sale:", ": read", "sale..sale: read", "sale*: read", "*.sale: read", "*.*: read", "sale.sale: look",
     "sale.sale: read,", "sale.sale: execute a b", "sale.sale: Read", "sale.sale: read.x", "shop/sale.sale: read", "/sale.sale: read"],
)  # fmt: skip
def test_other_permissions_are_refused(text):
    refused(words.patterns, text, systems=["erp"])


def test_an_action_may_hold_a_dash_as_openapi_documents_name_them():
    (pattern,) = words.patterns("shop/order: execute ship-now", ["shop"])
    assert (pattern.verb, pattern.action) == (Verb.EXECUTE, "ship-now")


def test_an_operation_is_exactly_one():
    operation = words.operation("erp/account.payment: execute approve", ["erp"])
    assert operation.permission == "erp/account.payment:execute.approve"
    for text in ("sale.*: read", "*: read", "sale.sale: read, write", "sale.sale: read, read"):
        refused(words.operation, text, systems=["erp"])


@pytest.mark.parametrize("text", ["2026-12-24", "12-24", "2024-02-29", "2026-02-28", "03-01", "01-01"])
def test_a_holiday_is_a_day_of_one_year_or_of_every_year(text):
    assert words.holiday(text) == text


@pytest.mark.parametrize("text", ["", "24.12.", "2026-12-32", "2023-02-29", "12-32", "2026-W01-1", "20261224", "1224", "12-24-1", "2026-12-24 ", "٢٠٢٦-12-24"])  # fmt: skip
def test_what_is_no_day_is_refused(text):
    refused(words.holiday, text)


@pytest.mark.parametrize("text", ["02-28", "02-29"])
def test_a_day_of_every_year_whose_morrow_depends_on_the_year_is_said_with_the_year(text):
    """Hours that began on it may end the day after."""
    assert "with the year" in refused(words.holiday, text).hint


@pytest.mark.parametrize(("text", "refuses"), [("DE", False), ("NO", False), ("XK", False), ("UK", True), ("de", True), ("EU", True), ("D", True), ("", True)])  # fmt: skip
def test_a_country_is_one_of_iso_3166(text, refuses):
    refused(words.country, text) if refuses else words.country(text)


@pytest.mark.parametrize(("text", "seconds"), [("15 minutes", 900), ("1minute", 60), ("30 days", 2_592_000), ("1 second", 1)])  # fmt: skip
def test_an_age_is_told_in_seconds_to_days(text, seconds):
    assert words.age(text) == seconds


@pytest.mark.parametrize("text", ["", "0 minutes", "31 days", "15", "15 min", "-1 minutes", "1.5 hours", "1 week"])
def test_other_ages_are_refused(text):
    refused(words.age, text)


@pytest.mark.parametrize(
    "text", ["https://login.example.com/acme/oauth2/v2.0/token", "https://a.test/t?tenant=a&v=2", "http://[::1]:9/t"]
)
def test_a_token_endpoint_may_have_a_query(text):
    assert words.token_from(text) == text


@pytest.mark.parametrize(
    "text", [r"https://a.test/t\b", r"https://a.test\@b.test/t", "https://a.test/t?a#b", "https://a.test/t?a?b"]
)
def test_what_two_readers_take_for_two_endpoints_is_none(text):
    refused(words.token_from, text)
