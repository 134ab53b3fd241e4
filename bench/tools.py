"""The programs that measure: `python -m bench.tools` installs them where it can, and says what is missing where not."""

import os
import shutil
import subprocess
from typing import Final

NEEDED: Final = ("wrk", "haproxy")
COMMAND: Final = f"apt-get install {' '.join(NEEDED)}"
INSTALL_TIMEOUT_S: Final = 300


class Missing(Exception):
    """A benchmark lacks its tools."""


def missing() -> list[str]:
    return [name for name in NEEDED if not _find(name)]


def path(name: str) -> str:
    """Where the program is; raises Missing with what to do."""
    found = _find(name)
    if found is None:
        raise Missing(f"{name} is not installed: {COMMAND}")
    return found


def _find(name: str) -> str | None:
    """Debian keeps servers in a folder that is not on everybody's PATH."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


def install() -> None:
    """Installs what is missing where we are root on a Debian; prints what to do where we are not."""
    if not (lacking := missing()):
        return
    if os.geteuid() or not shutil.which("apt-get"):
        print(f"make bench measures with {' and '.join(lacking)}, which are not installed: {COMMAND}")
        return
    print(f"installing {' and '.join(lacking)}")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], check=False, timeout=INSTALL_TIMEOUT_S, env=quiet)
    command = ["apt-get", "install", "-qq", "-y", "--no-install-recommends", *lacking]
    done = subprocess.run(command, check=False, timeout=INSTALL_TIMEOUT_S, env=quiet, capture_output=True, text=True)
    if done.returncode:
        print(f"could not install: {done.stderr.strip()[-300:]}\n{COMMAND}")


if __name__ == "__main__":
    install()
