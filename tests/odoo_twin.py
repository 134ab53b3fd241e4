"""A small Odoo in memory, which does what Odoo's own sources say, lax where Odoo is lax, and logs each field it touches.

It answers `/json/2`, `/jsonrpc`, `/xmlrpc/2`, `/xmlrpc` and `/web/dataset/call_kw` as Odoo 19 does, written from its
documentation and its dispatchers, not from our adapter: a parameter is bound by the method's signature, the last of two
names wins, no fields named are all fields, a group's expression has no end.
"""

import inspect
import json
import re
import xmlrpc.client
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

KEY, SESSION, DATABASE, LOGIN, UID = "planted-odoo-key-41c7", "planted-odoo-session", "acme", "gateway", 2
MANY = {"one2many", "many2many"}
Touch = tuple[str, str, str]  # read, write or delete; the object; the field, "" for a whole record


class Kind(NamedTuple):
    type: str = "char"
    target: str = ""
    back: str = ""
    copied: bool = True
    cascade: bool = True  # what is taken out of a one2many is deleted
    related: str = ""  # `partner_id.name`: what is written to it, the partner gets


FIELDS: dict[str, dict[str, Kind]] = {
    "res.partner": {
        "name": Kind(), "vat": Kind(), "active": Kind("boolean"), "country_id": Kind("many2one", "res.country"),
        "child_ids": Kind("one2many", "res.partner", "parent_id", copied=False, cascade=False),
        "user_ids": Kind("one2many", "res.users", "partner_id", copied=False, cascade=False),
        "parent_id": Kind("many2one", "res.partner"), "category_id": Kind("many2many", "res.partner.category", "partner_ids"),
    },
    "res.partner.category": {"name": Kind(), "partner_ids": Kind("many2many", "res.partner", "category_id", copied=False)},
    "res.country": {"code": Kind()},
    "mail.message": {"body": Kind("html"), "author_id": Kind("many2one", "res.partner")},
    "res.users": {"login": Kind(), "oauth_access_token": Kind(copied=False), "vat": Kind(copied=False, related="partner_id.vat"), "partner_id": Kind("many2one", "res.partner")},
    "product.product": {"name": Kind(), "standard_price": Kind("float")},
    "sale.order": {
        "name": Kind(), "state": Kind("selection"), "date_order": Kind("datetime"), "amount_total": Kind("monetary", copied=False),
        "partner_id": Kind("many2one", "res.partner"), "order_line": Kind("one2many", "sale.order.line", "order_id"),
    },
    "sale.order.line": {
        "name": Kind(), "price_unit": Kind("float"), "purchase_price": Kind("float"), "order_id": Kind("many2one", "sale.order"),
        "product_id": Kind("many2one", "product.product"),
    },
    "ir.model.fields": {
        "model": Kind(), "name": Kind(), "ttype": Kind(), "relation": Kind(), "relation_field": Kind(), "copied": Kind("boolean"),
        "related": Kind(),
    },
}  # fmt: skip
for _fields in FIELDS.values():
    _fields |= {"id": Kind("integer", copied=False), "display_name": Kind(copied=False)}


class Refused(Exception):
    def __init__(self, status: int, told: str) -> None:
        super().__init__(told)
        self.status = status


class Did(NamedTuple):
    """One call that was carried out."""

    model: str
    method: str
    ids: tuple[int, ...]
    touched: frozenset[Touch]


def model(method: Any) -> Any:
    """For no records, as `@api.model`."""
    method.of_model = True
    return method


class Records:
    """What every object can be asked; a name that begins with `_` nobody may call."""

    def __init__(
        self, odoo: "Odoo", name: str, ids: Iterable[int] = (), context: Mapping[str, Any] | None = None
    ) -> None:
        self._odoo, self._name, self._ids, self._context = odoo, name, tuple(ids), dict(context or {})
        self._fields, self._table = FIELDS[name], odoo.tables.setdefault(name, {})

    def _browse(self, ids: Any) -> "Records":
        listed = () if not ids else (ids,) if type(ids) is int else tuple(ids)
        return Records(self._odoo, self._name, listed, self._context)

    def _at(self, name: str, ids: Iterable[int] = ()) -> "Records":
        return Records(self._odoo, name, ids, self._context)

    def _touch(self, how: str, field: str = "") -> None:
        self._odoo.touched.add((how, self._name, field))

    def _value(self, number: int, field: str) -> Any:
        kind = self._fields.get(field)
        if kind is None:
            raise Refused(422, f"Invalid field {field!r} on {self._name!r}")
        self._touch("read", field)
        row = self._table.get(number, {})
        if field in {"id", "display_name"}:
            return number if field == "id" else row.get("name") or f"{self._name},{number}"
        if kind.type == "one2many":
            rows = self._odoo.tables.setdefault(kind.target, {})
            return [one for one, other in rows.items() if other.get(kind.back) == number]
        return row.get(field, [] if kind.type == "many2many" else False)

    def _linked(self, number: int, field: str) -> "Records":
        value = self._value(number, field)
        return self._at(self._fields[field].target, value if isinstance(value, list) else [value] if value else [])

    # --- what is read

    def _follow(self, number: int, path: list[str]) -> list[Any]:
        kind = self._fields.get(path[0])
        if len(path) == 1 or kind is None:
            value = self._value(number, path[0])
            return value if isinstance(value, list) else [value]
        there = self._linked(number, path[0])
        return [value for one in there._ids for value in there._follow(one, path[1:])]

    def _clause(self, number: int, clause: list[Any]) -> bool:
        if clause[:2] == [1, "="] or clause[:2] == [0, "="]:
            return bool(clause[0])
        path, operator, wanted = clause
        head, _, last = path.rpartition(".")
        ends = self
        for step in head.split(".") if head else ():
            ends = ends._at(ends._fields[step].target)
        target = ends._fields[last].target
        found = self._follow(number, path.split("."))
        if operator in {"any", "not any"}:
            there = self._at(target)
            met = [all(there._met(one, wanted)) for one in found if one]
            return any(met) is (operator == "any")
        if target and any(isinstance(one, str) for one in (wanted if isinstance(wanted, list) else [wanted])):
            found = [self._at(target)._value(one, "display_name") for one in found if one]
        listed = wanted if isinstance(wanted, list) else [wanted]
        tells = {
            "=": wanted in found, "!=": wanted not in found, "not in": all(one not in listed for one in found),
            **dict.fromkeys(("in", "child_of", "parent_of"), any(one in listed for one in found)),
            **dict.fromkeys(("like", "ilike", "=like"), any(str(wanted).strip("%") in str(one) for one in found)),
        }  # fmt: skip
        if operator not in tells:
            raise Refused(422, "Invalid operator")
        return tells[operator]

    def _met(self, number: int, domain: list[Any]) -> list[bool]:
        """Every clause is looked at, whatever the others say; `|` is as good as `&` here."""
        return [self._clause(number, one) for one in domain if not isinstance(one, str)]

    def _found(self, domain: Any, order: str | None = None) -> "Records":
        found = [one for one in self._table if all(self._met(one, domain or []))]
        for part in (order or "").split(",") if order else ():
            field = part.split()[0].partition(":")[0]
            for one in self._table if field != "__count" else ():
                self._named(one, field)
        return self._browse(found)

    def _named(self, number: int, field: str) -> Any:
        """A link with the name of what it leads to, as it is shown."""
        value = self._value(number, field)
        kind = self._fields[field]
        if kind.target:
            names = [
                (one, self._at(kind.target)._value(one, "display_name")) for one in self._linked(number, field)._ids
            ]
            return names[0] if kind.type == "many2one" and names else names
        return value

    @model
    def search(self, domain, offset=0, limit=None, order=None):
        return self._found(domain, order)

    @model
    def search_count(self, domain, limit=None):
        return len(self._found(domain)._ids)

    @model
    def search_fetch(self, domain, field_names=None, offset=0, limit=None, order=None):
        return self._found(domain, order)

    @model
    def search_read(self, domain=None, fields=None, offset=0, limit=None, order=None, **read_kwargs):
        rows = self._found(domain, order).read(fields, **read_kwargs)
        return rows[offset:][:limit] if limit else rows[offset:]

    def read(self, fields=None, load="_classic_read"):
        named = fields or list(self._fields)
        return [
            {"id": one, **{name: self._named(one, name) if self._fields.get(name, Kind()).type == "many2one" and load else self._value(one, name) for name in named}}
            for one in self._ids if one in self._table
        ]  # fmt: skip

    def web_read(self, specification):
        rows = self.read(list(specification) or ["id"], load=None)
        for name, spec in specification.items():
            there = [self._linked(row["id"], name) for row in rows] if self._fields[name].target else []
            for row, linked in zip(rows, there, strict=False):
                if spec.get("order"):
                    linked._found([["id", "in", list(linked._ids)]], spec["order"])
                if "fields" in spec:
                    row[name] = linked.web_read(spec["fields"])
        return rows

    @model
    def web_search_read(self, domain, specification, offset=0, limit=None, order=None, count_limit=None):  # noqa: PLR0917  Odoo's own
        found = self._found(domain, order)
        return {"length": len(found._ids), "records": found.web_read(specification)}

    def _group(self, specs: Iterable[str]) -> None:
        for spec in specs:
            if spec != "__count":
                name, _, inner = re.match(r"(\w+)(?::(\w+)(?:\((\w+)\))?)?", spec).groups()
                for one in self._table:
                    self._named(one, inner or name)

    @model
    def read_group(self, domain, fields, groupby, offset=0, limit=None, orderby=False, lazy=True):  # noqa: PLR0917
        self._found(domain, orderby or None)
        self._group(fields or list(self._fields))
        self._group([groupby] if isinstance(groupby, str) else groupby)
        return []

    @model
    def formatted_read_group(self, domain, groupby=(), aggregates=(), having=(), offset=0, limit=None, order=None):  # noqa: PLR0917
        self._found(domain, order)
        self._group([*groupby, *aggregates])
        return []

    @model
    def name_search(self, name="", domain=None, operator="ilike", limit=100):
        found = self._found(domain)
        return [(one, self._value(one, "display_name")) for one in found._ids]

    def export_data(self, fields_to_export):
        fixed = [re.sub(r"([^/])\.id", r"\1/.id", path) for path in fields_to_export]
        return {"datas": [[self._exported(one, path.split("/")) for path in fixed] for one in self._ids]}

    def _exported(self, number: int, path: list[str]) -> Any:
        if path in (["id"], [".id"]):
            return number
        if len(path) == 1:
            return self._named(number, path[0])
        there = self._linked(number, path[0])
        return [there._exported(one, path[1:]) for one in there._ids]

    @model
    def fields_get(self, allfields=None, attributes=None):
        return {name: {"type": kind.type} for name, kind in self._fields.items()}

    @model
    def default_get(self, fields):
        return {name: self._context.get(f"default_{name}") for name in fields if self._touch("read", name) is None}

    # --- what is written

    @model
    def create(self, vals_list):
        return self._browse([self._made(vals) for vals in (vals_list if isinstance(vals_list, list) else [vals_list])])

    def _made(self, vals: Mapping[str, Any]) -> int:
        prefix = "default_"
        given = {key.removeprefix(prefix): value for key, value in self._context.items() if key.startswith(prefix)}
        number = max(self._table, default=0) + 1
        self._table[number] = {"active": True}
        self._touch("write")
        self._browse(number).write({**{key: value for key, value in given.items() if key in self._fields}, **vals})
        return number

    def write(self, vals):
        self._touch("write")
        for name, value in vals.items():
            if name not in self._fields:
                raise Refused(422, f"Invalid field {name!r} on {self._name!r}")
            self._touch("write", name)
            for number in self._ids:
                if self._fields[name].type in MANY:
                    for command in [[5]] if value is False or value is None else value:
                        self._commanded(number, name, *command)
                else:
                    self._table[number][name] = value
            if self._fields[name].related:
                link, _, end = self._fields[name].related.partition(".")
                owners = [self._table[number].get(link) or 0 for number in self._ids]
                self._at(self._fields[link].target, [one for one in owners if one]).write({end: value})
        return True

    def _commanded(self, number: int, field: str, command: int, one: Any = 0, more: Any = None) -> None:
        kind = self._fields[field]
        there, now = self._at(kind.target), self._linked(number, field)._ids
        self._odoo.touched.discard(("read", self._name, field))  # to write it, it is looked up
        match command:
            case 0:
                made = there._made({**more, **({kind.back: number} if kind.type == "one2many" else {})})
                self._tie(number, field, [made])
            case 1:
                there._browse(one).write(more)
            case 2:
                there._browse(one).unlink()
            case 3:
                self._untie(number, field, [one])
            case 4:
                self._tie(number, field, [one])
            case 5:
                self._untie(number, field, now)
            case 6:
                self._untie(number, field, [other for other in now if other not in more])
                self._tie(number, field, more)

    def _tie(self, number: int, field: str, ids: Iterable[int]) -> None:
        kind = self._fields[field]
        there = self._at(kind.target)
        for one in ids:
            there._touch("write", kind.back)
            if kind.type == "one2many":
                there._table.get(one, {})[kind.back] = number
            else:
                self._table[number].setdefault(field, []).append(one)

    def _untie(self, number: int, field: str, ids: Iterable[int]) -> None:
        kind = self._fields[field]
        there = self._at(kind.target)
        for one in ids:
            if kind.type == "one2many" and kind.cascade:
                there._browse(one).unlink()
                continue
            there._touch("write", kind.back)
            if kind.type == "one2many":
                there._table.get(one, {})[kind.back] = False
            else:
                held = self._table[number].setdefault(field, [])
                held[:] = [other for other in held if other != one]

    def web_save(self, vals, specification, next_id=None):
        saved = self._browse(self._made(vals)) if not self._ids else self
        if self._ids:
            self.write(vals)
        return (self._browse(next_id) if next_id else saved).web_read(specification)

    def copy(self, default=None):
        return self._browse([self._copied(number, dict(default or {})) for number in self._ids])

    def _copied(self, number: int, default: dict[str, Any]) -> int:
        row = self._table[number]
        kept = {name: kind for name, kind in self._fields.items() if kind.copied and name not in default}
        plain = {name: row.get(name, False) for name, kind in kept.items() if kind.type not in MANY}
        many = {name: [[6, 0, list(row.get(name, []))]] for name, kind in kept.items() if kind.type == "many2many"}
        made = self._made({**plain, **many, **default})
        for name in (name for name, kind in kept.items() if kind.type == "one2many"):
            self._touch("write", name)
            there = self._at(kept[name].target)
            lines = [one for one, other in there._table.items() if other.get(kept[name].back) == number]
            for line in lines:
                there._copied(line, {kept[name].back: made})
        return made

    def unlink(self):
        for number in self._ids:
            self._touch("delete")
            self._table.pop(number, None)
        return True

    def toggle_active(self):
        return self.write({"active": False})

    action_archive = action_unarchive = toggle_active

    @model
    def load(self, fields, data):
        for row in data:
            number, below = max(self._table, default=0) + 1, dict[str, dict[str, Any]]()
            self._table[number] = {}
            for path, value in zip(fields, row, strict=True):
                head, _, rest = path.partition("/")
                head = "id" if head == ".id" else head
                self._touch("write", head)
                kind = self._fields[head]
                if kind.type == "many2one":
                    for one in self._at(kind.target)._table:
                        self._at(kind.target)._value(one, "display_name")
                elif kind.type in MANY and rest:
                    below.setdefault(head, {})[rest] = value
                elif kind.type in MANY:
                    self._tie(number, head, [])
                    self._at(kind.target)._touch("write", kind.back)
            for head, columns in below.items():
                self._at(self._fields[head].target).load(list(columns), [list(columns.values())])
                self._at(self._fields[head].target)._touch("write", self._fields[head].back)
        return {"ids": []}

    # --- what else every object has, and what this one does

    def update(self, values):
        self.write(values)

    def copy_data(self, default=None):
        return self.read()

    def action_confirm(self):
        for number in self._ids:
            self._table[number]["state"] = "sale"
        return True


class Odoo:
    """`did`: what was carried out, the oldest first. Called as `upstream.Server` calls."""

    def __init__(self, keys: Mapping[str, str] | None = None) -> None:
        self.keys, self.before_19 = {LOGIN: KEY, **(keys or {})}, False
        self.did: list[Did] = []
        self.touched: set[Touch] = set()
        self.begin()

    def begin(self) -> None:
        """As on the first day."""
        self.tables: dict[str, dict[int, dict[str, Any]]] = {
            "res.country": {1: {"code": "DE"}, 2: {"code": "AT"}},
            "res.partner.category": {1: {"name": "gold"}, 2: {"name": "late"}},
            "res.partner": {
                1: {"name": "Acme", "vat": "DE123", "active": True, "country_id": 1, "category_id": [1], "parent_id": 2},
                2: {"name": "Blue", "vat": "AT9", "active": True, "country_id": 2, "category_id": [2], "parent_id": 1},
            },
            "res.users": {1: {"login": "admin", "partner_id": 2}, 2: {"login": LOGIN, "oauth_access_token": "planted-token", "partner_id": 1}},
            "mail.message": {1: {"body": "hello", "author_id": 1}},
            "product.product": {1: {"name": "Desk", "standard_price": 70.0}},
            "sale.order": {
                number: {"name": f"S{number}", "state": "draft", "date_order": False, "amount_total": 200.0, "partner_id": number}
                for number in (1, 2)
            },
            "sale.order.line": {
                number: {"name": "Desk", "price_unit": 100.0, "purchase_price": 70.0, "order_id": number, "product_id": 1}
                for number in (1, 2)
            },
        }  # fmt: skip
        rows = [(model, name, kind) for model, fields in FIELDS.items() for name, kind in fields.items()]
        self.tables["ir.model.fields"] = {
            number: {
                "model": model, "name": name, "ttype": kind.type, "relation": kind.target or False,
                "relation_field": (kind.type == "one2many" and kind.back) or False, "copied": kind.copied,
                "related": kind.related or False,
            }
            for number, (model, name, kind) in enumerate(rows, 1)
        }  # fmt: skip

    def __call__(self, seen: Mapping[str, Any]) -> tuple[int, dict[str, str], str]:
        path, headers, body = seen["path"].partition("?")[0], seen["headers"], seen["body"].encode("latin-1")
        try:
            if path.startswith("/json/2/") and not self.before_19:
                return self._answer(200, json.dumps(self._json2(path, seen["method"], headers, body)))
            if path == "/jsonrpc" or path.startswith("/web/dataset/call_kw"):
                return self._answer(
                    200, json.dumps({"jsonrpc": "2.0", "id": None, **self._jsonrpc(path, headers, body)})
                )
            if path.startswith("/xmlrpc/"):
                params, method = xmlrpc.client.loads(body, use_datetime=True)
                result = self._service(path.removeprefix("/xmlrpc/").removeprefix("2/"), method, list(params))
                return (
                    200,
                    {"content-type": "text/xml"},
                    xmlrpc.client.dumps((result,), methodresponse=True, allow_none=True),
                )
        except Refused as refused:
            return self._answer(refused.status, json.dumps({"message": str(refused)}))
        return self._answer(404, '"not found"')

    def _answer(self, status: int, text: str) -> tuple[int, dict[str, str], str]:
        return status, {"content-type": "application/json"}, text

    def _json2(self, path: str, verb: str, headers: Mapping[str, str], body: bytes) -> Any:
        parts = path.removeprefix("/json/2/").split("/")
        if len(parts) != 2 or verb != "POST":
            raise Refused(404, "Did you mean POST /json/2/<model>/<method>?")
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or key not in self.keys.values():
            raise Refused(401, "Invalid apikey")
        if headers.get("x-odoo-database", DATABASE) != DATABASE:
            raise Refused(404, "no such database")
        given = json.loads(body)
        ids, context = given.pop("ids", ()), given.pop("context", {})
        function = self._public(*parts)
        if getattr(function, "of_model", False) and ids:
            raise Refused(422, f"cannot call {'.'.join(parts)} with ids")
        return self._run(parts[0], parts[1], function, ids, context, (), given)

    def _jsonrpc(self, path: str, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
        params = dict(json.loads(body)["params"])
        above = params.pop("context", None) or {}  # Odoo 16 to 18 make it the request's own
        try:
            if path == "/jsonrpc":
                return {"result": self._service(params["service"], params["method"], params["args"])}
            self._signed_in(headers)
            kwargs = dict(params["kwargs"])
            return {"result": self._call_kw(params["model"], params["method"], params["args"], {**kwargs, "context": {**above, **kwargs.get("context", {})}})}  # fmt: skip
        except (Refused, KeyError) as refused:
            return {"error": {"code": 200, "message": "Odoo Server Error", "data": {"message": str(refused)}}}

    def _signed_in(self, headers: Mapping[str, str]) -> None:
        if f"session_id={SESSION}" not in headers.get("cookie", ""):
            raise Refused(200, "Session expired")

    def _service(self, service: str, method: str, args: list[Any]) -> Any:
        match service, method, args:
            case "common", "version", []:
                return {"server_version": "19.0"}
            case ("common", "authenticate" | "login", [database, login, key, *_]):
                return UID if database == DATABASE and self.keys.get(login) == key else False
            case "db", "list", []:
                return [DATABASE]
            case "db", "dump" | "drop" | "create_database", _:
                self.did.append(Did("db", method, (), frozenset()))
                return True
            case "object", "execute_kw" | "execute", [database, _, key, name, called, *rest]:
                if database != DATABASE or key not in self.keys.values():
                    raise Refused(200, "Access Denied")
                args, kwargs = (rest[0], (rest[1:] or [{}])[0]) if method == "execute_kw" else (rest, {})
                return self._call_kw(name, called, args, kwargs)
        raise Refused(200, "Method not found")

    def _call_kw(self, name: str, method: str, args: list[Any], kwargs: Mapping[str, Any]) -> Any:
        function, kwargs = self._public(name, method), dict(kwargs)
        context = kwargs.pop("context", None) or {}
        ids = ()
        if not getattr(function, "of_model", False):
            ids, *args = args
        return self._run(name, method, function, ids, context, args, kwargs)

    def _public(self, name: str, method: str) -> Callable[..., Any]:
        function = None if method.startswith("_") else getattr(Records, method, None)
        if name not in FIELDS or function is None:
            raise Refused(404, f"the method {name}.{method} does not exist")
        return function

    def _run(self, name: str, method: str, function: Any, ids: Any, context: Any, args: Any, kwargs: Any) -> Any:  # noqa: PLR0917
        records = Records(self, name, (), context)._browse(ids)
        try:
            inspect.signature(function).bind(records, *args, **kwargs)
        except TypeError as problem:
            raise Refused(422, str(problem)) from None
        self.touched = set()
        result = function(records, *args, **kwargs)
        self.did.append(Did(name, method, records._ids, frozenset(self.touched)))
        return list(result._ids) if isinstance(result, Records) else result
