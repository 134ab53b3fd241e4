"""What a source would let a role do; every source says it so, and `policy.draft` writes it down."""

from collections.abc import Mapping

from msgspec import Struct


class Role(Struct, frozen=True, kw_only=True):
    """`may`: each permission (`erp/sale.sale:write.create`) and why it is there. All words are the source's own."""

    name: str
    may: Mapping[str, str]
    notes: tuple[str, ...] = ()
    includes: tuple[str, ...] = ()
    department: str = ""
