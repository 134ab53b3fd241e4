"""A learned catalogue as an offer; and Tryton's own access rights: what each of its groups may do with each object, as a role."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Final

from ostiary.erp.catalogue import Catalogue
from ostiary.erp.offer import Offer, Role
from ostiary.erp.operation import Operation, Verb
from ostiary.erp.tryton.catalogue import Ask
from ostiary.erp.tryton.rpc import BY_NAME, FORM

VERBS: Final = {"create": Verb.WRITE, "write": Verb.WRITE, "copy": Verb.WRITE, "delete": Verb.DELETE}
OBJECTS: Final = ("ir.model.access", "res.group", "ir.model.button", "ir.model.button-res.group")
RIGHTS: Final = {
    "perm_read": "read",
    "perm_write": "write.write",
    "perm_create": "write.create",
    "perm_delete": "delete",
}
EVERYBODY: Final = "everybody in the ERP"


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
