"""Stories as text: `$ ostiary ...` lines and exactly what follows, with names for what differs from run to run.

A line `> GET /path as client` is a request to the gate. A name like DECISION in a command stands for the last one seen.
`OSTIARY_TRANSCRIPTS=write` writes the files anew: read the difference before you commit it.
"""

import contextlib
import io
import os
import re
import shlex
import sys
from pathlib import Path
from unittest import mock

from ostiary.cli.main import run
from ostiary.foundation.secret import Secret

FOLDER = Path(__file__).with_name("transcripts")
HERE = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # the command is where a shell finds it
WRITE = os.environ.get("OSTIARY_TRANSCRIPTS") == "write"
NAMES = {  # in this order: what is longer first
    "DECISION": re.compile(r"gate-[0-9a-f]{6}-\d+\.\d+"),
    "TIME": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)?"),
    "REVISION": re.compile(r"\b[a-z2-7]{16}\b(?=[ \n\",)]|$)"),
    "uid:ME": re.compile(r"\buid:\d+(?: \(\w+\))?"),
    "GRANT": re.compile(r"\bgr-[0-9a-f]+"),
    "SECRET": re.compile(r"(?<=client_secret: )[\w-]+|(?<=\"client_secret\": \")[\w-]+"),
    "ROOT": re.compile(r"(?<=root )[0-9a-f]{64}|(?<=\"root\": \")[0-9a-f]{64}"),
    "DAYS": re.compile(r"(?<=good for )\d+ days"),
    "ROOM": re.compile(r"\d+ [GM]iB free"),
    "ENVOY": re.compile(r"\S+/envoy/_bin/envoy"),
    "SOMEBODY": re.compile(r"(?<=applied by )\S+"),
    "BYTES": re.compile(r"\d+ bytes"),
    "ENTRIES": re.compile(r"\d+ entries"),
}


class Story:
    """One file, played in one installation and one working folder."""

    def __init__(self, site, folder):
        self._site, self._folder = site, folder
        self._seen = {"HOME": str(site.home.root), "SPEC": str(site.spec), "PORT": str(site.port)}
        self._upstream = str(site.upstream.server_port)

    def play(self, path):
        """The text as it is now."""
        lines = path.read_text().splitlines()
        return "\n".join(self._step(line) if line[:2] in {"$ ", "> "} else line for line in _commands(lines)) + "\n"

    def _step(self, line):
        command = self._filled(line[2:])
        told = self._request(command) if line[0] == ">" else self._command(command)
        shown = re.sub(r"\n\s*\n", "\n", self._named(told))  # a blank line of the file stands between commands
        return f"{line}\n{shown}".rstrip()

    def _command(self, command):
        arguments, given = shlex.split(command)[1:], ""
        if "<<<" in arguments:
            given = arguments[arguments.index("<<<") + 1] + "\n"
            arguments = arguments[: arguments.index("<<<")]
        code, out = ostiary(self._site.home.root, arguments, given=given, folder=self._folder)
        if made := re.search(r"client_id: (\S+)\nclient_secret: (\S+)", out):
            self._site.secrets[made[1]] = Secret(made[2])
        return f"{out}(exit code {code})" if code else out

    def _request(self, command):
        method, path, _, client = command.split()
        answer = self._site.once(method, path, token=self._site.fresh(client))
        return f"{answer.status} {answer.headers.get('ostiary-reason', 'allowed')} {answer.decision}"

    def _filled(self, command):
        for name, value in self._seen.items():
            command = re.sub(rf"\b{name}\b", value, command)
        return command

    def _named(self, text):
        for name in ("HOME", "SPEC"):
            text = text.replace(self._seen[name], name)
        for name, pattern in NAMES.items():
            if found := pattern.findall(text):
                self._seen[name] = found[0]
            text = pattern.sub(name, text)
        text = text.replace(str(self._folder), "HERE").replace(f":{self._upstream}", ":UPSTREAM")
        text = re.sub(rf":{self._seen['PORT']}\b", ":PORT", text)
        return re.sub(r"^(\d+ +TIME|INDEX +AT) .*", _narrow, text, flags=re.MULTILINE)


def _narrow(line):
    """A line of the audit log, whose columns are as wide as this machine's user id."""
    return re.sub(r"uid:\d+", "uid:ME", re.sub(r"^\d+", "NUMBER", re.sub(r" {2,}", "  ", line[0])))


def _commands(lines):
    """The story without what it expects: comments, commands and requests."""
    return [line for line in lines if line[:2] in {"$ ", "> ", "# "} or not line.strip()]


def ostiary(home, arguments, *, given="", folder=None):
    """(exit code, what was printed) of a command, in this process."""
    out = io.StringIO()
    with (
        contextlib.chdir(folder or home),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(out),
        mock.patch.dict(os.environ, {"OSTIARY_HOME": str(home), "COLUMNS": "100", "PATH": HERE}),
        mock.patch("sys.stdin", io.StringIO(given)),
    ):
        code = run(list(arguments))
    return code, out.getvalue()
