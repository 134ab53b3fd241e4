"""A test that takes `store` or `database_url` runs twice: on SQLite, and on a real PostgreSQL."""

import pytest
from _pytest.nodeid import NodeId

from databases import KINDS, Databases
from ostiary.store.database import open_store


@pytest.fixture(scope="session")
def databases(tmp_path_factory):
    made = Databases(tmp_path_factory.mktemp("databases"))
    yield made
    made.close()


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


def pytest_itemcollected(item):
    """schemathesis calls the tests of all operations by one name, and of those xdist would run one."""
    if label := getattr(item, "operation_label", None):
        item._id = NodeId.parse(f"{item.nodeid}[{label}]")


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items):
    """xdist 3.8 names a test with its group, where pytest 9.2 does not look: without, no group keeps together."""
    yield
    for item in items:
        if named := vars(item).get("_nodeid"):
            item._id = NodeId.parse(named)
