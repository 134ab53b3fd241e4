"""A policy as it travels: what was read once is what is shown, approved, proved and kept."""

from collections.abc import Mapping
from pathlib import PurePath, PurePosixPath
from typing import Final

from msgspec import Struct

FILE_MAX_CHARS: Final = 500


class Document(Struct, frozen=True, kw_only=True):
    """Its text, its file's path, and by their path below that folder the texts it includes or describes a system with."""

    text: str
    file: str
    files: Mapping[str, str] = {}

    def __post_init__(self) -> None:
        """A name is one line that can be seen: who approves is shown it."""
        if any(len(one) > FILE_MAX_CHARS for one in (self.file, *self.files)):
            raise ValueError(f"the path of a file of the policy has at most {FILE_MAX_CHARS} characters")
        if not all(one.isprintable() for one in (self.file, *self.files)):
            raise ValueError("the name of a file holds what can't be seen")

    @property
    def name(self) -> str:
        """As problems and lines name it."""
        return PurePath(self.file).name


def plain(name: str) -> bool:
    """Whether this path leads down from a folder, and is the only one to where it leads."""
    return name == str(PurePosixPath(name)) and not {"..", "/", "."} & {*PurePosixPath(name).parts}
