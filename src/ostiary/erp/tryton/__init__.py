"""Tryton 8.2: what its JSON-RPC and REST requests would do. All else at its address is denied."""

from msgspec.structs import replace

from ostiary.erp.operation import Call, Refused, Request, Unreadable
from ostiary.erp.tryton import rest, rpc
from ostiary.erp.tryton.catalogue import Catalogue, learn, learned
from ostiary.erp.tryton.offer import OBJECTS, groups, offer
from ostiary.erp.tryton.walk import Walk, plain

__all__ = ["OBJECTS", "Catalogue", "groups", "learn", "learned", "offer", "plain", "read"]


def read(
    request: Request, *, system: str, database: str, catalogue: Catalogue, observed: bool = False
) -> Call | Unreadable:
    """Every operation that `request` would do, or why it can't be told: then it is denied.

    `observed`: what the ERP's own client needs to sign in and to fill in its forms is told too.
    """
    walk = Walk(system, catalogue, observed=observed)
    try:
        if request.path == f"/{database}/rpc/" or (observed and request.path == rpc.ROOT):
            rpc.read(request, walk)
        elif request.path.startswith(f"/{database}/rest/"):
            rest.read(request, request.path.removeprefix(f"/{database}/rest/"), walk)
        else:
            raise Refused.unknown("this path is not open")
    except Refused as refused:
        return replace(refused.told, operations=walk.operations)
    return Call(operations=walk.operations, opened=walk.opened)
