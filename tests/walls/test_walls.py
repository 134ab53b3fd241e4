"""The walls of the product: sizes, and generated pages that say what is true now."""

import pytest
from tools import reference, sizes


def test_the_product_stays_below_its_wall():
    assert sizes.product_lines() <= sizes.PRODUCT_MAX_LINES


def test_no_module_is_longer_than_its_wall():
    assert {name: n for name, n in sizes.modules().items() if n > sizes.MODULE_MAX_LINES} == {}


def test_no_function_is_longer_than_its_wall():
    assert {name: n for name, n in sizes.functions() if n > sizes.FUNCTION_MAX_LINES} == {}


def test_every_mark_names_a_line_of_the_standard():
    assert {line for line, _ in reference.marked_tests()} <= set(reference.standard_lines())


@pytest.mark.parametrize("name", reference.WRITERS)
def test_a_generated_page_is_current(name):
    assert (reference.REFERENCE / name).read_text("utf-8") == reference.WRITERS[name](), "run `make docs`"
