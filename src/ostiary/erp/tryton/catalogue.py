"""What a Tryton database says that it offers, as a catalogue and as an offer; and its own access rights: what each of its
groups may do with each object, as a role.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from msgspec.structs import replace

from ostiary.erp.catalogue import LINKS, MANY, Catalogue, Field, Offer, Role
from ostiary.erp.operation import Operation, Verb
from ostiary.erp.tryton.rpc import BY_NAME, FORM

# Loaded late although they are stored, as translated texts are.
LATE: Final = frozenset({"binary", "dict", "reference"})
# Every model has these (trytond.model.ModelStorage); ir.model.field lists most of them, but not for all.
STAMPS: Final = ("create_uid", "create_date", "write_uid", "write_date", "last_modified_at")
EVERYWHERE: Final = ("id", "rec_name", "xml_id", *STAMPS)
VERBS: Final = {"create": Verb.WRITE, "write": Verb.WRITE, "copy": Verb.WRITE, "delete": Verb.DELETE}
OBJECTS: Final = ("ir.model.access", "res.group", "ir.model.button", "ir.model.button-res.group")
RIGHTS: Final = {
    "perm_read": "read",
    "perm_write": "write.write",
    "perm_create": "write.create",
    "perm_delete": "delete",
}
EVERYBODY: Final = "everybody in the ERP"

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


# --- as an offer


def offer(catalogue: Catalogue, system: str) -> Offer:
    """Each method as the operation that `read` would find in a call of it, and where each field leads."""
    links = {name: {key: field.target for key, field in fields.items()} for name, fields in catalogue.models.items()}
    return Offer(operations=tuple(_operations(catalogue, system)), links=links)


def _operations(catalogue: Catalogue, system: str) -> Iterator[Operation]:
    for name in catalogue.models:  # a path of fields reads any of them
        yield Operation(system=system, object=name, verb=Verb.READ, action="read")
    for place, methods in catalogue.methods.items():
        kind, _, name = place.partition(".")
        for method in methods:
            if kind in {"wizard", "report"}:
                yield Operation(system=system, object=place, verb=Verb.EXECUTE, action=method)
            elif kind == "model" and FORM.fullmatch(method) is None:
                verb = VERBS.get(method, Verb.READ) if method in BY_NAME else Verb.EXECUTE
                yield Operation(system=system, object=name, verb=verb, action=method)


# --- what its groups may


def groups(ask: Ask, catalogue: Catalogue, system: str) -> tuple[Role, ...]:
    """As `ask` is told them, as far as they can be called; none where its user may not read them.

    A button of no group is for all who may write the object. Where Tryton says nothing of an object for everybody,
    everybody may all with it there: none of that is proposed.
    """
    readable = ask("model.ir.model.access.get_access", list(OBJECTS), {})
    if not all(readable[name]["read"] for name in OBJECTS):
        return ()

    def rows(name: str, *fields: str) -> list[dict[str, Any]]:
        return list(ask(f"model.{name}.search_read", [], 0, None, None, list(fields), {}))

    may: dict[int | None, dict[str, str]] = defaultdict(dict)
    access = rows("ir.model.access", "model", "group", *RIGHTS)
    for row in access:
        may[row["group"]] |= {f"{system}/{row['model']}:{RIGHTS[one]}": "its right" for one in RIGHTS if row[one]}
    for row in rows("ir.model.button", "model", "name", "groups"):
        writers = {one["group"] for one in access if one["model"] == row["model"] and one["perm_write"]}
        for group in row["groups"] or writers:
            why = "a button of its own" if row["groups"] else "a button for all who write"
            may[group][f"{system}/{row['model']}:execute.{row['name']}"] = why
    known = {
        permission
        for one in offer(catalogue, system).operations
        for permission in (one.permission, f"{one.system}/{one.object}:{one.verb}")
    }
    named = {row["id"]: row for row in rows("res.group", "name", "parent")}
    names = {None: EVERYBODY, **{key: str(row["name"]) for key, row in named.items()}}
    return tuple(
        Role(
            name=name,
            may={one: why for one, why in may[key].items() if one in known},
            notes=(f"Tryton's group: {name}",),
            includes=(names.get(named[key]["parent"], EVERYBODY),) if key else (),
        )
        for key, name in names.items()
    )
