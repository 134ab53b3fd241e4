"""Every key of the document: what it means, what it holds, an example. Parser, JSON Schema and reference read this.

What is said of them stands in keys.toml, part by part.
"""

import tomllib
from collections.abc import Callable, Mapping
from importlib import resources
from typing import Any, Final

from msgspec import Struct, convert

from ostiary.policy import words
from ostiary.policy.model import Assurance, Devices, Expected, HandOver, Kind, Level, OwnerLeaves, Severity

RESERVED_LIMITS: Final = ("anonymous", "default")
ENUMERATIONS: Final = {
    one.__name__: one for one in (Assurance, Devices, Expected, HandOver, Kind, Level, OwnerLeaves, Severity)
}
# What reads the text by the name that `holds` has; an enumeration reads its own words, and there is none for what the
# parser reads by hand.
READS: Final[Mapping[str, Callable[..., Any]]] = {
    **{name.upper(): read for name, read in vars(words).items() if name.islower() and hasattr(words, name.upper())},
    **ENUMERATIONS,
    "PERMISSION": words.patterns,
    "TEXT": str,
}


class Key(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """As keys.toml tells of it; `example` is one that the parser takes."""

    name: str
    field: str
    says: str
    holds: str
    example: Any
    names: str = ""
    many: bool = False
    unquoted: bool = False
    empty: tuple[str, ...] = ()
    default: str | None = None
    min_items: int | None = None
    max_items: int | None = None

    @property
    def read(self) -> Callable[..., Any] | None:
        return READS.get(self.holds)


class Part(Struct, frozen=True, forbid_unknown_fields=True):
    """A mapping with fixed keys. `rules`: how the keys depend on each other, as JSON Schema.

    `example`: what to write into one that says nothing, where it has to say something.
    """

    name: str
    says: str
    keys: tuple[Key, ...]
    needed: tuple[str, ...] = ()
    rules: dict[str, Any] = {}
    example: str = ""


def _part(name: str, told: Mapping[str, Any]) -> Part:
    keys = [{"name": key, "field": key.replace("-", "_"), **one} for key, one in told["keys"].items()]
    return convert({"name": name, **told, "keys": keys}, Part)


_TOLD: Final = tomllib.loads((resources.files("ostiary.policy") / "keys.toml").read_text("utf-8"))
PARTS: Final[Mapping[str, Part]] = {name: _part(name, told) for name, told in _TOLD.items()}
