"""A test that takes `store` or `database_url` runs twice: on SQLite, and on a real PostgreSQL.

One of a running installation, or with a fixture of CHOSEN_FIXTURES, runs on the kind that OSTIARY_TEST_STORE names.
"""

from contextlib import closing

import pytest
from _pytest.nodeid import NodeId

from databases import CHOSEN, KINDS, chosen, shared
from ostiary.store.database import open_store

CHOSEN_FIXTURES = {"sqlite_world", "chosen_store", "chosen_url", "chosen_worlds"}
CHOSEN_GROUPS = {"running", "apart"}


@pytest.fixture(scope="session")
def databases():
    return shared()


@pytest.fixture(params=KINDS)
def database_kind(request):
    return request.param


@pytest.fixture
def database_url(databases, database_kind):
    """The URL of a fresh database of the newest version."""
    with databases.one(database_kind) as url:
        yield url


@pytest.fixture
def store(database_url):
    """A fresh store, open."""
    made = open_store(database_url)
    yield made
    made.close()


@pytest.fixture
def chosen_url():
    """What `store` in settings.toml says of a fresh database of the chosen kind."""
    with chosen() as url:
        yield url


@pytest.fixture
def chosen_store(databases):
    """A fresh store of the chosen kind, open."""
    with databases.one(CHOSEN) as url, closing(open_store(url)) as made:
        yield made


def pytest_itemcollected(item):
    """Marks what `make test-postgresql` runs.

    And schemathesis calls the tests of all operations by one name, of which xdist would run one.
    """
    groups = {mark.args[0] for mark in item.iter_markers("xdist_group")}
    if groups & CHOSEN_GROUPS or CHOSEN_FIXTURES & {*item.fixturenames}:
        item.add_marker("chosen_store")
    if label := getattr(item, "operation_label", None):
        item._id = NodeId.parse(f"{item.nodeid}[{label}]")


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items):
    """xdist 3.8 names a test with its group, where pytest 9.2 does not look: without, no group keeps together."""
    yield
    for item in items:
        if named := vars(item).get("_nodeid"):
            item._id = NodeId.parse(named)
