"""What an ERP offers, as it was learned: its objects, their fields and where these lead, their callable methods; and as
every source of what can be done, and of what a role may, tells it.
"""

from collections import defaultdict
from collections.abc import Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from ostiary.erp.operation import Operation

MANY: Final = frozenset({"one2many", "many2many"})
ONE: Final = frozenset({"many2one", "one2one"})
LINKS: Final = MANY | ONE
CATALOGUES_MAX: Final = 16  # kept decoded


class Offer(Struct, frozen=True, kw_only=True):
    """`links`: object -> field -> the object it leads to, "" for a value; empty where the fields are not known."""

    operations: tuple[Operation, ...]
    links: Mapping[str, Mapping[str, str]] = {}


class Role(Struct, frozen=True, kw_only=True):
    """`may`: each permission (`erp/sale.sale:write.create`) and why it is there. All words are the source's own."""

    name: str
    may: Mapping[str, str]
    notes: tuple[str, ...] = ()
    includes: tuple[str, ...] = ()
    department: str = ""


class Field(Struct, frozen=True, array_like=True):
    """`target` is the object a link leads to, "" for a value; a reference may lead anywhere.

    `computed`: what is written to it, the ERP writes elsewhere. `required`: it is never empty, or not on all
    records. `copied`: a copy of a record has it. All True where that was not learned. `back`: of a one2many the
    field that leads back, `related`: the path to the field elsewhere that it is, where that was learned.
    """

    type: str
    target: str = ""
    computed: bool = True
    required: bool = True
    copied: bool = True
    back: str = ""
    related: str = ""


class Catalogue(Struct, frozen=True, kw_only=True, dict=True):
    """`methods`: what can be called, by the object, as the ERP names it; empty where it lists none.

    `groups`: what the ERP itself lets its groups do, where that was asked.
    """

    models: dict[str, dict[str, Field]]
    methods: dict[str, frozenset[str]]
    groups: tuple[Role, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether it was learned which fields are computed and required: one that is neither there is everywhere."""
        all_ = (field for fields in self.models.values() for field in fields.values())
        return any(not (field.computed or field.required) for field in all_)

    @cached_property
    def owners(self) -> Mapping[str, Mapping[str, str]]:
        """Object -> the fields by which its records name what they are parts of -> its object, which lists them."""
        named = ((name, field) for name, fields in self.models.items() for field in fields.values())
        lists = {(field.target, name) for name, field in named if field.type == "one2many" and name != field.target}
        found: dict[str, dict[str, str]] = defaultdict(dict)
        for name, fields in self.models.items():
            for link, field in fields.items():
                if field.type == "many2one" and field.required and (name, field.target) in lists:
                    found[name][link] = field.target
        return dict(found)

    def computes(self, model: str, name: str) -> bool:
        known = self.models.get(model, {}).get(name)
        return known is None or known.computed


class Site(Struct, frozen=True, kw_only=True):
    """One system, as an adapter knows it.

    `keyed`: the gate puts the caller's key on each request, and none within a body counts. `observed`: what the ERP's own
    client needs to sign in and to fill in its forms is told too.
    """

    name: str
    catalogue: Catalogue
    database: str = ""
    keyed: bool = False
    observed: bool = False


def learned(path: Path) -> Catalogue | None:
    """What the file holds now; None where nothing was learned yet."""
    try:
        return _decoded(path, path.stat().st_mtime_ns)
    except FileNotFoundError:
        return None


@lru_cache(maxsize=CATALOGUES_MAX)
def _decoded(path: Path, _changed_ns: int) -> Catalogue:
    return msgspec.json.decode(path.read_bytes(), type=Catalogue)
