"""What a Tryton database offers: its objects, their fields and where these lead, their callable methods."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec import Struct

from ostiary.erp.draft import Role

LINKS: Final = frozenset({"many2one", "one2one", "one2many", "many2many"})
MANY: Final = frozenset({"one2many", "many2many"})
# Every model has these (trytond.model.ModelStorage); ir.model.field lists most of them, but not for all.
STAMPS: Final = ("create_uid", "create_date", "write_uid", "write_date", "last_modified_at")
EVERYWHERE: Final = ("id", "rec_name", "xml_id", *STAMPS)

Ask = Callable[..., Any]  # (method, *params) -> the call's result; raises where there is none


class Field(Struct, frozen=True, array_like=True):
    """`target` is the object a link leads to, "" for a value; a reference may lead anywhere."""

    type: str
    target: str = ""


class Catalogue(Struct, frozen=True, kw_only=True):
    """`methods`: what can be called, by `model.party.party`, `wizard.party.erase`, `report.party.label`.

    `groups`: what the ERP itself lets its groups do, where that was asked.
    """

    models: dict[str, dict[str, Field]]
    methods: dict[str, frozenset[str]]
    groups: tuple[Role, ...] = ()

    def field(self, model: str, name: str) -> Field | None:
        return self.models.get(model, {}).get(name)


def learn(ask: Ask) -> Catalogue:
    """The catalogue of the database that `ask` calls as a user who may read ir.model.field."""
    rows = ask("model.ir.model.field.search_read", [], 0, None, None, ["model", "name", "ttype", "relation"], {})
    methods: dict[str, set[str]] = defaultdict(set)
    for name in ask("system.listMethods"):
        object_, _, method = name.rpartition(".")
        methods[object_].add(method)
    return Catalogue(models=_models(rows), methods={name: frozenset(found) for name, found in sorted(methods.items())})


def _models(rows: list[Mapping[str, Any]]) -> dict[str, dict[str, Field]]:
    models: dict[str, dict[str, Field]] = defaultdict(dict)
    typed = (row for row in rows if row["ttype"])  # of two fields Tryton itself names no type: unknown, so denied
    for row in sorted(typed, key=lambda row: (row["model"], row["name"])):
        target = row["relation"] if row["ttype"] in LINKS else ""
        models[row["model"]][row["name"]] = Field(row["ttype"], target or "")
    for fields in models.values():
        for name in EVERYWHERE:
            user = name in {"create_uid", "write_uid"}
            fields.setdefault(name, Field("many2one", "res.user") if user else Field("char"))
    return dict(models)
