"""What a Tryton database says that it offers."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec.structs import replace

from ostiary.erp.catalogue import LINKS, MANY, Catalogue, Field

# Loaded late although they are stored, as translated texts are.
LATE: Final = frozenset({"binary", "dict", "reference"})
# Every model has these (trytond.model.ModelStorage); ir.model.field lists most of them, but not for all.
STAMPS: Final = ("create_uid", "create_date", "write_uid", "write_date", "last_modified_at")
EVERYWHERE: Final = ("id", "rec_name", "xml_id", *STAMPS)

Ask = Callable[..., Any]  # (method, *params) -> the call's result; raises where there is none


def learn(ask: Ask) -> Catalogue:
    """The catalogue of the database that `ask` calls as a user who may read ir.model.field."""
    rows = ask("model.ir.model.field.search_read", [], 0, None, None, ["model", "name", "ttype", "relation"], {})
    methods: dict[str, set[str]] = defaultdict(set)
    for name in ask("system.listMethods"):
        object_, _, method = name.rpartition(".")
        methods[object_].add(method)
    listed = {name: frozenset(found) for name, found in sorted(methods.items())}
    written = {row["model"] for row in rows if "write" in listed.get(f"model.{row['model']}", ())}
    told = {name: ask(f"model.{name}.fields_get", [], {}) for name in sorted(written)}
    return Catalogue(models=_models(rows, told), methods=listed)


def _models(rows: list[Mapping[str, Any]], told: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Field]]:
    models: dict[str, dict[str, Field]] = defaultdict(dict)
    typed = (row for row in rows if row["ttype"])  # of two fields Tryton itself names no type: unknown, so denied
    for row in sorted(typed, key=lambda row: (row["model"], row["name"])):
        target = row["relation"] if row["ttype"] in LINKS else ""
        models[row["model"]][row["name"]] = Field(row["ttype"], target or "")
    for model, fields in models.items():
        for name in EVERYWHERE:
            user = name in {"create_uid", "write_uid"}
            fields.setdefault(name, Field("many2one", "res.user") if user else Field("char"))
        for name, about in told.get(model, {}).items():
            if name in fields:
                fields[name] = replace(fields[name], computed=not _stored(about), required=_required(about))
    return dict(models)


def _required(about: Mapping[str, Any]) -> bool:
    """Also where only some records have to have it: a line of an invoice may stand alone, before it is in one."""
    return bool(about.get("required") or '"required":' in about.get("states", ""))


def _stored(about: Mapping[str, Any]) -> bool:
    """Whether the field holds what is written to it. Tryton does not say so; but what it computes it loads late and,
    unless its code says how, can't sort by, nor search. A computed list with a search and a link back passes: what is
    done to the records in it are operations of their own.
    """
    if about["type"] in MANY:
        return bool(about["searchable"] and (about["type"] == "many2many" or about.get("relation_field")))
    late = about["type"] in LATE or about.get("translate")
    return bool(about["sortable"] and (late or about["loading"] == "eager"))
