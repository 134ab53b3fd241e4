"""What `init` prints can be pasted: each command works, in order, and what it leads to is a call that passes."""

import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner
from tools.caller import Caller, machine_token

from cli.transcript import ostiary
from odoo_twin import DATABASE, KEY, Odoo
from ostiary.cli.demo.stand import free_port
from ostiary.cli.main import cli
from ostiary.foundation.home import load_settings
from ostiary.foundation.secret import Secret
from real_tryton import tryton  # noqa: F401
from running import APART, SPEC, until
from upstream import Echo, Server

HERE = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
PARTIES = "model.party.party.search_read", [], 0, 3, None, ["name"]


IN_A_TERMINAL = """
import os, pty, sys
sys.exit(os.waitstatus_to_exitcode(pty.spawn(["bash", "-c", sys.argv[1]])))
"""


def pasted(line, *, typed=""):
    """What a terminal shows when somebody pastes `line`, and types `typed` whenever he is asked."""
    command = [sys.executable, "-c", IN_A_TERMINAL, line]
    shown = ""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=HERE) as terminal:
        while part := os.read(terminal.stdout.fileno(), 4096).decode():
            shown += part
            if part.rstrip().endswith(":"):
                os.write(terminal.stdin.fileno(), f"{typed}\n".encode())
    assert terminal.returncode == 0, shown
    return shown.replace("\r\n", "\n")


@contextmanager
def first(line, log):
    """The command that goes on, in a terminal of its own, until all is up."""
    with log.open("wb") as out:
        process = subprocess.Popen(["bash", "-c", f"exec {line}"], stdout=out, stderr=out, env=HERE)
    try:
        until(lambda: "the gate is up at" in log.read_text(), log.read_text)
        yield
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


def steps(shown):
    return [line.strip() for line in shown.splitlines() if line.startswith("  ostiary ")]


def let(home, permission):
    """Says in the policy what `reader` may do."""
    text = (home / "policy.yaml").read_text()
    assert "may: []" in text
    (home / "policy.yaml").write_text(text.replace("may: []", f'may: ["{permission}"]', 1))


def shop(port, home, secret):
    caller = Caller(f"https://localhost:{port}", home / "keys" / "ca.crt")
    caller.token = machine_token(caller, "shop", secret).json()["access_token"]
    return caller


def secret_in(shown):
    return Secret(re.search(r"client_secret: (\S+)", shown)[1])


@APART
def test_an_openapi_system(folder):
    home, port = folder / "home", free_port()
    upstream = Server(("127.0.0.1", 0), Echo).start(lambda _: (200, {}, None))
    (folder / "shop.yaml").write_text(f"servers: [{{url: /api/v1}}]\n{SPEC}")
    where = f"--upstream http://127.0.0.1:{upstream.server_port} --spec {folder}/shop.yaml --port {port} --home {home}"
    shown = pasted(f"ostiary init --erp openapi --system shop {where}")
    up, add, apply = steps(shown)
    assert f"https://localhost:{port}/api/v1/orders" in shown
    assert '# for instance: may: ["order: read"]' in (home / "policy.yaml").read_text()
    with first(up, folder / "log"):
        secret = secret_in(pasted(add))
        assert "no difference" in pasted(apply)
        caller = shop(port, home, secret)
        assert caller.send("GET", "/api/v1/stock").reason == "role"
        assert caller.send("GET", "/stock").reason == "unknown-operation"
        let(home, "shop/stock: read")
        assert "widens" in pasted(apply)
        answer = caller.send("GET", "/api/v1/stock")
        assert (answer.status, answer.json()["path"]) == (200, "/api/v1/stock")
        caller.close()
    upstream.stop()


def test_what_is_left_out_of_a_document_and_where_it_says_it_stands_is_told_from_the_first_command_on(folder):
    """What the document calls its paths is its own words: no control character, and no line of a draft."""
    home, spec = folder / "home", folder / "shop.yaml"
    odd = [
        "/files: {post: {requestBody: {content: {multipart/form-data: {}}}}}",
        '"/x\\e[2J\\nroles: {a: {}} {": {get: {}}',
    ]
    spec.write_text(SPEC.replace("paths:\n", "paths:\n" + "".join(f"  {one}\n" for one in odd)))
    note = "note: specs/shop.yaml: POST /files is left out, and so denied: only JSON bodies are understood"

    def told(*words, at=home):
        code, out = ostiary(at, list(words))
        assert (code, "\x1b" in out) == (0, False), out
        return out

    where = ["--upstream", "http://127.0.0.1:9", "--spec", str(spec), "--home", str(home)]
    assert note in told("init", "--erp", "openapi", *where, at=folder)
    for words in (["check"], ["diff"], ["prove"], ["draft", "--from", "erp"], ["draft", "--from", str(spec)]):
        out = told("policy", *words)
        assert note.replace("specs/", "") in out.replace("specs/", ""), words
        assert "\nroles: {a" not in out
    spec.write_text(spec.read_text() + "servers: [{url: 'https://shop.example.com/api'}]\n")
    (home / "specs/shop.yaml").write_text(spec.read_text())
    assert 'has not; write at: localhost/api, upstream: "http://127.0.0.1:9/api"' in told("policy", "check")
    assert "at: shop.example.com/api, upstream" in told("policy", "draft", "--from", str(spec))


def test_a_database_of_ones_own_is_kept_in_the_private_settings(folder):
    home, store = folder / "home", f"sqlite:///{folder}/elsewhere.db"
    where = ["--home", str(home), "--store", store]
    assert ostiary(folder, ["init", "--erp", "tryton", "--upstream", "http://127.0.0.1:9", *where])[0] == 0
    assert (folder / "elsewhere.db").stat().st_size > 0
    assert not (home / "ostiary.db").exists()
    assert (load_settings(home / "settings.toml").store, (home / "settings.toml").stat().st_mode & 0o777) == (
        store,
        0o600,
    )
    assert "first start" in ostiary(home, ["audit", "list"])[1]


@pytest.mark.xdist_group("tryton")
def test_a_tryton(folder, tryton):  # noqa: F811
    home, port, erp = folder / "home", free_port(), tryton.erp
    where = f"--upstream {erp.url} --database {erp.database} --port {port} --home {home}"
    up, reader, add, account, apply = steps(pasted(f"ostiary init --erp tryton --system books {where}"))
    assert "--system books" in account
    with first(up, folder / "log"):
        assert "objects" in pasted(reader, typed=erp.users["gateway"].reveal())
        secret = secret_in(pasted(add))
        let(home, "books/party.party: read")
        assert "widens" in pasted(apply)
        pasted(account.replace("LOGIN", "clerk"), typed=erp.users["clerk"].reveal())
        caller = shop(port, home, secret)
        answer = caller.rpc(*PARTIES)
        assert (answer.status, len(answer.json()["result"])) == (200, 3)
        caller.close()


@APART
def test_an_odoo(folder):
    home, port = folder / "home", free_port()
    server = Server(("127.0.0.1", 0), Echo).start(Odoo({"shop": "planted-shops-key"}))
    where = f"--upstream http://127.0.0.1:{server.server_port} --database {DATABASE} --port {port} --home {home}"
    shown = pasted(f"ostiary init --erp odoo {where}")
    up, reader, add, account, apply = steps(shown)
    assert f"Its database is {DATABASE}." in shown
    assert f"https://localhost:{port}/json/2/res.partner/search_read" in shown
    with first(up, folder / "log"):
        assert "objects" in pasted(reader, typed=KEY)
        secret = secret_in(pasted(add))
        let(home, "res.partner: read")
        assert "widens" in pasted(apply)
        pasted(account.replace("LOGIN", "shop"), typed="planted-shops-key")
        caller, body = shop(port, home, secret), b'{"domain": [], "fields": ["name"]}'
        found = until(
            lambda: (one := caller.send("POST", "/json/2/res.partner/search_read", body)).status == 200 and one
        )
        assert found.json() == [{"id": 1, "name": "Acme"}, {"id": 2, "name": "Blue"}]
        caller.close()
    server.stop()


@pytest.mark.parametrize(
    ("below", "told"), [("", "by the ERP's own paths, as"), ("/api/v1", "not by the ERP's own paths, but")]
)
def test_whose_paths_callers_use_is_told_as_it_is(folder, below, told):
    (folder / "shop.yaml").write_text(SPEC)
    made = [f"--home={folder / 'home'}", f"--spec={folder / 'shop.yaml'}", f"--upstream=http://127.0.0.1:9{below}"]
    done = CliRunner().invoke(cli, ["init", "--erp", "openapi", *made])
    assert f"Callers reach the ERP through the gate {told}" in done.output
