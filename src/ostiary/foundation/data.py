"""Data of ours that is no code: it stands in a TOML file beside the module that reads it, under the same name."""

import tomllib
from pathlib import Path
from typing import Any


def beside(module: str) -> dict[str, Any]:
    """What the file says; `module` is the module's `__file__`."""
    return tomllib.loads(Path(module).with_suffix(".toml").read_text("utf-8"))
