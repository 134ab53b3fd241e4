"""The one table of what can be asked: the CLI has its commands of it, and control the operations that it answers."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from ostiary.foundation.data import beside

TABLE: Final = beside(__file__)
OSTIARY: Final = TABLE.pop("ostiary")
SHARED: Final = TABLE.pop("shared")


def operations(acts: Mapping[str, Any] = TABLE | SHARED) -> Iterator[tuple[str, str]]:
    """Each with the function in ostiary that does it."""
    for act in acts.values():
        if isinstance(act, dict):
            if "does" in act:
                yield act["does"], act.get("by") or act["reads"]
            yield from act.get("besides", {}).items()
            yield from operations(act)
