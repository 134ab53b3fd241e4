"""Users and groups that a company's directory keeps here by a client of its own.

It touches the users that it made and those that an administrator gave it, and no others; a group is a role that an
administrator opened to it. Whom an administrator disabled, it does not enable.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, Select, delete, func, insert, select, update

from ostiary.audit.log import Change
from ostiary.foundation.errors import CallerFault, OperatorFault
from ostiary.foundation.secret import new_id
from ostiary.identity import names, principals
from ostiary.identity.clients import API_KEY, NONE
from ostiary.identity.principals import Keys
from ostiary.identity.request import Refused
from ostiary.store.database import Sealer, upsert
from ostiary.store.tables import ASSIGNMENT, FACTOR, OUTSIDE, PASSWORD, PRINCIPAL, PROVISIONED, PROVISIONER

MOVED_MAX: Final = 1_000  # members that one request brings or takes
KEPT: Final = ("username", "displayname", "externalid", "active")  # of a user; all else is passed over
TRUTH: Final = {"true": True, "false": False}  # as Entra writes them
Allow = Callable[[Change, str, Sequence[str]], None]  # raises where the principal may not be given these roles
Operation = tuple[str, str, str, Any]  # add, remove or replace; an attribute; the one of its values; and with what


class Lent(NamedTuple):
    """What control lends; `keep_clients`: the policy keeps those of who leaves."""

    sealer: Sealer
    may: Allow
    keep_clients: bool = False


def allow(change: Change, *, client_id: str, roles: Sequence[str] = (), takes_over: Sequence[str] = ()) -> Keys:
    """The client keeps users from now on, gives exactly these roles (`role=group` where it calls one otherwise), and has
    these users too (`login=userName` where it calls one otherwise).
    """
    client = f"client:{client_id}"
    if principals.one(change.connection, client)["auth"] in {NONE, API_KEY}:  # raises where there is none
        hint = "one with a secret, a key or a certificate can"
        raise CallerFault("client-unfit", f"{client} can't prove itself here", hint=hint)
    groups = _pairs(roles)
    names.refuse_roles(groups)
    names.refuse_text(**{f"group of {role}": group for role, group in groups.items()})
    upsert(change.connection, PROVISIONER, {"principal": client}, {"roles": json.dumps(groups)})
    for login, called in _pairs(takes_over).items():
        principals.one(change.connection, f"user:{login}")
        names.refuse_name(called)
        upsert(change.connection, PROVISIONED, {"principal": f"user:{login}"}, _row(client, called))
    change.note("provisioning.allow", client, after={"groups": groups, "takes_over": sorted(takes_over)})
    return ()


def stop(change: Change, *, client_id: str) -> Keys:
    """The client keeps nobody from now on; its users stay as they are."""
    client = f"client:{client_id}"
    gone = delete(PROVISIONER).where(PROVISIONER.c.principal == client).returning(PROVISIONER.c.roles)
    if (before := change.connection.execute(gone).scalar_one_or_none()) is None:
        hint = "see `ostiary provisioning list`"
        raise CallerFault("no-provisioning", f"{client} does not provision", hint=hint)
    change.note("provisioning.stop", client, before={"groups": json.loads(before)})
    return ()


def listed(connection: Connection) -> list[dict[str, Any]]:
    """Each client that provisions, its roles and how many users it has."""
    own = (PROVISIONED.c.client == PROVISIONER.c.principal, PROVISIONED.c.deleted.is_(False))
    count = select(func.count()).where(*own).scalar_subquery()
    rows = connection.execute(select(PROVISIONER, count.label("users")).order_by(PROVISIONER.c.principal))
    return [{"client": row.principal, "groups": json.loads(row.roles), "users": row.users} for row in rows]


def _pairs(texts: Sequence[str]) -> dict[str, str]:
    return {name: called or name for name, _, called in (text.partition("=") for text in texts)}


def opened(connection: Connection, client: str) -> Mapping[str, str] | None:
    """Role -> what the client calls it, of those opened to it; None for a client that may not provision."""
    chosen = select(PROVISIONER.c.roles).where(PROVISIONER.c.principal == client)
    found = connection.execute(chosen).scalar_one_or_none()
    return found and dict(json.loads(found))


def provisioned(client: str, *where: ColumnElement[bool]) -> Select[Any]:
    """The users of this client."""
    both = select(PROVISIONED, PRINCIPAL.c.name, PRINCIPAL.c.active, PRINCIPAL.c.made_at_us)
    both = both.join(PRINCIPAL, PRINCIPAL.c.id == PROVISIONED.c.principal)
    return both.where(PROVISIONED.c.client == client, PROVISIONED.c.deleted.is_(False), *where)


def members_of(client: str, role: str) -> Select[Any]:
    """Those of its users who hold the role; who else does is not its concern."""
    holds = ASSIGNMENT.c.principal == PROVISIONED.c.principal
    return provisioned(client, ASSIGNMENT.c.role == role).join(ASSIGNMENT, holds).order_by(PROVISIONED.c.id)


def act(  # for the client, who is the change's actor
    change: Change, lent: Lent, *, method: str, kind: str, name: str, told: Sequence[Operation]
) -> tuple[dict[str, Any], Keys]:
    """Raises Refused in the words of SCIM."""
    if opened(change.connection, change.actor) is None:  # no more, since the endpoint let it in
        raise Refused("access_denied", "no administrator lets this client provision", status=403)
    try:
        if kind == "Groups":
            return {"id": name}, _group(change, lent.may, name, told)
        row = _made(change, told) if method == "POST" else _user(change, name)
        return {"id": row.id}, _bring(change, lent, row, told) + (_delete(change, row) if method == "DELETE" else ())
    except (CallerFault, OperatorFault) as problem:
        error, status = ("uniqueness", 409) if problem.code == "exists" else ("invalidValue", 400)
        raise Refused(error, problem.message, status=status) from problem


def _user(change: Change, name: str, status: int = 404) -> Row[Any]:
    row = change.connection.execute(provisioned(change.actor, PROVISIONED.c.id == name)).one_or_none()
    if row is None:
        raise Refused("noTarget", "this client has no such user", status=status)
    return row


def _made(change: Change, told: Sequence[Operation]) -> Row[Any]:
    """A new user, or one that this client had deleted: under another id, with no role."""
    facts = _fit(dict.fromkeys(KEPT), told)
    _refuse_taken(change, facts["username"], "")
    gone = change.connection.execute(_called(change.actor, facts["username"], deleted=True)).first()
    if gone:
        user, back = gone.principal, {"id": new_id("scim"), "deleted": False}
        change.connection.execute(update(PROVISIONED).where(PROVISIONED.c.principal == user).values(back))
    else:
        user = principals.add(change, "user", facts["username"], facts["displayname"], "", roles=())
        row = {"principal": user, **_row(change.actor, facts["username"])}
        change.connection.execute(insert(PROVISIONED).values(row))
    return change.connection.execute(provisioned(change.actor, PROVISIONED.c.principal == user)).one()


def _row(client: str, called: str) -> dict[str, Any]:
    marks = {"external_id": "", "ended": False, "deleted": False}
    return {"id": new_id("scim"), "client": client, "user_name": called, **marks}


def _called(client: str, name: str, *, deleted: bool) -> Select[Any]:
    same = (PROVISIONED.c.client == client, func.lower(PROVISIONED.c.user_name) == name.lower())
    return select(PROVISIONED).where(*same, PROVISIONED.c.deleted.is_(deleted))


def _refuse_taken(change: Change, name: str, principal: str) -> None:
    others = _called(change.actor, name, deleted=False).where(PROVISIONED.c.principal != principal)
    if change.connection.execute(others).first():
        raise Refused("uniqueness", "another user is called so", status=409)


def _bring(change: Change, lent: Lent, row: Row[Any], told: Sequence[Operation]) -> Keys:
    """The user is as the client wants it; the login stays: it is what grants and the audit log go by."""
    had = dict(zip(KEPT, (row.user_name, row.name, row.external_id, row.active), strict=True))
    wanted = _fit(had, told)
    if after := {name: wanted[name] for name in KEPT[:-1] if wanted[name] != had[name]}:
        _refuse_taken(change, wanted["username"], row.principal)
        _keep(change, row, user_name=wanted["username"], external_id=wanted["externalid"])
        titled = update(PRINCIPAL).where(PRINCIPAL.c.id == row.principal).values(name=wanted["displayname"])
        change.connection.execute(titled)
        change.note("user.change", row.principal, before={name: had[name] for name in after}, after=after)
    if wanted["active"] == row.active:
        return ()
    if wanted["active"] and not row.ended:
        raise Refused("mutability", "an administrator disabled this user, and enables it again", status=403)
    if wanted["active"]:
        return principals.enable(change, sealer=lent.sealer, principal=row.principal)
    keys = principals.disable(change, principal=row.principal, keep_clients=lent.keep_clients)
    _keep(change, row, ended=True)
    return keys


def _delete(change: Change, row: Row[Any]) -> Keys:
    """Whoever is called so next proves by nothing of this one's who he is."""
    _keep(change, row, deleted=True)
    for table in (PASSWORD, FACTOR, OUTSIDE):
        change.connection.execute(delete(table).where(table.c.principal == row.principal))
    return principals.set_roles(change, principal=row.principal, roles=(), reason="deleted by its directory")


def _keep(change: Change, row: Row[Any], **values: Any) -> None:
    change.connection.execute(update(PROVISIONED).where(PROVISIONED.c.id == row.id).values(values))


def _fit(had: Mapping[str, Any], told: Sequence[Operation]) -> dict[str, Any]:
    """What is kept of the user after that; a user without a name of its own is called as it signs in."""
    said = {name: None if verb == "remove" else value for verb, name, _, value in told if name in KEPT}
    called, title, outside, active = (said.get(name, had[name]) for name in KEPT)
    active = TRUTH.get(active.lower()) if isinstance(active, str) else active
    texts = (called, title or called, outside or "")
    if not isinstance(active, bool) or not all(isinstance(text, str) for text in texts):
        raise Refused("invalidValue", "userName, displayName and externalId are texts, active is true or false")
    fit: dict[str, Any] = dict(zip(KEPT, (*texts, active), strict=True))
    names.refuse_name(fit["username"])
    names.refuse_text(displayName=fit["displayname"], externalId=fit["externalid"])
    return fit


def _group(change: Change, may: Allow, role: str, told: Sequence[Operation]) -> Keys:
    """Gives the role to those of the client's own users who become members, and takes it from who is none any more."""
    groups = opened(change.connection, change.actor) or {}
    if role not in groups:
        raise Refused("noTarget", "there is no such group", status=404)
    had = {row.id for row in change.connection.execute(members_of(change.actor, role))}
    moved = had ^ _members(had, groups[role], told)
    if len(moved) > MOVED_MAX:
        raise Refused("tooMany", f"at most {MOVED_MAX} members at once")
    keys: Keys = ()
    for name in sorted(moved):
        user = _user(change, name, 400).principal
        roles = sorted({*principals.one(change.connection, user)["roles"]} ^ {role})
        if name not in had:
            may(change, user, roles)
        keys += principals.set_roles(change, principal=user, roles=roles, reason=f"group {groups[role]}")
    return keys


def _members(had: set[str], called: str, told: Sequence[Operation]) -> set[str]:
    wanted = set(had)
    for verb, name, one, value in told:
        if name == "displayname" and (verb == "remove" or value != called):
            raise Refused("mutability", "an administrator says what the group is called")
        if name == "members":
            ids = {one} if one else _ids(value)
            wanted = ids if verb == "replace" else wanted | ids if verb == "add" else wanted - (ids or wanted)
    return wanted


def _ids(value: Any) -> set[str]:
    listed = value if isinstance(value, list) else [value] if value else []
    found = [one.get("value") if isinstance(one, dict) else None for one in listed]
    if not all(isinstance(one, str) and one.isprintable() for one in found):
        raise Refused("invalidValue", 'write members as [{"value": "id of a user"}]')
    return set(map(str, found))
