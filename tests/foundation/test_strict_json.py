"""JSON is read strictly, and not without end."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.foundation.strict_json import MARKS_MAX, NotStrict, parse

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)  # fmt: skip


@given(VALUES)
def test_what_python_writes_is_read_back(value):
    assert parse(json.dumps(value).encode()) == value


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_refused(data):
    with suppress(NotStrict):
        parse(data)


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', "NaN", "[Infinity]", '"\\ud800"', "[1,]", "", '{"a": 1} x'])
def test_what_two_readers_could_read_differently_is_refused(text):
    with pytest.raises(NotStrict):
        parse(text.encode())


def test_a_body_of_too_many_parts_is_too_large_and_is_not_read():
    assert len(parse(b"[" + b"0," * (MARKS_MAX - 2) + b"0]")) == MARKS_MAX - 1
    with pytest.raises(NotStrict) as refused:
        parse(b'[[],{"x":[' + b"[]," * MARKS_MAX)  # not even JSON: nobody looked
    assert refused.value.too_large
