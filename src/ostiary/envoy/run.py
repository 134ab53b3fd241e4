"""How Envoy is started: its command and the little environment it needs."""

import os
from importlib.resources import files
from pathlib import Path
from typing import Final

from ostiary.foundation.home import Home

LOG_FLUSH_MS: Final = 50


def command(binary: Path, home: Home, workers: int) -> list[str]:
    return [
        str(binary),
        "--config-path",
        str(home.envoy / "bootstrap.json"),
        "--concurrency",
        str(workers or os.cpu_count() or 1),
        "--disable-hot-restart",
        "--log-level",
        "warning",
        "--file-flush-interval-msec",
        str(LOG_FLUSH_MS),
    ]


def environment() -> dict[str, str]:
    """`getHours(zone)` is an error without zone files, and an error can open a rule: Envoy reads what Python reads."""
    return {"PATH": os.environ.get("PATH", ""), "TZDIR": str(files("tzdata") / "zoneinfo")}
