"""SCIM 2.0 as directories speak it (RFC 7643, 7644): what they ask is read here, and what they are told is written."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Any, Final

from msgspec import Meta, Struct, field
from sqlalchemy import ColumnElement, Connection, func, select
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ostiary.foundation.clock import from_us
from ostiary.foundation.data import beside
from ostiary.identity import clients, tokens
from ostiary.identity.provisioning import KEPT, Operation, members_of, opened, provisioned
from ostiary.identity.request import Refused, converted, parse, query, read_json, refuse_foreign
from ostiary.identity.server import NO_STORE, Server
from ostiary.store.tables import PROVISIONED

ABOUT: Final = beside(__file__)
MESSAGES: Final = "urn:ietf:params:scim:api:messages:2.0:"
CORE: Final = "urn:ietf:params:scim:schemas:core:2.0:"
BODY_MAX_BYTES: Final = 256 * 1024  # a group of some thousands
PAGE_MAX: Final = 200
OPERATIONS_MAX: Final = 100
Number = Annotated[int, Meta(ge=-1_000_000_000, le=1_000_000_000)]
ERRORS: Final = {"invalidFilter", "invalidPath", "invalidSyntax", "invalidValue", "mutability", "tooMany", "uniqueness"}
# Up to four comparisons, each with a text in JSON.
_TERM: Final = r'(?:urn:[\w:.]{1,100}:)?([a-z]{1,20})(?:\.value)? +eq +("(?:[^"\\]|\\.){0,300}")'
TERM: Final = re.compile(_TERM, re.IGNORECASE | re.ASCII)
FILTER: Final = re.compile(rf"{_TERM}(?: +and +{_TERM}){{0,3}}", re.IGNORECASE | re.ASCII)
PATH: Final = re.compile(r"(?:urn:[\w:.]{1,100}:)?([\w$-]{1,50})(?:\[(.{1,400})\])?(\.[\w$-]{1,50})?", re.ASCII)

Terms = list[tuple[str, str]]  # attribute in small letters, and what it equals
Found = tuple[int, list[dict[str, Any]]]  # how many there are, and those of the page


class Asked(Struct, frozen=True):
    """What of a resource, or which of a list."""

    filter: str = ""
    first: Number = field(name="startIndex", default=1)
    count: Number = PAGE_MAX
    attributes: str = ""
    excluded: str = field(name="excludedAttributes", default="")


class Sent(Struct, frozen=True):
    op: str
    path: str = ""
    value: Any = None


class Patch(Struct, frozen=True):
    operations: list[Sent] = field(name="Operations")


def endpoint(server: Server, request: Request, body: bytes) -> Response:
    """Whatever a client asks; what it wants changed, control changes."""
    refuse_foreign(request)
    kind, _, name = request.path_params["place"].partition("/")
    name, method = name if name.isprintable() else "-", request.method
    asked = converted(parse(query(request)), Asked, "invalidValue")
    with server.transaction(request, {}, writes=False) as connection:
        client = _caller(server, connection, request)
        if method in {"GET", "HEAD"}:
            return said(_read(server, connection, client, kind, name, asked))
    may = "GET, POST" if kind == "Users" else "GET"
    may = "GET, PUT, PATCH, DELETE" if kind in READ and name else may
    if method not in may.split(", "):
        status = 501 if ".search" in {kind, name} else 405
        why = "that is not done here; a group is a role that an administrator opens"
        raise Refused("not_allowed", why, status=status, allow=may)
    told = {"method": method, "kind": kind, "name": name, "told": _sent(kind, method, body)}
    done = server.changing("scim", client, told)
    server.note(request, "done", client=client.partition(":")[2], method=method, kind=kind, name=done["id"])
    if method == "DELETE":
        return Response(status_code=204, headers=NO_STORE)
    with server.store.read() as connection:
        answer = _read(server, connection, client, kind, done["id"], asked)
    return said(answer, 201 if method == "POST" else 200, location=f"{server.settings.scim}/{kind}/{done['id']}")


def said(told: Mapping[str, Any], status: int = 200, **headers: str) -> Response:
    return JSONResponse(told, status, media_type="application/scim+json", headers={**NO_STORE, **headers})


def failed(refused: Refused, headers: Mapping[str, str]) -> Response:
    """RFC 7644 section 3.12."""
    kind = {"scimType": refused.error} if refused.error in ERRORS else {}
    told = {"schemas": [f"{MESSAGES}Error"], "status": str(refused.status), "detail": refused.description, **kind}
    allow = {"allow": refused.facts["allow"]} if "allow" in refused.facts else {}
    return said(told, refused.status, **headers, **allow)


def _caller(server: Server, connection: Connection, request: Request) -> str:
    """The client, by a token for here alone; or by its secret, where its tokens need no binding; a public one proves nothing."""
    if request.headers.get("authorization", "").lower().startswith("basic "):
        shown = clients.authenticate(server, connection, request, {})
        client = "" if shown.bound or shown.public else shown.principal
    else:
        client = tokens.bearer(server, connection, request, [server.settings.scim]).subject
    if opened(connection, client) is None:
        raise Refused("access_denied", "no administrator lets this client provision", status=403)
    return client


def _sent(kind: str, method: str, body: bytes) -> list[Operation]:
    """What is wanted, each on one attribute; a whole says of what it leaves out that it is not, but disables nobody."""
    if method == "DELETE":
        return [("replace", "active", "", False), ("remove", "members", "", None)]
    if method == "PATCH":
        return list(_operations(read_json(body, Patch, "invalidSyntax").operations))
    told = {name.lower(): value for name, value in read_json(body, dict[str, Any], "invalidSyntax").items()}
    if method == "POST":
        told = {"active": True, **told}
    wanted = KEPT if kind == "Users" else ("members",)
    return [("replace", name, "", told.get(name)) for name in wanted if name != "active" or told.get(name) is not None]


def _operations(sent: Sequence[Sent]) -> Iterator[Operation]:
    """Without a path the value names attributes (RFC 7644 section 3.5.2.1). Parts of an attribute are not kept."""
    if len(sent) > OPERATIONS_MAX:
        raise Refused("tooMany", f"at most {OPERATIONS_MAX} operations")
    for one in sent:
        verb, whole = one.op.lower(), {one.path: one.value} if one.path else one.value
        if verb not in {"add", "remove", "replace"} or not isinstance(whole, dict):
            raise Refused("invalidSyntax", "op is add, remove or replace; value an object where there is no path")
        for path, value in whole.items():
            if (found := PATH.fullmatch(path)) is None:
                raise Refused("invalidPath", "the path cannot be read")
            name, which = found[1].lower(), found[2] or ""
            if not found[3]:
                yield verb, name, _terms(which)[0][1] if which and name == "members" else "", _bare(name, value)


def _bare(name: str, value: Any) -> Any:
    """Entra wraps what it adds."""
    wrapped = name != "members" and isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict)
    return value[0].get("value") if wrapped else value


def _read(  # noqa: PLR0917  what the request says
    server: Server, connection: Connection, client: str, kind: str, name: str, asked: Asked
) -> dict[str, Any]:
    """One resource, or a page of them."""
    first, most = max(asked.first, 1), min(max(asked.count, 0), PAGE_MAX)
    if kind in ABOUT:
        found = [one for one in ABOUT[kind] if name in {"", one["id"]}]
        total = len(found)
    elif kind in READ:
        terms = [("id", name)] if name else _terms(asked.filter) if asked.filter else []
        total, found = READ[kind](connection, client, terms, first - 1, most)
    else:
        total, found = 0, []
    placed = [_chosen(one, asked, f"{server.settings.scim}/{kind}/{one['id']}".removesuffix("/")) for one in found]
    if name or kind == "ServiceProviderConfig" or kind not in {*ABOUT, *READ}:
        if not placed:
            raise Refused("not_found", "there is no such resource", status=404)
        return placed[0]
    told = {"totalResults": total, "startIndex": first, "itemsPerPage": len(placed), "Resources": placed}
    return {"schemas": [f"{MESSAGES}ListResponse"], **told}


def _terms(text: str) -> Terms:
    with suppress(ValueError):
        found = [(name.lower(), json.loads(value)) for name, value in TERM.findall(text)]
        if FILTER.fullmatch(text.strip()) and all(value.isprintable() for _, value in found):
            return found
    raise Refused("invalidFilter", 'compare by eq, and join by and: userName eq "anna"')


def _users(connection: Connection, client: str, terms: Terms, skipped: int, most: int) -> Found:
    where = [COLUMNS.get(name, _no_column)(value) for name, value in terms]
    chosen = provisioned(client, *where)
    total = connection.execute(select(func.count()).select_from(chosen.subquery())).scalar_one()
    rows = connection.execute(chosen.order_by(PROVISIONED.c.id).offset(skipped).limit(most))
    return total, [
        {
            "schemas": [f"{CORE}User"], "id": row.id, "userName": row.user_name, "displayName": row.name,
            "active": row.active, **({"externalId": row.external_id} if row.external_id else {}),
            "meta": {"resourceType": "User", "created": from_us(row.made_at_us).isoformat()},
        }
        for row in rows
    ]  # fmt: skip


def _no_column(_: str) -> ColumnElement[bool]:
    raise Refused("invalidFilter", "compare userName, externalId or id; of a group displayName, id or members")


COLUMNS: Final[Mapping[str, Callable[[str], ColumnElement[bool]]]] = {
    "username": lambda value: func.lower(PROVISIONED.c.user_name) == value.lower(),
    "externalid": lambda value: PROVISIONED.c.external_id == value,
    "id": lambda value: PROVISIONED.c.id == value,
}


def _groups(connection: Connection, client: str, terms: Terms, skipped: int, most: int) -> Found:
    """In each the client's own users; who else holds the role is not its concern."""
    found = []
    for role, called in sorted((opened(connection, client) or {}).items()):
        members = {row.id: row.user_name for row in connection.execute(members_of(client, role))}
        facts = {"id": {role}, "displayname": {called.lower()}, "members": members, "externalid": ()}
        for name, value in terms:
            if name not in facts:
                _no_column(value)
        if all((value.lower() if name == "displayname" else value) in facts[name] for name, value in terms):
            listed = [{"value": one, "display": shown} for one, shown in members.items()]
            about = {"schemas": [f"{CORE}Group"], "id": role, "displayName": called, "members": listed}
            found.append({**about, "meta": {"resourceType": "Group"}})
    return len(found), found[skipped : skipped + most]


READ: Final = {"Users": _users, "Groups": _groups}


def _chosen(one: Mapping[str, Any], asked: Asked, location: str) -> dict[str, Any]:
    """With its place, and of its attributes those that are wanted (RFC 7644 section 3.9)."""
    told = {**one, "meta": {**one["meta"], "location": location}}
    listed = (asked.attributes or ",".join(told), asked.excluded)
    wanted, not_ = ({name.strip().rpartition(":")[2].lower() for name in text.split(",")} for text in listed)
    wanted = wanted - not_ | {"schemas", "id"}
    return {name: value for name, value in told.items() if name.lower() in wanted and (name != "id" or value)}
