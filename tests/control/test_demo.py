"""`ostiary demo`: what it prints can be pasted, and Ctrl-C leaves no process and no file but the cache."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from tools.caller import Caller, answer_page

from ostiary.cli import terminal
from ostiary.cli.demo import stand
from ostiary.control import evidence
from ostiary.foundation.errors import OperatorFault
from ostiary.foundation.home import Home
from ostiary.foundation.secret import Secret
from real_tryton import CACHE, template
from running import until

pytestmark = pytest.mark.xdist_group("tryton")
UP = "the gate is up at"
WHOLE = "Ctrl-C stops everything"


@pytest.fixture
def demo(tmp_path):
    """(the process in a session of its own, what it has said so far) in a home folder that is empty."""
    template()  # built before, or this is a test of minutes
    with begun(tmp_path, CACHE) as both:
        yield both


@contextmanager
def begun(folder, cache, **environment):
    home, log = folder / "home", folder / "log"
    home.mkdir()
    here = {"OSTIARY_CACHE": str(cache), "HOME": str(home), "PYTHONUNBUFFERED": "1", **environment}
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", "from ostiary.cli.main import main; main()", "demo"],
            stdout=out, stderr=out, start_new_session=True, cwd=home, env={**os.environ, **here},
        )  # fmt: skip
    yield process, log.read_text
    if process.poll() is None:
        process.terminate()
        process.wait(60)
    assert list(home.iterdir()) == []


@contextmanager
def unchanged(folder):
    before = sorted(path.name for path in folder.iterdir())
    yield
    assert sorted(path.name for path in folder.iterdir()) == before


def told(process, said, text):
    until(lambda: text in said() or process.poll() is not None, said, patience_s=90)
    assert text in said(), said()


def folder_of(process):
    """The demo's own folder: the one that its children are about."""
    return until(lambda: next(iter({Path(found) for pid in below(process.pid) for found in folders(pid)}), None))


def folders(pid):
    return re.findall(r"/tmp/ostiary-\w+", command(pid))


def below(pid):
    """Every process that was started by `pid`, and by those."""
    try:
        started = " ".join(task.joinpath("children").read_text() for task in Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []
    children = [int(one) for one in started.split()]
    return [*children, *(deeper for child in children for deeper in below(child))]


def command(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        return ""


def about(folder):
    """Every process on this machine whose command names the folder."""
    return [path.name for path in Path("/proc").glob("[0-9]*") if str(folder) in command(path.name)]


def ctrl_c(process):
    """As a terminal sends it: to the whole group."""
    os.killpg(process.pid, signal.SIGINT)
    return process.wait(60)


def test_when_all_is_up_its_lines_can_be_pasted_and_ctrl_c_ends_it(demo):
    process, said = demo
    with unchanged(CACHE):
        told(process, said, WHOLE)
        folder = folder_of(process)
        if shutil.which("curl"):
            pasted(said())
        wrong_passwords_replace_nothing(Home(root=folder / "home"))
        children = below(process.pid)
        assert len(children) >= 6  # supervisor, three of ours, Envoy, Tryton
        assert ctrl_c(process) == 0
    assert "nothing is left but the cache" in said()
    gone(folder, children)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_while_it_still_starts_it_leaves_nothing_either(demo, number):
    process, said = demo
    folder = folder_of(process)
    children = below(process.pid)
    os.killpg(process.pid, number)
    assert process.wait(60) == 130
    assert WHOLE not in said()
    gone(folder, children)


def test_ctrl_c_gives_up_a_build_in_one_line_however_often_it_comes(tmp_path):
    cache = tmp_path / "cache"
    with socket.create_server(("127.0.0.1", 0)) as silent:  # a package index that never answers
        index = f"http://127.0.0.1:{silent.getsockname()[1]}/simple"
        nowhere = {"UV_DEFAULT_INDEX": index, "PIP_INDEX_URL": index, "UV_NO_CACHE": "1"}
        with begun(tmp_path, cache, **nowhere) as (process, said):
            told(process, said, "installing Tryton")
            told(process, said, "explain ID")  # the last line before all is up: the two are begun side by side
            folder, before = folder_of(process), len(said())
            children = until(lambda: [pid for pid in below(process.pid) if str(cache) in command(pid)])
            children += below(process.pid)
            until(lambda: process.poll() is not None or os.killpg(process.pid, signal.SIGINT))
            assert process.returncode == 130
    assert said()[before:].split() == ["stopped"]
    assert [path.suffix for path in cache.iterdir()] == [".lock"]
    gone(folder, children)


def gone(folder, children):
    assert not folder.exists()
    until(lambda: not about(folder))
    until(lambda: not any(command(pid) for pid in children))


def wrong_passwords_replace_nothing(home):
    """What the ERP does not let in is refused with what to do, and what worked before still does."""
    before = evidence.list_entries(home, limit=1)
    for operation, facts, again in (
        ("system.account", {"system": "erp", "login": "gateway"}, "system account erp"),
        ("account.set", {"principal": "client:shop", "system": "erp", "login": "clerk"}, "client account shop"),
    ):
        with pytest.raises(OperatorFault, match="does not let") as problem:
            terminal.ask(home, operation, **facts, password="planted-guess")
        assert f"ostiary {again}" in problem.value.hint
    assert evidence.list_entries(home, limit=1) == before
    assert terminal.ask(home, "system.learn", system="erp")["objects"] > 0
    assert all(part["ok"] for part in terminal.ask(home, "status")["parts"])


def pasted(said):
    """The lines in one terminal: a refusal, a token, an allowed call, the events of both; a refusal's reason; a person."""
    lines = [line.strip() for line in said.splitlines() if re.match("  [/T]|  curl|  ostiary|  grep", line)]
    refusal, explain, token, call, events, password, exchange, diff, apply = lines
    refused, token, allowed, events, people, unchanged, applied = run(
        refusal, token, call, f"{events} --json", password, diff, apply
    )
    assert "HTTP/1.1 401" in refused
    assert "token-missing" in refused
    assert not token.strip()
    assert len(json.loads(allowed)["result"]) == 3
    reasons = {(event["status"], event["reason"]) for event in json.loads(events)}
    assert {(401, "token-missing"), (200, "allowed")} <= reasons
    assert "no difference" in unchanged
    assert "in force" in applied
    decision = re.search(r"ostiary-decision: (\S+)", refused)[1]
    address = re.search(r"^  (https://\S+/identity/authorize\S+)$", said, re.MULTILINE)[1]
    authority = re.search(r"--cacert (\S+)", refusal)[1]
    code = signed_in(address, Path(authority), *people.split())
    why, given = run(explain.replace("ID", decision, 1), exchange.replace("CODE", code))
    assert decision in why
    assert "access_token" in json.loads(given)


def run(*lines):
    """What each line prints, all in one shell."""
    script = "\necho ---\n".join(lines)
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.split("---\n")


def signed_in(address, authority, login, password):
    """The code that a browser is sent back with."""
    origin, path = re.fullmatch(r"(https://[^/]+)(/.*)", address).groups()
    caller = Caller(origin, authority)
    back = answer_page(caller, caller.send("GET", path), login, Secret(password))
    caller.close()
    return parse_qs(urlsplit(back).query)["code"][0]


def test_gate_and_erp_never_get_the_same_port(monkeypatch):
    """The kernel may tell one twice that nobody took yet."""

    class Told(socket.socket):
        ports = iter([40_001, 40_001, 40_002])

        def getsockname(self):
            return "127.0.0.1", next(self.ports)

    monkeypatch.setattr(stand.socket, "socket", Told)
    first = stand.free_port()
    assert (first, stand.free_port(but=first)) == (40_001, 40_002)
