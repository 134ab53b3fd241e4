"""Async tests run in a fresh event loop each."""

import asyncio
import inspect

import pytest

from guard_world import WORLDS
from real_tryton import tryton  # noqa: F401
from tryton_pair import pair  # noqa: F401


@pytest.fixture(autouse=True)
def chosen_worlds():
    """Those that `guard_world.make` makes end with the test."""
    yield
    WORLDS.close()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    asyncio.run(pyfuncitem.obj(**arguments))
    return True
