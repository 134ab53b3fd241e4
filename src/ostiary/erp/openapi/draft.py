"""The operations of an OpenAPI document as roles: one for each security scope, else for each object and verb."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ostiary.erp.draft import Role
from ostiary.erp.openapi.document import read_document, resolve
from ostiary.erp.operation import covering_scopes
from ostiary.erp.route import Route


def drafted(data: bytes, routes: Iterable[Route]) -> Iterator[Role]:
    """`routes` are those of `data`. What would also open a route that the source gives to others is only noted."""
    root, by_role = read_document(data), defaultdict[str, dict[str, list[str]]](lambda: defaultdict(list))
    opens: dict[str, set[str]] = defaultdict(set)  # a permission without an action opens what has one, too
    for route in routes:
        call = f"{route.method} {route.template}"
        for permission in covering_scopes(route.operation):
            opens[permission].add(call)
        for name in _names(root, route):
            by_role[name][route.permission].append(call)
    for name, found in sorted(by_role.items()):
        own = {call for calls in found.values() for call in calls}
        wider = {one: ", ".join(sorted(opens[one] - own)) for one in found if opens[one] - own}
        notes = tuple(f"not proposed: {one}, which opens {more} too" for one, more in wider.items())
        yield Role(name=name, may={one: ", ".join(found[one]) for one in found if one not in wider}, notes=notes)


def _names(root: dict[str, Any], route: Route) -> set[str]:
    """One of each alternative that the operation's `security` names (OpenAPI 3.1.1, Security Requirement Object)."""
    item, _ = resolve(root, root["paths"][route.template], "")
    needs = item[route.method.lower()].get("security", root.get("security"))
    listed = [one for one in needs if isinstance(one, Mapping)] if isinstance(needs, list) else []
    scopes = [{str(one) for told in need.values() if isinstance(told, list) for one in told} for need in listed or [{}]]
    return {" ".join(sorted(found)) or f"{route.object} {route.verb}" for found in scopes}
