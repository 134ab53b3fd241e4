"""How Envoy is started: its command and the little environment it needs."""

import ctypes
import os
from importlib.resources import files
from pathlib import Path
from typing import Final

from ostiary.foundation.errors import SystemFault
from ostiary.foundation.home import Home

LOG_FLUSH_MS: Final = 50
WATCHES: Final = 24  # Envoy takes one inotify instance for each file and folder that it follows


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
        "--component-log-level",
        "main:error",  # it tells of every ordinary end as of a warning
        "--file-flush-interval-msec",
        str(LOG_FLUSH_MS),
    ]


def environment() -> dict[str, str]:
    """`getHours(zone)` is an error without zone files, and an error can open a rule: Envoy reads what Python reads."""
    return {"PATH": os.environ.get("PATH", ""), "TZDIR": str(files("tzdata") / "zoneinfo")}


def check_watches(wanted: int = WATCHES) -> None:
    """Raises when this user can't have as many inotify instances as Envoy needs: it would abort without a word."""
    libc = ctypes.CDLL(None, use_errno=True)
    taken = [libc.inotify_init1(os.O_CLOEXEC) for _ in range(wanted)]
    for descriptor in taken:
        if descriptor >= 0:
            os.close(descriptor)
    if -1 in taken:
        told = f"this user can't watch {wanted} more files (fs.inotify.max_user_instances)"
        hint = "sysctl fs.inotify.max_user_instances=1024, or end other programs that watch files"
        raise SystemFault("inotify-exhausted", told, hint=hint)
