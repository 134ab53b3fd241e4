"""A policy as it travels: what was read once is what is shown, approved, proved and kept."""

from collections.abc import Mapping
from pathlib import PurePath

from msgspec import Struct


class Document(Struct, frozen=True, kw_only=True):
    """Its text, its file's path, and by their path below that folder the texts it includes or describes a system with."""

    text: str
    file: str
    files: Mapping[str, str] = {}

    @property
    def name(self) -> str:
        """As problems and lines name it."""
        return PurePath(self.file).name
