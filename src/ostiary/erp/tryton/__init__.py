"""Tryton 8.2: what its JSON-RPC and REST requests would do. All else at its address is denied."""

from ostiary.erp.operation import Refused, Request
from ostiary.erp.tryton import rest, rpc
from ostiary.erp.tryton.catalogue import OBJECTS, groups, learn, offer
from ostiary.erp.tryton.writes import NAME, plain
from ostiary.erp.walk import Walk

__all__ = ["NAME", "OBJECTS", "groups", "learn", "offer", "plain", "read"]


def read(request: Request, walk: Walk) -> None:
    database = walk.site.database
    if request.path == f"/{database}/rpc/" or (walk.site.observed and request.path == rpc.ROOT):
        rpc.read(request, walk)
    elif request.path.startswith(f"/{database}/rest/"):
        rest.read(request, request.path.removeprefix(f"/{database}/rest/"), walk)
    else:
        raise Refused.unknown("this path is not open")
