"""A small Tryton to measure against: its catalogue, and calls of the size that callers send."""

from typing import Any, Final

from ostiary.erp.catalogue import Catalogue
from ostiary.erp.tryton import learn

FIELDS: Final = {
    "party.party": {"name": "char", "code": "char", "addresses": "party.address", "categories": "party.category"},
    "party.address": {"city": "char", "street": "char", "party": "party.party"},
    "party.category": {"name": "char"},
    "sale.sale": {"party": "party.party", "lines": "sale.line", "state": "selection"},
    "sale.line": {"sale": "sale.sale", "quantity": "float", "description": "text"},
}
METHODS: Final = ("read", "search", "search_read", "search_count", "create", "write", "delete", "copy")


def _asked(method: str, *_: Any) -> Any:
    if method == "system.listMethods":
        return [f"model.{model}.{name}" for model in FIELDS for name in METHODS]
    if method.endswith(".fields_get"):
        stored = {"searchable": True, "sortable": True, "loading": "eager", "relation_field": "id"}
        about = FIELDS[method.removeprefix("model.").removesuffix(".fields_get")]
        return {name: {"type": _type(name, kind), **stored} for name, kind in about.items()}
    return [
        {"model": model, "name": name, "ttype": _type(name, kind), "relation": kind if "." in kind else None}
        for model, fields in FIELDS.items()
        for name, kind in fields.items()
    ]


def _type(name: str, kind: str) -> str:
    if "." not in kind:
        return kind
    return "one2many" if name.endswith("s") else "many2one"


CATALOGUE: Final[Catalogue] = learn(_asked)
READ: Final = {
    "id": 1,
    "method": "model.sale.sale.search_read",
    "params": [[["party.name", "ilike", "A%"]], 0, 50, [["id", "ASC"]], ["party.name", "state", "lines.quantity"], {}],
}
LINE: Final = {"quantity": 3, "description": "A chair, black, with arms"}
CREATE: Final = {
    "id": 2,
    "method": "model.sale.sale.create",
    "params": [[{"party": 4, "lines": [["create", [LINE] * 20]]}], {}],
}
