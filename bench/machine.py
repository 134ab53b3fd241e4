"""What the figures were measured on."""

import os
import platform
import subprocess
from pathlib import Path

from bench.figure import Figure, plain
from ostiary.envoy import daemon

AREA = "machine"


def described() -> list[Figure]:
    return [
        plain(AREA, "cpu", _cpu()),
        plain(AREA, "cores", str(len(os.sched_getaffinity(0)))),
        plain(AREA, "kernel", platform.release()),
        plain(AREA, "envoy", _envoy()),
        plain(AREA, "python", platform.python_version()),
    ]


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _envoy() -> str:
    told = subprocess.run([daemon.find(), "--version"], capture_output=True, text=True, check=False).stdout
    return told.partition("version:")[2].split("/")[1] if "/" in told else "unknown"
