"""Every part of the bench can be started: what it stands on may have changed under it."""

import pkgutil
from importlib import import_module

import pytest

import bench

PARTS = [one.name for one in pkgutil.walk_packages(bench.__path__, "bench.") if not one.name.endswith("__main__")]


@pytest.mark.parametrize("name", PARTS)
def test_a_part_of_the_bench_can_be_imported(name):
    import_module(name)
