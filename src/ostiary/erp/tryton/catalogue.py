"""What a Tryton database offers: its objects, their fields and where these lead, their callable methods."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from ostiary.erp.offer import Role

LINKS: Final = frozenset({"many2one", "one2one", "one2many", "many2many"})
MANY: Final = frozenset({"one2many", "many2many"})
LATE: Final = frozenset(
    {"binary", "dict", "reference"}
)  # loaded late although they are stored, as translated texts are
# Every model has these (trytond.model.ModelStorage); ir.model.field lists most of them, but not for all.
STAMPS: Final = ("create_uid", "create_date", "write_uid", "write_date", "last_modified_at")
EVERYWHERE: Final = ("id", "rec_name", "xml_id", *STAMPS)
CATALOGUES_MAX: Final = 16  # kept decoded

Ask = Callable[..., Any]  # (method, *params) -> the call's result; raises where there is none


class Field(Struct, frozen=True, array_like=True):
    """`target` is the object a link leads to, "" for a value; a reference may lead anywhere.

    `computed`: what is written to it, the ERP writes elsewhere. `required`: it is never empty, or not on all
    records. Both True where that was not learned.
    """

    type: str
    target: str = ""
    computed: bool = True
    required: bool = True


class Catalogue(Struct, frozen=True, kw_only=True, dict=True):
    """`methods`: what can be called, by `model.party.party`, `wizard.party.erase`, `report.party.label`.

    `groups`: what the ERP itself lets its groups do, where that was asked.
    """

    models: dict[str, dict[str, Field]]
    methods: dict[str, frozenset[str]]
    groups: tuple[Role, ...] = ()

    def field(self, model: str, name: str) -> Field | None:
        return self.models.get(model, {}).get(name)

    @property
    def whole(self) -> bool:
        """Whether it was learned which fields are computed and required: one that is neither there is everywhere."""
        all_ = (field for fields in self.models.values() for field in fields.values())
        return any(not (field.computed or field.required) for field in all_)

    @cached_property
    def owners(self) -> Mapping[str, Mapping[str, str]]:
        """Object -> the fields by which its records name what they are parts of -> its object, which lists them."""
        named = ((name, field) for name, fields in self.models.items() for field in fields.values())
        lists = {(field.target, name) for name, field in named if field.type == "one2many" and name != field.target}
        found: dict[str, dict[str, str]] = defaultdict(dict)
        for name, fields in self.models.items():
            for link, field in fields.items():
                if field.type == "many2one" and field.required and (name, field.target) in lists:
                    found[name][link] = field.target
        return dict(found)

    def computes(self, model: str, name: str) -> bool:
        return getattr(self.field(model, name), "computed", True)


def learned(path: Path) -> Catalogue | None:
    """What the file holds now; None where nothing was learned yet."""
    try:
        return _decoded(path, path.stat().st_mtime_ns)
    except FileNotFoundError:
        return None


@lru_cache(maxsize=CATALOGUES_MAX)
def _decoded(path: Path, _changed_ns: int) -> Catalogue:
    return msgspec.json.decode(path.read_bytes(), type=Catalogue)


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
