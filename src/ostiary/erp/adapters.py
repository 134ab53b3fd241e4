"""The kinds of ERP whose requests are understood, each by an adapter of its own."""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from msgspec.structs import replace

from ostiary.erp import odoo, tryton
from ostiary.erp.catalogue import Catalogue, Offer, Site
from ostiary.erp.operation import Call, Refused, Request, Unreadable
from ostiary.erp.walk import Walk


class Adapter(NamedTuple):
    """`read` notes in the walk all that a request would do, or raises Refused; `name`: what a link shows of a record."""

    read: Callable[[Request, Walk], None]
    offer: Callable[[Catalogue, str], Offer]
    name: str


ADAPTERS: Final[Mapping[str, Adapter]] = {
    "tryton": Adapter(tryton.read, tryton.offer, tryton.NAME),
    "odoo": Adapter(odoo.read, odoo.offer, odoo.NAME),
}


def understood(kind: str, request: Request, site: Site) -> Call | Unreadable:
    """Every operation that `request` would do, or why it can't be told: then it is denied."""
    walk = Walk(site, ADAPTERS[kind].name)
    try:
        ADAPTERS[kind].read(request, walk)
    except Refused as refused:
        return replace(refused.told, operations=walk.operations)
    return Call(operations=walk.operations, opened=walk.opened)
