"""Nodes of a fleet share one store: each watches its own log, and what one has read the other still reads, once."""

import shutil
from contextlib import ExitStack

import pytest

from monitor.test_watch import World
from monitor.world import WRONG, line
from ostiary.control.installation import opened
from ostiary.control.prepare import initialise
from ostiary.foundation.home import Home


@pytest.fixture
def watches(databases, folder):
    with databases.one("postgresql") as url, ExitStack() as open_:
        homes = [Home(root=folder / name) for name in ("first", "second")]
        initialise(homes[0], upstream="http://127.0.0.1:9", store=url)
        shutil.copytree(homes[0].root, homes[1].root)
        yield [World(home, open_.enter_context(opened(home)).store) for home in homes]


def test_one_wrong_guess_is_one_whichever_node_looks(watches):
    one, other = watches
    one.tick(0), other.tick(0)
    one.write(line(1, **WRONG))
    for second in range(1, 9):
        one.write(line(second)), other.write(line(second))
        one.tick(second), other.tick(second)
    assert (one.alerts(), one.blocked()) == ([], ())
