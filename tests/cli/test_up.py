"""`ostiary up` as a person at a terminal sees it, and as a program reads it."""

import json
import os
import pty
import re
import signal
import subprocess
import sys

import pytest

from running import APART, installed

pytestmark = APART


@pytest.fixture(scope="module")
def made():
    with installed() as one:
        yield one


def at_a_terminal(made, *arguments):
    """The process, and what it shows, line by line until it ends."""
    ours, its = pty.openpty()
    command = [sys.executable, "-c", "from ostiary.cli.main import main; main()", "up", *arguments]
    process = subprocess.Popen(command, stderr=its, env={**os.environ, "OSTIARY_HOME": str(made.home.root)})
    os.close(its)
    return process, lines(ours)


def lines(terminal):
    with os.fdopen(terminal, errors="replace") as shown:
        try:
            for line in shown:
                yield line.rstrip()
        except OSError:  # the other end is closed
            return


def test_a_person_reads_what_is_up_where_what_to_do_and_that_it_ended(made):
    process, shown = at_a_terminal(made)
    told = []
    for line in shown:
        told.append(line)
        if "Ctrl-C" in line:
            process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    ours = [line for line in told if not line.startswith("[")]  # Envoy speaks for itself
    assert [line for line in told if line.startswith("[")] == []
    assert [line for line in ours if not re.match(r"\d\d:\d\d:\d\d  \w|\d\d:\d\d:\d\d  `", line)] == []
    said = [line[10:] for line in ours]
    assert said[0] == "starting"
    assert f"the gate is up at {made.origin}, " in said[1]
    assert f"ostiary status --home {made.home.root}" in said[2]
    assert said[3:] == ["stopping", "stopped; nothing passes until it is started again"]


def test_a_program_reads_json_where_it_asks(made):
    made.home.settings.write_text(made.home.settings.read_text() + 'envoy = "/nowhere"\n')
    process, shown = at_a_terminal(made, "--json")
    started, failed = map(json.loads, shown)
    assert process.wait(20) == 2
    assert (started["message"], failed["error"]["code"]) == ("starting", "envoy-missing")
