"""REST at `/<database>/rest/`: the URL names object and record, but a POST may name any method."""

import base64
import re
from typing import Any, Final
from urllib.parse import parse_qsl

from ostiary.erp.body import json_body
from ostiary.erp.operation import Refused, Request, Verb
from ostiary.erp.tryton.domain import filters, orders
from ostiary.erp.tryton.rpc import BY_NAME, ID, callable_
from ostiary.erp.tryton.writes import NAME, context, creates, row, writes
from ostiary.erp.walk import METHOD, OBJECT, Walk
from ostiary.foundation import strict_json

NUMBER: Final = r"([1-9][0-9]{0,17})"  # Tryton would take 007 for 7
PATH: Final = re.compile(rf"model/{OBJECT}(?:/{NUMBER})?(?:/{METHOD})?")
REPORT: Final = re.compile(rf"report/{OBJECT}/{NUMBER}")
SEARCHING: Final = frozenset({"d", "f", "s", "p", "o"})
ANSWERING: Final = frozenset({"f"})  # which fields the answer to a change shows
QUERY_MAX_FIELDS: Final = 200
CONTEXT_HEADER: Final = "x-tryton-context"
USAGE_HEADER: Final = "x-tryton-usage"  # chooses fields by a name that only the ERP's modules know


def read(request: Request, path: str, walk: Walk) -> None:
    if request.headers.get(USAGE_HEADER):
        raise Refused.unknown("fields are named by f, not by their usage", f"/{USAGE_HEADER}")
    if CONTEXT_HEADER in request.headers:
        context(_decoded(request.headers[CONTEXT_HEADER], CONTEXT_HEADER), f"/{CONTEXT_HEADER}")
    if request.method in {"GET", "DELETE"} and request.body:
        raise Refused.invalid("this request takes no body")
    if (found := PATH.fullmatch(path)) is not None:
        _model(request, walk, *found.groups())
    elif (found := REPORT.fullmatch(path)) is not None and request.method == "GET":
        _report(request, walk, *found.groups())
    else:
        raise Refused.unknown("this path is not open")


def _report(request: Request, walk: Walk, name: str, record: str) -> None:
    _query(request, frozenset())
    if not callable_(walk, f"report.{name}", "execute"):
        raise Refused.unknown("there is no such report")
    walk.does(f"report.{name}", Verb.EXECUTE, "execute", [record])


def _model(request: Request, walk: Walk, name: str, record: str | None, action: str | None) -> None:
    walk.model(name)
    ids = [record] if record else []
    match request.method, record, action:
        case "GET", _, None:
            _get(request, walk, name, ids)
        case "POST", None, None:
            creates(walk, name, [json_body(request)], pointer="")
            _answer(request, walk, name, ids)
        case "PUT", str(), None:
            walk.does(name, Verb.WRITE, "write", ids)
            values = json_body(request)
            written = writes(walk, name, values, pointer="")
            walk.does(name, Verb.WRITE, "write", ids, fields_written=written, sent=frozenset({row(values)}))
            _answer(request, walk, name, ids)
        case "DELETE", str(), None:
            _query(request, frozenset())
            walk.does(name, Verb.DELETE, "delete", ids)
        case "POST", _, str(method):
            _action(request, walk, name, ids, method)
        case _:
            raise Refused.unknown("there is no such request")


def _action(request: Request, walk: Walk, name: str, ids: list[str], method: str) -> None:
    """Any RPC method can be called so; those that read and write by name have a plain form, which is asked for."""
    if method in BY_NAME or not callable_(walk, f"model.{name}", method):
        raise Refused.unknown("there is no such action")
    if request.body and not isinstance(json_body(request), dict):
        raise Refused.invalid("an action takes a mapping")
    walk.does(name, Verb.EXECUTE, method, ids)
    _answer(request, walk, name, ids)


def _answer(request: Request, walk: Walk, name: str, ids: list[str]) -> None:
    """The answer to a change reads the record: the fields named by `f`, or else its name."""
    fields = _fields(request, walk, name, ANSWERING) - ID
    if fields:
        walk.does(name, Verb.READ, "read", ids, fields_read=fields)


def _fields(request: Request, walk: Walk, name: str, known: frozenset[str]) -> frozenset[str]:
    named = _query(request, known)["f"]
    return ID | (walk.reads(name, named, pointer="/f") if named else frozenset({NAME}))


def _get(request: Request, walk: Walk, name: str, ids: list[str]) -> None:
    action = "read" if ids else "search_read"
    walk.does(name, Verb.READ, action, ids)
    fields = _fields(request, walk, name, ANSWERING if ids else SEARCHING)
    looked_at: frozenset[str] = frozenset()
    for part, walked in (("d", filters), ("o", orders)):
        for text in _query(request, SEARCHING)[part]:
            looked_at |= walked(walk, name, _decoded(text, part), pointer=f"/{part}")
    walk.does(name, Verb.READ, action, ids, fields_read=fields | looked_at)


def _query(request: Request, known: frozenset[str]) -> dict[str, list[str]]:
    """The parameters by name; only fields may come more than once."""
    found: dict[str, list[str]] = {name: [] for name in known}
    if not request.query:
        return found
    try:
        pairs = parse_qsl(request.query, keep_blank_values=True, strict_parsing=True, max_num_fields=QUERY_MAX_FIELDS)
    except ValueError:
        raise Refused.invalid("the query is not well formed") from None
    for name, value in pairs:
        if name not in found or (found[name] and name != "f"):
            raise Refused.invalid("a parameter of the query is unknown or given twice", f"/{name[:20]}")
        found[name].append(value)
    return found


def _decoded(text: str, where: str) -> Any:
    """Base64url of JSON, each strictly."""
    try:
        padded = text + "=" * (-len(text) % 4)
        data = base64.b64decode(padded.encode("ascii"), altchars=b"-_", validate=True)
        return strict_json.parse(data)
    except ValueError:
        raise Refused.invalid("this is not base64url of JSON", f"/{where}") from None
