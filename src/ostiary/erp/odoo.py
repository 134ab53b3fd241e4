"""Odoo 16 to 19: what `/json/2`, `/jsonrpc`, `/xmlrpc/2` and `/web/dataset` would do. All else at its address is denied.

Any method whose name does not begin with `_` can be called. Those that odoo.toml knows are read and written by field;
those that every object has, and that read or write what can't be told, are closed; any other one may do anything, and is
an operation of its own, which a policy opens by its name.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import reduce
from types import NoneType
from typing import Any, Final

import msgspec
from msgspec import Struct

from ostiary.erp.body import json_body, xml_rpc
from ostiary.erp.catalogue import LINKS, MANY, ONE, Catalogue, Field, Offer
from ostiary.erp.operation import Operation, Refused, Request, Verb
from ostiary.erp.walk import DEPTH_MAX, HOPS_MAX, METHOD, OBJECT, Place, Walk, dead_end, shown, texts
from ostiary.foundation.data import beside

TABLE: Final = beside(__file__)
NAME: Final = "display_name"
JSON2: Final = re.compile(rf"/json/2/{OBJECT}/{METHOD}")
CALLED: Final = re.compile(rf"{OBJECT} {METHOD}")
WEB: Final = re.compile(rf"/web/dataset/call_(?:kw|button)(?:/{OBJECT}/{METHOD})?")  # what follows decides nothing
XML: Final = re.compile(r"/xmlrpc(?:/2)?/(object|common)")
ENVELOPE: Final = frozenset({"jsonrpc", "method", "id", "params"})
# A field of an order or a group, how it is counted, and after what: `amount:sum`, `total:sum(amount)`, `name desc`.
PART: Final = re.compile(r"(?ai) *([\w.]+)(?::[a-z_]+(?:\((\w+)\))?)?(?: +(?:asc|desc))?(?: +nulls (?:first|last))? *")
SPECIFIED: Final = frozenset({"fields", "limit", "offset", "order", "context"})
NEEDED: Final = ("fields", "specification")
# What fields take that are no plain value; of properties a list, or its text, would change what their whole has.
OPEN: Final[Mapping[str, Any]] = {"properties": (dict, bool, NoneType), "json": object, "properties_definition": object}
TREE: Final = frozenset({"child_of", "parent_of"})
MAKING: Final = frozenset({"default", "vals_list"})  # an empty one makes a record too
LEARNT: Final = ("model", "name", "ttype", "relation", "relation_field", "copied", "related")
ID: Final = frozenset({"id"})
Fields = frozenset[str]


class Method(Struct, frozen=True):
    """`takes`: its parameters by place, behind the record ids where it has `records`. `fields`: what it always is about."""

    takes: tuple[str, ...]
    verb: Verb = Verb.READ
    records: bool = False
    fields: Fields = Fields()


METHODS: Final = msgspec.convert(TABLE["methods"], dict[str, Method])
CLOSED, OPERATORS, CONTEXT = (Fields(TABLE[one]) for one in ("closed", "operators", "context"))
FOUND_BY, ABOVE = msgspec.convert(TABLE["found_by"], dict[str, Fields]), TABLE["above"]


def read(request: Request, walk: Walk) -> None:
    if request.method != "POST" or request.query:
        raise Refused.unknown("a method is called by POST, and without a query")
    if found := JSON2.fullmatch(request.path):
        given = _mapping(json_body(request), "")
        if not given.keys().isdisjoint(("model", "method")):  # which of them counts, Odoo's versions say differently
            raise Refused.unknown("object and method stand in the path alone")
        _does(walk, found[1], found[2], given)
    elif WEB.fullmatch(request.path):
        _named(walk, *_params(request, "model", "method", "args", "kwargs"))
    elif request.path == "/jsonrpc":
        _service(walk, *_params(request, "service", "method", "args"))
    elif found := XML.fullmatch(request.path):
        _service(walk, found[1], *xml_rpc(request))
    else:
        raise Refused.unknown("this path is not open")


def _params(request: Request, *names: str) -> list[Any]:
    """Just these: a `context` beside them would count, too."""
    body = _mapping(json_body(request), "")
    told = _mapping(body.get("params"), "/params")
    if body.keys() - ENVELOPE or told.keys() - set(names):
        raise Refused.invalid(f"a call has just {', '.join(names)}", "/params")
    return [told.get(name) for name in names]


def _service(walk: Walk, service: Any, method: Any, args: Any) -> None:
    """`db` and whatever else there is stays closed; where the gate gives the key, a password in the body opens nothing."""
    if walk.site.keyed:
        raise Refused.unknown("its body holds a password of the ERP: call /json/2, where the gate puts the key on")
    match service, method, args:
        case ("common", "version", []) | ("common", "login" | "authenticate", [walk.site.database, _, _, *_]) if (
            not any(args[3:])  # an address that stands there Odoo would keep as its own
        ):
            walk.does("common", Verb.EXECUTE, method, pointer="/params/method")
        case "object", "execute_kw", [walk.site.database, _, _, name, called, list(args), *more] if len(more) <= 1:
            _named(walk, name, called, args, more[0] if more else {})
        case "object", "execute", [walk.site.database, _, _, name, called, *args]:
            _named(walk, name, called, args, {})
        case _:
            raise Refused.unknown("this service and method of this database are not open", "/params")


def _named(walk: Walk, name: Any, method: Any, args: Any, kwargs: Any) -> None:
    """Parameters by place get their names; none of them is given twice."""
    if not (isinstance(name, str) and isinstance(method, str) and CALLED.fullmatch(f"{name} {method}")):
        raise Refused.unknown("there is no such object or method", "/params")
    told, args, kwargs = METHODS.get(method), _listed(args, "/params/args"), _mapping(kwargs, "/params/kwargs")
    takes = ("ids", *(told.takes if told else ())) if told is None or told.records else told.takes
    if told and len(args) > len(takes):
        raise Refused.invalid(f"{method} takes {len(takes)} parameters at most", "/params/args")
    placed = dict(zip(takes, args, strict=False))
    if not placed.keys().isdisjoint(kwargs) or ("ids" in kwargs and "ids" in takes):
        raise Refused.invalid("a parameter is given by place and by name", "/params/kwargs")
    _does(walk, name, method, {**placed, **kwargs})


def _does(walk: Walk, name: str, method: str, given: Mapping[str, Any]) -> None:
    walk.model(name)
    _context(given.get("context"), "/context")
    if method in CLOSED:
        raise Refused.unknown(f"what {method} reads or writes can't be told", "/method")
    ids, told = walk.ids(given.get("ids") or [], "/ids"), METHODS.get(method)
    if told is None:
        walk.does(name, Verb.EXECUTE, method, ids, "/method")
        return
    if odd := given.keys() - {"context", *told.takes, *(("ids",) if told.records else ())}:
        raise Refused.unknown(f"{method} has no parameter {shown(min(odd))}")
    if missing := next((one for one in NEEDED if one in told.takes and not given.get(one)), ""):
        raise Refused.invalid(f"name the {missing}: without, it shows all there are", f"/{missing}")
    about = "fields_read" if told.verb is Verb.READ else "fields_written"
    walk.does(name, told.verb, method, ids, "/method", **{about: told.fields})
    for field in told.fields & walk.model(name).keys() if told.verb is Verb.WRITE else ():
        _behind(walk, name, walk.field(name, field, "/method"), "/method")
    for what in told.takes:
        value, look = given.get(what) or {}, WALKED.get(f"{method}.{what}") or WALKED.get(what)
        making = what in MAKING or (what == "vals" and not ids)  # `web_save` of no record makes one
        look = _created if what == "vals" and making else look
        if look and (value or making):
            walk.does(name, told.verb, method, ids, "/method", **{about: look(walk, name, value, pointer=f"/{what}")})


def _context(value: Any, pointer: str) -> None:
    """Most of what it may say changes what a call does: default_ sets fields of all that is made, nested or not."""
    for key in _mapping(value or {}, pointer):
        if key not in CONTEXT:
            raise Refused.invalid(f"the context holds {shown(key)}, which is not the caller's to say", pointer)


def _listed(value: Any, pointer: str) -> list[Any]:
    if not isinstance(value, list):
        raise Refused.invalid("a list is needed", pointer)
    return value


def _mapping(value: Any, pointer: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise Refused.invalid("a mapping is needed", pointer)
    return value


# --- what is read


def _fields(walk: Walk, name: str, value: Any, *, pointer: str) -> Fields:
    """A link to one is shown with the name of the record it leads to, one to many with their numbers."""
    return ID | Fields(_shown(walk, name, path, pointer, ONE) for path in texts(value, pointer))


def _shown(walk: Walk, name: str, path: str, pointer: str, links: Fields = LINKS) -> str:
    place = walk.path(name, path, pointer)
    if place.end.type in links:
        walk.names(place.end.target, pointer)
    return place.head


def _exported(walk: Walk, name: str, value: Any, *, pointer: str) -> Fields:
    """Paths with `/` for `.`; `.id` and `id` at the end are the record's own."""
    paths = [path.replace("/.id", "/id").replace("/", ".").removeprefix(".") for path in texts(value, pointer)]
    for on_the_way in {
        ".".join(path.split(".")[: n + 1]) for path in paths for n in range(min(path.count("."), HOPS_MAX))
    }:
        if walk.path(name, on_the_way, pointer).end.type == "many2many":  # it shows names, whatever is asked of it
            _shown(walk, name, on_the_way, pointer)
    return ID | Fields(_shown(walk, name, path, pointer) for path in paths)


def _grouped(walk: Walk, name: str, value: Any, *, pointer: str) -> Fields:
    """Of each part the field that it is about; by a link, by the name of what it leads to."""
    found = [PART.fullmatch(text) for text in texts([value] if isinstance(value, str) else value, pointer)]
    if not all(found):
        raise Refused.invalid("a field is named, how it is counted, and after what", pointer)
    paths = {one[2] or one[1] for one in found if one} - {"__count"}
    return Fields(_shown(walk, name, path, pointer) for path in paths)


def _ordered(walk: Walk, name: str, value: Any, *, pointer: str) -> Fields:
    if not isinstance(value, str) or "(" in value:
        raise Refused.invalid("an order is fields, parted by commas", pointer)
    return _grouped(walk, name, value.split(","), pointer=pointer)


def _specified(walk: Walk, name: str, value: Any, *, pointer: str, depth: int = DEPTH_MAX) -> Fields:
    """Fields, and for a link which fields of what it leads to."""
    for field, more in _mapping(value, pointer).items():
        at = f"{pointer}/{field[:60]}"
        _shown(walk, name, field, at, ONE)
        _context(_mapping(more, at).get("context"), at)
        if not more:
            continue
        target = walk.field(name, field, at).target or dead_end(field, at)
        if more.keys() - SPECIFIED or depth == 0:
            raise Refused.unknown("this part of a specification is not known, or nested too deeply", at)
        looked = _specified(walk, target, more.get("fields", {}), pointer=at, depth=depth - 1)
        looked |= _ordered(walk, target, more.get("order", "id"), pointer=at)
        walk.does(target, Verb.READ, "web_read", pointer=at, fields_read=looked)
    return ID | Fields(value)


def _answered(walk: Walk, name: str, value: Any, *, pointer: str) -> Fields:
    """What a write shows afterwards is read."""
    walk.does(name, Verb.READ, "web_read", pointer=pointer, fields_read=_specified(walk, name, value, pointer=pointer))
    return Fields()


def _filtered(walk: Walk, name: str, value: Any, *, pointer: str, depth: int = DEPTH_MAX) -> Fields:
    """The object's own fields that a domain looks at."""
    if not isinstance(value, list) or depth == 0:
        raise Refused.invalid("a domain is a list, not nested too deeply", pointer)
    return Fields(_clauses(walk, name, value, pointer, depth))


def _clauses(walk: Walk, name: str, domain: list[Any], pointer: str, depth: int) -> Iterator[str]:
    for number, clause in enumerate(domain):
        at = f"{pointer}/{number}"
        walk.step(at)
        match clause:
            case "&" | "|" | "!" | [0 | 1, "=", 1]:  # the latter: never, and always
                continue
            case [str(path), "any" | "not any", value]:
                place = walk.path(name, path, at)
                target = place.end.target or dead_end(path, at)
                below = _filtered(walk, target, value, pointer=at, depth=depth - 1)
                walk.does(target, Verb.READ, "search", pointer=at, fields_read=below)
            case [str(path), str(operator), value] if operator in OPERATORS:
                place = walk.path(name, path, at)
                _compared(walk, place, path.rpartition(".")[2], operator, value, at)
            case _:
                raise Refused.unknown("a condition is [field, operator, value]", at)
        yield place.head


def _compared(walk: Walk, place: Place, field: str, operator: str, value: Any, pointer: str) -> None:  # noqa: PLR0917
    """A link is compared by name with all but numbers; where records stand in a tree is told by what is above them."""
    values, about = value if isinstance(value, list) else [value], place.end.target or place.at
    plain = all(type(one) is int for one in values) if operator in TREE else not any(isinstance(v, str) for v in values)
    linked = bool(place.end.target) or operator in TREE
    if field == NAME or (linked and (operator.endswith("like") or not plain)):
        _found(walk, about, pointer)
    if operator in TREE:
        above = Fields({ABOVE.get(about, "parent_id")} & walk.model(about).keys())
        walk.does(about, Verb.READ, "search", pointer=pointer, fields_read=above)


def _found(walk: Walk, name: str, pointer: str) -> None:
    walk.does(name, Verb.READ, "search", pointer=pointer, fields_read=_found_by(walk, name))


def _found_by(walk: Walk, name: str) -> Fields:
    """The fields that are looked at where records are found by what they are called."""
    return Fields({NAME, *(FOUND_BY.get(name, Fields()) & walk.model(name).keys())})


def _called(walk: Walk, name: str, value: Any, *, pointer: str) -> Fields:
    if not all(isinstance(one, str) for one in (value if isinstance(value, list) else [value])):
        raise Refused.invalid("a name is a text", pointer)
    return _found_by(walk, name)


def _operator(_walk: Walk, _name: str, value: Any, *, pointer: str) -> Fields:
    """Odoo 17 puts it before whatever the name is: `any` would take a domain for that."""
    if not isinstance(value, str) or value not in OPERATORS - TREE:
        raise Refused.unknown("names are not compared so", pointer)
    return Fields()


# --- what is written


def _written(walk: Walk, name: str, value: Any, *, pointer: str, depth: int = DEPTH_MAX) -> Fields:
    """The fields that values write; commands in them are operations on the objects they lead to."""
    if not isinstance(value, dict) or depth == 0:
        raise Refused.invalid("values are a mapping, not nested too deeply", pointer)
    for field, one in value.items():
        walk.step(pointer)
        at, known = f"{pointer}/{field[:60]}", walk.field(name, field, pointer)
        if known.type in MANY:
            _commands(walk, name, known, one, pointer=at, depth=depth)
        elif not isinstance(one, OPEN[known.type]) if known.type in OPEN else isinstance(one, list | dict):
            raise Refused.invalid("this field takes no such value", at)
        elif known.target and not (one is False or one is None or (type(one) is int and one > 0)):
            raise Refused.invalid("a link to one record is its number, or false", at)
        _behind(walk, name, known, at)
    return Fields(value)


def _behind(walk: Walk, name: str, known: Field, pointer: str, depth: int = DEPTH_MAX) -> None:
    """What is written to a related field, the record behind its links gets, and so on from there."""
    if known.related and depth == 0:
        raise Refused.unknown("where this is written can't be told", pointer)
    if known.related:
        *links, end = known.related.split(".")
        there = reduce(lambda place, link: walk.field(place, link, pointer).target, links, name)
        walk.does(there, Verb.WRITE, "write", pointer=pointer, fields_written=Fields({end}))
        _behind(walk, there, walk.field(there, end, pointer), pointer, depth - 1)


def _wholes(walk: Walk, name: str, given: Iterable[str], action: str, pointer: str) -> None:
    """What a record has for its own from another one (`_inherits`) is made with it, where none is named."""
    mine, models = walk.model(name), walk.catalogue.models
    for link in {one.related.partition(".")[0] for one in mine.values()} - {"", *given}:
        whole = mine[link].target if link in mine else ""
        if whole and whole != name and models.get(whole, {"": 0}).keys() <= mine.keys():
            written = _kept(walk, whole) if action == "copy" else Fields()
            walk.does(whole, Verb.WRITE, action, pointer=pointer, fields_written=written)


def _created(walk: Walk, name: str, value: Any, *, pointer: str) -> Fields:
    written = Fields()
    for number, row in enumerate(value if isinstance(value, list) else [value]):
        walk.step(pointer)
        written |= _written(walk, name, row, pointer=f"{pointer}/{number}")
        _wholes(walk, name, _given(row), "create", pointer)
    return written


def _given(row: Mapping[str, Any]) -> list[str]:
    """Where a link is false or empty, Odoo makes what it would lead to."""
    return [field for field, one in row.items() if one]


def _commands(walk: Walk, name: str, known: Field, value: Any, *, pointer: str, depth: int) -> None:
    back = _back(walk, name, known)
    for number, command in enumerate(_listed(value, pointer)):
        at = f"{pointer}/{number}"
        walk.step(at)
        match command if isinstance(command, list) and type((command or [None])[0]) is int else None:
            case [0 | 1 as kind, one, dict(values)]:
                ids = walk.ids([one], at) if kind else ()
                written = _written(walk, known.target, values, pointer=at, depth=depth - 1)
                action, tied = ("write", written) if kind else ("create", written | back)
                if not kind:
                    _wholes(walk, known.target, [*_given(values), *back], action, at)
                walk.does(known.target, Verb.WRITE, action, ids, at, fields_written=tied)
            case [2, one] | [2, one, _]:
                walk.does(known.target, Verb.DELETE, "unlink", walk.ids([one], at), at)
            case [3 | 4 as kind, one] | [3 | 4 as kind, one, _]:
                _tied(walk, known, [one], back, at, anew=kind == 4)  # noqa: PLR2004  Odoo's number for it
            case [5] | [5, _] | [5, _, _]:
                _tied(walk, known, [], back, at, anew=False)
            case [6, _, list(ids)]:
                _tied(walk, known, [], back, at, anew=False)
                _tied(walk, known, ids, back, at, anew=True)
            case _:
                raise Refused.unknown("the command in a link is not known", at)


def _back(walk: Walk, name: str, known: Field) -> Fields:
    """The fields by which what a link leads to is tied to this object; of a many2many, those that lead back, if any."""
    others = walk.model(known.target).items()
    twins = {link for link, one in others if (one.type, one.target, known.type) == ("many2many", name, "many2many")}
    return Fields({known.back, *twins} - {""})


def _tied(walk: Walk, known: Field, ids: list[Any], back: Fields, pointer: str, *, anew: bool) -> None:
    """What is taken out of a one2many is deleted, or left without its whole; a many2many is the record's own field."""
    numbers = walk.ids(ids, pointer)
    if back or known.type == "one2many":
        walk.does(known.target, Verb.WRITE, "write", numbers, pointer, fields_written=back)
    if not anew and known.type == "one2many":
        walk.does(known.target, Verb.DELETE, "unlink", numbers, pointer)


def _imported(walk: Walk, name: str, value: Any, *, pointer: str) -> Fields:
    """The columns of an import; one of a link to many makes, changes or ties what it leads to."""
    heads = set()
    for path in texts(value, pointer):
        head, _, rest = path.partition("/")
        heads.add(head := "id" if head == ".id" else head)
        known = walk.field(name, head, pointer)
        _behind(walk, name, known, pointer)
        if known.type == "properties":
            dead_end(path, pointer)
        if known.type in MANY and path.count("/") < HOPS_MAX:
            below = _imported(walk, known.target, [rest] if rest else [], pointer=pointer) | _back(walk, name, known)
            if known.type == "many2many" and not rest:
                _found(walk, known.target, pointer)
            walk.does(known.target, Verb.WRITE, "load", pointer=pointer, fields_written=below)
        elif known.type in ONE and rest in {"", "id", ".id"}:
            _found(walk, known.target, pointer)
        elif rest:
            dead_end(path, pointer)
    _wholes(walk, name, (), "create", pointer)  # what the cells hold is not looked at
    return Fields(heads)


def _copied(walk: Walk, name: str, value: Any, *, pointer: str) -> Fields:
    """A copy has what the record has, and copies of what belongs to it, however deep."""
    written = _written(walk, name, value, pointer=pointer)
    for part in sorted(walk.parts(name)):
        _wholes(walk, part, _given(value) if part == name else (), "copy", pointer)
        if part != name:
            walk.does(part, Verb.WRITE, "copy", pointer=pointer, fields_written=_kept(walk, part))
        for known in (one for one in walk.model(part).values() if one.copied and one.type == "many2many"):
            _tied(walk, known, [], _back(walk, part, known), pointer, anew=True)
    return _kept(walk, name) | written


def _kept(walk: Walk, name: str) -> Fields:
    return Fields(field for field, known in walk.model(name).items() if known.copied)


# How each parameter tells which fields are read or written; any other one changes nothing of what is done.
WALKED: Final[Mapping[str, Callable[..., Fields]]] = {
    "domain": _filtered,
    "having": _filtered,
    "fields": _fields,
    "field_names": _fields,
    "fields_to_export": _exported,
    "specification": _specified,
    "groupby": _grouped,
    "aggregates": _grouped,
    "order": _ordered,
    "orderby": _ordered,
    "vals": _written,
    "vals_list": _created,
    "default": _copied,
    "name": _called,
    "operator": _operator,
    "load.fields": _imported,
    "read_group.fields": _grouped,
    "web_save.specification": _answered,
}


# --- what it offers


def learn(rows: Iterable[Mapping[str, Any]]) -> Catalogue:
    """The catalogue, of the rows of ir.model.fields."""
    models: dict[str, dict[str, Field]] = defaultdict(dict)
    for row in rows:
        target = str(row["relation"] or "") if row["ttype"] in LINKS else ""
        back, related = row["relation_field"] or "", row["related"] or ""
        field = Field(row["ttype"], target, copied=bool(row["copied"]), back=back, related=related)
        models[str(row["model"])][str(row["name"])] = field
    return Catalogue(models=dict(models), methods={})


def offer(catalogue: Catalogue, system: str) -> Offer:
    """What is known by name of each object, and whatever else its methods are: Odoo does not list them."""
    known = [(told.verb, method) for method, told in METHODS.items()] + [(Verb.EXECUTE, "*")]
    links = {name: {key: field.target for key, field in fields.items()} for name, fields in catalogue.models.items()}
    every = (Operation(system=system, object=one, verb=verb, action=act) for one in links for verb, act in known)
    return Offer(operations=tuple(every), links=links)
