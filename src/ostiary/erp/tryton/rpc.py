"""JSON-RPC at `/<database>/rpc/`: one method by name, its parameters by place, the context last."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import jiter

from ostiary.erp.operation import Request, Verb
from ostiary.erp.tryton.walk import Refused, Walk, context, numbers

METHOD: Final = re.compile(r"(model|wizard|report)\.([a-z0-9_]+(?:[._][A-Za-z0-9_]+)*)\.([A-Za-z][A-Za-z0-9_]*)")
KEYS: Final = frozenset({"id", "method", "params"})
JSON_TYPE: Final = re.compile(r'application/json(?:\s*;\s*charset\s*=\s*"?utf-8"?)?', re.IGNORECASE)
BODY_MAX_BYTES: Final = 100 * 1024 * 1024  # the policy's own limit is smaller and comes first


def read(request: Request, walk: Walk) -> None:
    if request.method != "POST":
        raise Refused.unknown("RPC is called by POST")
    if request.query:
        raise Refused.invalid("RPC takes no query")
    body = json_body(request)
    if not isinstance(body, dict) or set(body) - KEYS or "method" not in body:
        raise Refused.invalid("an RPC call has just id, method and params")
    method, params = body["method"], body.get("params", [])
    found = METHOD.fullmatch(method) if isinstance(method, str) else None
    if found is None:
        raise Refused.unknown("this kind of method is not open", "/method")
    if not isinstance(params, list) or not params:
        raise Refused.invalid("parameters are a list that ends with the context", "/params")
    context(params[-1], f"/params/{len(params) - 1}")
    dispatch(walk, found[1], found[2], found[3], params[:-1])


def json_body(request: Request) -> Any:
    """The body as strict JSON: two parsers must not read it differently (duplicate keys, NaN, other encodings)."""
    if not JSON_TYPE.fullmatch(request.headers.get("content-type", "")):
        raise Refused.invalid("the body is sent as application/json")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refused.invalid("the body is sent without a content encoding")
    try:
        return jiter.from_json(request.body, catch_duplicate_keys=True, allow_inf_nan=False)
    except ValueError as problem:
        raise Refused.invalid(f"the body is not strict JSON: {problem}"[:200]) from None


def dispatch(walk: Walk, kind: str, name: str, method: str, params: list[Any]) -> None:
    """One call; its parameters without the context."""
    if method not in walk.catalogue.methods.get(f"{kind}.{name}", ()):
        raise Refused.unknown("there is no such method", "/method")
    if kind != "model":
        walk.does(f"{kind}.{name}", Verb.EXECUTE, method, pointer="/method")
        return
    reading = READING.get(method)
    if reading is not None:
        reading(walk, name, params)
    elif method in WRITING:
        WRITING[method](walk, name, params)
    else:
        _execute(walk, name, method, params)


def _execute(walk: Walk, name: str, method: str, params: list[Any]) -> None:
    """A business action; its first parameter names the records, where it is a list of ids."""
    listed = params[0] if params else None
    ids = numbers(listed, "/params/0") if _are_ids(listed) else ()
    walk.does(name, Verb.EXECUTE, method, ids, "/method")


def _are_ids(value: Any) -> bool:
    return type(value) is int or (isinstance(value, list) and bool(value) and all(type(one) is int for one in value))


def _read(walk: Walk, name: str, params: list[Any]) -> None:
    """read(ids, fields)"""
    ids = numbers(_at(params, 0, []), "/params/0")
    _no_more(params, 2)
    walk.does(name, Verb.READ, "read", ids, "/method")
    fields = _fields(walk, name, _at(params, 1, []), "/params/1")
    walk.does(name, Verb.READ, "read", ids, "/method", fields_read=fields)


def _search(walk: Walk, name: str, params: list[Any], *, action: str = "search", most: int = 4) -> None:
    """search(domain, offset, limit, order)"""
    _no_more(params, most)
    walk.does(name, Verb.READ, action, pointer="/method")
    filters = walk.filters(name, _at(params, 0, []), pointer="/params/0")
    filters |= walk.orders(name, _at(params, 3, None), pointer="/params/3")
    fields = _fields(walk, name, _at(params, 4, None), "/params/4") if most > 4 else frozenset({"id"})  # noqa: PLR2004
    walk.does(name, Verb.READ, action, pointer="/method", fields_read=fields, filter_fields=filters)


def _search_read(walk: Walk, name: str, params: list[Any]) -> None:
    """search_read(domain, offset, limit, order, fields)"""
    _search(walk, name, params, action="search_read", most=5)


def _search_count(walk: Walk, name: str, params: list[Any]) -> None:
    """search_count(domain, offset, limit)"""
    _search(walk, name, params, action="search_count", most=3)


def _export(walk: Walk, name: str, params: list[Any], *, by_domain: bool) -> None:
    """export_data(ids, fields) and export_data_domain(domain, fields, offset, limit, order): paths with `/` for `.`"""
    action = "export_data_domain" if by_domain else "export_data"
    walk.does(name, Verb.READ, action, pointer="/method")
    paths = _at(params, 1, None)
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise Refused.invalid("fields are a list of texts", "/params/1")
    walk.reads(name, [path.replace("/", ".") for path in paths], pointer="/params/1")
    if by_domain:
        walk.filters(name, _at(params, 0, []), pointer="/params/0")
        walk.orders(name, _at(params, 4, None), pointer="/params/4")
    else:
        numbers(_at(params, 0, []), "/params/0")


def _export_data(walk: Walk, name: str, params: list[Any]) -> None:
    _export(walk, name, params, by_domain=False)


def _export_domain(walk: Walk, name: str, params: list[Any]) -> None:
    _export(walk, name, params, by_domain=True)


def _described(walk: Walk, name: str, _: list[Any]) -> None:
    walk.does(name, Verb.READ, "fields_get", pointer="/method")


def _create(walk: Walk, name: str, params: list[Any]) -> None:
    _no_more(params, 1)
    walk.creates(name, _at(params, 0, None), pointer="/params/0")


def _write(walk: Walk, name: str, params: list[Any]) -> None:
    walk.pairs(name, params, pointer="/params")


def _delete(walk: Walk, name: str, params: list[Any]) -> None:
    _no_more(params, 1)
    walk.does(name, Verb.DELETE, "delete", numbers(_at(params, 0, []), "/params/0"), "/method")


def _copy(walk: Walk, name: str, params: list[Any]) -> None:
    _no_more(params, 2)
    ids = numbers(_at(params, 0, []), "/params/0")
    walk.does(name, Verb.WRITE, "copy", ids, "/method")
    written = walk.writes(name, _at(params, 1, None) or {}, pointer="/params/1")
    walk.does(name, Verb.WRITE, "copy", ids, "/method", fields_written=written)


def _fields(walk: Walk, name: str, value: Any, pointer: str) -> frozenset[str]:
    """None and an empty list mean every field of the record."""
    if value in (None, []):
        return frozenset(walk.model(name))
    if not isinstance(value, list) or not all(isinstance(path, str) for path in value):
        raise Refused.invalid("fields are a list of texts", pointer)
    return walk.reads(name, value, pointer=pointer)


def _at(params: list[Any], place: int, default: Any) -> Any:
    return params[place] if place < len(params) else default


def _no_more(params: list[Any], most: int) -> None:
    if len(params) > most:
        raise Refused.invalid(f"at most {most} parameters before the context", f"/params/{most}")


Reader = Callable[[Walk, str, list[Any]], None]
READING: Final[Mapping[str, Reader]] = {
    "read": _read,
    "search": _search,
    "search_read": _search_read,
    "search_count": _search_count,
    "export_data": _export_data,
    "export_data_domain": _export_domain,
    "fields_get": _described,
    "default_get": _described,
    "fields_view_get": _described,
}
WRITING: Final[Mapping[str, Reader]] = {"create": _create, "write": _write, "delete": _delete, "copy": _copy}
