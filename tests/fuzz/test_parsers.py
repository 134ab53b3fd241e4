"""What is sent to us is read, or refused by the parser's own word: no other error, no hang, no memory without bound.

`make test-long` looks for a minute each.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).with_name("parsers.py")
HANG_S = 20  # of one input of a few thousand bytes
MEMORY_MAX_MB = 1_024
LENGTH_MAX_BYTES = 4_096
NAMES = [
    "json", "event", "form", "basic", "certificate", "header", "token", "proof", "assertion", "speaker", "id token",
    "logout token", "keys", "passkey", "scim filter", "network", "openapi", "request", "metadata", "tryton",
    "tryton rest", "odoo", "odoo rpc", "xml-rpc", "policy", "words",
]  # fmt: skip
pytestmark = pytest.mark.skipif(not importlib.util.find_spec("atheris"), reason="atheris has no wheel for this machine")


def looked(name, folder, *options):
    """Runs the fuzzer in a process of its own; what it found is in the message."""
    limits = [f"-timeout={HANG_S}", f"-rss_limit_mb={MEMORY_MAX_MB}", f"-max_len={LENGTH_MAX_BYTES}"]
    (inputs := folder / "inputs").mkdir()
    command = [sys.executable, FILE, name, inputs, *limits, f"-artifact_prefix={folder}/", *options]
    paths = os.pathsep.join([str(FILE.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=environment)
    assert done.returncode == 0, done.stdout[-2_000:] + done.stderr[-4_000:]


@pytest.mark.standard("D1")
def test_each_parser_takes_or_refuses_whatever_comes(tmp_path):
    looked("all", tmp_path, "-runs=40000", "-seed=1")


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_it_does_so_for_a_minute(name, tmp_path):
    looked(name, tmp_path, "-max_total_time=60")
