"""What a system offers, as far as it is known, and what a source would let a role do: every source says both so."""

from collections.abc import Mapping

from msgspec import Struct

from ostiary.erp.operation import Operation


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
