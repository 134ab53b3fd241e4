"""REST at `/<database>/rest/`: the URL names object and record, but a POST may name any method."""

import base64
import binascii
import re
from typing import Any, Final
from urllib.parse import parse_qsl

import jiter

from ostiary.erp.operation import Request, Verb
from ostiary.erp.tryton.rpc import READING, WRITING, json_body
from ostiary.erp.tryton.walk import Refused, Walk, context

PATH: Final = re.compile(r"model/([a-z0-9_]+(?:[._][A-Za-z0-9_]+)*)(?:/(\d{1,18}))?(?:/([A-Za-z][A-Za-z0-9_]*))?")
REPORT: Final = re.compile(r"report/([a-z0-9_.]+)/(\d{1,18})")
KNOWN_QUERY: Final = frozenset({"d", "f", "s", "p", "o"})
QUERY_MAX_FIELDS: Final = 200
CONTEXT_HEADER: Final = "x-tryton-context"


def read(request: Request, path: str, walk: Walk) -> None:
    if CONTEXT_HEADER in request.headers:
        context(_decoded(request.headers[CONTEXT_HEADER], CONTEXT_HEADER), f"/{CONTEXT_HEADER}")
    if (found := PATH.fullmatch(path)) is not None:
        _model(request, walk, *found.groups())
    elif (found := REPORT.fullmatch(path)) is not None and request.method == "GET":
        walk.does(f"report.{found[1]}", Verb.EXECUTE, "execute", [found[2]])
    else:
        raise Refused.unknown("this path is not open")


def _model(request: Request, walk: Walk, name: str, record: str | None, action: str | None) -> None:
    walk.model(name)
    ids = [record] if record else []
    match request.method, record, action:
        case "GET", _, None:
            _get(request, walk, name, ids)
        case "POST", None, None:
            _no_query(request)
            walk.creates(name, [json_body(request)], pointer="")
        case "PUT", str(), None:
            _no_query(request)
            walk.does(name, Verb.WRITE, "write", ids)
            written = walk.writes(name, json_body(request), pointer="")
            walk.does(name, Verb.WRITE, "write", ids, fields_written=written)
        case "DELETE", str(), None:
            _no_query(request)
            walk.does(name, Verb.DELETE, "delete", ids)
        case "POST", _, str(method):
            _no_query(request)
            _action(request, walk, name, ids, method)
        case _:
            raise Refused.unknown("there is no such request")


def _action(request: Request, walk: Walk, name: str, ids: list[str], method: str) -> None:
    """Any RPC method can be called so; those that read and write by name have a plain form, which is asked for."""
    if method in READING or method in WRITING or method not in walk.catalogue.methods.get(f"model.{name}", ()):
        raise Refused.unknown("there is no such action")
    if request.body and not isinstance(json_body(request), dict):
        raise Refused.invalid("an action takes a mapping")
    walk.does(name, Verb.EXECUTE, method, ids)


def _get(request: Request, walk: Walk, name: str, ids: list[str]) -> None:
    query = _query(request.query)
    action = "read" if ids else "search_read"
    walk.does(name, Verb.READ, action, ids)
    fields = walk.reads(name, query["f"], pointer="/f") if query["f"] else frozenset(walk.model(name))
    filters: frozenset[str] = frozenset()
    for part, walked in (("d", walk.filters), ("o", walk.orders)):
        for text in query[part]:
            filters |= walked(name, _decoded(text, part), pointer=f"/{part}")
    walk.does(name, Verb.READ, action, ids, fields_read=fields, filter_fields=filters)


def _query(text: str) -> dict[str, list[str]]:
    """The parameters by name; only fields may come more than once."""
    found: dict[str, list[str]] = {name: [] for name in KNOWN_QUERY}
    try:
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text), max_num_fields=QUERY_MAX_FIELDS)
    except ValueError:
        raise Refused.invalid("the query is not well formed") from None
    for name, value in pairs:
        if name not in found or (found[name] and name != "f"):
            raise Refused.invalid("a parameter of the query is unknown or given twice", f"/{name[:20]}")
        found[name].append(value)
    return found


def _no_query(request: Request) -> None:
    if request.query:
        raise Refused.invalid("this request takes no query")


def _decoded(text: str, where: str) -> Any:
    """Base64url of JSON, each strictly."""
    try:
        padded = text + "=" * (-len(text) % 4)
        data = base64.b64decode(padded.encode("ascii"), altchars=b"-_", validate=True)
        return jiter.from_json(data, catch_duplicate_keys=True, allow_inf_nan=False)
    except (ValueError, binascii.Error):
        raise Refused.invalid("this is not base64url of JSON", f"/{where}") from None
