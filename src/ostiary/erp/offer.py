"""What a system offers, as far as it is known: what a policy may name of it."""

from collections.abc import Mapping

from msgspec import Struct

from ostiary.erp.operation import Operation


class Offer(Struct, frozen=True, kw_only=True):
    """`links`: object -> field -> the object it leads to, "" for a value; empty where the fields are not known."""

    operations: tuple[Operation, ...]
    links: Mapping[str, Mapping[str, str]] = {}
