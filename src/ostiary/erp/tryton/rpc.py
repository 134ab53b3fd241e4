"""JSON-RPC at `/<database>/rpc/`: one method by name, its parameters by place, the context last."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from ostiary.erp.body import json_body
from ostiary.erp.operation import Refused, Request, Verb
from ostiary.erp.tryton.domain import filters, orders
from ostiary.erp.tryton.writes import context, copies, creates, pairs
from ostiary.erp.walk import METHOD, OBJECT, Walk, dead_end, texts

CALLED: Final = re.compile(rf"(model|wizard|report)\.{OBJECT}\.{METHOD}")
ROOT: Final = "/rpc/"
# What its own client asks before it has a session, to get one, and to end it.
ABOUT: Final = ("common.server.version", "common.db.list", "common.authentication.services")
SESSION: Final = ("common.db.login", "common.db.logout")
KEYS: Final = frozenset({"id", "method", "params"})
ID: Final = frozenset({"id"})
# What the ERP's own client asks while a form is filled in: these run code over other records than they name, compare
# where no field is named, or (the preferences) set the password that the gate signs in with.
FORM: Final = re.compile(
    r"on_(change|scan|written).*|autocomplete.*|pre_validate|view_toolbar_get|resources|history_revisions|import_data"
    r"|set_preferences"
)


def read(request: Request, walk: Walk) -> None:
    if request.method != "POST":
        raise Refused.unknown("RPC is called by POST")
    if request.query:
        raise Refused.invalid("RPC takes no query")
    body = json_body(request)
    if not isinstance(body, dict) or set(body) - KEYS or "method" not in body:
        raise Refused.invalid("an RPC call has just id, method and params")
    method, params = body["method"], body.get("params", [])
    if method in (ABOUT if request.path == ROOT else SESSION):
        walk.beyond(method)
        return
    found = CALLED.fullmatch(method) if isinstance(method, str) and request.path != ROOT else None
    if found is None:
        raise Refused.unknown("this kind of method is not open", "/method")
    if not isinstance(params, list) or not params:
        raise Refused.invalid("parameters are a list that ends with the context", "/params")
    context(params[-1], f"/params/{len(params) - 1}")
    dispatch(walk, found[1], found[2], found[3], params[:-1])


def dispatch(walk: Walk, kind: str, name: str, method: str, params: list[Any]) -> None:
    """One call; its parameters without the context."""
    if method not in walk.catalogue.methods.get(f"{kind}.{name}", ()):
        raise Refused.unknown("there is no such method", "/method")
    if FORM.fullmatch(method):
        walk.beyond(f"{name}.{method}")
        return
    match kind:
        case "wizard":
            walk.does(f"wizard.{name}", Verb.EXECUTE, method, pointer="/method")
        case "report":
            _report(walk, name, params)
        case _ if method in READS:
            _reads(walk, name, method, params)
        case _ if method in OTHERS:
            OTHERS[method](walk, name, params)
        case _:
            ids = walk.ids(_at(params, 0, []), "/params/0")
            walk.does(name, Verb.EXECUTE, method, ids, "/method")


def callable_(walk: Walk, name: str, method: str) -> bool:
    """Whether the ERP lists this method, and the gate opens it."""
    return method in walk.catalogue.methods.get(name, ()) and FORM.fullmatch(method) is None


def _report(walk: Walk, name: str, params: list[Any]) -> None:
    """execute(ids, data): the data may name another object, or another report than the one called."""
    _no_more(params, 2)
    ids = walk.ids(_at(params, 0, []), "/params/0")
    data = _at(params, 1, {})
    if not isinstance(data, dict) or {"model", "action_id"} & set(data):
        raise Refused.unknown("a report takes no object and no other report by its data", "/params/1")
    walk.does(f"report.{name}", Verb.EXECUTE, "execute", ids, "/method")


def _reads(walk: Walk, name: str, method: str, params: list[Any]) -> None:
    """Reads what it shows, and what its filter and its order tell of."""
    places = READS[method]
    _no_more(params, len(places))
    ids = walk.ids(_at(params, 0, []), "/params/0") if "ids" in places else ()
    walk.does(name, Verb.READ, method, ids, "/method", fields_read=frozenset() if "ids" in places else ID)
    for what, (fields, default) in LOOKED_AT.items():
        if what in places:
            at = places.index(what)
            found = fields(walk, name, _at(params, at, default), pointer=f"/params/{at}")
            walk.does(name, Verb.READ, method, ids, "/method", fields_read=found)


def _exported(walk: Walk, name: str, paths: Any, *, pointer: str) -> frozenset[str]:
    """Paths with `/` for `.`; a link at the end is shown by its name."""
    heads = set()
    for path in texts(paths, pointer):
        place = walk.path(name, path.replace("/", "."), pointer)
        if place.end.target:
            walk.names(place.end.target, pointer)
        elif place.end.type == "reference":
            dead_end(path, pointer)
        heads.add(place.head)
    return frozenset(heads)


def _described(walk: Walk, name: str, _: list[Any]) -> None:
    walk.does(name, Verb.READ, "fields_get", pointer="/method")


def _defaults(walk: Walk, name: str, params: list[Any]) -> None:
    """default_get(fields, with_rec_name)"""
    _no_more(params, 2)
    fields = walk.reads(name, _at(params, 0, None), pointer="/params/0")
    walk.does(name, Verb.READ, "default_get", pointer="/method", fields_read=fields)
    for field in sorted(fields):
        target = walk.field(name, field, "/params/0").target
        if target and _at(params, 1, default=True) is not False:
            walk.names(target, "/params/0")


def _create(walk: Walk, name: str, params: list[Any]) -> None:
    _no_more(params, 1)
    creates(walk, name, _at(params, 0, None), pointer="/params/0")


def _write(walk: Walk, name: str, params: list[Any]) -> None:
    pairs(walk, name, params, pointer="/params")


def _delete(walk: Walk, name: str, params: list[Any]) -> None:
    """What the ERP itself deletes with a record belongs to it."""
    _no_more(params, 1)
    walk.does(name, Verb.DELETE, "delete", walk.ids(_at(params, 0, []), "/params/0"), "/method")


def _copy(walk: Walk, name: str, params: list[Any]) -> None:
    _no_more(params, 2)
    copies(walk, name, _at(params, 0, []), _at(params, 1, None), pointer="/params/1")


def _preferences(walk: Walk, name: str, _: list[Any]) -> None:
    walk.does(name, Verb.READ, "get_preferences", pointer="/method", fields_read=frozenset(walk.model(name)))


def _fields(walk: Walk, name: str, value: Any, *, pointer: str) -> frozenset[str]:
    """No fields named means the id."""
    return ID | (walk.reads(name, value, pointer=pointer) if value is not None else frozenset())


def _at(params: list[Any], place: int, default: Any) -> Any:
    return params[place] if place < len(params) else default


def _no_more(params: list[Any], most: int) -> None:
    if len(params) > most:
        raise Refused.invalid(f"at most {most} parameters before the context", f"/params/{most}")


# By place: all that these take before the context.
READS: Final[Mapping[str, tuple[str, ...]]] = {
    "read": ("ids", "fields"),
    "search": ("domain", "offset", "limit", "order"),
    "search_read": ("domain", "offset", "limit", "order", "fields"),
    "search_count": ("domain", "offset", "limit"),
    "export_data": ("ids", "paths", "header"),
    "export_data_domain": ("domain", "paths", "offset", "limit", "order", "header"),
}
# In this order: how each tells which fields are looked at, and what it is where it is not given.
LOOKED_AT: Final[Mapping[str, tuple[Callable[..., frozenset[str]], Any]]] = {
    "domain": (filters, []),
    "order": (orders, None),
    "fields": (_fields, None),
    "paths": (_exported, None),
}
OTHERS: Final[Mapping[str, Callable[[Walk, str, list[Any]], None]]] = {
    "fields_get": _described,
    "fields_view_get": _described,
    "default_get": _defaults,
    "get_preferences": _preferences,
    "create": _create,
    "write": _write,
    "delete": _delete,
    "copy": _copy,
}
BY_NAME: Final = frozenset({*READS, *OTHERS})
