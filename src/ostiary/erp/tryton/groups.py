"""Tryton's own access rights: what each of its groups may do with each object, as a role."""

from collections import defaultdict
from typing import Any, Final

from ostiary.erp.draft import Role
from ostiary.erp.tryton.catalogue import Ask, Catalogue
from ostiary.erp.tryton.offer import offer

OBJECTS: Final = ("ir.model.access", "res.group", "ir.model.button", "ir.model.button-res.group")
RIGHTS: Final = {
    "perm_read": "read",
    "perm_write": "write.write",
    "perm_create": "write.create",
    "perm_delete": "delete",
}
EVERYBODY: Final = "everybody in the ERP"


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
