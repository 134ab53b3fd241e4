"""One caller is one origin, however many addresses he has, and two callers are two."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.foundation.origin import named, origin


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("64:ff9b::203.0.113.9", "64:ff9b::cb00:7109"),
        ("2001:0:1::5", "2001:0:1::5"),
        ("fe80::1%eth0", "fe80::/64"),
        ("-", "-"),
        ("203.0.113.9/8", "203.0.113.9/8"),
        ("nobody", "nobody"),
    ],
)
def test_an_address_stands_for_what_its_owner_can_choose_from(address, told):
    assert named(address) == told


def test_the_neighbours_behind_a_translator_are_not_one_caller():
    assert named("64:ff9b::203.0.113.9") != named("64:ff9b::203.0.113.10")


@given(st.text() | st.ip_addresses().map(str))
def test_any_text_is_an_origin_or_none(text):
    found = origin(text)
    assert found is None or found.num_addresses in (1, 2**64)
