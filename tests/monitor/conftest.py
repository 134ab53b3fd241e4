"""Async tests run in a fresh event loop each; a home with its folders, a store."""

import asyncio
import inspect

import pytest

from ostiary.foundation.home import Home


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    asyncio.run(pyfuncitem.obj(**arguments))
    return True


@pytest.fixture
def home(tmp_path):
    made = Home(root=tmp_path)
    made.create()
    return made
